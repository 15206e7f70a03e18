//! Finds ONNX Runtime's shared library and makes sure that it can be used, before `ort` touches it: `ort`
//! panics where a library lacks the interface that it was built for.

use super::{LIBRARY_VARIABLE, Library};
use crate::{Error, Result};
use std::ffi::CStr;
use std::path::{Path, PathBuf};

/// The oldest ONNX Runtime that works, e.g. `1.21`.
pub fn oldest_version() -> String {
    format!("1.{}", ort::MINOR_VERSION)
}

impl Library {
    /// Loads the library at `path` and checks its interface.
    ///
    /// # Errors
    /// [`Error::Engine`] if there is no such file, if it cannot be loaded, if it is not ONNX Runtime, or if
    /// it is older than [`oldest_version`].
    pub fn check(path: &Path) -> Result<Self> {
        let unusable = |reason: String| {
            Error::Engine(format!(
                "{} cannot serve as ONNX Runtime: {reason}; {}",
                path.display(),
                remedy()
            ))
        };
        // Absolute, because the loader and ort resolve relative names each in their own way.
        let path = path
            .canonicalize()
            .map_err(|error| unusable(error.to_string()))?;
        if !path.is_file() {
            return Err(unusable("it is not a file".to_owned()));
        }
        let version = probe(&path).map_err(unusable)?;
        Ok(Self { path, version })
    }

    /// The first usable library in the well-known places, and why others there were passed over.
    pub fn search() -> (Option<Self>, Vec<String>) {
        let mut passed_over = Vec::new();
        for candidate in well_known_places()
            .iter()
            .flat_map(|folder| libraries_in(folder))
        {
            match Self::check(&candidate) {
                Ok(library) => return (Some(library), passed_over),
                Err(error) => passed_over.push(error.to_string()),
            }
        }
        (None, passed_over)
    }
}

/// How to get a library, for messages.
pub(super) fn remedy() -> String {
    let other = match cfg!(feature = "tract") {
        true => "use the built-in engine, tract",
        false => "build with the feature `tract`, the engine that needs no library",
    };
    format!(
        "give the path of ONNX Runtime {} or newer ({} from a release at https://github.com/microsoft/onnxruntime/releases or from the `onnxruntime` Python wheel) in {LIBRARY_VARIABLE}, or {other}",
        oldest_version(),
        file_name()
    )
}

/// The library's file name on this system.
pub(super) fn file_name() -> String {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}")
}

/// Where it is searched for, for messages.
pub(super) fn places() -> String {
    let places = well_known_places();
    let places: Vec<String> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    places.join(", ")
}

/// Folders that are searched, in order: that of the program, the `lib` beside it where it is a `bin`, and where systems
/// keep shared libraries.
///
/// What is found is run, so these are folders of those who installed the program or the system. Not the working
/// directory, nor folders above the program: what lies there may come from anybody. Nor the program's own folder where
/// everybody may write, as in `/tmp`. Not Windows' system folder: the library there belongs to the system and is old.
pub fn well_known_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Ok(program) = std::env::current_exe()
        && let Some(own) = program.parent()
    {
        places.extend(places_of(own));
    }
    if cfg!(unix) {
        places.extend(["/usr/local/lib", "/usr/lib", "/usr/lib64"].map(PathBuf::from));
        let arch = std::env::consts::ARCH;
        places.push(format!("/usr/lib/{arch}-linux-gnu").into());
    }
    if cfg!(target_os = "macos") {
        places.push("/opt/homebrew/lib".into());
    }
    places
}

/// Where the library of a program in `folder` may lie.
fn places_of(folder: &Path) -> Vec<PathBuf> {
    let mut places = vec![folder.to_path_buf()];
    if folder.ends_with("bin") {
        places.extend(folder.parent().map(|parent| parent.join("lib")));
    }
    places.retain(|place| !everybody_writes(place));
    places
}

/// Whether every user of the system may put files there.
#[cfg(unix)]
fn everybody_writes(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    folder
        .metadata()
        .is_ok_and(|folder| folder.permissions().mode() & 0o002 != 0)
}

/// Windows keeps such rights in lists, and gives them to nobody else where programs are installed.
#[cfg(not(unix))]
fn everybody_writes(_: &Path) -> bool {
    false
}

/// The files of the library in `folder`: the plain name first, then versioned ones, newest first.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let plain = file_name();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            Some((version_in(name.to_str()?, &plain)?, entry.path()))
        })
        .collect();
    // The plain name has no version and is usually a link to the one that is meant.
    found.sort_by(|(a, _), (b, _)| (b.is_empty(), b).cmp(&(a.is_empty(), a)));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The version in a file name such as `libonnxruntime.so.1.31.1` or `libonnxruntime.1.31.1.dylib`; empty
