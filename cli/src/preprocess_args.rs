//! Preprocessing by hand, for weights that come without one.

use crate::error::{CliError, Result};
use crate::progress::Progress;
use clap::{Args, ValueEnum};
use selfcls_core::Config;
use selfcls_core::config::Interpolation;
use selfcls_core::preprocess::Preprocess;

/// From an image to the network's input. A run and a checkpoint have their own preprocessing, which these go over; a file
/// of weights has none, and ImageNet's is taken; an exported file has its own for good.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PreprocessArgs {
    /// Length in pixels to which the short side is resized. Without it a run's own; for a file of weights 8/7 of the crop
    #[arg(long, value_name = "N", help_heading = "Preprocessing")]
    pub(crate) resize: Option<usize>,
    /// Side of the centre crop in pixels. Without it a run's own; for a file of weights 224
    #[arg(long, value_name = "N", help_heading = "Preprocessing")]
    pub(crate) crop: Option<usize>,
    /// Filter of the resize. Without it a run's own; for a file of weights bilinear
    #[arg(long, value_enum, help_heading = "Preprocessing")]
    pub(crate) interpolation: Option<FilterChoice>,
    /// Means of the channels in [0, 1], subtracted. Without it a run's own; for a file of weights ImageNet's
    #[arg(
        long,
        value_name = "R,G,B",
        value_delimiter = ',',
        allow_negative_numbers = true,
        help_heading = "Preprocessing"
    )]
    pub(crate) mean: Vec<f64>,
    /// Standard deviations of the channels in [0, 1], divided by. Without it a run's own; for a file of weights ImageNet's
    #[arg(
        long,
        value_name = "R,G,B",
        value_delimiter = ',',
        allow_negative_numbers = true,
        help_heading = "Preprocessing"
    )]
    pub(crate) std: Vec<f64>,
}

/// How pixels are resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FilterChoice {
    /// Triangle filter
    Bilinear,
    /// Cubic filter, as Pillow's
    Bicubic,
}

impl PreprocessArgs {
    /// Lays what was typed over `config`.
    pub(crate) fn apply(&self, config: &mut Config) -> Result<()> {
        if let Some(crop) = self.crop {
            config.eval.crop = crop;
            // A resize of before need not hold the new crop.
            config.eval.resize = 0;
        }
        if let Some(resize) = self.resize {
            config.eval.resize = resize;
        }
        if let Some(filter) = self.interpolation {
            config.eval.interpolation = match filter {
                FilterChoice::Bilinear => Interpolation::Bilinear,
                FilterChoice::Bicubic => Interpolation::Bicubic,
            };
        }
        channels("--mean", &self.mean, &mut config.views.mean)?;
        channels("--std", &self.std, &mut config.views.std)?;
        config
            .preprocess()
            .validate()
            .map_err(|error| CliError::usage(error.to_string()))
    }

    /// Refuses what was typed where nothing can be changed.
    pub(crate) fn refuse(&self, what: &str) -> Result<()> {
        let typed = [
            ("--resize", self.resize.is_some()),
            ("--crop", self.crop.is_some()),
            ("--interpolation", self.interpolation.is_some()),
            ("--mean", !self.mean.is_empty()),
            ("--std", !self.std.is_empty()),
        ];
        match typed.iter().find(|(_, typed)| *typed) {
            None => Ok(()),
            Some((flag, _)) => Err(CliError::usage(format!(
                "{flag}: the preprocessing of {what} cannot be changed"
            ))),
        }
    }
}

fn channels(flag: &str, typed: &[f64], channels: &mut [f64; 3]) -> Result<()> {
    match typed {
        [] => Ok(()),
        &[red, green, blue] => {
            *channels = [red, green, blue];
            Ok(())
        }
        other => Err(CliError::usage(format!(
            "{flag} needs three numbers, one per channel; {} were given",
            other.len()
        ))),
    }
}

/// Says what images of a file of weights go through, which the file itself does not say.
pub(crate) fn note(preprocess: &Preprocess, progress: Progress) {
    progress.note(&format!(
        "preprocessing: short side to {}, centre crop of {}, {}, mean {}, std {}; the file does not say which: see --crop, --resize, --interpolation, --mean, --std",
        preprocess.resize,
        preprocess.crop,
        match preprocess.interpolation {
            Interpolation::Bilinear => "bilinear",
            Interpolation::Bicubic => "bicubic",
        },
        numbers(preprocess.mean),
        numbers(preprocess.std)
    ));
}

fn numbers(channels: [f32; 3]) -> String {
    channels.map(|x| x.to_string()).join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_goes_over_what_was_there() {
        let mut config = Config::default();
        PreprocessArgs::default()
            .apply(&mut config)
            .expect("nothing typed");
        assert_eq!(config, Config::default());
        let args = PreprocessArgs {
            crop: Some(32),
            mean: vec![0.5, 0.25, 0.0],
            interpolation: Some(FilterChoice::Bicubic),
            ..PreprocessArgs::default()
        };
        config.eval.resize = 256;
        args.apply(&mut config).expect("possible");
        let found = config.preprocess();
        assert_eq!((found.resize, found.crop), (32, 32));
        assert_eq!(found.mean, [0.5, 0.25, 0.0]);
        assert_eq!(found.interpolation, Interpolation::Bicubic);
        for (args, expected) in [
            (
                PreprocessArgs {
                    std: vec![0.5, 0.5],
                    ..args.clone()
                },
                "--std needs three",
            ),
            (
                PreprocessArgs {
                    resize: Some(16),
                    ..args.clone()
                },
                "resize 16 and crop 32",
            ),
            (
                PreprocessArgs {
                    std: vec![0.0; 3],
                    ..args.clone()
                },
                "deviations",
            ),
        ] {
            let error = args.apply(&mut config.clone()).expect_err("refused");
            assert!(format!("{error:?}").contains(expected), "{error:?}");
        }
        assert!(args.refuse("an exported file").is_err());
        assert!(PreprocessArgs::default().refuse("anything").is_ok());
    }
}
