//! Parts of a source: some classes, some images, or a share of each class.

use crate::data::Source;
use crate::pixels::Rgb8;
use crate::random::{Draw, Purpose, stream};
use crate::{Error, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Some images of a source, in its order, under their own names and labels.
pub struct Selection {
    source: Arc<dyn Source>,
    indices: Vec<usize>,
}

/// Names that an error lists.
const LISTED: usize = 5;

impl Selection {
    /// The images of `classes`, by name. Labels stay as they were: classes that were not chosen simply do not occur.
    ///
    /// # Errors
    /// [`Error::Data`] naming those of `classes` that the source does not have, or if it has no labels.
    pub fn of_classes(source: Arc<dyn Source>, classes: &[String]) -> Result<Self> {
        let known: HashMap<&str, usize> = source
            .classes()
            .iter()
            .enumerate()
            .map(|(label, name)| (name.as_str(), label))
            .collect();
        let missing: Vec<&str> = classes
            .iter()
            .map(String::as_str)
            .filter(|name| !known.contains_key(name))
            .collect();
        if !missing.is_empty() {
            return Err(Error::Data(format!(
                "the data have no class {}; their {} classes are named after folders",
                listed(&missing),
                known.len()
            )));
        }
        let mut wanted = vec![false; known.len()];
        for name in classes {
            wanted[known[name.as_str()]] = true;
        }
        Ok(Self::where_(source, |source, index| {
            source.label(index).is_some_and(|label| wanted[label])
        }))
    }

    /// The images of those numbers, rising.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the source has fewer.
    pub fn of_images(source: Arc<dyn Source>, indices: Vec<usize>) -> Result<Self> {
        match indices.iter().find(|&&index| index >= source.len()) {
            Some(index) => Err(Error::Invalid(format!(
                "there is no image {index} among {}",
                source.len()
            ))),
            None => Ok(Self { source, indices }),
        }
    }

    /// The images of those file names (without their folders), such as SimCLR's lists of 1 and 10 % of ImageNet.
    ///
    /// # Errors
    /// [`Error::Data`] naming those of `files` that the source does not have.
    pub fn of_files(source: Arc<dyn Source>, files: &[String]) -> Result<Self> {
        let base = |name: &str| {
            name.rsplit(['/', '\\'])
                .next()
                .unwrap_or_default()
                .to_string()
        };
        let mut wanted: HashMap<String, bool> =
            files.iter().map(|name| (base(name), false)).collect();
        let selection = Self::where_(source, |source, index| {
            let found = wanted.get_mut(&base(&source.name(index)));
            found.map(|found| *found = true).is_some()
        });
        let mut missing: Vec<&str> = wanted
            .iter()
            .filter(|&(_, &found)| !found)
            .map(|(name, _)| name.as_str())
            .collect();
        missing.sort_unstable();
        if missing.is_empty() {
            return Ok(selection);
        }
        Err(Error::Data(format!(
            "{} of the {} listed images are not in the data: {}",
            missing.len(),
            wanted.len(),
            listed(&missing)
        )))
    }

    /// A random `share` (above 0, at most 1) of each class, rounded, at least one image; the same for the same seed.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the share is impossible, [`Error::Data`] if the source has no labels.
    pub fn of_share(source: Arc<dyn Source>, share: f64, seed: u64) -> Result<Self> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::Invalid(format!(
                "{share} of the labels cannot be chosen; give a share above 0 and at most 1"
            )));
        }
        let mut of_class = vec![Vec::new(); source.classes().len()];
        for index in 0..source.len() {
            let label = source.label(index).ok_or_else(|| {
                Error::Data("a share of each class needs images with labels".into())
            })?;
            of_class[label].push(index);
        }
        let mut indices = Vec::new();
        for (class, mut members) in of_class.into_iter().enumerate() {
            stream(seed, Purpose::Evaluation, [class as u64, 1, 0]).shuffle(&mut members);
            let count = (members.len() as f64 * share).round() as usize;
            members.truncate(count.max(1));
            indices.extend(members);
        }
        indices.sort_unstable();
        Ok(Self { source, indices })
    }

    /// A random sample of `count` images, or all if there are fewer; the same for the same seed.
    pub fn sample(source: Arc<dyn Source>, count: usize, seed: u64) -> Self {
        let indices = Self::draw(source.len(), count, seed);
        Self { source, indices }
    }

    /// The images with these numbers.
    pub fn of_range(source: Arc<dyn Source>, range: Range<usize>) -> Self {
        Self {
            source,
            indices: range.collect(),
        }
    }

    /// `count` of the numbers from 0 to `total`, or all if there are fewer, rising; the same for the same seed.
    pub fn draw(total: usize, count: usize, seed: u64) -> Vec<usize> {
        let mut indices: Vec<usize> = (0..total).collect();
        if count < total {
            stream(seed, Purpose::Evaluation, [0, 3, 0]).shuffle(&mut indices);
            indices.truncate(count);
            indices.sort_unstable();
        }
        indices
    }

    /// The numbers of the images in the whole source, rising.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    fn where_(source: Arc<dyn Source>, mut wanted: impl FnMut(&dyn Source, usize) -> bool) -> Self {
        let all = 0..source.len();
        let indices = all.filter(|&index| wanted(&*source, index)).collect();
        Self { source, indices }
    }
}

