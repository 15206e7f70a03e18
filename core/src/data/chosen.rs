//! Fewer images of a source: some classes, and so many of each.

use super::{Source, subset};
use crate::config::DataConfig;
use crate::pixels::Rgb8;
use crate::{Error, Result};
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

/// What `data.classes_file` and `data.limit_per_class` leave of a list of images.
#[derive(Debug)]
pub(super) struct Choice {
    /// Positions in the list, rising.
    pub(super) indices: Vec<usize>,
    /// Their labels, numbered anew where classes were chosen.
    pub(super) labels: Option<Vec<usize>>,
    /// The classes that are left.
    pub(super) classes: Vec<String>,
}

impl Choice {
    /// Chooses among `count` images with these labels; `source` names them in messages.
    ///
    /// # Errors
    /// If classes are to be chosen from images without labels, or the file cannot be read or names others; see
    /// [`subset::select`].
    pub(super) fn new(
        source: &dyn Display,
        count: usize,
        (labels, classes): (Option<Vec<usize>>, Vec<String>),
        config: &DataConfig,
    ) -> Result<Self> {
        let mut choice = Self {
            indices: (0..count).collect(),
            labels,
            classes,
        };
        if !config.classes_file.is_empty() {
            choice.keep_classes(source, Path::new(&config.classes_file))?;
        }
        if config.limit_per_class > 0 {
            choice.limit(config.limit_per_class);
        }
        Ok(choice)
    }

    /// Keeps the images of the classes that the subset file names, numbered in its order.
    fn keep_classes(&mut self, source: &dyn Display, file: &Path) -> Result<()> {
        let Some(labels) = self.labels.take() else {
            return Err(Error::Data(format!(
                "data.classes_file chooses among classes, but {source} has no labels; those of a folder are its sub-folders, if there are two at least and they hold all images"
            )));
        };
        let chosen = subset::select(file, &self.classes)?;
        let mut number = vec![None; self.classes.len()];
        for (new, &old) in chosen.iter().enumerate() {
            number[old] = Some(new);
        }
        let kept = self.indices.iter().zip(labels);
        let kept = kept.filter_map(|(&index, label)| Some((index, number[label]?)));
        let (indices, labels) = kept.unzip();
        (self.indices, self.labels) = (indices, Some(labels));
        self.classes = chosen
            .iter()
            .map(|&class| self.classes[class].clone())
            .collect();
        Ok(())
    }

    /// Keeps the first `count` images of each class; of all, without labels.
    fn limit(&mut self, count: usize) {
        let Some(labels) = &mut self.labels else {
            self.indices.truncate(count);
            return;
        };
        let mut seen = vec![0; self.classes.len()];
        let kept = self.indices.iter().zip(&*labels);
        let kept = kept.filter(|&(_, &label)| {
            seen[label] += 1;
            seen[label] <= count
        });
        let (indices, of_kept) = kept.map(|(&index, &label)| (index, label)).unzip();
        (self.indices, *labels) = (indices, of_kept);
    }
}

/// Images of a source in its order, their classes numbered anew.
pub(super) struct Chosen {
    source: Arc<dyn Source>,
    choice: Choice,
}

impl Chosen {
    /// What `config` leaves of `source`, which `name` names in messages: itself, where it says nothing.
    ///
    /// # Errors
    /// As [`Choice::new`].
    pub(super) fn of(
        source: Arc<dyn Source>,
        name: &str,
        config: &DataConfig,
    ) -> Result<Arc<dyn Source>> {
        if config.classes_file.is_empty() && config.limit_per_class == 0 {
            return Ok(source);
        }
        let labels: Option<Vec<usize>> = (0..source.len()).map(|i| source.label(i)).collect();
        let labels = labels.filter(|_| !source.classes().is_empty());
        let labelled = (labels, source.classes().to_vec());
        let choice = Choice::new(&name, source.len(), labelled, config)?;
        Ok(Arc::new(Self { source, choice }))
    }
}

impl Source for Chosen {
    fn len(&self) -> usize {
        self.choice.indices.len()
    }

    fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
        self.source.image(self.choice.indices[index])
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.choice.labels.as_ref().map(|labels| labels[index])
    }

    fn classes(&self) -> &[String] {
        &self.choice.classes
    }

    fn name(&self, index: usize) -> String {
        self.source.name(self.choice.indices[index])
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SHAPES, Shapes};
    use super::*;

    fn labels(source: &dyn Source) -> Vec<Option<usize>> {
        (0..source.len()).map(|index| source.label(index)).collect()
    }

    #[test]
    fn classes_are_numbered_as_the_file_lists_them_and_limited_each() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("classes.txt");
        std::fs::write(&list, "cross four arms\ndisc\n").expect("written");
        let shapes = || Arc::new(Shapes::new(40, 0, 8));
        let chosen = |config: &DataConfig| Chosen::of(shapes(), "shapes:40", config);
        let mut config = DataConfig {
            classes_file: list.display().to_string(),
            ..Default::default()
        };
        let source = chosen(&config).expect("chosen");
        assert_eq!(source.classes(), ["cross", "disc"]);
        // Every eighth image is a disc, and the third after it a cross.
        assert_eq!(source.len(), 10);
        assert_eq!(labels(&*source)[..3], [Some(1), Some(0), Some(1)]);
        assert_eq!(source.name(1), shapes().name(3));
        assert_eq!(
            source.image(1).expect("drawn"),
            shapes().image(3).expect("drawn")
        );

        config.limit_per_class = 2;
        assert_eq!(
            labels(&*chosen(&config).expect("chosen")),
            [Some(1), Some(0), Some(1), Some(0)],
            "two of each"
        );
        config.classes_file.clear();
        assert_eq!(chosen(&config).expect("limited").len(), 2 * SHAPES.len());
        config.limit_per_class = 0;
        assert_eq!(chosen(&config).expect("all").len(), 40);
    }

    #[test]
    fn images_without_labels_have_no_classes_to_choose_from() {
        let mut config = DataConfig {
            limit_per_class: 3,
            ..Default::default()
        };
        let choose = |config: &DataConfig| Choice::new(&"photos", 5, (None, Vec::new()), config);
        assert_eq!(choose(&config).expect("limited").indices, [0, 1, 2]);
        config.classes_file = "classes.txt".into();
        let message = choose(&config).expect_err("refused").to_string();
        assert!(message.contains("photos has no labels"), "{message}");
    }
}
