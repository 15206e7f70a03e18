//! A grid of sample images: one row per cluster, or whatever else a row is of, its label at the left.

use super::MAX_PIXELS;
use super::canvas::Canvas;
use super::font;
use crate::pixels::Rgb8;
use crate::{Error, Result};

/// One row of a picture.
#[derive(Debug, Clone, Default)]
pub struct GridRow {
    /// Lines at the left.
    pub label: Vec<String>,
    /// Images to show; those beyond [`GridStyle::columns`] are left out.
    pub images: Vec<Rgb8>,
    /// A word below each image, e.g. its class; cut to the width of a tile. May be empty.
    pub captions: Vec<String>,
}

/// One discovered class.
#[derive(Debug, Clone, Default)]
pub struct ClusterRow {
    /// Id of the cluster.
    pub cluster: u64,
    /// Samples in the cluster.
    pub size: u64,
    /// The class most frequent in it, where labels are known.
    pub majority: Option<Majority>,
    /// One more line of the label, e.g. how sure the classifier is.
    pub note: Option<String>,
    /// Samples to show; those beyond [`GridStyle::columns`] are left out.
    pub images: Vec<Rgb8>,
    /// A word below each image, e.g. its class; cut to the width of a tile. May be empty.
    pub captions: Vec<String>,
}

/// The most frequent class of a cluster.
#[derive(Debug, Clone)]
pub struct Majority {
    /// Its name.
    pub name: String,
    /// Fraction of the cluster's samples that are of this class.
    pub share: f64,
}

/// Sizes and colours of the picture.
#[derive(Debug, Clone)]
pub struct GridStyle {
    /// Side in pixels of the square that each image is fitted into, aspect ratio kept. Default 64.
    pub tile: usize,
    /// Images per row. Default 12.
    pub columns: usize,
    /// Pixels between images and around the picture. Default 4.
    pub margin: usize,
    /// Size of the letters: 1 is 5 x 9 pixels, 2 twice that. Default 2.
    pub letters: usize,
    /// Colour behind the images. Default near white.
    pub background: [u8; 3],
    /// Colour of the first line of a label. Default near black.
    pub ink: [u8; 3],
    /// Colour of its other lines. Default grey.
    pub faint_ink: [u8; 3],
}

impl Default for GridStyle {
    fn default() -> Self {
        Self {
            tile: 64,
            columns: 12,
            margin: 4,
            letters: 2,
            background: [250, 250, 248],
            ink: [30, 30, 34],
            faint_ink: [110, 110, 116],
        }
    }
}

/// Longest class name shown, in characters.
const MAX_NAME: usize = 16;

/// Draws a grid of clusters: for each its label ("cluster 3", "1024 images", "ship 62 %") and its images.
///
/// # Errors
/// As [`image_grid`].
pub fn cluster_grid(rows: &[ClusterRow], style: &GridStyle) -> Result<Rgb8> {
    let rows: Vec<GridRow> = rows
        .iter()
        .map(|row| GridRow {
            label: label(row),
            images: row.images.clone(),
            captions: row.captions.clone(),
        })
        .collect();
    image_grid(&rows, style)
}

/// Draws the grid.
///
/// # Errors
/// [`Error::Invalid`] if there are no rows, a size is zero, or the picture would have more than 2^28 pixels.
pub fn image_grid(rows: &[GridRow], style: &GridStyle) -> Result<Rgb8> {
    if rows.is_empty() {
        return Err(Error::Invalid("there is nothing to draw".into()));
    }
    if style.tile == 0 || style.columns == 0 || style.letters == 0 {
        return Err(Error::Invalid(
            "tiles, columns and letters of a picture must be at least 1".into(),
        ));
    }
    let captions = rows.iter().any(|row| !row.captions.is_empty());
    let layout = Layout::new(rows, captions, style)?;
    let mut canvas = Canvas::new(layout.width, layout.height, style.background)?;
    for (index, row) in rows.iter().enumerate() {
        let lines = &row.label;
        let top = layout.row_top(index);
        let text_top = top + (layout.row_height - layout.text_height(lines.len())) / 2;
        for (number, line) in lines.iter().enumerate() {
            let ink = if number == 0 {
                style.ink
            } else {
                style.faint_ink
            };
            let y = text_top + number * layout.line_height;
            canvas.text(style.margin, y, line, style.letters, ink);
        }
        let image_top = top + (layout.row_height - layout.image_height) / 2;
        for (column, image) in row.images.iter().take(style.columns).enumerate() {
            let left = layout.images_left + column * (style.tile + style.margin);
            canvas.fit(left, image_top, style.tile, image)?;
            if let Some(caption) = row.captions.get(column) {
                let short: String = caption.chars().take(style.tile / font::ADVANCE).collect();
                canvas.text(left, image_top + style.tile + 2, &short, 1, style.faint_ink);
            }
        }
    }
    Ok(canvas.image)
}

