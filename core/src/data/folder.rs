//! A folder of image files, with or without one sub-folder per class.

use super::Source;
use super::cache::Cache;
use super::chosen::Choice;
use super::decode::{probe, read};
use super::labels::of_folders;
use super::walk::Below;
use crate::config::DataConfig;
use crate::pixels::Rgb8;
use crate::{Error, Result};
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many bad files an error lists.
const LISTED: usize = 5;

/// Image files below a folder, in the order of their paths.
///
/// If all images lie in sub-folders, and there are at least two of those, each is a class and its name
/// the class's. Images directly in the folder make it unlabelled, those in its sub-folders included:
/// labels for some would be labels for none. Hidden files and folders and files that are not images by
/// their name are passed over.
pub struct ImageFolder {
    root: PathBuf,
    /// Relative to `root`.
    files: Vec<PathBuf>,
    labels: Option<Vec<usize>>,
    classes: Vec<String>,
    cache: Cache,
}

impl ImageFolder {
    /// Lists the images below `root` and looks at the first bytes of each.
    ///
    /// # Errors
    /// If `root` is no folder, cannot be listed, holds no image, looks like a data set of several
    /// splits, has two links to one class, lacks a class that `data.classes_file` names, or if any file is not the image its name
    /// says: the first few are listed.
    pub fn open(root: &Path, config: &DataConfig) -> Result<Self> {
        let kind = fs::metadata(root).map_err(Error::io("open", root))?;
        if !kind.is_dir() {
            return Err(Error::Data(format!(
                "{} is a file; give the folder that holds the images",
                root.display()
            )));
        }
        let Listed {
            files,
            passed,
            twice,
        } = list(root)?;
        if files.is_empty() {
            let others = match passed {
                0 => "it is empty".to_string(),
                1 => "its one file is none by its name".to_string(),
                n => format!("its {n} files are none by their names"),
            };
            return Err(Error::Data(format!(
                "{} holds no images ({others}); images are .jpg, .jpeg, .png, .bmp, .gif or .webp files, here or in sub-folders",
                root.display()
            )));
        }
        let folders: Option<Vec<String>> = files.iter().map(|file| class_of(file)).collect();
        let twice = if folders.is_some() { twice } else { Vec::new() };
        let (labels, mut classes) = of_folders(&root.display(), folders)?;
        if config.classes_file.is_empty() {
            twice.iter().try_for_each(Twice::refuse)?;
        }
        // The file may name one of these; without it none are left here.
        classes.extend(twice.iter().map(|twice| twice.second.clone()));
        let choice = Choice::new(&root.display(), files.len(), (labels, classes), config)?;
        let is_chosen = |twice: &&Twice| {
            let chosen = |class| choice.classes.contains(class);
            chosen(&twice.first) || chosen(&twice.second)
        };
        twice.iter().filter(is_chosen).try_for_each(Twice::refuse)?;
        let mut files: Vec<Option<PathBuf>> = files.into_iter().map(Some).collect();
        let chosen = choice.indices.iter().filter_map(|&i| files[i].take());
        let folder = Self {
            root: root.to_path_buf(),
            files: chosen.collect(),
            labels: choice.labels,
            classes: choice.classes,
            cache: Cache::new(
                choice.indices.len(),
                config.cache_mib.saturating_mul(1 << 20),
            ),
        };
        folder.check_headers()?;
        Ok(folder)
    }

    /// Finds files that are no images before hours of training do.
    fn check_headers(&self) -> Result<()> {
        let bad: Vec<Error> = self
            .files
            .par_iter()
            .filter_map(|file| probe(&self.root.join(file)).err())
            .collect();
        let count = bad.len();
        match count {
            0 => return Ok(()),
            1 => return Err(bad.into_iter().next().unwrap_or_else(|| unreachable!())),
            _ => {}
        }
        let mut text = format!(
            "{count} of the {} files in {} cannot be used:",
            self.files.len(),
            self.root.display()
        );
        for error in bad.iter().take(LISTED) {
            text.push_str(&format!("\n  - {error}"));
        }
        if count > LISTED {
            text.push_str(&format!("\n  - and {} more", count - LISTED));
        }
        Err(Error::Data(text))
    }
}

impl Source for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
        self.cache
            .get(index, || read(&self.root.join(&self.files[index])))
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.labels.as_ref().map(|labels| labels[index])
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        self.root.join(&self.files[index]).display().to_string()
    }
}

