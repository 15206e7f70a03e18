//! The labels of images in tar files: from class numbers, or from the folders that they lie in.

use super::listing::Member;
use crate::data::labels::Labelled;
use crate::{Error, Result};
use std::path::PathBuf;

/// Names that an error lists.
const LISTED: usize = 5;

/// What the members of a sample share: the path up to the first dot of the file's name.
pub(super) fn sample(name: &str) -> &str {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name[file..].find('.').map_or(name.len(), |dot| file + dot);
    &name[..dot]
}

/// Labels from class numbers, which all images must have.
pub(super) fn numbers(
    shards: &[PathBuf],
    members: &[Member],
    given: Vec<Option<usize>>,
) -> Result<Labelled> {
    let without: Vec<String> = members
        .iter()
        .zip(&given)
        .filter(|(_, class)| class.is_none())
        .take(LISTED)
        .map(|(member, _)| format!("{}/{}", shards[member.shard].display(), member.name))
        .collect();
    if !without.is_empty() {
        return Err(Error::Data(format!(
            "some images have a .cls member with their class and others have none, such as {}; give all of them one, or none",
            without.join(", ")
        )));
    }
    let labels: Vec<usize> = given.into_iter().flatten().collect();
    let classes = labels.iter().max().map_or(0, |&largest| largest + 1);
    let names = (0..classes).map(|class| class.to_string()).collect();
    Ok((Some(labels), names))
}

/// The folder that names the class of each member: the first below the folders that all of them share. None if some
/// member lies in no further folder.
pub(super) fn folders(members: &[Member]) -> Option<Vec<String>> {
    // Bytes, for names may differ in the middle of a character; a slash is one in itself.
    let up_to_slash = |name: &[u8]| {
        name.iter()
            .rposition(|&byte| byte == b'/')
            .map_or(0, |at| at + 1)
    };
    let first = members.first()?.name.as_bytes();
    let mut shared = up_to_slash(first);
    for member in members {
        let pairs = first[..shared].iter().zip(member.name.as_bytes());
        let common = pairs.take_while(|(a, b)| a == b).count();
        shared = up_to_slash(&first[..common]);
    }
    let class = |member: &Member| Some(member.name[shared..].split_once('/')?.0.to_string());
    members.iter().map(class).collect()
}