/// for the plain name, `None` for any other file.
fn version_in(name: &str, plain: &str) -> Option<Vec<u32>> {
    if name == plain {
        return Some(Vec::new());
    }
    let (stem, suffix) = plain.rsplit_once('.')?;
    let version = name.strip_prefix(&format!("{plain}.")).or_else(|| {
        name.strip_prefix(&format!("{stem}."))?
            .strip_suffix(&format!(".{suffix}"))
    })?;
    version.split('.').map(|part| part.parse().ok()).collect()
}

/// Loads the library and asks for its version and for the interface that `ort` will use.
#[allow(unsafe_code)]
fn probe(path: &Path) -> Result<String, String> {
    type GetApiBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;

    // SAFETY: loading runs the file's initialisers; the caller was told to name a library to be executed,
    // and the places searched are those of whoever installed the program or the system.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| error.to_string())?;
    // ONNX Runtime starts threads and registers exit handlers, so it is never unloaded again.
    let library = std::mem::ManuallyDrop::new(library);
    // SAFETY: the symbol has had this signature since ONNX Runtime 1.0.
    let get_base = unsafe { library.get::<GetApiBase>(b"OrtGetApiBase\0") }
        .map_err(|_| "it does not export OrtGetApiBase".to_owned())?;
    // SAFETY: takes no arguments and returns a pointer to static data, or null.
    let base = unsafe { get_base().as_ref() }
        .ok_or_else(|| "its OrtGetApiBase gives nothing".to_owned())?;
    // SAFETY: part of the table; gives a static, NUL-terminated text.
    let version = unsafe { (base.GetVersionString)() };
    if version.is_null() {
        return Err("it does not tell its version".to_owned());
    }
    // SAFETY: not null, static and NUL-terminated.
    let version = unsafe { CStr::from_ptr(version) }
        .to_string_lossy()
        .into_owned();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let (major, minor) = (parts.next().flatten(), parts.next().flatten());
    let new_enough = major == Some(1) && minor.is_some_and(|minor| minor >= ort::MINOR_VERSION);
    // SAFETY: part of the table; null where the version is not offered.
    if !new_enough || unsafe { (base.GetApi)(ort::MINOR_VERSION) }.is_null() {
        return Err(format!(
            "it is version {version}, and {} or a newer 1.x is needed",
            oldest_version()
        ));
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_file_names() {
        let linux = "libonnxruntime.so";
        assert_eq!(version_in("libonnxruntime.so", linux), Some(vec![]));
        assert_eq!(
            version_in("libonnxruntime.so.1.31.1", linux),
            Some(vec![1, 31, 1])
        );
        assert_eq!(version_in("libonnxruntime.so.1", linux), Some(vec![1]));
        assert_eq!(
            version_in("libonnxruntime_providers_shared.so", linux),
            None
        );
        assert_eq!(version_in("libonnxruntime.so.debug", linux), None);
        let mac = "libonnxruntime.dylib";
        assert_eq!(
            version_in("libonnxruntime.1.24.0.dylib", mac),
            Some(vec![1, 24, 0])
        );
    }

    /// A library in a folder above the program, or where anybody may write, could be anybody's.
    #[test]
    #[cfg(unix)]
    fn only_folders_of_whoever_installed_the_program_are_searched() {
        use std::fs::{Permissions, create_dir_all, set_permissions};
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["app/bin", "app/lib", "lib", "app/.deps/onnxruntime"] {
            create_dir_all(path(name)).expect("created");
        }
        assert_eq!(
            places_of(&path("app/bin")),
            [path("app/bin"), path("app/lib")]
        );
        assert_eq!(places_of(&path("app")), [path("app")]);
        for name in ["app/bin", "app/lib"] {
            set_permissions(path(name), Permissions::from_mode(0o1777)).expect("changed");
        }
        assert_eq!(places_of(&path("app/bin")), Vec::<PathBuf>::new());
        let searched = well_known_places();
        let above = |place: &&PathBuf| place.to_string_lossy().contains(".deps");
        assert_eq!(searched.iter().find(above), None);
    }

    #[test]
    fn newest_version_first_and_the_plain_name_before_all() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let plain = file_name();
        let names = [
            format!("{plain}.1.9.0"),
            format!("{plain}.1.31.1"),
            plain,
            "other.so".into(),
        ];
        for name in &names {
            std::fs::write(folder.path().join(name), b"").expect("file");
        }
        let found = libraries_in(folder.path());
        let expected = [&names[2], &names[1], &names[0]].map(|name| folder.path().join(name));
        assert_eq!(found, expected);
        assert!(libraries_in(Path::new("no such folder")).is_empty());
    }

    #[test]
    fn what_is_no_library_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let text = folder.path().join("libonnxruntime.so");
        std::fs::write(&text, "not a library").expect("file");
        for path in [
            text.as_path(),
            folder.path(),
            Path::new("/no/such/library.so"),
        ] {
            let message = Library::check(path)
                .expect_err("must be refused")
                .to_string();
            assert!(message.contains(&*path.to_string_lossy()), "{message}");
            assert!(message.contains(LIBRARY_VARIABLE), "{message}");
        }
    }
}
