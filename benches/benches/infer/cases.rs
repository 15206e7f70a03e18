//! What is compared with what.

use crate::materials;
use crate::{Args, ours};
use selfcls_benches::Outcome;
use selfcls_benches::figures::{Better, Turns, median};
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
        // A single image leaves cores idle now and then; a batch does not.
        many: batch == 1,
        runs: args.runs,
        peer: &[],
    };
    let mut engines = vec!["onnxruntime", "tract"];
    if args.openvino.is_some() {
        engines.splice(1..1, ["openvino", "openvino-bf16"]);
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
            if !engine.starts_with("openvino") && case.is_wanted(args) {
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
        let mut peer = args.common.peer.command("infer.py")?;
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

/// What was said in all rounds of a case.
#[derive(Default)]
struct Rounds {
    turns: Turns,
    ours: Vec<Value>,
    peer: Vec<Value>,
}

impl Rounds {
    fn ours(&mut self, figure: f64, said: Value) {
        self.turns.ours.push(figure);
        self.ours.push(said);
    }

    fn peer(&mut self, figure: f64, said: Value) {
        self.turns.peer.push(figure);
        self.peer.push(said);
    }

    /// The case's figures, and the medians of what else was said.
    fn report(&self, args: &Args, case: &Case, units: &str, better: Better) -> Value {
        let mut report = case.object(args);
        if let Some(last) = self.ours.last() {
            report["engine"] = last["engine"].clone();
            report["images"] = last["images"].clone();
        }
        let middle = |said: &[Value], key: &str| {
            let figures: Vec<f64> = said.iter().filter_map(|said| said[key].as_f64()).collect();
            median(&figures)
        };
        report["open_ms"] = json!(middle(&self.ours, "open_ms"));
        for key in ["peak_mib", "cpu_ms_per_image"] {
            report[key] = json!([middle(&self.ours, key), middle(&self.peer, key)]);
        }
        self.turns.report(report, units, better)
    }
}

/// Images per second: the sides in turn, `rounds` times.
fn throughput(args: &Args, case: &Case) -> Outcome<Value> {
    let mut rounds = Rounds::default();
    for _ in args.common.rounds() {
        let ours = run(&mut ours::command(args, case)?)?;
        if let Some(mut peer) = case.peer(args, &ours) {
            let said = run(&mut peer)?;
            rounds.peer(figure(&said, "wall_images_per_s")?, said);
        }
        rounds.ours(figure(&ours, "images_per_s")?, ours);
    }
    Ok(rounds.report(args, case, "images/s", Better::Higher))
}

/// The time from a file to its answer, with nothing else under way.
fn latency(args: &Args, case: &Case) -> Outcome<Value> {
    let mut rounds = Rounds::default();
    for _ in args.common.rounds() {
        let ours = run(ours::command(args, case)?.arg("--one-by-one"))?;
        if let Some(mut peer) = case.peer(args, &ours) {
            let said = run(&mut peer)?;
            // Of a peer that does not say it: it has one image under way too.
            let mean = 1e3 / figure(&said, "wall_images_per_s")?;
            rounds.peer(said["latency_ms"].as_f64().unwrap_or(mean), said);
        }
        rounds.ours(figure(&ours, "latency_ms")?, ours);
    }
    Ok(rounds.report(args, case, "ms", Better::Lower))
}

/// From nothing to the first answer.
fn from_nothing(args: &Args, case: &Case) -> Outcome<Value> {
    let case = Case {
        limit: 1,
        many: false,
        ..case.clone()
    };
    let timed = |command: &mut Command| -> Outcome<(f64, Value)> {
        let started = Instant::now();
        let said = run(command)?;
        Ok((started.elapsed().as_secs_f64() * 1e3, said))
    };
    let mut rounds = Rounds::default();
    for _ in args.common.rounds() {
        let (time, ours) = timed(ours::command(args, &case)?.arg("--one-by-one"))?;
        if let Some(mut peer) = case.peer(args, &ours) {
            let (time, said) = timed(&mut peer)?;
            rounds.peer(time, said);
        }
        rounds.ours(time, ours);
    }
    Ok(rounds.report(args, &case, "ms", Better::Lower))
}

/// Several runs of the network at a time beside one on all threads.
fn side_by_side(args: &Args, case: &Case) -> Outcome<Value> {
    let many = Case {
        many: true,
        ..case.clone()
    };
    let one = Case {
        many: false,
        runs: 1,
        ..case.clone()
    };
    let mut rounds = Rounds::default();
    for _ in args.common.rounds() {
        let said = run(&mut ours::command(args, &many)?)?;
        rounds.ours(figure(&said, "images_per_s")?, said);
        let said = run(&mut ours::command(args, &one)?)?;
        rounds.peer(figure(&said, "images_per_s")?, said);
    }
    Ok(rounds.report(args, case, "images/s", Better::Higher))
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
