//! What is evaluated, on what, and where results go.

use crate::args::{BackendArgs, RunningArgs};
use crate::commands::export::HeadChoice;
use crate::error::{CliError, Result};
use crate::output;
use crate::preprocess_args::PreprocessArgs;
use crate::progress::Progress;
use crate::shard::Shard;
use crate::subject::Subject;
use clap::{Args, ValueEnum};
use selfcls_core::atomic;
use selfcls_core::config::DataConfig;
use selfcls_core::data::{self, Source};
use selfcls_core::eval::features::{Key, Precision};
use selfcls_core::eval::{Features, Keep, Selection, read_names};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is evaluated, and on what.
#[derive(Debug, Args)]
pub(crate) struct EvalTarget {
    /// A run directory (its newest checkpoint), a checkpoint, an exported ONNX file, or a file of weights (see convert)
    #[arg(value_name = "RUN|CHECKPOINT|FILE")]
    pub(crate) model: PathBuf,
    /// Images: a folder, with one sub-folder per class where labels are needed; or what `train --help` names for --data
    #[arg(long, value_name = "SOURCE")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    #[command(flatten)]
    pub(crate) running: RunningArgs,
    #[command(flatten)]
    pub(crate) results: ResultArgs,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// Look at some classes only: the first word of each line of FILE is the name of one
    #[arg(long, value_name = "FILE")]
    pub(crate) subset: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) preprocess: PreprocessArgs,
}

/// Where results go.
#[derive(Debug, Args)]
pub(crate) struct ResultArgs {
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write the JSON and the pictures of this evaluation into DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Whether what the network says is kept.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// Keep features and assignments in DIR, and take them from there next time, by any evaluation of the same model,
    /// images and preprocessing; features are then read in parts and need not fit into memory
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// Make the cache anew, whatever it was made from
    #[arg(long, requires = "cache")]
    pub(crate) recompute: bool,
    /// Keep features in 16 bits: half the memory and disk
    #[arg(long)]
    pub(crate) half: bool,
    /// Make the Ith of N shares of what is kept, and nothing else, for N processes side by side. The same command without
    /// it puts the shares together and evaluates them
    #[arg(long, value_name = "I/N", requires = "cache")]
    pub(crate) shard: Option<Shard>,
}

/// Which features are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FeatureChoice {
    /// The backbone's output (an ONNX file has none, and gives the head's)
    Backbone,
    /// The embedding that the classifiers see
    Head,
}

/// What an evaluation needs of the network's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Assignments only.
    Assignments,
    /// Features too.
    Features,
}

impl EvalTarget {
    /// The model, and a warning if it cannot give the features that were asked for.
    pub(super) fn open(&self, features: FeatureChoice, progress: Progress) -> Result<Subject> {
        let wanted = match features {
            FeatureChoice::Backbone => Features::Backbone,
            FeatureChoice::Head => Features::Embedding,
        };
        let subject = Subject::open(
            &self.model,
            &self.backend,
            &self.running,
            wanted,
            &self.preprocess,
            progress,
        )?;
        if features == FeatureChoice::Backbone && subject.features == "head" {
            progress.note("an exported file gives the head's features, not the backbone's");
        }
        Ok(subject)
    }

    /// The model where only its classes matter.
    pub(super) fn open_for_classes(&self, progress: Progress) -> Result<Subject> {
        Subject::open(
            &self.model,
            &self.backend,
            &self.running,
            Features::Backbone,
            &self.preprocess,
            progress,
        )
    }

    /// The images, those of `--subset`'s classes if it is given.
    pub(super) fn images(&self) -> Result<Arc<dyn Source>> {
        self.chosen(&self.data)
    }

    /// As [`Self::images`], and they must have labels.
    pub(super) fn labelled(&self) -> Result<Arc<dyn Source>> {
        labelled(self.images()?, &self.data)
    }

    /// Other images, such as `--references`, under the same conditions.
    pub(super) fn others(&self, path: &Path) -> Result<Arc<dyn Source>> {
        self.chosen(path)
    }

    fn chosen(&self, path: &Path) -> Result<Arc<dyn Source>> {
        let opened = data::open(&path.display().to_string(), &DataConfig::default())?;
        let Some(list) = &self.subset else {
            return Ok(opened);
        };
        let classes = read_names(list)?;
        Ok(Arc::new(Selection::of_classes(opened, &classes)?))
    }

