//! Charts as a list of marks, drawn as SVG (for documents) and as pixels (for everything else).

use super::canvas::Canvas;
use super::{MAX_PIXELS, font, write_png};
use crate::pixels::Rgb8;
use crate::{Error, Result, atomic};
use std::fmt::Write;
use std::path::Path;

/// Which point of a text its position names; the text stands below that point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The left end.
    Start,
    /// The middle.
    Middle,
    /// The right end.
    End,
}

/// Something drawn. Positions are pixels from the top left corner.
#[derive(Debug, Clone, PartialEq)]
enum Mark {
    Box {
        x: usize,
        y: usize,
        width: usize,
        height: usize,
        colour: [u8; 3],
    },
    Dot {
        x: f64,
        y: f64,
        radius: f64,
        colour: [u8; 3],
    },
    Line {
        points: Vec<(f64, f64)>,
        width: f64,
        colour: [u8; 3],
    },
    Text {
        x: usize,
        y: usize,
        anchor: Anchor,
        letters: usize,
        colour: [u8; 3],
        text: String,
    },
}

/// A chart in the making. Later marks cover earlier ones; what lies outside is cut off.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    width: usize,
    height: usize,
    background: [u8; 3],
    marks: Vec<Mark>,
}

impl Figure {
    /// An empty figure of `width` x `height` pixels.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a side is 0 or there are more than 2^28 pixels.
    pub fn new(width: usize, height: usize, background: [u8; 3]) -> Result<Self> {
        let pixels = width.checked_mul(height);
        if pixels.is_none_or(|pixels| pixels == 0 || pixels > MAX_PIXELS) {
            return Err(Error::Invalid(format!(
                "a figure of {width} x {height} pixels cannot be drawn"
            )));
        }
        Ok(Self {
            width,
            height,
            background,
            marks: Vec::new(),
        })
    }

    /// Width of `text` in pixels; a letter of size 1 is 5 x 9 pixels, one of size 2 twice that.
    pub fn text_width(text: &str, letters: usize) -> usize {
        text.chars().count() * font::ADVANCE * letters
    }

    /// Adds a filled rectangle.
    pub fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: [u8; 3]) {
        let width = width.min(self.width.saturating_sub(x));
        let height = height.min(self.height.saturating_sub(y));
        if width > 0 && height > 0 {
            self.marks.push(Mark::Box {
                x,
                y,
                width,
                height,
                colour,
            });
        }
    }

    /// Adds a filled circle.
    pub fn dot(&mut self, x: f64, y: f64, radius: f64, colour: [u8; 3]) {
        self.marks.push(Mark::Dot {
            x,
            y,
            radius,
            colour,
        });
    }

    /// Adds a line from point to point; fewer than two points are none.
    pub fn line(&mut self, points: Vec<(f64, f64)>, width: f64, colour: [u8; 3]) {
        if points.len() > 1 {
            self.marks.push(Mark::Line {
                points,
                width,
                colour,
            });
        }
    }

    /// Adds a line of text below the point (x, y).
    pub fn text(
        &mut self,
        (x, y): (usize, usize),
        anchor: Anchor,
        letters: usize,
        colour: [u8; 3],
        text: impl Into<String>,
    ) {
        self.marks.push(Mark::Text {
            x,
            y,
            anchor,
            letters,
            colour,
            text: text.into(),
        });
    }

    /// The figure as an SVG document.
    pub fn svg(&self) -> String {
        let (width, height) = (self.width, self.height);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"monospace\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"{}\"/>\n",
            hex(self.background)
        );
        for mark in &self.marks {
            // Writing to a string cannot fail.
            let _ = match mark {
                Mark::Box {
                    x,
                    y,
                    width,
                    height,
                    colour,
                } => writeln!(
                    svg,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{}\"/>",
                    hex(*colour)
                ),
                Mark::Dot {
                    x,
                    y,
                    radius,
                    colour,
                } => writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{}\"/>",
                    hex(*colour)
                ),
                Mark::Line {
                    points,
                    width,
                    colour,
                } => {
                    let points: Vec<String> = points
                        .iter()
                        .map(|(x, y)| format!("{x:.1},{y:.1}"))
                        .collect();
                    writeln!(
                        svg,
                        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width:.1}\" stroke-linejoin=\"round\"/>",
                        points.join(" "),
                        hex(*colour)
                    )
                }
                Mark::Text {
                    x,
                    y,
                    anchor,
                    letters,
                    colour,
                    text,
                } => writeln!(
                    svg,
                    // Letters stand on the font's base line, and the width is that of the pixels.
                    "<text x=\"{x}\" y=\"{}\" font-size=\"{}\" textLength=\"{}\" text-anchor=\"{}\" fill=\"{}\">{}</text>",
                    y + (font::HEIGHT - 2) * letters,
                    10 * letters,
                    Self::text_width(text, *letters),
                    match anchor {
                        Anchor::Start => "start",
                        Anchor::Middle => "middle",
                        Anchor::End => "end",
                    },
                    hex(*colour),
                    escaped(text)
                ),
            };
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The figure as pixels.
    ///
    /// # Errors
    /// None that [`Self::new`] has not excluded.
    pub fn pixels(&self) -> Result<Rgb8> {
        let mut canvas = Canvas::new(self.width, self.height, self.background)?;
        for mark in &self.marks {
            match mark {
                Mark::Box {
                    x,
                    y,
                    width,
                    height,
                    colour,
                } => canvas.fill(*x, *y, *width, *height, *colour),
                Mark::Dot {
                    x,
                    y,
                    radius,
                    colour,
                } => canvas.dot(*x, *y, *radius, *colour),
                Mark::Line {
                    points,
                    width,
                    colour,
                } => {
                    for ends in points.windows(2) {
                        canvas.line(ends[0], ends[1], *width, *colour);
                    }
                }
                Mark::Text {
                    x,
                    y,
                    anchor,
                    letters,
                    colour,
                    text,
                } => {
                    let width = Self::text_width(text, *letters);
                    let left = match anchor {
                        Anchor::Start => *x,
                        Anchor::Middle => x.saturating_sub(width / 2),
                        Anchor::End => x.saturating_sub(width),
                    };
                    canvas.text(left, *y, text, *letters, *colour);
                }
            }
        }
        Ok(canvas.image)
    }

    /// Writes `stem`.svg and `stem`.png, each all or nothing.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be written.
    pub fn write(&self, stem: &Path) -> Result<()> {
        atomic::write(&stem.with_extension("svg"), self.svg().as_bytes())?;
        write_png(&stem.with_extension("png"), &self.pixels()?)
    }
}

