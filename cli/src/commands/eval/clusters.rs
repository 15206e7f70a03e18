//! `eval clusters`: the discovered classes against labels.

use super::draw_classes;
use super::pictures::ClusterPictures;
use super::table::{Table, fraction};
use super::target::{EvalTarget, FEATURES, Head, Needs, heads};
use crate::commands::export::HeadChoice;
use crate::commands::metrics::ClusterSummary;
use crate::error::{CliError, Result};
use crate::progress::Progress;
use clap::Args;
use selfcls_core::atomic;
use selfcls_core::data::Source;
use selfcls_core::eval::hierarchy::{Granularity, Hierarchy, Restricted, Superclasses};
use selfcls_core::eval::{Extracted, Gallery};
use selfcls_core::metrics::{ClusterReport, Contingency, SuperclassMap, Usage};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Compare the discovered classes with the labels: NMI, AMI, ARI and accuracy
///
/// The accuracy matches clusters and classes one to one so that most samples are right; if there are more clusters than
/// classes, each cluster left over counts as its most frequent class.
#[derive(Debug, Args)]
pub(crate) struct ClustersArgs {
    #[command(flatten)]
    pub(crate) target: EvalTarget,
    /// Which classifier: its position in model.heads, from 0; or all of them
    #[arg(long, value_name = "N|all", default_value = "0")]
    pub(crate) head: HeadChoice,
    /// Count the accuracy over superclasses: line i of FILE is the superclass of class i, or each line is a class and its superclass
    #[arg(long, value_name = "FILE")]
    pub(crate) superclasses: Option<PathBuf>,
    /// Also evaluate superclasses, from the class hierarchy in DIR: class_hierarchy.txt, dataset_class_info.json and
    /// node_names.txt of BREEDS; samples whose class has none are left out
    #[arg(long, value_name = "DIR")]
    pub(crate) hierarchy: Option<PathBuf>,
    /// Which superclasses: depths below the root, entity13, entity30, living17, nonliving26; several may be given, separated
    /// by commas. Without it, all that the hierarchy has
    #[arg(
        long,
        value_name = "LEVEL",
        value_delimiter = ',',
        requires = "hierarchy"
    )]
    pub(crate) level: Vec<Granularity>,
    /// Also draw the discovered classes: a PNG, one row of sample images each
    #[arg(long, value_name = "FILE.png")]
    pub(crate) picture: Option<PathBuf>,
    /// Also write what each cluster is called, one line per cluster of the head, for `export --names FILE`: its class
    /// by the matching, or its most frequent class where the matching has none for it
    #[arg(long, value_name = "FILE")]
    pub(crate) save_names: Option<PathBuf>,
}

/// What is printed of a head. The first seven keys are those of `metrics`.
#[derive(Debug, Serialize)]
struct HeadSummary {
    #[serde(flatten)]
    measures: ClusterSummary,
    head: usize,
    available: usize,
    entropy: f64,
    effective: f64,
    confidence: f64,
    empty: Vec<usize>,
    sizes: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    superclasses: Vec<SuperclassSummary>,
}

/// What is printed of a granularity.
#[derive(Debug, Serialize)]
struct SuperclassSummary {
    level: String,
    superclasses: usize,
    #[serde(flatten)]
    measures: ClusterSummary,
}

/// What `--head all` prints.
#[derive(Debug, Serialize)]
struct AllHeads<'a> {
    heads: &'a [HeadSummary],
}

/// A granularity with the superclass of each of the data's classes.
struct Grouping {
    superclasses: Superclasses,
    level: Granularity,
    of: Vec<Option<usize>>,
}

