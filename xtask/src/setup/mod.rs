//! What tests need beyond Rust crates: libtorch, ONNX Runtime (for programs and for browsers), a graphics driver, Slurm, a
//! browser.

mod apt;
mod browser;
mod cargo_deny;
mod folder;
mod libtorch;
mod npm;
mod onnxruntime;
mod onnxruntime_headers;
mod onnxruntime_web;
mod openvino;
mod packages;
mod platform;
mod python;
mod slurm;
mod vulkan;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::summary::Summary;
use crate::workspace::Workspace;

pub(crate) use cargo_deny::set_up as cargo_deny;

/// Where tests find the parts of [`Component::Browser`].
const PLAYWRIGHT: &str = "SELFCLS_PLAYWRIGHT";
const CHROMIUM: &str = "SELFCLS_CHROMIUM";
/// Where tests find [`Component::Packages`].
const PYTHON: &str = "SELFCLS_PYTHON";
/// Where tests find [`Component::OnnxRuntimeHeaders`].
const HEADERS: &str = "SELFCLS_ONNXRUNTIME_HEADERS";
/// Where tests find [`Component::OnnxRuntimeWeb`].
const WEB: &str = "SELFCLS_ONNXRUNTIME_WEB";
/// Where tests find [`Component::OpenVino`].
const OPENVINO: &str = "SELFCLS_OPENVINO_DYLIB";

/// One thing to set up.
#[derive(Clone, Copy)]
pub(crate) enum Component {
    Libtorch,
    OnnxRuntime,
    OnnxRuntimeHeaders,
    OnnxRuntimeWeb,
    OpenVino,
    Packages,
    Vulkan,
    Slurm,
    Browser,
}

impl Component {
    pub(crate) const ALL: [Self; 9] = [
        Self::Libtorch,
        Self::OnnxRuntime,
        Self::OnnxRuntimeHeaders,
        Self::OnnxRuntimeWeb,
        Self::OpenVino,
        Self::Packages,
        Self::Vulkan,
        Self::Slurm,
        Self::Browser,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Libtorch => "libtorch",
            Self::OnnxRuntime => "onnxruntime",
            Self::OnnxRuntimeHeaders => "onnxruntime-headers",
            Self::OnnxRuntimeWeb => "onnxruntime-web",
            Self::OpenVino => "openvino",
            Self::Packages => "python",
            Self::Vulkan => "vulkan",
            Self::Slurm => "slurm",
            Self::Browser => "browser",
        }
    }

    /// What cannot be tested without it.
    fn serves(self) -> &'static str {
        match self {
            Self::Libtorch => "tch",
            Self::OnnxRuntime => "ONNX Runtime",
            Self::OnnxRuntimeHeaders => "the program in examples/c",
            Self::OnnxRuntimeWeb => "ONNX Runtime for the web",
            Self::OpenVino => "ONNX Runtime with OpenVINO",
            Self::Packages => "ONNX's own checks and Python programs",
            Self::Vulkan => "wgpu",
            Self::Slurm => "Slurm",
            Self::Browser => "the page in examples/web",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Sets it up where that has not been done, and says how to use it. The error is a paragraph
    /// with the way out.
    pub(crate) fn set_up(self, workspace: &Workspace) -> Result<String, String> {
        let folder = workspace.dependencies();
        match self {
            Self::Libtorch => {
                let libtorch = libtorch::set_up(folder)?;
                Ok(format!("ready; `export LIBTORCH={}`", libtorch.display()))
            }
            Self::OnnxRuntime => {
                let library = onnxruntime::set_up(folder)?;
                Ok(format!(
                    "ready; `export ORT_DYLIB_PATH={}`",
                    library.display()
                ))
            }
            Self::OnnxRuntimeHeaders => {
                let headers = onnxruntime_headers::set_up(folder)?;
                Ok(format!("ready; `export {HEADERS}={}`", headers.display()))
            }
            Self::OnnxRuntimeWeb => {
                let files = onnxruntime_web::set_up(folder)?;
                Ok(format!("ready; `export {WEB}={}`", files.display()))
            }
            Self::OpenVino => {
                let library = openvino::set_up(folder)?;
                Ok(format!("ready; `export {OPENVINO}={}`", library.display()))
            }
            Self::Packages => {
                let python = packages::set_up(folder)?;
                Ok(format!("ready; `export {PYTHON}={}`", python.display()))
            }
            Self::Vulkan => vulkan::set_up(),
            Self::Slurm => slurm::set_up(),
            Self::Browser => {
                let (driver, browser) = (browser::playwright(folder)?, browser::chromium()?);
                Ok(format!(
                    "ready; `export {PLAYWRIGHT}={} {CHROMIUM}={}`",
                    driver.display(),
                    browser.display()
                ))
            }
        }
    }
}

