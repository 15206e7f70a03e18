//! What is compared with what.

use crate::materials;
use crate::{Args, ours};
use selfcls_benches::Outcome;
use selfcls_benches::figures::{Better, Turns};
use selfcls_benches::peer::{figure, run};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// One case of classifying a folder.
#[derive(Clone)]
pub(crate) struct Case {
    name: String,
    pub(crate) engine: &'static str,
    pub(crate) model: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) batch: usize,
    pub(crate) limit: usize,
    /// Whether we decode at a part of the size.
    pub(crate) reduced: bool,
    /// Whether several runs of the network go side by side.
    pub(crate) many: bool,
    pub(crate) runs: usize,
    /// Arguments for the peer alone.
    peer: &'static [&'static str],
}

/// Runs all cases that were asked for.
pub(crate) fn all(args: &Args, folder: &Path, report: &mut dyn FnMut(Value)) -> Outcome<()> {
    let model = match &args.model {
        Some(model) => model.clone(),
        None => materials::untrained(folder)?,
    };
    let case = |engine: &'static str, name: &str, batch: usize| Case {
        name: format!("{engine} {name}"),
        engine,
        model: model.clone(),
        data: args.data.clone(),
        batch,
        limit: args.limit,
        reduced: false,
        many: true,
        runs: args.runs,
        peer: &[],
    };
    let mut engines = vec!["onnxruntime", "tract"];
    if args.openvino.is_some() {
        engines.insert(1, "openvino");
    }
    for engine in engines {
        for &batch in &args.batch {
            let case = case(engine, &format!("batch {batch}"), batch);
            if case.is_wanted(args) {
                report(throughput(args, &case)?);
            }
        }
        let mut single = case(engine, "latency", 1);
        single.many = false;
        if single.is_wanted(args) {
            report(latency(args, &single)?);
        }
        let start = case(engine, "start", 1);
        if start.is_wanted(args) {
            report(from_nothing(args, &start)?);
        }
        for &batch in &args.batch {
            let case = case(engine, &format!("overhead {batch}"), batch);
            if engine != "openvino" && case.is_wanted(args) {
                overhead(args, &case)?.into_iter().for_each(&mut *report);
            }
        }
    }
    let runs = case("onnxruntime", "runs", 16);
    if runs.is_wanted(args) {
        report(side_by_side(args, &runs)?);
    }
    let mut int8 = case("onnxruntime", "int8 batch 16", 16);
    if int8.is_wanted(args) {
        report(match materials::quantised(args, &model, folder) {
            Ok(file) => {
                int8.model = file;
                throughput(args, &int8)?
            }
            Err(reason) => json!({"case": int8.name, "not_available": reason}),
        });
    }
    for (name, peer) in [
        ("large photos batch 16", &[][..]),
        ("large photos, draft, batch 16", &["--draft"]),
    ] {
        let mut photos = case("onnxruntime", name, 16);
        if photos.is_wanted(args) {
            photos.data = materials::large_photos(&args.data, folder)?;
            photos.reduced = true;
            photos.peer = peer;
            report(throughput(args, &photos)?);
        }
    }
    Ok(())
}

impl Case {
    fn is_wanted(&self, args: &Args) -> bool {
        args.only
            .as_ref()
            .is_none_or(|text| self.name.contains(text))
    }

    fn object(&self, args: &Args) -> Value {
        json!({"bench": "infer", "case": self.name, "threads": args.threads})
    }

    /// The peer's command, for images of the sizes that `ours` has said.
    fn peer(&self, args: &Args, ours: &Value) -> Option<Command> {
        let mut peer = args.peer.command("infer.py")?;
        let (crop, resize) = (ours["crop"].to_string(), ours["resize"].to_string());
        peer.arg(&self.model).arg(&self.data);
        peer.args(["--crop", &crop, "--resize", &resize]);
        peer.args(self.sizes(args));
        peer.args(self.peer);
        Some(peer)
    }

    /// Arguments that both sides have.
    pub(crate) fn sizes(&self, args: &Args) -> Vec<String> {
        let pairs = [
            ("--batch", self.batch),
            ("--threads", args.threads),
            ("--limit", self.limit),
        ];
        pairs
            .iter()
            .flat_map(|(name, value)| [(*name).to_owned(), value.to_string()])
            .collect()
    }
}

