//! A page of thumbnails in groups, for a browser: one file that needs no other.

use crate::atomic::Staged;
use crate::data::read_reduced;
use crate::{Error, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, RgbImage};
use rayon::prelude::*;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest side of a thumbnail in pixels; twice what the page shows, for fine screens.
const SIDE: u32 = 240;

const QUALITY: u8 = 80;

const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 80rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; margin-bottom: 0 } h1 + p, h2 small { color: #666; font-weight: normal }
h1 + p { margin-top: .2rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem } h2 small { font-size: .9rem; margin-left: .6rem }
.group { display: grid; grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); gap: .6rem }
figure { margin: 0; min-width: 0 } img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 4px; background: #eee; display: block }
figcaption { font-size: .75rem; color: #555; white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
.none { aspect-ratio: 1; background: #eee; border-radius: 4px }
@media (prefers-color-scheme: dark) { body { background: #1c1c1e; color: #eee } h1 + p, h2 small, figcaption { color: #aaa } img, .none { background: #333 } }
";

/// How every page begins, by which it is known again.
const BEGIN: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"generator\" content=\"selfcls gallery\">\n";

/// The page in the making. It appears when it is finished, and not at all if it is not.
#[derive(Debug)]
pub struct GalleryPage {
    file: Staged,
    path: PathBuf,
}

/// An image of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The file.
    pub path: PathBuf,
    /// What is said of it, beside its name.
    pub caption: String,
}

impl GalleryPage {
    /// Begins the page that will be the file `path`.
    ///
    /// # Errors
    /// If no file can be created there, or there is one that is no such page: it is not replaced.
    pub fn create(path: &Path) -> Result<Self> {
        check_replaceable(path)?;
        Ok(Self {
            file: Staged::new(path)?,
            path: path.to_path_buf(),
        })
    }

    /// Writes the head of the page: once, before all groups.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn title(&mut self, title: &str, note: &str) -> Result<()> {
        let (title, note) = (escaped(title), escaped(note));
        let head = format!(
            "{BEGIN}<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n<h1>{title}</h1>\n<p>{note}</p>\n"
        );
        self.file.write(head.as_bytes())
    }

    /// Writes a group: its images are read, on all threads, and made small.
    ///
    /// # Errors
    /// If it cannot be written. An image that cannot be read any more is left grey.
    pub fn group(&mut self, name: &str, note: &str, images: &[Shown]) -> Result<()> {
        let thumbnails: Vec<Option<String>> = images
            .par_iter()
            .map(|image| thumbnail(&image.path).ok())
            .collect();
        let (name, note) = (escaped(name), escaped(note));
        let mut text = format!("<h2>{name}<small>{note}</small></h2>\n<div class=\"group\">\n");
        for (image, thumbnail) in images.iter().zip(thumbnails) {
            let path = escaped(&image.path.display().to_string());
            let file = image.path.file_name().unwrap_or_default().to_string_lossy();
            let picture = match thumbnail {
                Some(data) => {
                    format!("<img alt=\"\" loading=\"lazy\" src=\"data:image/jpeg;base64,{data}\">")
                }
                None => "<div class=\"none\"></div>".to_owned(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "<figure title=\"{path}\">{picture}<figcaption>{} {}</figcaption></figure>",
                escaped(&image.caption),
                escaped(&file)
            );
        }
        text.push_str("</div>\n");
        self.file.write(text.as_bytes())
    }

    /// Completes the page and gives it its name.
    ///
    /// # Errors
    /// As [`Self::create`], or if it cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.file.write(b"</html>\n")?;
        // Much time has passed.
        check_replaceable(&self.path)?;
        self.file.commit()
    }
}

/// Refuses a path where there is something else than an older page.
fn check_replaceable(path: &Path) -> Result<()> {
    let Ok(found) = path.symlink_metadata() else {
        return Ok(());
    };
    let mut begin = Vec::new();
    if found.is_file() {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let read = file.take(BEGIN.len() as u64).read_to_end(&mut begin);
        read.map_err(Error::io("read", path))?;
    }
    let is_empty = found.is_file() && found.len() == 0;
    if is_empty || begin == BEGIN.as_bytes() {
        return Ok(());
    }
    Err(Error::Data(format!(
        "{} is there and no gallery, so it is not replaced; give another name, or remove it",
        path.display()
    )))
}

/// The image as a small JPEG file, in base64.
fn thumbnail(path: &Path) -> Result<String> {
    let image = read_reduced(path, SIDE as usize)?;
    let (width, height) = (image.width() as u32, image.height() as u32);
    // Invariant: an image has the bytes of its size.
    let image: DynamicImage = RgbImage::from_raw(width, height, image.into_data())
        .expect("bytes of the image's size")
        .into();
    let small = if width.max(height) > SIDE {
        image.thumbnail(SIDE, SIDE)
    } else {
        image
    };
    let mut bytes = Vec::new();
    small
        .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))
        .map_err(|error| Error::malformed(path, error))?;
    Ok(BASE64_STANDARD.encode(bytes))
}

/// Text as HTML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::write_png;
    use crate::pixels::Rgb8;

    #[test]
    fn a_page_shows_images_and_nothing_in_their_names_is_html() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("a<b>&\"c.png");
        let pixels = Rgb8::new(300, 100, vec![200; 90_000]).expect("an image");
        write_png(&image, &pixels).expect("writes");
        let page = folder.path().join("page.html");
        let mut gallery = GalleryPage::create(&page).expect("created");
        gallery.title("<i>3</i> images", "engine").expect("written");
        let shown = [image, folder.path().join("gone.png")].map(|path| Shown {
            path,
            caption: "<99 %>".into(),
        });
        gallery
            .group("<script>", "2 images", &shown)
            .expect("written");
        assert!(!page.exists());
        gallery.finish().expect("written");
        let text = std::fs::read_to_string(&page).expect("a page");
        for tag in ["<i>", "<script>", "<b>", "<99"] {
            assert!(!text.contains(tag), "{tag}");
        }
        assert!(text.contains("a&lt;b&gt;&amp;&quot;c.png"));
        assert_eq!(text.matches("data:image/jpeg;base64,").count(), 1);
        assert_eq!(text.matches("class=\"none\"").count(), 1);
        // It is replaced by another page, and nothing else is.
        let mut again = GalleryPage::create(&page).expect("replaces a page");
        again.title("again", "").expect("written");
        again.finish().expect("written");
        for other in ["a photo", "<!doctype html>\n<p>mine"] {
            let late = GalleryPage::create(&page);
            std::fs::write(&page, other).expect("written");
            let early = GalleryPage::create(&page).err();
            for refused in [early, late.and_then(GalleryPage::finish).err()] {
                let message = refused.expect("refused").to_string();
                assert!(message.contains("no gallery"), "{message}");
            }
            assert_eq!(std::fs::read_to_string(&page).expect("kept"), other);
            std::fs::remove_file(&page).expect("removed");
        }
        // An unfinished page is no page.
        let other = folder.path().join("other.html");
        drop(GalleryPage::create(&other).expect("created"));
        assert!(!other.exists());
    }
}