/// What tests can use on this machine.
#[derive(Default)]
pub(crate) struct Ready {
    /// Cargo features of `selfcls-cli`, `selfcls-tests` and `selfcls-benches`.
    backends: Vec<&'static str>,
    /// Environment of builds and tests.
    environment: Vec<(&'static str, PathBuf)>,
}

/// Sets up all that this machine can have; notes the rest as not run.
pub(crate) fn for_tests(workspace: &Workspace, summary: &mut Summary) -> Ready {
    let mut ready = Ready {
        backends: vec!["ndarray"],
        environment: Vec::new(),
    };
    summary.part("set-up", |summary| {
        for component in Component::ALL {
            match ready.add(component, workspace.dependencies()) {
                Ok(message) => println!("{}: {message}", component.name()),
                Err(problem) => {
                    summary.not_run(&format!("{} (every test)", component.serves()), &problem);
                }
            }
        }
        // This part cannot fail: what a machine lacks is reported, and the rest is tested.
        true
    });
    ready
}

impl Ready {
    /// Sets `component` up, or takes what the environment names, and notes what it makes possible.
    fn add(&mut self, component: Component, folder: &Path) -> Result<String, String> {
        let named = |variable: &str| {
            let names_one = env::var_os(variable).is_some();
            names_one.then(|| format!("the one that {variable} names"))
        };
        match component {
            Component::Libtorch => {
                let message = match named("LIBTORCH") {
                    Some(message) => message,
                    None => self.provide("LIBTORCH", libtorch::set_up(folder)?),
                };
                self.backends.push("tch");
                Ok(message)
            }
            Component::OnnxRuntime => match named("ORT_DYLIB_PATH") {
                Some(message) => Ok(message),
                None => Ok(self.provide("ORT_DYLIB_PATH", onnxruntime::set_up(folder)?)),
            },
            Component::OnnxRuntimeHeaders => match named(HEADERS) {
                Some(message) => Ok(message),
                None => Ok(self.provide(HEADERS, onnxruntime_headers::set_up(folder)?)),
            },
            Component::OnnxRuntimeWeb => match named(WEB) {
                Some(message) => Ok(message),
                None => Ok(self.provide(WEB, onnxruntime_web::set_up(folder)?)),
            },
            Component::OpenVino => match named(OPENVINO) {
                Some(message) => Ok(message),
                None => Ok(self.provide(OPENVINO, openvino::set_up(folder)?)),
            },
            Component::Packages => match named(PYTHON) {
                Some(message) => Ok(message),
                None => Ok(self.provide(PYTHON, packages::set_up(folder)?)),
            },
            Component::Vulkan => {
                let message = vulkan::set_up()?;
                self.backends.push("wgpu");
                Ok(message)
            }
            Component::Slurm => slurm::set_up(),
            Component::Browser => {
                let driver = match named(PLAYWRIGHT) {
                    Some(message) => message,
                    None => self.provide(PLAYWRIGHT, browser::playwright(folder)?),
                };
                let browser = match named(CHROMIUM) {
                    Some(message) => message,
                    None => self.provide(CHROMIUM, browser::chromium()?),
                };
                Ok(format!("{browser}, driven by {driver}"))
            }
        }
    }

    /// Lets programs find libtorch when they start. Binaries of packages that name the backends carry
    /// its path in themselves; the unit tests of the other crates, which one feature set for all links
    /// with it too, do not.
    fn add_library_path(&self, command: &mut Command) {
        const VARIABLE: &str = if cfg!(target_os = "macos") {
            "DYLD_LIBRARY_PATH"
        } else {
            "LD_LIBRARY_PATH"
        };
        let ours = self
            .environment
            .iter()
            .find(|(name, _)| *name == "LIBTORCH");
        let given = || env::var_os("LIBTORCH").map(PathBuf::from);
        let Some(root) = ours.map(|(_, path)| path.clone()).or_else(given) else {
            return;
        };
        let mut folders = vec![root.join("lib")];
        if let Some(others) = env::var_os(VARIABLE) {
            folders.extend(env::split_paths(&others));
        }
        if let Ok(joined) = env::join_paths(folders) {
            command.env(VARIABLE, joined);
        }
    }

    fn provide(&mut self, variable: &'static str, path: PathBuf) -> String {
        let message = path.display().to_string();
        self.environment.push((variable, path));
        message
    }

    /// The one feature set of a test run, `package/feature` each.
    pub(crate) fn features(&self) -> Vec<String> {
        for_packages(&self.backends)
    }

    /// The above, and what is built but cannot be told apart by running it: kernel tuning.
    pub(crate) fn all_features(&self) -> Vec<String> {
        let mut features = self.features();
        if self.backends.contains(&"wgpu") {
            features.push("selfcls-cli/wgpu-tuned".to_owned());
        }
        features
    }

    /// Sets what builds and tests look for.
    pub(crate) fn set_environment(&self, workspace: &Workspace, command: &mut Command) {
        // It would win over LIBTORCH.
        command.env_remove("LIBTORCH_USE_PYTORCH");
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        self.add_library_path(command);
        // Graphics drivers want a folder for sockets and complain on every start without one.
        if env::var_os("XDG_RUNTIME_DIR").is_none() {
            let folder = workspace.dependencies().join("run");
            if private_folder(&folder) {
                command.env("XDG_RUNTIME_DIR", folder);
            }
        }
    }
}

fn for_packages(backends: &[&str]) -> Vec<String> {
    ["selfcls-cli", "selfcls-tests", "selfcls-benches"]
        .iter()
        .flat_map(|package| backends.iter().map(move |name| format!("{package}/{name}")))
        .collect()
}

fn private_folder(folder: &Path) -> bool {
    let created = std::fs::create_dir_all(folder).is_ok();
    #[cfg(unix)]
    let created = created && {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).is_ok()
    };
    created
}
