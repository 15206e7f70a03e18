//! `report.html`: the course of a run on one page that needs nothing else.

use super::Row;
use crate::config::Config;
use crate::picture::{Curve, LineChart, colour, escaped};
use crate::train::event::{EpochEvent, HeadMeasures, MonitorEvent, StepEvent};
use crate::{Result, atomic};
use std::fmt::Write;
use std::path::Path;

const STEPS: [u8; 3] = [160, 190, 230];
const EPOCHS: [u8; 3] = [30, 90, 170];

const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; margin-bottom: 0 } h1 + p { color: #666; margin-top: .2rem }
svg { max-width: 100%; height: auto; display: block; margin: 1rem 0 }
.table { max-height: 24rem; overflow: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid #e4e4e4; font-variant-numeric: tabular-nums }
thead th { position: sticky; top: 0; background: #fff } pre { background: #f6f6f6; padding: 1rem; overflow: auto }
";

/// Writes the report of the run in `run`.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write(run: &Path, config: &Config, rows: &[Row]) -> Result<()> {
    let page = page(config, rows)?;
    atomic::write(&run.join("report.html"), page.as_bytes())
}

fn page(config: &Config, rows: &[Row]) -> Result<String> {
    let steps: Vec<&StepEvent> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Step(step) => Some(step),
            _ => None,
        })
        .collect();
    let epochs: Vec<&EpochEvent> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Epoch(epoch) => Some(epoch),
            _ => None,
        })
        .collect();
    let monitored: Vec<&MonitorEvent> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Monitor(monitor) => Some(monitor),
            _ => None,
        })
        .collect();
    let mut page = String::from("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">");
    page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
    let source = escaped(&config.data.source);
    page += &format!("<title>{source}</title>\n<style>\n{STYLE}</style>\n<h1>{source}</h1>\n");
    page += &format!("<p>{}</p>\n", escaped(&summary(config, &epochs)));
    let training = charts(config, &steps, &epochs);
    for chart in training.into_iter().chain(monitor_charts(&monitored)) {
        page += &chart.figure()?.svg();
    }
    page += &table(&epochs);
    page += &monitor_table(&monitored);
    let toml = escaped(&config.to_toml());
    page +=
        &format!("<details><summary>Configuration</summary><pre>{toml}</pre></details>\n</html>\n");
    Ok(page)
}

/// One line: how far the run is and how it does.
fn summary(config: &Config, epochs: &[&EpochEvent]) -> String {
    let total = config.train.epochs;
    let Some(last) = epochs.last() else {
        return format!("0 of {total} epochs");
    };
    let hours = epochs.iter().map(|epoch| epoch.seconds).sum::<f64>() / 3600.0;
    format!(
        "{} of {total} epochs, loss {:.4}, {hours:.2} hours of training",
        last.epoch, last.loss
    )
}

fn charts(config: &Config, steps: &[&StepEvent], epochs: &[&EpochEvent]) -> Vec<LineChart> {
    // Every curve over epochs, so that they can be read one below the other.
    let per_epoch = epochs
        .last()
        .map_or(1.0, |last| last.step as f64 / last.epoch as f64);
    let at = |step: usize| step as f64 / per_epoch;
    let of_steps = |value: &dyn Fn(&StepEvent) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = steps.iter();
        points
            .filter_map(|step| Some((at(step.step), value(step)?)))
            .collect()
    };
    let of_epochs = |value: &dyn Fn(&EpochEvent) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = epochs.iter();
        points
            .filter_map(|epoch| Some((epoch.epoch as f64, value(epoch)?)))
            .collect()
    };
    let curve = |name: &str, colour, points| Curve {
        name: name.into(),
        colour,
        points,
    };
    let chart = |title: &str, curves| LineChart {
        title: title.into(),
        x: "epoch".into(),
        curves,
        level: None,
    };
    let mut charts = vec![
        LineChart {
            level: Some(("ln C: collapsed".into(), collapse(&config.model.heads))),
            ..chart(
                "loss",
                vec![
                    curve("step", STEPS, of_steps(&|step| Some(step.loss))),
                    curve("epoch", EPOCHS, of_epochs(&|epoch| Some(epoch.loss))),
                ],
            )
        },
        chart(
            "learning rate",
            vec![curve("step", EPOCHS, of_steps(&|step| Some(step.lr)))],
        ),
        chart(
            "classes of the first head in use, in the last batch of an epoch",
            vec![curve(
                "epoch",
                EPOCHS,
                of_epochs(&|epoch| Some(epoch.used_classes as f64)),
            )],
        ),
    ];
    let neighbours = of_epochs(&|epoch| epoch.neighbour_accuracy);
    if !neighbours.is_empty() {
        charts.push(chart(
            "nearest neighbours in the queue with the image's own label (fraction)",
            vec![curve("epoch", EPOCHS, neighbours)],
        ));
    }
    charts
}

