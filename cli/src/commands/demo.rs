//! `demo`: the whole line on a built-in data set.

use super::eval::{advise_head, draw_classes};
use super::export::{ExportArgs, FileArgs, export};
use super::train::train_in;
use crate::args::{BackendArgs, RunningArgs};
use crate::error::{CliError, Result};
use crate::output;
use crate::preprocess_args::PreprocessArgs;
use crate::progress::Progress;
use crate::subject::{Subject, device};
use clap::Args;
use selfcls_core::Config;
use selfcls_core::checkpoint::{self, Manifest};
use selfcls_core::config::{Layers, presets};
use selfcls_core::data;
use selfcls_core::eval::{Features, Keep};
use selfcls_core::metrics::ClusterReport;
use selfcls_export::Classifier;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Train, evaluate, export and classify procedural images of shapes, in a minute or two on two cores
///
/// Labels are not used until the end, to score what was found: several classifiers are trained at once, and which of them
/// answers is decided by how far apart its classes lie.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for the run, the ONNX file and the picture of the discovered classes
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    pub(crate) out: PathBuf,
    /// Passes over the images: fewer are done sooner, and find less. Without it, the preset's
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<usize>,
    /// Print one JSON object: nmi, acc, onnx_max_diff, seconds, engine, head, advice
    #[arg(long)]
    pub(crate) json: bool,
}

/// Images to train on.
const TRAIN_SOURCE: &str = "shapes:10000";
/// Some of them, to choose the classifier with.
const CHOICE_SOURCE: &str = "shapes:2000";
/// Fresh images to evaluate on.
const TEST_SOURCE: &str = "shapes:2000:1";
/// And others to classify one by one.
const NEW_SOURCE: &str = "shapes:5:2";

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Summary {
    nmi: f64,
    acc: f64,
    onnx_max_diff: f32,
    seconds: f64,
    engine: String,
    /// The classifier that answers.
    head: usize,
    /// Why this one.
    advice: String,
}

pub(crate) fn run(args: &DemoArgs, progress: Progress) -> Result<()> {
    let began = Instant::now();
    let run_dir = args.out.join("run");
    let config = config(args.epochs)?;
    config.validate()?;
    clear_last_demo(&run_dir, &config, progress)?;
    let backend = BackendArgs {
        backend: "flex".into(),
    };
    let running = RunningArgs::default();

    let source = data::open(TRAIN_SOURCE, &config.data)?;
    let runtime = device(&backend)?
        .runtime(config.train.precision)
        .map_err(CliError::failure)?;
    let outcome = train_in(&run_dir, config.clone(), source, runtime, progress)?;

    let mut trained = Subject::open(
        &outcome.checkpoint,
        &backend,
        &running,
        Features::Backbone,
        &PreprocessArgs::default(),
        progress,
    )?;
    let some = data::open(CHOICE_SOURCE, &config.data)?;
    let advice = advise_head(&mut trained, &some, progress)?;
    // Should all have collapsed, the first shows it as well as any.
    let head = advice.head.unwrap_or(0);

    let model = args.out.join("shapes.onnx");
    let exported = export(
        &ExportArgs {
            model: outcome.checkpoint,
            out: model.clone(),
            file: FileArgs::plain(head),
            verify_images: None,
            json: false,
            backend,
            engine: running.engine.clone(),
            preprocess: PreprocessArgs::default(),
        },
        progress,
    )?;
    let classifier = Classifier::open(&model, &running.options())?;
    let engine = classifier.engine().to_string();

    let fresh = data::open(NEW_SOURCE, &config.data)?;
    let mut answers = Vec::new();
    for index in 0..fresh.len() {
        let prediction = classifier.classify(&*fresh.image(index)?)?;
        let truth = fresh
            .label(index)
            .map_or("?", |label| &fresh.classes()[label]);
        answers.push((
            truth.to_string(),
            prediction.class(),
            prediction.confidence(),
        ));
    }

    // The file is measured, not the model it came from: it is what gets deployed.
    let test = data::open(TEST_SOURCE, &config.data)?;
    let mut subject = Subject::exported(classifier);
    let extracted = subject.extract(&test, "evaluating", Keep::Nothing, progress)?;
    let labels = extracted.labels.as_deref().unwrap_or_default();
    let report = ClusterReport::new(labels, &extracted.assignments[0])?;
    let picture = args.out.join("classes.png");
    draw_classes(&picture, &*test, &extracted, 0)?;

    let summary = Summary {
        nmi: report.nmi,
        acc: report.acc,
        onnx_max_diff: exported.difference(),
        seconds: began.elapsed().as_secs_f64(),
        engine,
        head,
        advice: advice.text,
    };
    if args.json {
        return output::json(&summary);
    }
    let name_of = |class: usize| -> String {
        let found = report
            .assigned
            .iter()
            .find(|found| found.cluster == class as u64);
        let name = found.and_then(|found| test.classes().get(found.majority as usize));
        name.map_or("a class without fresh images".into(), Clone::clone)
    };
    let mut text = format!(
        "trained without labels; of {} classifiers, {}\non {} fresh images of {} shapes, each of its {} classes counted as the one shape that it fits best:\n  accuracy {:.1} %  NMI {:.1} %\n",
        config.model.heads.len(),
        summary.advice,
        test.len(),
        report.classes,
        report.clusters,
        100.0 * summary.acc,
        100.0 * summary.nmi
    );
    text.push_str("new images, classified by the exported file:\n");
    for (truth, class, confidence) in answers {
        text.push_str(&format!(
            "  a {truth:<9} -> class {class} (mostly {}), {:.0} % sure\n",
            name_of(class),
            100.0 * confidence
        ));
    }
    text.push_str(&format!(
        "ONNX and burn differ by at most {:.1e} ({})\n{:.0} s in all; look at {}, the classifier is {}\n",
        summary.onnx_max_diff,
        summary.engine,
        summary.seconds,
        picture.display(),
        model.display()
    ));
    output::text(&text)
}

fn config(epochs: Option<usize>) -> Result<Config> {
    let preset = presets::find("shapes-demo")
        .ok_or_else(|| CliError::failure("the preset shapes-demo is missing from this build"))?;
    let mut config = Layers::default().preset(preset)?.resolve()?.config;
    config.data.source = TRAIN_SOURCE.into();
    config.train.epochs = epochs.unwrap_or(config.train.epochs);
    Ok(config)
}

/// Removes the run of an earlier demo, and nothing else. One that was interrupted stays, to be continued.
fn clear_last_demo(run_dir: &Path, config: &Config, progress: Progress) -> Result<()> {
    let Ok(text) = std::fs::read_to_string(run_dir.join("config.toml")) else {
        return Ok(());
    };
    let found = Config::from_toml(&text).ok();
    let Some(last) = found.filter(|last| last.data.source == TRAIN_SOURCE) else {
        return Err(
            CliError::failure(format!("{} holds another run", run_dir.display()))
                .hint("choose another folder with --out"),
        );
    };
    let newest = checkpoint::find(run_dir).and_then(|newest| checkpoint::load_manifest(&newest));
    let unfinished = |manifest: &Manifest| manifest.position.epoch() < config.train.epochs;
    if last == *config && newest.is_ok_and(|manifest| unfinished(&manifest)) {
        progress.note(&format!(
            "going on with the last demo in {}",
            run_dir.display()
        ));
        return Ok(());
    }
    progress.note(&format!("replacing the last demo in {}", run_dir.display()));
    std::fs::remove_dir_all(run_dir)
        .map_err(|error| CliError::failure(format!("cannot remove {}: {error}", run_dir.display())))
}