pub(super) fn run(args: &ClustersArgs, progress: Progress) -> Result<()> {
    let target = &args.target;
    if args.save_names.is_some() && args.head == HeadChoice::All {
        return Err(CliError::usage(
            "--save-names writes the names of one head; choose it with --head N",
        ));
    }
    let superclasses = args
        .superclasses
        .as_deref()
        .map(SuperclassMap::read)
        .transpose()?;
    let hierarchy = args.hierarchy.as_deref().map(Hierarchy::read).transpose()?;
    let mut subject = target.open_for_classes(progress)?;
    let heads = heads(&subject, args.head)?;
    let source = target.labelled()?;
    let groupings = match &hierarchy {
        Some(hierarchy) => groupings(hierarchy, &args.level, &*source, progress)?,
        None => Vec::new(),
    };
    let keep = target.keep(&subject, &*source, FEATURES, Needs::Assignments)?;
    let extracted = subject.extract(&source, "classifying", keep, progress)?;
    if target.ends_with_share(progress) {
        return Ok(());
    }
    let mut summaries = Vec::new();
    for &head in &heads {
        let evaluation = Evaluation {
            source: &*source,
            extracted: &extracted,
            head,
        };
        summaries.push(evaluation.summary(superclasses.as_ref(), &groupings)?);
        if let Some(folder) = target.results.folder()? {
            evaluation.draw(folder)?;
        }
    }
    if let Some(folder) = target.results.folder()? {
        progress.note(&format!("pictures in {}", folder.display()));
    }
    if let Some(path) = &args.picture {
        draw_classes(path, &*source, &extracted, heads[0].place)?;
        progress.note(&format!("wrote {}", path.display()));
    }
    if let Some(path) = &args.save_names {
        let evaluation = Evaluation {
            source: &*source,
            extracted: &extracted,
            head: heads[0],
        };
        atomic::write(path, evaluation.names()?.as_bytes())?;
        progress.note(&format!("wrote {}", path.display()));
    }
    if let (HeadChoice::One(index), [summary]) = (args.head, &summaries[..]) {
        progress.note(&format!("head {index} ({} classes)", summary.available));
        return target.results.print("clusters", summary, &summary.text());
    }
    let text = all_text(&summaries);
    target
        .results
        .print("clusters", &AllHeads { heads: &summaries }, &text)
}