/// Curves of what the monitor found, one per head.
fn monitor_charts(monitored: &[&MonitorEvent]) -> Vec<LineChart> {
    let Some(last) = monitored.last() else {
        return Vec::new();
    };
    let heads = last.heads.len();
    let curves = |value: fn(&HeadMeasures) -> Option<f64>| -> Vec<Curve> {
        let curve = |head: usize| {
            let points = monitored.iter().filter_map(|monitor| {
                let found = value(monitor.heads.get(head)?)?;
                Some((monitor.epoch as f64, found))
            });
            Curve {
                name: format!("head {head} ({} clusters)", last.heads[head].clusters),
                colour: colour(head, heads),
                points: points.collect(),
            }
        };
        let curves = (0..heads).map(curve);
        curves.filter(|curve| !curve.points.is_empty()).collect()
    };
    let of_all = |value: fn(&MonitorEvent) -> Option<f64>| -> Vec<Curve> {
        let points = monitored.iter();
        let points: Vec<(f64, f64)> = points
            .filter_map(|monitor| Some((monitor.epoch as f64, value(monitor)?)))
            .collect();
        let curve = Curve {
            name: "all".into(),
            colour: EPOCHS,
            points,
        };
        vec![curve]
    };
    let images = format!("{} images", last.samples);
    let charts = [
        ("NMI with the labels", curves(|head| head.nmi)),
        ("accuracy of the clusters", curves(|head| head.acc)),
        (
            "effective number of clusters",
            curves(|head| Some(head.effective)),
        ),
        (
            "nearest-neighbour accuracy of the features",
            of_all(|monitor| monitor.knn),
        ),
        (
            "agreement of the heads (NMI, mean of all pairs)",
            of_all(|monitor| monitor.agreement),
        ),
    ];
    charts
        .into_iter()
        .filter(|(_, curves)| curves.iter().any(|curve| !curve.points.is_empty()))
        .map(|(title, curves)| LineChart {
            title: format!("{title}, {images}"),
            x: "epoch".into(),
            curves,
            level: None,
        })
        .collect()
}

/// The loss of a model that tells nothing apart: ln C, averaged over the heads.
fn collapse(heads: &[usize]) -> f64 {
    heads
        .iter()
        .map(|&classes| (classes as f64).ln())
        .sum::<f64>()
        / heads.len().max(1) as f64
}

fn table(epochs: &[&EpochEvent]) -> String {
    let mut table = String::from("<div class=\"table\"><table><thead><tr>");
    for name in [
        "epoch",
        "loss",
        "learning rate",
        "neighbours",
        "classes in use",
        "seconds",
        "images/s",
    ] {
        table += &format!("<th>{name}</th>");
    }
    table += "</tr></thead>\n<tbody>\n";
    for epoch in epochs {
        let neighbours = epoch
            .neighbour_accuracy
            .map_or("–".into(), |x| format!("{:.1} %", 100.0 * x));
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "<tr><td>{}</td><td>{:.4}</td><td>{:.3e}</td><td>{neighbours}</td><td>{}</td><td>{:.1}</td><td>{:.0}</td></tr>",
            epoch.epoch,
            epoch.loss,
            epoch.lr,
            epoch.used_classes,
            epoch.seconds,
            epoch.images_per_second
        );
    }
    table + "</tbody></table></div>\n"
}

