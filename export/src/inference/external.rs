//! Weights that lie beside the file, where it would be larger than protobuf allows.
//!
//! A file can name any path there, and an engine would read it. So the name must be that of a plain file in
//! the model's own folder, and what is taken from it must be there.

use super::network::{Network, Refusal};
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// Checks everything that `network` takes from other files, its own lying in `folder`; none for a model
/// in memory, which has no folder.
pub(super) fn check(network: &Network<'_>, folder: Option<&Path>) -> Result<(), Refusal> {
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for weight in &network.outside {
        let refuse = |reason: String| {
            Err(Refusal(format!(
                "the weight `{}` lies in {:?}: {reason}",
                weight.name, weight.location
            )))
        };
        let Some(folder) = folder else {
            return refuse(
                "open the model by its path, so that files beside it are found".to_owned(),
            );
        };
        if !is_plain(weight.location) {
            return refuse(
                "only a file beside the model may hold weights, named without folders".to_owned(),
            );
        }
        let size = match sizes.get(weight.location) {
            Some(&size) => size,
            None => {
                // Of the name itself: a link could lead anywhere.
                let kind = match folder.join(weight.location).symlink_metadata() {
                    Ok(kind) => kind,
                    Err(error) => {
                        return refuse(format!(
                            "{error}; put that file beside the model, in {}",
                            folder.display()
                        ));
                    }
                };
                if !kind.is_file() {
                    return refuse("it is a link or a folder, not a file".to_owned());
                }
                sizes.insert(weight.location, kind.len());
                kind.len()
            }
        };
        let end = weight.offset.checked_add(weight.length.unwrap_or(0));
        if end.is_none_or(|end| end > size) {
            return refuse(format!(
                "{} bytes from {} on, but the file has {size}; it is not complete, or another model's",
                weight.length.unwrap_or(0),
                weight.offset
            ));
        }
    }
    Ok(())
}

/// Whether `name` is a file name and nothing more, on any system.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let alone = matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none();
    alone && !name.contains(['/', '\\', ':'])
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn only_plain_names_are_files_beside_the_model() {
        for name in ["model.onnx.data", "weights", "..data", "a b"] {
            assert!(is_plain(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "../a",
            "a/b",
            "a/",
            "./a",
            "/etc/passwd",
            "..\\a",
            "a\\b",
            "C:a",
            "C:\\a",
            "file:stream",
            "\\\\host\\share",
        ] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
