//! A page with the images of each class.

use crate::error::Result;
use selfcls_core::picture::{GalleryPage, Shown};
use selfcls_export::Classifier;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Images shown of each class: those it is surest of.
const SHOWN: usize = 40;

/// Collects what the page will show, in memory that depends on the number of classes alone.
pub(super) struct Gallery {
    page: GalleryPage,
    path: PathBuf,
    classes: BTreeMap<Option<usize>, Class>,
    /// Name of each class that has one.
    names: Option<Vec<String>>,
    model: String,
}

#[derive(Default)]
struct Class {
    count: usize,
    confidence: f64,
    /// The surest, in no order, and not many more than will be shown.
    surest: Vec<(f32, PathBuf)>,
}

impl Gallery {
    /// Begins the page that will be the file `path`.
    pub(super) fn new(path: &Path, model: &Path, classifier: &Classifier) -> Result<Self> {
        let metadata = classifier.metadata();
        let head = classifier.head().and_then(|index| metadata.head(index));
        Ok(Self {
            page: GalleryPage::create(path)?,
            path: path.to_path_buf(),
            classes: BTreeMap::new(),
            names: head.and_then(|head| head.names.clone()),
            // Its name alone: the page may be given away.
            model: model
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        })
    }

    /// Counts an image.
    pub(super) fn add(&mut self, image: &Path, class: Option<usize>, confidence: f32) {
        let class = self.classes.entry(class).or_default();
        class.count += 1;
        class.confidence += f64::from(confidence);
        class.surest.push((confidence, image.to_path_buf()));
        // Rarely, so that it costs nothing.
        if class.surest.len() == 4 * SHOWN {
            class.keep_surest();
        }
    }

    /// Reads the images that are shown and completes the page.
    pub(super) fn finish(mut self) -> Result<PathBuf> {
        let total: usize = self.classes.values().map(|class| class.count).sum();
        let count = self.classes.keys().flatten().count();
        let title = format!("{total} images in {count} classes");
        self.page
            .title(&title, &format!("found by {}", self.model))?;
        let mut classes: Vec<_> = self.classes.into_iter().collect();
        // Images without a class come last.
        classes.sort_by_key(|(class, found)| (class.is_none(), Reverse(found.count)));
        for (class, mut found) in classes {
            found.keep_surest();
            let name = match (class, &self.names) {
                (Some(class), Some(names)) => format!("{} (class {class})", names[class]),
                (Some(class), None) => format!("class {class}"),
                (None, _) => "not sure enough".to_owned(),
            };
            let note = format!(
                "{} images, {:.1} % sure on average",
                found.count,
                100.0 * found.confidence / found.count as f64
            );
            let shown: Vec<Shown> = found
                .surest
                .into_iter()
                .map(|(confidence, path)| Shown {
                    caption: format!("{:.1} %", 100.0 * confidence),
                    path,
                })
                .collect();
            self.page.group(&name, &note, &shown)?;
        }
        self.page.finish()?;
        Ok(self.path)
    }
}

impl Class {
    fn keep_surest(&mut self) {
        // Among equals by name, so that the page is the same again.
        let order = |a: &(f32, PathBuf), b: &(f32, PathBuf)| {
            b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1))
        };
        self.surest.sort_by(order);
        self.surest.truncate(SHOWN);
    }
}