fn hex([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Text for XML: markup is escaped, and what XML cannot hold becomes a question mark.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, character| {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('?'),
            other => out.push(other),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: [u8; 3] = [255; 3];
    const RED: [u8; 3] = [255, 0, 0];

    fn count(image: &Rgb8, colour: [u8; 3]) -> usize {
        let pixels = image.data().chunks_exact(3);
        pixels.filter(|pixel| **pixel == colour).count()
    }

    #[test]
    fn both_forms_hold_the_same_marks() {
        let mut figure = Figure::new(60, 40, WHITE).expect("a figure");
        figure.fill(10, 5, 20, 3, RED);
        // Outside, and half outside.
        figure.fill(70, 5, 20, 3, RED);
        figure.fill(55, 38, 20, 9, RED);
        figure.dot(30.0, 20.0, 4.0, [0, 0, 255]);
        figure.text((60, 30), Anchor::End, 1, [0; 3], "a<b & \u{1}");
        figure.line(
            vec![(5.0, 15.0), (5.0, 35.0), (9.0, 35.0)],
            2.0,
            [0, 255, 0],
        );
        figure.line(vec![(5.0, 15.0)], 2.0, [0, 255, 0]);
        let image = figure.pixels().expect("draws");
        assert_eq!(count(&image, RED), 60 + 10);
        let area = count(&image, [0, 0, 255]) as f64;
        assert!((area - std::f64::consts::PI * 16.0).abs() < 8.0, "{area}");
        assert!(count(&image, [0; 3]) > 20);
        // 20 down and 4 across, two wide, and the square ends.
        let line = count(&image, [0, 255, 0]);
        assert!((46..=54).contains(&line), "{line}");
        let svg = figure.svg();
        assert_eq!(svg.matches("<rect").count(), 3);
        assert_eq!(
            svg.matches("<polyline points=\"5.0,15.0 5.0,35.0 9.0,35.0\"")
                .count(),
            1
        );
        assert!(svg.contains("<circle cx=\"30.0\" cy=\"20.0\" r=\"4.0\" fill=\"#0000ff\"/>"));
        assert!(svg.contains(">a&lt;b &amp; ?</text>") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn text_that_does_not_fit_is_cut() {
        let mut figure = Figure::new(20, 10, WHITE).expect("a figure");
        figure.text((0, 5), Anchor::Start, 2, [0; 3], "WWWW");
        figure.text((5, 0), Anchor::Middle, 2, [0; 3], "WWWW");
        figure.dot(0.0, 0.0, 30.0, RED);
        figure.pixels().expect("draws");
    }

    #[test]
    fn files_are_written_and_impossible_sizes_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let figure = Figure::new(3, 2, RED).expect("a figure");
        figure.write(&folder.path().join("chart")).expect("written");
        let png = image::open(folder.path().join("chart.png")).expect("a PNG");
        assert_eq!((png.width(), png.height()), (3, 2));
        assert!(folder.path().join("chart.svg").is_file());
        assert!(Figure::new(0, 5, RED).is_err() && Figure::new(1 << 20, 1 << 20, RED).is_err());
    }
}
