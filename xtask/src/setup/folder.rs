//! Folders that appear complete or not at all.

use std::fs::{self, File};
use std::path::Path;

/// Makes sure that `target` is `complete`: fills a folder beside it and renames that into its
/// place, where it replaces what was there. What a failed or interrupted filling leaves is removed,
/// by itself or by the next one; of several processes at once one works and the others wait.
pub(crate) fn ensure(
    target: &Path,
    complete: impl Fn(&Path) -> bool,
    fill: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<(), String> {
    if complete(target) {
        return Ok(());
    }
    let parent = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(cannot("create", parent))?;
    let path = target.with_extension("lock");
    let lock = File::create(&path).map_err(cannot("create", &path))?;
    // Given back when the file is closed, also by a process that dies.
    lock.lock().map_err(cannot("lock", &path))?;
    if complete(target) {
        return Ok(());
    }
    let staged = target.with_extension("partial");
    let _ = fs::remove_dir_all(&staged);
    fs::create_dir(&staged).map_err(cannot("create", &staged))?;
    let outcome = fill(&staged).and_then(|()| {
        if target.exists() {
            fs::remove_dir_all(target).map_err(cannot("remove", target))?;
        }
        fs::rename(&staged, target).map_err(cannot("rename", &staged))
    });
    if outcome.is_err() {
        let _ = fs::remove_dir_all(&staged);
    }
    outcome
}

fn cannot(action: &str, path: &Path) -> impl FnOnce(std::io::Error) -> String {
    move |error| format!("cannot {action} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A fresh folder for one test, and the target in it.
    fn scratch(test: &str) -> (PathBuf, PathBuf) {
        let folder = std::env::temp_dir().join(format!("xtask-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let target = folder.join("thing");
        (folder, target)
    }

    /// Fills the folder with one file of this text, unless it has it.
    fn ensure_text(target: &Path, text: &str) -> Result<(), String> {
        let has_text =
            |folder: &Path| fs::read_to_string(folder.join("file")).is_ok_and(|t| t == text);
        ensure(target, has_text, |staged| {
            fs::write(staged.join("file"), text).map_err(|error| error.to_string())
        })
    }

    #[test]
    fn a_folder_is_filled_kept_and_replaced() {
        let (folder, target) = scratch("replace");
        assert_eq!(ensure_text(&target, "first"), Ok(()));
        fs::write(target.join("mine"), "").expect("a mark");
        assert_eq!(ensure_text(&target, "first"), Ok(()));
        assert!(
            target.join("mine").exists(),
            "what is complete is left alone"
        );
        assert_eq!(ensure_text(&target, "second"), Ok(()));
        assert!(!target.join("mine").exists(), "what is not is replaced");
        assert!(!folder.join("thing.partial").exists());
        fs::remove_dir_all(folder).expect("cleared");
    }

    #[test]
    fn a_failed_filling_keeps_the_old_and_leaves_nothing() {
        let (folder, target) = scratch("fail");
        assert_eq!(ensure_text(&target, "old"), Ok(()));
        let outcome = ensure(
            &target,
            |_| false,
            |staged| {
                fs::write(staged.join("file"), "half").expect("half of it");
                Err("no network".to_owned())
            },
        );
        assert_eq!(outcome, Err("no network".to_owned()));
        let kept = fs::read_to_string(target.join("file")).expect("the old file");
        assert_eq!(kept, "old");
        assert!(!folder.join("thing.partial").exists());
        fs::remove_dir_all(folder).expect("cleared");
    }
}
