//! Weights that lie beside the file, where it would be larger than protobuf allows.
//!
//! A file can name any path there, and an engine would read it. So the name must be that of a plain file in
//! the model's own folder, and what is taken from it must be there. Where the model says what the whole file contains
//! (ONNX's `checksum`, which our writer writes), it must be that: other weights have the same sizes. And it can name the
//! same bytes again and again, which an engine would read as often: all that is taken counts, and of our own files no
//! byte serves two weights.

use super::network::{Network, Origin, Outside, Refusal};
use crate::checksum::Checksum;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

/// What is known of the place of weights.
pub(super) struct Place<'a> {
    /// Where the model lies; none if it is in memory.
    pub(super) folder: Option<&'a Path>,
    /// Who wrote it.
    pub(super) origin: Origin,
    /// Most bytes that all weights beside the model may have.
    pub(super) limit: u64,
}

/// Checks everything that `network` takes from other files.
pub(super) fn check(network: &Network<'_>, place: &Place<'_>) -> Result<(), Refusal> {
    are_there(network, place.folder)?;
    let bytes = network.outside.iter().filter_map(|weight| weight.length);
    let bytes = bytes.fold(0, u64::saturating_add);
    if bytes > place.limit {
        return Err(Refusal::new(format!(
            "the weights beside it have {bytes} bytes, and {} is the most; raise `max_data_bytes` if that is meant",
            place.limit
        ))
        .unless("max_data_bytes"));
    }
    if place.origin == Origin::Own {
        // Other writers may let two names share their values.
        are_apart(&network.outside)?;
    }
    are_its_own(network, place)
}

/// The files are those that the model was written with, where it says so.
fn are_its_own(network: &Network<'_>, place: &Place<'_>) -> Result<(), Refusal> {
    let mut sums: BTreeMap<&str, String> = BTreeMap::new();
    for weight in &network.outside {
        let (Some(expected), Some(folder)) = (weight.checksum, place.folder) else {
            continue;
        };
        let refuse = |reason: String| {
            Refusal::new(format!(
                "the weight `{}` lies in {:?}: {reason}",
                weight.name, weight.location
            ))
        };
        let found = match sums.entry(weight.location) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let sum = checksum(&folder.join(weight.location), place.limit);
                let sum = sum.map_err(|error| refuse(error.to_string()))?;
                unknown.insert(sum.ok_or_else(|| {
                    refuse(format!(
                        "it has more than {} bytes; raise `max_data_bytes` if that is meant",
                        place.limit
                    ))
                    .unless("max_data_bytes")
                })?)
            }
        };
        if !found.eq_ignore_ascii_case(expected) {
            return Err(refuse(format!(
                "it is not what the model was written with (its SHA-1 is {found}, not {expected}); put the file beside the model that was written with it"
            )));
        }
    }
    Ok(())
}

/// Of a whole file, unless that has more than `limit` bytes.
fn checksum(path: &Path, limit: u64) -> io::Result<Option<String>> {
    let mut file = File::open(path)?.take(limit.saturating_add(1));
    let mut sum = Checksum::default();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            length => sum.add(&piece[..length]),
        }
    }
    // Nothing is left of it where there is more.
    Ok((file.limit() > 0).then(|| sum.text()))
}

/// No two of them lie on the same bytes.
fn are_apart(weights: &[Outside<'_>]) -> Result<(), Refusal> {
    let mut ordered: Vec<&Outside<'_>> = weights.iter().collect();
    ordered.sort_by_key(|weight| (weight.location, weight.offset));
    for (one, next) in ordered.iter().zip(ordered.iter().skip(1)) {
        // `are_there` has checked that this is a place in a file.
        let end = one.offset + one.length.unwrap_or(0);
        if one.location == next.location && end > next.offset {
            return Err(Refusal::new(format!(
                "the weights `{}` and `{}` lie on the same bytes of {:?}",
                one.name, next.name, one.location
            )));
        }
    }
    Ok(())
}

fn are_there(network: &Network<'_>, folder: Option<&Path>) -> Result<(), Refusal> {
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for weight in &network.outside {
        let refuse = |reason: String| {
            Err(Refusal::new(format!(
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
        let Some(length) = weight.length else {
            return refuse("how many bytes it has there is not said".to_owned());
        };
        let end = weight.offset.checked_add(length);
        if weight.to_the_end && end.is_some_and(|end| end < size) {
            return refuse(format!(
                "it is said to go on to the end, but has {length} bytes from {} on of {size}",
                weight.offset
            ));
        }
        if end.is_none_or(|end| end > size) {
            return refuse(format!(
                "{length} bytes from {} on, but the file has {size}; it is not complete, or another model's",
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
    use super::*;

    fn weight(
        name: &'static str,
        location: &'static str,
        [offset, length]: [u64; 2],
    ) -> Outside<'static> {
        Outside {
            name,
            location,
            offset,
            length: Some(length),
            checksum: None,
            to_the_end: false,
        }
    }

    #[test]
    fn no_byte_serves_two_weights() {
        let apart = [
            weight("a", "x", [4096, 100]),
            weight("b", "x", [0, 4096]),
            weight("c", "y", [10, 100]),
        ];
        assert!(are_apart(&apart).is_ok());
        for [offset, length] in [[4195, 1], [4096, 100], [4000, 200], [0, 10_000]] {
            let mut all = apart.to_vec();
            all.push(weight("d", "x", [offset, length]));
            let message = are_apart(&all).expect_err("refused").reason;
            assert!(message.contains("`d`"), "{message}");
            // In a file of its own.
            all[3].location = "z";
            assert!(are_apart(&all).is_ok());
        }
    }

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