/// What the monitor found, newest last.
fn monitor_table(monitored: &[&MonitorEvent]) -> String {
    if monitored.is_empty() {
        return String::new();
    }
    let mut table = String::from("<div class=\"table\"><table><thead><tr>");
    for name in [
        "epoch",
        "head",
        "used",
        "effective",
        "NMI",
        "AMI",
        "ARI",
        "ACC",
        "k-NN",
        "agreement",
        "seconds",
    ] {
        table += &format!("<th>{name}</th>");
    }
    table += "</tr></thead>\n<tbody>\n";
    let fraction = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.4}"));
    for monitor in monitored {
        for head in &monitor.heads {
            // Writing to a string cannot fail.
            let _ = writeln!(
                table,
                "<tr><td>{}</td><td>{}</td><td>{} of {}</td><td>{:.1}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2}</td></tr>",
                monitor.epoch,
                head.head,
                head.used,
                head.clusters,
                head.effective,
                fraction(head.nmi),
                fraction(head.ami),
                fraction(head.ari),
                fraction(head.acc),
                fraction(monitor.knn),
                fraction(monitor.agreement),
                monitor.seconds
            );
        }
    }
    table + "</tbody></table></div>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_the_run_and_escapes_its_names() {
        let mut config = Config::default();
        config.data.source = "<b>photos & more</b>".into();
        config.model.heads = vec![10, 10];
        assert!((collapse(&config.model.heads) - 10_f64.ln()).abs() < 1e-12);
        let rows = [
            Row::Step(StepEvent {
                epoch: 1,
                step: 5,
                loss: 2.25,
                lr: 0.1,
                neighbour_accuracy: None,
            }),
            Row::Epoch(EpochEvent {
                epoch: 1,
                step: 10,
                loss: 2.125,
                lr: 0.2,
                used_classes: 7,
                neighbour_accuracy: Some(0.5),
                seconds: 36.0,
                images_per_second: 128.0,
            }),
            Row::Monitor(MonitorEvent {
                epoch: 1,
                step: 10,
                samples: 400,
                heads: (0..2)
                    .map(|head| HeadMeasures {
                        head,
                        clusters: 10,
                        used: 7,
                        effective: 5.5,
                        nmi: Some(0.25),
                        ami: Some(0.2),
                        ari: Some(0.1),
                        acc: Some(0.5),
                    })
                    .collect(),
                agreement: None,
                knn: Some(0.75),
                seconds: 1.5,
            }),
        ];
        let page = page(&config, &rows).expect("written");
        assert!(page.contains("&lt;b&gt;photos &amp; more&lt;/b&gt;") && !page.contains("<b>"));
        assert!(page.contains("1 of 100 epochs, loss 2.1250, 0.01 hours"));
        assert!(
            page.contains("<td>1</td><td>2.1250</td><td>2.000e-1</td><td>50.0 %</td><td>7</td>")
        );
        assert!(page.contains("<td>7 of 10</td><td>5.5</td><td>0.2500</td>"));
        assert!(page.contains("NMI with the labels, 400 images"));
        // Four of training; NMI, ACC, effective number and neighbours of the monitor.
        assert_eq!(page.matches("<svg").count(), 8);
        // Nothing has been completed yet.
        let page = super::page(&config, &[]).expect("written");
        assert!(page.contains("0 of 100 epochs"));
        assert_eq!(page.matches("<svg").count(), 3);
    }
}