/// Images per second: the sides in turn, `rounds` times.
fn throughput(args: &Args, case: &Case) -> Outcome<Value> {
    let mut turns = Turns::default();
    let (mut last, mut theirs) = (Value::Null, Value::Null);
    for _ in 0..args.rounds.max(1) {
        last = run(&mut ours::command(args, case)?)?;
        turns.ours.push(figure(&last, "images_per_s")?);
        if let Some(mut peer) = case.peer(args, &last) {
            theirs = run(&mut peer)?;
            turns.peer.push(figure(&theirs, "wall_images_per_s")?);
        }
    }
    let report = said(case.object(args), &last, &theirs);
    Ok(turns.report(report, "images/s", Better::Higher))
}

/// What either side said beside its figure.
fn said(mut report: Value, ours: &Value, theirs: &Value) -> Value {
    for key in ["engine", "images", "open_ms"] {
        report[key] = ours[key].clone();
    }
    for key in ["peak_mib", "cpu_ms_per_image"] {
        report[key] = json!([ours[key], theirs[key]]);
    }
    report
}

/// The time from a file to its answer, with nothing else under way.
fn latency(args: &Args, case: &Case) -> Outcome<Value> {
    let mut turns = Turns::default();
    let (mut last, mut theirs) = (Value::Null, Value::Null);
    for _ in 0..args.rounds.max(1) {
        last = run(ours::command(args, case)?.arg("--one-by-one"))?;
        turns.ours.push(figure(&last, "latency_ms")?);
        if let Some(mut peer) = case.peer(args, &last) {
            theirs = run(&mut peer)?;
            // Of a peer that does not say it: it has one image under way too.
            let rate = figure(&theirs, "wall_images_per_s")?;
            turns
                .peer
                .push(theirs["latency_ms"].as_f64().unwrap_or(1e3 / rate));
        }
    }
    let report = said(case.object(args), &last, &theirs);
    Ok(turns.report(report, "ms", Better::Lower))
}

/// From nothing to the first answer.
fn from_nothing(args: &Args, case: &Case) -> Outcome<Value> {
    let case = Case {
        limit: 1,
        many: false,
        ..case.clone()
    };
    let mut turns = Turns::default();
    let (mut last, mut theirs) = (Value::Null, Value::Null);
    let timed = |command: &mut Command| -> Outcome<(f64, Value)> {
        let started = Instant::now();
        let said = run(command)?;
        Ok((started.elapsed().as_secs_f64() * 1e3, said))
    };
    for _ in 0..args.rounds.max(1) {
        let (ours, said) = timed(ours::command(args, &case)?.arg("--one-by-one"))?;
        turns.ours.push(ours);
        if let Some(mut peer) = case.peer(args, &said) {
            let (time, said) = timed(&mut peer)?;
            turns.peer.push(time);
            theirs = said;
        }
        last = said;
    }
    let report = said(case.object(args), &last, &theirs);
    Ok(turns.report(report, "ms", Better::Lower))
}

/// What we add to the engine, on the clock and in processor time.
fn overhead(args: &Args, case: &Case) -> Outcome<Vec<Value>> {
    let case = Case {
        many: false,
        limit: case.limit.min(16.max(case.batch)),
        ..case.clone()
    };
    let said = run(ours::command(args, &case)?.arg("--overhead"))?;
    let list = |key: &str| -> Vec<f64> {
        let values = said[key].as_array().map_or(&[][..], Vec::as_slice);
        values.iter().filter_map(Value::as_f64).collect()
    };
    let kinds = [("", "ms"), (", processor time", "cpu_ms")];
    let reports = kinds.into_iter().filter_map(|(kind, key)| {
        let turns = Turns {
            ours: list(&format!("ours_{key}")),
            peer: list(&format!("engine_{key}")),
        };
        let mut report = case.object(args);
        report["case"] = json!(format!("{}{kind}", case.name));
        report["engine"] = said["engine"].clone();
        let report = turns.report(report, "ms per image", Better::Lower);
        (!turns.ours.is_empty()).then_some(report)
    });
    Ok(reports.collect())
}

/// Several runs of the network at a time beside one on all threads.
fn side_by_side(args: &Args, case: &Case) -> Outcome<Value> {
    let one = Case {
        many: false,
        runs: 1,
        ..case.clone()
    };
    let mut turns = Turns::default();
    let (mut many_said, mut one_said) = (Value::Null, Value::Null);
    for _ in 0..args.rounds.max(1) {
        many_said = run(&mut ours::command(args, case)?)?;
        one_said = run(&mut ours::command(args, &one)?)?;
        turns.ours.push(figure(&many_said, "images_per_s")?);
        turns.peer.push(figure(&one_said, "images_per_s")?);
    }
    let report = said(case.object(args), &many_said, &one_said);
    Ok(turns.report(report, "images/s", Better::Higher))
}
