//! How images are prepared for a file that does not say so itself.

use crate::error::{CliError, Result};
use clap::{Args, ValueEnum};
use selfcls_core::Config;
use selfcls_core::config::Interpolation;
use selfcls_core::preprocess::Preprocess;

/// For files of other programs, which do not say how images are prepared.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files of other programs")]
pub(crate) struct PreprocessArgs {
    /// The file is another program's and takes images of this side, cut out of the middle. It is trusted: only the
    /// engine judges what is in it. Its first output is taken for logits, unless a softmax makes it
    #[arg(long, value_name = "PIXELS", requires = "resize")]
    crop: Option<usize>,
    /// Length of the short side before that
    #[arg(long, value_name = "PIXELS", requires = "crop")]
    resize: Option<usize>,
    /// What is subtracted from red, green and blue in [0, 1]; ImageNet's means unless given
    #[arg(long, value_name = "R,G,B", requires = "crop", value_parser = channels)]
    mean: Option<[f32; 3]>,
    /// What they are divided by then; ImageNet's deviations unless given
    #[arg(long, value_name = "R,G,B", requires = "crop", value_parser = channels)]
    std: Option<[f32; 3]>,
    /// Filter of the resize
    #[arg(
        long,
        value_name = "FILTER",
        requires = "crop",
        default_value = "bilinear"
    )]
    interpolation: Filter,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Filter {
    Bilinear,
    Bicubic,
}

impl PreprocessArgs {
    /// Whether none was typed.
    pub(super) fn is_absent(&self) -> bool {
        self.crop.is_none()
    }

    /// The preprocessing that was typed, if one was.
    pub(super) fn preprocess(&self) -> Result<Option<Preprocess>> {
        let (Some(crop), Some(resize)) = (self.crop, self.resize) else {
            return Ok(None);
        };
        let imagenet = Config::default().preprocess();
        let preprocess = Preprocess {
            resize,
            crop,
            interpolation: match self.interpolation {
                Filter::Bilinear => Interpolation::Bilinear,
                Filter::Bicubic => Interpolation::Bicubic,
            },
            mean: self.mean.unwrap_or(imagenet.mean),
            std: self.std.unwrap_or(imagenet.std),
        };
        preprocess.validate().map_err(CliError::usage)?;
        Ok(Some(preprocess))
    }
}

fn channels(text: &str) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(str::parse).collect();
    let three = numbers.ok().and_then(|numbers| numbers.try_into().ok());
    three.ok_or_else(|| "write three numbers, such as 0.485,0.456,0.406".to_owned())
}

#[cfg(test)]
mod tests {
    use super::channels;

    #[test]
    fn three_channels() {
        assert_eq!(channels("0.5,1,2"), Ok([0.5, 1.0, 2.0]));
        for wrong in ["", "1", "1,2", "1,2,3,4", "a,b,c"] {
            assert!(channels(wrong).is_err(), "{wrong}");
        }
    }
}