/// The folder that names the class of a file: the first on the way to it, if there is one.
fn class_of(file: &Path) -> Option<String> {
    let mut parts = file.components();
    let first = parts.next()?.as_os_str().to_string_lossy().into_owned();
    parts.next().map(|_| first)
}

/// Two links to one folder, which would be two classes of the same images; passed over as elsewhere, one of them would be
/// missing without a word.
struct Twice {
    links: [PathBuf; 2],
    first: String,
    second: String,
}

impl Twice {
    fn new(root: &Path, links: [PathBuf; 2]) -> Self {
        let class = |link: &PathBuf| {
            let below = link.strip_prefix(root).unwrap_or(link);
            let folder = below.components().next();
            folder.map_or(String::new(), |name| {
                name.as_os_str().to_string_lossy().into_owned()
            })
        };
        let [second, first] = [0, 1].map(|i| class(&links[i]));
        Self {
            links,
            first,
            second,
        }
    }

    fn refuse(&self) -> Result<()> {
        let [second, first] = &self.links;
        Err(Error::Data(format!(
            "{} leads to the same folder as {}: its images would belong to two classes; remove one of the two links, or leave both classes out with data.classes_file",
            second.display(),
            first.display()
        )))
    }
}

/// What is below a folder.
struct Listed {
    /// Image files, relative to it and sorted.
    files: Vec<PathBuf>,
    /// The number of other files.
    passed: usize,
    twice: Vec<Twice>,
}