    /// What is kept of a pass of `subject` over `source`. Passes of one evaluation have different `role`s.
    pub(super) fn keep(
        &self,
        subject: &Subject,
        source: &dyn Source,
        role: &str,
        needs: Needs,
    ) -> Result<Keep> {
        let mut key = subject.key(source);
        key.share = self
            .cache
            .shard
            .map(|shard| shard.share(subject.batch_size()));
        self.keep_as(key, role, needs)
    }

    /// Whether the command ends here, all that it was to keep being kept: it was for a share.
    pub(super) fn ends_with_share(&self, progress: Progress) -> bool {
        let (Some(shard), Some(folder)) = (self.cache.shard, &self.cache.cache) else {
            return false;
        };
        progress.note(&format!(
            "share {shard} is in {}; when all are, the same command without --shard evaluates them",
            folder.display()
        ));
        true
    }

    /// As [`Self::keep`], of a pass that depends on `key`.
    pub(super) fn keep_as(&self, key: Key, role: &str, needs: Needs) -> Result<Keep> {
        let precision = if self.cache.half {
            Precision::Half
        } else {
            Precision::Single
        };
        let Some(folder) = &self.cache.cache else {
            return Ok(match needs {
                Needs::Assignments => Keep::Nothing,
                Needs::Features => Keep::Memory(precision),
            });
        };
        create_folder(folder)?;
        let path = folder.join(format!("{role}.safetensors"));
        Ok(Keep::Cache {
            path: key.share.map_or(path.clone(), |share| share.path(&path)),
            key,
            precision,
            recompute: self.cache.recompute,
            any_features: needs == Needs::Assignments,
        })
    }
}

/// A classifier of the model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Its position in `model.heads`.
    pub(super) index: usize,
    /// Its position among the network's logits.
    pub(super) place: usize,
    /// Its number of classes.
    pub(super) classes: usize,
}

/// The classifiers that `choice` means; at least one.
pub(super) fn heads(subject: &Subject, choice: HeadChoice) -> Result<Vec<Head>> {
    if subject.heads().is_empty() {
        return Err(if subject.features == "pixels" {
            CliError::usage(format!("{} have no classifier", subject.engine))
                .hint("`selfcls-cli eval kmeans` finds clusters in any features")
        } else {
            CliError::failure("the weights are a backbone's, without classifiers")
                .hint("its features can be evaluated: eval knn, eval kmeans")
        });
    }
    let all = subject.heads().iter().enumerate();
    let all = all.map(|(place, &(index, classes))| Head {
        index,
        place,
        classes,
    });
    match choice {
        HeadChoice::All => Ok(all.collect()),
        HeadChoice::One(index) => {
            let (place, classes) = subject.head(index)?;
            Ok(vec![Head {
                index,
                place,
                classes,
            }])
        }
    }
}

/// Name of the cache of `--data`.
pub(super) const FEATURES: &str = "features";

/// `source`, opened from `path`, if it has labels.
pub(super) fn labelled(source: Arc<dyn Source>, path: &Path) -> Result<Arc<dyn Source>> {
    if source.classes().is_empty() {
        return Err(
            CliError::failure(format!("{} has no labels to compare with", path.display()))
                .hint("put the images of each class into a sub-folder of its own, at least two")
                .hint("`selfcls-cli eval usage` needs no labels"),
        );
    }
    Ok(source)
}

impl ResultArgs {
    /// The folder of `--out`, created.
    pub(super) fn folder(&self) -> Result<Option<&Path>> {
        if let Some(folder) = &self.out {
            create_folder(folder)?;
        }
        Ok(self.out.as_deref())
    }

    /// Prints `value` as JSON or `text`, and writes the JSON to `name`.json in the folder of `--out`.
    pub(super) fn print(&self, name: &str, value: &impl Serialize, text: &str) -> Result<()> {
        if let Some(folder) = self.folder()? {
            let json = serde_json::to_vec_pretty(value).map_err(|error| {
                CliError::failure(format!("cannot write the result as JSON: {error}"))
            })?;
            atomic::write(&folder.join(format!("{name}.json")), &json)?;
        }
        if self.json {
            output::json(value)
        } else {
            output::text(text)
        }
    }
}

fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|error| CliError::failure(format!("cannot create {}: {error}", folder.display())))
}