/// The superclasses of `levels`, or all that the hierarchy and the data have.
fn groupings(
    hierarchy: &Hierarchy,
    levels: &[Granularity],
    source: &dyn Source,
    progress: Progress,
) -> Result<Vec<Grouping>> {
    hierarchy.check_classes(source.classes())?;
    let all = (0..=hierarchy.deepest()).map(Granularity::Level);
    let all = all.chain(Granularity::SELECTIONS);
    let chosen = if levels.is_empty() {
        all.collect()
    } else {
        levels.to_vec()
    };
    let mut groupings = Vec::new();
    for level in chosen {
        let found = hierarchy.superclasses(level).and_then(|superclasses| {
            let of = superclasses.of(source.classes())?;
            Ok(Grouping {
                superclasses,
                level,
                of,
            })
        });
        match found {
            Ok(grouping) => groupings.push(grouping),
            // Not asked for by name: a small hierarchy has no entity13.
            Err(error) if levels.is_empty() => progress.note(&format!("left out: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(groupings)
}

/// One head on one data set.
struct Evaluation<'a> {
    source: &'a dyn Source,
    extracted: &'a Extracted,
    head: Head,
}

impl Evaluation<'_> {
    fn assignments(&self) -> &[usize] {
        &self.extracted.assignments[self.head.place]
    }

    fn labels(&self) -> &[usize] {
        self.extracted.labels.as_deref().unwrap_or_default()
    }

    fn summary(
        &self,
        superclasses: Option<&SuperclassMap>,
        groupings: &[Grouping],
    ) -> Result<HeadSummary> {
        let (labels, assigned) = (self.labels(), self.assignments());
        let report = match superclasses {
            Some(map) => ClusterReport::with_superclasses(labels, assigned, map)?,
            None => ClusterReport::new(labels, assigned)?,
        };
        let usage = Usage::new(assigned, self.head.classes)?;
        let confidences = &self.extracted.confidences[self.head.place];
        let sure: f64 = confidences.iter().map(|&x| f64::from(x)).sum();
        Ok(HeadSummary {
            measures: ClusterSummary::from(&report),
            head: self.head.index,
            available: self.head.classes,
            entropy: usage.entropy,
            effective: usage.effective(),
            confidence: sure / confidences.len() as f64,
            empty: usage.empty(),
            superclasses: groupings
                .iter()
                .map(|grouping| self.superclass_summary(grouping))
                .collect::<Result<_>>()?,
            sizes: usage.sizes,
        })
    }

    /// What each cluster is called, a line each; a cluster without images has nothing but its number.
    fn names(&self) -> Result<String> {
        let classes = self.source.classes();
        let assigned = Contingency::new(self.labels(), self.assignments())?.assign();
        let mut names: Vec<String> = (0..self.head.classes)
            .map(|cluster| format!("cluster {cluster}"))
            .collect();
        for found in assigned {
            // A class that the matching had left over, and of which there is no image in the cluster, is no name.
            let class = if found.correct > 0 {
                found.class
            } else {
                found.majority
            };
            if let (Some(place), Some(name)) = (
                names.get_mut(found.cluster as usize),
                classes.get(class as usize),
            ) {
                place.clone_from(name);
            }
        }
        Ok(names.into_iter().map(|name| name + "\n").collect())
    }

    fn superclass_summary(&self, grouping: &Grouping) -> Result<SuperclassSummary> {
        let kept = Restricted::new(self.labels(), self.assignments(), &grouping.of);
        let report = ClusterReport::with_superclasses(&kept.targets, &kept.predictions, &kept.map)?;
        Ok(SuperclassSummary {
            level: grouping.level.to_string(),
            superclasses: grouping.superclasses.list().len(),
            measures: ClusterSummary::from(&report),
        })
    }

    /// Confusion matrix, sizes, and the clusters that are most often right and most sure.
    fn draw(&self, folder: &Path) -> Result<()> {
        let pictures = ClusterPictures {
            source: self.source,
            labels: self.labels(),
            assignments: self.assignments(),
            clusters: self.head.classes,
        };
        let gallery = Gallery::new(self.source, self.extracted, self.head.place)?;
        pictures.write(folder, &format!("head{}", self.head.index), &gallery)
    }
}

impl HeadSummary {
    fn text(&self) -> String {
        let mut text = self.measures.lines();
        text.push_str(&format!(
            "available {}\nentropy  {:.6}\neffective {:.2}\nempty    {}\nsure     {:.6}\n",
            self.available,
            self.entropy,
            self.effective,
            self.empty.len(),
            self.confidence
        ));
        if !self.superclasses.is_empty() {
            text.push('\n');
            text.push_str(&superclass_table(std::slice::from_ref(self)).text());
        }
        text
    }
}

fn all_text(heads: &[HeadSummary]) -> String {
    let mut table = Table::new(&[
        "head",
        "clusters",
        "used",
        "effective",
        "nmi",
        "ami",
        "ari",
        "acc",
        "sure",
    ]);
    for head in heads {
        let measures = &head.measures;
        table.row(vec![
            head.head.to_string(),
            head.available.to_string(),
            measures.clusters.to_string(),
            format!("{:.1}", head.effective),
            fraction(measures.nmi),
            fraction(measures.ami),
            fraction(measures.ari),
            fraction(measures.acc),
            fraction(head.confidence),
        ]);
    }
    let mut text = table.text();
    if heads.iter().any(|head| !head.superclasses.is_empty()) {
        text.push('\n');
        text.push_str(&superclass_table(heads).text());
    }
    text
}

fn superclass_table(heads: &[HeadSummary]) -> Table {
    let mut table = Table::new(&[
        "superclasses",
        "count",
        "head",
        "classes",
        "samples",
        "nmi",
        "ami",
        "ari",
        "acc",
    ]);
    for head in heads {
        for row in &head.superclasses {
            let measures = &row.measures;
            table.row(vec![
                row.level.clone(),
                row.superclasses.to_string(),
                head.head.to_string(),
                measures.classes.to_string(),
                measures.samples.to_string(),
                fraction(measures.nmi),
                fraction(measures.ami),
                fraction(measures.ari),
                fraction(measures.acc),
            ]);
        }
    }
    table
}
