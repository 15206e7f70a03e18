//! Fewer images of a source: some classes, and so many of each.

use super::{Source, subset};
use crate::config::DataConfig;
use crate::pixels::Rgb8;
use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// Images of a source in its order, their classes numbered anew.
pub(super) struct Chosen {
    source: Arc<dyn Source>,
    indices: Vec<usize>,
    labels: Option<Vec<usize>>,
    classes: Vec<String>,
}

impl Chosen {
    /// What `data.classes_file` and `data.limit_per_class` leave of `source`: the source itself, where they say nothing.
    ///
    /// # Errors
    /// If classes are chosen from a source without labels, or the file cannot be read or names others; see
    /// [`subset::select`].
    pub(super) fn of(source: Arc<dyn Source>, config: &DataConfig) -> Result<Arc<dyn Source>> {
        if config.classes_file.is_empty() && config.limit_per_class == 0 {
            return Ok(source);
        }
        let labels: Option<Vec<usize>> = (0..source.len()).map(|i| source.label(i)).collect();
        let mut chosen = Self {
            indices: (0..source.len()).collect(),
            labels: labels.filter(|_| !source.classes().is_empty()),
            classes: source.classes().to_vec(),
            source,
        };
        if !config.classes_file.is_empty() {
            chosen.keep_classes(Path::new(&config.classes_file))?;
        }
        if config.limit_per_class > 0 {
            chosen.limit(config.limit_per_class);
        }
        Ok(Arc::new(chosen))
    }

    fn keep_classes(&mut self, file: &Path) -> Result<()> {
        let Some(labels) = self.labels.take() else {
            return Err(Error::Data(
                "data.classes_file chooses among classes, but these images have no labels".into(),
            ));
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

impl Source for Chosen {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
        self.source.image(self.indices[index])
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.labels.as_ref().map(|labels| labels[index])
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        self.source.name(self.indices[index])
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
        let mut config = DataConfig {
            classes_file: list.display().to_string(),
            ..Default::default()
        };
        let source = Chosen::of(shapes(), &config).expect("chosen");
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
        let source = Chosen::of(shapes(), &config).expect("chosen");
        assert_eq!(
            labels(&*source),
            [Some(1), Some(0), Some(1), Some(0)],
            "two of each"
        );
        config.classes_file.clear();
        assert_eq!(
            Chosen::of(shapes(), &config).expect("limited").len(),
            2 * SHAPES.len()
        );
        config.limit_per_class = 0;
        assert_eq!(Chosen::of(shapes(), &config).expect("all").len(), 40);
    }
}