fn label(row: &ClusterRow) -> Vec<String> {
    let images = if row.size == 1 { "image" } else { "images" };
    let mut lines = vec![
        format!("cluster {}", row.cluster),
        format!("{} {images}", row.size),
    ];
    if let Some(majority) = &row.majority {
        let mut name: String = majority.name.chars().take(MAX_NAME).collect();
        if name.len() < majority.name.len() {
            name.push_str("..");
        }
        lines.push(format!("{name} {:.0} %", majority.share * 100.0));
    }
    lines.extend(row.note.clone());
    lines
}

/// Where things are, in pixels.
struct Layout {
    width: usize,
    height: usize,
    row_height: usize,
    /// Of an image with its caption.
    image_height: usize,
    line_height: usize,
    letter_height: usize,
    images_left: usize,
    margin: usize,
}

impl Layout {
    fn new(rows: &[GridRow], captions: bool, style: &GridStyle) -> Result<Self> {
        let longest = rows
            .iter()
            .flat_map(|row| &row.label)
            .map(|line| line.chars().count())
            .max()
            .unwrap_or(0);
        let lines = rows.iter().map(|row| row.label.len()).max().unwrap_or(0);
        let rows = rows.len();
        let letter_height = font::HEIGHT * style.letters;
        let line_height = (font::HEIGHT + 1) * style.letters;
        let text_height = lines.saturating_sub(1) * line_height + letter_height;
        let text_width = longest * font::ADVANCE * style.letters;
        let images_left = style.margin + text_width + style.margin;
        // A caption is one line of the smallest letters.
        let caption = if captions { font::HEIGHT + 3 } else { 0 };
        let image_height = style.tile.saturating_add(caption);
        let row_height = image_height.max(text_height);
        let too_large = || {
            Error::Invalid(format!(
                "a picture of {rows} rows and {} columns of {} pixels is too large; show fewer clusters, fewer images or smaller ones",
                style.columns, style.tile
            ))
        };
        let width = style
            .columns
            .checked_mul(style.tile + style.margin)
            .and_then(|width| width.checked_add(images_left))
            .ok_or_else(too_large)?;
        let height = rows
            .checked_mul(row_height + style.margin)
            .and_then(|height| height.checked_add(style.margin))
            .ok_or_else(too_large)?;
        if width
            .checked_mul(height)
            .is_none_or(|pixels| pixels > MAX_PIXELS)
        {
            return Err(too_large());
        }
        Ok(Self {
            width,
            height,
            row_height,
            image_height,
            line_height,
            letter_height,
            images_left,
            margin: style.margin,
        })
    }

    fn row_top(&self, row: usize) -> usize {
        self.margin + row * (self.row_height + self.margin)
    }