fn list(root: &Path) -> Result<Listed> {
    let mut below = Below::new(root);
    let mut files = Vec::new();
    for file in &mut below {
        if let Ok(relative) = file?.strip_prefix(root) {
            files.push(relative.to_path_buf());
        }
    }
    let twice = below.twice.into_iter();
    Ok(Listed {
        files,
        passed: below.passed_over.count(),
        twice: twice.map(|links| Twice::new(root, links)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::is_image_name;
    use super::*;
    use image::RgbImage;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (number, file) in files.iter().enumerate() {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("creates");
            if is_image_name(&path) {
                let shade = number as u8;
                let image = RgbImage::from_pixel(2, 2, image::Rgb([shade, shade, shade]));
                image
                    .save_with_format(&path, image::ImageFormat::Png)
                    .expect("saves");
            } else {
                fs::write(&path, "text").expect("writes");
            }
        }
        root
    }

    fn open(root: &tempfile::TempDir, limit_per_class: usize) -> Result<ImageFolder> {
        let config = DataConfig {
            limit_per_class,
            ..Default::default()
        };
        ImageFolder::open(root.path(), &config)
    }

    #[test]
    fn sub_folders_are_classes() {
        let root = folder(&[
            "b/1.png",
            "a/x/2.png",
            "a/1.png",
            ".hidden/3.png",
            "a/.4.png",
            "a/notes.txt",
        ]);
        let source = open(&root, 0).expect("opens");
        assert_eq!(source.classes(), ["a", "b"]);
        let names: Vec<PathBuf> = source.files.clone();
        assert_eq!(
            names,
            ["a/1.png", "a/x/2.png", "b/1.png"].map(PathBuf::from)
        );
        assert_eq!(
            (0..3).map(|i| source.label(i)).collect::<Vec<_>>(),
            [Some(0), Some(0), Some(1)]
        );
        assert_eq!(source.image(2).expect("reads").data()[0], 0);
        assert_eq!(source.image(2).expect("from the cache").data()[0], 0);
        let limited = open(&root, 1).expect("opens");
        assert_eq!(limited.files, ["a/1.png", "b/1.png"].map(PathBuf::from));
        assert_eq!(limited.label(1), Some(1));
    }

    #[test]
    fn a_subset_file_chooses_and_numbers_classes() {
        let root = folder(&["a/1.png", "b/2.png", "c/3.png", "c/4.png"]);
        let list = root.path().join("subset.txt");
        fs::write(&list, "c third\na first\n").expect("writes");
        let config = DataConfig {
            classes_file: list.display().to_string(),
            ..Default::default()
        };
        let source = ImageFolder::open(root.path(), &config).expect("opens");
        assert_eq!(source.classes(), ["c", "a"]);
        let labels: Vec<_> = (0..source.len()).map(|i| source.label(i)).collect();
        assert_eq!(labels, [Some(1), Some(0), Some(0)]);
        assert_eq!(source.image(1).expect("reads").data()[0], 2);
        fs::write(&list, "a\nzebra\n").expect("writes");
        let message = ImageFolder::open(root.path(), &config)
            .err()
            .expect("refused");
        assert!(message.to_string().contains("zebra"), "{message}");
        let flat = folder(&["1.png", "a/2.png"]);
        let message = ImageFolder::open(flat.path(), &config)
            .err()
            .expect("refused");
        assert!(message.to_string().contains("no labels"), "{message}");
    }

    #[test]
    fn other_layouts_are_unlabelled() {
        for files in [
            &["1.png", "a/2.png", "b/3.png"][..],
            &["only/1.png", "only/2.png"],
        ] {
            let source = open(&folder(files), 0).expect("opens");
            assert_eq!(source.len(), files.len());
            assert!(source.classes().is_empty() && source.label(0).is_none());
        }
        assert_eq!(
            open(&folder(&["1.png", "2.png", "3.png"]), 2)
                .expect("opens")
                .len(),
            2
        );
    }

    #[test]
    fn splits_are_not_classes() {
        let error = open(&folder(&["train/1.png", "test/2.png"]), 0)
            .err()
            .expect("refused");
        assert!(
            error.to_string().contains("several parts (test, train)"),
            "{error}"
        );
    }

    #[test]
    fn bad_files_are_listed_at_once() {
        let root = folder(&["0.png"]);
        for number in 1..=7 {
            fs::write(root.path().join(format!("{number}.jpg")), "text").expect("writes");
        }
        let message = open(&root, 0).err().expect("refused").to_string();
        assert!(message.starts_with("7 of the 8 files"), "{message}");
        assert!(message.contains("1.jpg: not a readable image") && message.contains("2 more"));
        assert!(
            open(&folder(&["a.txt"]), 0)
                .err()
                .expect("refused")
                .to_string()
                .contains("no images")
        );
        assert!(
            open(&folder(&[]), 0)
                .err()
                .expect("refused")
                .to_string()
                .contains("empty")
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_above_ends() {
        let root = folder(&["a/1.png", "b/2.png"]);
        std::os::unix::fs::symlink(root.path(), root.path().join("a/loop")).expect("links");
        assert_eq!(open(&root, 0).expect("opens").len(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn two_links_to_one_class_are_refused() {
        let root = folder(&["a/1.png", "b/2.png"]);
        let elsewhere = folder(&["3.png"]);
        let link = |name: &str| {
            let link = root.path().join(name);
            std::os::unix::fs::symlink(elsewhere.path(), link).expect("links");
        };
        link("c");
        assert_eq!(open(&root, 0).expect("opens").classes(), ["a", "b", "c"]);
        link("d");
        let message = open(&root, 0).err().expect("refused").to_string();
        for name in ["c:", "d leads to"] {
            assert!(message.contains(name), "no {name:?} in {message}");
        }
        // Of classes that nobody wants none is missing.
        let list = root.path().join("subset.txt");
        let chosen = |names: &str| {
            fs::write(&list, names).expect("writes");
            let config = DataConfig {
                classes_file: list.display().to_string(),
                ..Default::default()
            };
            let opened = ImageFolder::open(root.path(), &config);
            opened.map(|source| (source.len(), source.classes().join(" ")))
        };
        assert_eq!(chosen("b\na").expect("opens"), (2, "b a".to_owned()));
        for one_of_both in ["a\nc", "a\nd"] {
            let message = chosen(one_of_both).expect_err("refused").to_string();
            assert!(message.contains("d leads to"), "{message}");
        }
        // Without classes none is missing.
        fs::copy(root.path().join("a/1.png"), root.path().join("4.png")).expect("copies");
        assert_eq!(open(&root, 0).expect("opens").len(), 4);
        // Without images there is another problem.
        let root = folder(&["notes.txt"]);
        let elsewhere = folder(&["more.txt"]);
        for link in ["c", "d"] {
            std::os::unix::fs::symlink(elsewhere.path(), root.path().join(link)).expect("links");
        }
        let message = open(&root, 0).err().expect("refused").to_string();
        assert!(message.contains("holds no images"), "{message}");
    }

    #[test]
    fn a_full_cache_changes_nothing() {
        let root = folder(&["1.png", "2.png"]);
        let config = DataConfig {
            cache_mib: 0,
            ..Default::default()
        };
        let source = ImageFolder::open(root.path(), &config).expect("opens");
        for _ in 0..2 {
            assert_eq!(source.image(1).expect("reads").data()[0], 1);
        }
    }
}