impl Source for Selection {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
        self.source.image(self.indices[index])
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.source.label(self.indices[index])
    }

    fn classes(&self) -> &[String] {
        self.source.classes()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(self.indices[index])
    }
}

/// The first word of each line of a text file: names of classes or images, whatever follows them.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Malformed`] if it names nothing or something twice.
pub fn read_names(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let mut names: Vec<String> = Vec::new();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let Some(name) = line.split_whitespace().next() else {
            continue;
        };
        if let Some(before) = seen.insert(name, number + 1) {
            return Err(Error::malformed(
                path,
                format!("line {}: {name} again, as in line {before}", number + 1),
            ));
        }
        names.push(name.to_string());
    }
    if names.is_empty() {
        return Err(Error::malformed(
            path,
            "it holds no names; write one per line",
        ));
    }
    Ok(names)
}

fn listed(names: &[&str]) -> String {
    let mut text = names[..names.len().min(LISTED)].join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(" and {} more", names.len() - LISTED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Shapes;

    fn shapes(count: usize) -> Arc<dyn Source> {
        Arc::new(Shapes::new(count, 0, 8))
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn classes_are_chosen_and_the_images_are_theirs() {
        let all = shapes(20);
        let some =
            Selection::of_classes(Arc::clone(&all), &names(&["bar", "disc"])).expect("two classes");
        let labels: Vec<_> = (0..some.len()).map(|index| some.label(index)).collect();
        assert_eq!(labels, [0, 5, 0, 5, 0].map(Some));
        assert_eq!(some.classes(), all.classes());
        // The authors' evaluation shows other images here (it indexes the whole set).
        assert_eq!(
            some.image(3).expect("an image"),
            all.image(13).expect("an image")
        );
        assert_eq!(some.name(3), all.name(13));
        let error = Selection::of_classes(all, &names(&["disc", "square", "cube"]))
            .err()
            .expect("refused");
        assert!(
            error.to_string().contains("no class square, cube"),
            "{error}"
        );
    }

    #[test]
    fn files_are_chosen_by_name() {
        let chosen = |files: &[&str]| Selection::of_files(shapes(12), &names(files));
        let some = chosen(&["shapes:12:0#3", "folder/shapes:12:0#1"]).expect("two images");
        assert_eq!(
            (some.len(), some.label(0), some.label(1)),
            (2, Some(1), Some(3))
        );
        let error = chosen(&["shapes:12:0#3", "none.jpg"])
            .err()
            .expect("refused")
            .to_string();
        assert!(
            error.contains("1 of the 2 listed images are not in the data: none.jpg"),
            "{error}"
        );
    }

    #[test]
    fn shares_are_of_each_class_and_follow_the_seed() {
        let draw = |share, seed| {
            let some = Selection::of_share(shapes(160), share, seed).expect("a share");
            some.indices
        };
        let some = draw(0.1, 0);
        let mut of_class = [0; 8];
        some.iter().for_each(|index| of_class[index % 8] += 1);
        assert_eq!(of_class, [2; 8]);
        assert!(some.is_sorted());
        assert_eq!(some, draw(0.1, 0));
        assert_ne!(some, draw(0.1, 1));
        assert_eq!((draw(0.001, 0).len(), draw(1.0, 0).len()), (8, 160));
        for share in [0.0, -1.0, 1.5, f64::NAN] {
            assert!(Selection::of_share(shapes(8), share, 0).is_err());
        }
    }

    #[test]
    fn lists_are_read_and_doubles_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("list.txt");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            read_names(&path).map_err(|error| error.to_string())
        };
        assert_eq!(read("n1 a bird\nn2\r\n\n").expect("read"), ["n1", "n2"]);
        assert!(
            read("a\nb\na\n")
                .expect_err("refused")
                .contains("line 3: a again, as in line 1")
        );
        assert!(read("\n").expect_err("refused").contains("no names"));
    }
}