    fn text_height(&self, lines: usize) -> usize {
        lines.saturating_sub(1) * self.line_height + self.letter_height
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::write_png;

    fn solid(width: usize, height: usize, colour: [u8; 3]) -> Rgb8 {
        Rgb8::new(width, height, colour.repeat(width * height)).expect("an image")
    }

    fn row(cluster: u64, images: Vec<Rgb8>) -> ClusterRow {
        ClusterRow {
            cluster,
            size: images.len() as u64,
            images,
            ..ClusterRow::default()
        }
    }

    fn pixel(image: &Rgb8, x: usize, y: usize) -> [u8; 3] {
        let at = (y * image.width() + x) * 3;
        [image.data()[at], image.data()[at + 1], image.data()[at + 2]]
    }

    #[test]
    fn images_stand_where_the_layout_says() {
        let style = GridStyle {
            tile: 40,
            columns: 2,
            ..GridStyle::default()
        };
        let red = solid(20, 20, [255, 0, 0]);
        // Twice as wide as high: 40 x 20, centred, with background above and below.
        let blue = solid(100, 50, [0, 0, 255]);
        let grid = cluster_grid(
            &[row(0, vec![red.clone(), blue]), row(1, vec![red])],
            &style,
        )
        .expect("draws");
        // "cluster 0" has nine letters; two lines of text are lower than a tile.
        let left = 4 + 9 * 12 + 4;
        assert_eq!((grid.width(), grid.height()), (left + 2 * 44, 4 + 2 * 44));
        for (x, y, colour) in [
            (left, 4, [255, 0, 0]),
            (left + 39, 43, [255, 0, 0]),
            (left + 40, 20, style.background),
            (left + 44, 4 + 9, style.background),
            (left + 44, 4 + 10, [0, 0, 255]),
            (left + 83, 4 + 29, [0, 0, 255]),
            (left + 83, 4 + 30, style.background),
            (left, 48, [255, 0, 0]),
            // The second row has one image.
            (left + 44 + 20, 48 + 20, style.background),
        ] {
            assert_eq!(pixel(&grid, x, y), colour, "at {x}, {y}");
        }
        // Letters are there, and only left of the images.
        let inked = |from: usize, to: usize| {
            (0..grid.height())
                .flat_map(|y| (from..to).map(move |x| (x, y)))
                .filter(|&(x, y)| pixel(&grid, x, y) == style.ink)
                .count()
        };
        assert!(inked(4, left) > 100);
        assert_eq!(inked(left, grid.width()), 0);
    }

    #[test]
    fn captions_stand_below_their_images_and_notes_in_the_label() {
        let style = GridStyle::default();
        let mut with = row(0, vec![solid(3, 3, [255, 0, 0]); 2]);
        with.captions = vec!["a".into(), "a very long class name".into()];
        with.note = Some("97 % sure".into());
        assert_eq!(label(&with)[2], "97 % sure");
        let grid = cluster_grid(&[with], &style).expect("draws");
        let left = 4 + 9 * 12 + 4;
        assert_eq!((grid.width(), grid.height()), (left + 12 * 68, 4 + 76 + 4));
        let inked = |from: usize, to: usize| {
            (4 + 64..grid.height())
                .flat_map(|y| (from..to).map(move |x| (x, y)))
                .filter(|&(x, y)| pixel(&grid, x, y) == style.faint_ink)
                .count()
        };
        // A long caption ends where its image does.
        assert!(inked(left, left + 6) > 5 && inked(left + 6, left + 68) == 0);
        assert!(inked(left + 68, left + 132) > 50 && inked(left + 132, left + 136) == 0);
    }

    #[test]
    fn a_png_is_read_back_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("grid.png");
        let grid = cluster_grid(
            &[row(3, vec![solid(1, 9, [1, 2, 3])])],
            &GridStyle::default(),
        )
        .expect("draws");
        write_png(&path, &grid).expect("written");
        let back = image::open(&path).expect("a PNG").into_rgb8();
        assert_eq!(back.as_raw(), grid.data());
    }

    #[test]
    fn long_names_are_cut_and_odd_letters_drawn() {
        let mut odd = row(0, vec![solid(3, 3, [9, 9, 9])]);
        odd.majority = Some(Majority {
            name: "Übergröße, sehr lang".into(),
            share: 1.0,
        });
        assert_eq!(label(&odd)[2], "Übergröße, sehr .. 100 %");
        cluster_grid(&[odd], &GridStyle::default()).expect("draws");
    }

    #[test]
    fn impossible_pictures_are_refused() {
        assert!(cluster_grid(&[], &GridStyle::default()).is_err());
        let rows = [row(0, vec![])];
        for style in [
            GridStyle {
                tile: 0,
                ..GridStyle::default()
            },
            GridStyle {
                columns: 0,
                ..GridStyle::default()
            },
            GridStyle {
                columns: usize::MAX,
                ..GridStyle::default()
            },
            GridStyle {
                columns: 1 << 20,
                tile: 1 << 20,
                ..GridStyle::default()
            },
        ] {
            assert!(cluster_grid(&rows, &style).is_err(), "{style:?}");
        }
    }
}
