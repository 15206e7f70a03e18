//! A driver for wgpu: any that is there, or Mesa's software driver.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::apt;

/// Makes sure there is a driver, and says which.
pub(crate) fn set_up() -> Result<String, String> {
    if cfg!(target_os = "macos") {
        return Ok("not needed: macOS has Metal".to_owned());
    }
    if cfg!(not(target_os = "linux")) {
        return Err("only Linux and macOS are known to this set-up".to_owned());
    }
    if let Some(message) = found() {
        return Ok(message);
    }
    apt::install(&["mesa-vulkan-drivers", "libvulkan1"]).map_err(|reason| {
        format!(
            "no Vulkan driver was found, and none was installed ({reason}): install that of your \
             GPU, or Mesa's software driver: as root, on Debian and Ubuntu `apt-get install \
             mesa-vulkan-drivers libvulkan1`, on Fedora `dnf install mesa-vulkan-drivers \
             vulkan-loader`, on Arch `pacman -S vulkan-swrast vulkan-icd-loader`"
        )
    })?;
    found().ok_or_else(|| "the driver was installed but its manifest is not found".to_owned())
}

/// The drivers' manifests, if there are both a driver and the loader.
fn found() -> Option<String> {
    let manifests = manifests();
    if manifests.is_empty() || !has_loader() {
        return None;
    }
    let names: Vec<_> = manifests
        .iter()
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    Some(format!("drivers {}", names.join(", ")))
}

/// Where the Vulkan loader looks for drivers, per its "Driver Discovery" documentation.
fn manifests() -> Vec<PathBuf> {
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        if let Some(named) = env::var_os(variable) {
            return env::split_paths(&named)
                .filter(|path| path.exists())
                .collect();
        }
    }
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let folders = [
        home.join(".config/vulkan/icd.d"),
        home.join(".local/share/vulkan/icd.d"),
        "/etc/vulkan/icd.d".into(),
        "/usr/local/etc/vulkan/icd.d".into(),
        "/usr/local/share/vulkan/icd.d".into(),
        "/usr/share/vulkan/icd.d".into(),
    ];
    let mut manifests: Vec<PathBuf> = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    manifests.sort();
    manifests
}

fn has_loader() -> bool {
    let architecture = env::consts::ARCH;
    let mut folders: Vec<PathBuf> = env::var_os("LD_LIBRARY_PATH")
        .map(|paths| env::split_paths(&paths).collect())
        .unwrap_or_default();
    folders.extend([
        format!("/usr/lib/{architecture}-linux-gnu").into(),
        format!("/lib/{architecture}-linux-gnu").into(),
        "/usr/lib64".into(),
        "/usr/lib".into(),
        "/usr/local/lib".into(),
    ]);
    folders
        .iter()
        .any(|folder: &PathBuf| Path::new(folder).join("libvulkan.so.1").exists())
}
