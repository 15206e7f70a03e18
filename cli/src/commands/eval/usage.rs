//! `eval usage`: what can be said of the classes without labels.

use super::table::{Table, fraction};
use super::target::{EvalTarget, FEATURES, FeatureChoice, Head, Needs, heads};
use crate::commands::export::HeadChoice;
use crate::error::Result;
use crate::progress::Progress;
use clap::Args;
use selfcls_core::eval::{
    Advice, Extracted, Gallery, HeadUsage, Pick, Selection, advise, agreement,
};
use selfcls_core::metrics::knn::UnitEmbeddings;
use selfcls_core::picture::{GridStyle, cluster_grid, size_chart, write_png};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::Path;

/// Look at the discovered classes without labels: how they are used, how far apart they are, which are alike, and which
/// head to take
///
/// With --out, also pages of sample images of every cluster.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    #[command(flatten)]
    pub(crate) target: EvalTarget,
    /// Which classifier: its position in model.heads, from 0; or all of them
    #[arg(long, value_name = "N|all", default_value = "all")]
    pub(crate) head: HeadChoice,
    /// Images whose features are compared, drawn with --seed
    #[arg(long, value_name = "N", default_value = "10000")]
    pub(crate) sample: NonZeroUsize,
    /// Of what is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// In which features clusters are compared
    #[arg(long, value_enum, default_value = "backbone")]
    pub(crate) features: FeatureChoice,
}

/// Clusters on a page of the gallery.
const PAGE: usize = 20;

/// Pairs of near-duplicates that the text names.
const PAIRS: usize = 5;

#[derive(Debug, Serialize)]
struct Summary {
    heads: Vec<HeadSummary>,
    /// NMI of every two heads.
    agreement: Vec<Vec<f64>>,
    recommended_head: Option<usize>,
    classes: Option<usize>,
    advice: String,
}

#[derive(Debug, Serialize)]
struct HeadSummary {
    head: usize,
    available: usize,
    used: usize,
    effective: f64,
    entropy: f64,
    largest_share: f64,
    confidence: f64,
    silhouette: Option<f64>,
    distinct: usize,
    empty: Vec<usize>,
    sizes: Vec<u64>,
    near_duplicates: Vec<Pair>,
}

#[derive(Debug, Serialize)]
struct Pair {
    first: u64,
    second: u64,
    similarity: f64,
}

pub(super) fn run(args: &UsageArgs, progress: Progress) -> Result<()> {
    let target = &args.target;
    let mut subject = target.open(args.features, progress)?;
    let heads = heads(&subject, args.head)?;
    let source = target.images()?;
    let keep = target.keep(&subject, &*source, FEATURES, Needs::Features)?;
    let extracted = subject.extract(&source, "features", keep, progress)?;
    if target.ends_with_share(progress) {
        return Ok(());
    }

    let Comparison {
        usages,
        agreement,
        advice,
    } = Comparison::new(&extracted, &heads, args.sample.get(), args.seed)?;
    if let Some(folder) = target.results.folder()? {
        for (usage, &Head { index, place, .. }) in usages.iter().zip(&heads) {
            size_chart(&usage.usage)?.write(&folder.join(format!("head{index}-sizes.svg")))?;
            let gallery = Gallery::new(&*source, &extracted, place)?;
            pages(folder, index, &gallery, args.seed, progress)?;
        }
    }
    let text = text(&usages, &agreement, &advice);
    let summary = Summary {
        heads: usages.into_iter().map(HeadSummary::from).collect(),
        agreement,
        recommended_head: advice.head,
        classes: advice.classes,
        advice: advice.text,
    };
    target.results.print("usage", &summary, &text)
}

/// What the clusters of heads say of themselves and of each other, without labels.
pub(super) struct Comparison {
    /// Of each head.
    pub(super) usages: Vec<HeadUsage>,
    /// NMI of every two heads.
    pub(super) agreement: Vec<Vec<f64>>,
    /// Which head to take.
    pub(super) advice: Advice,
}

impl Comparison {
    /// Compares `heads` by all their assignments and the features of at most `sample` images, drawn with `seed`.
    pub(super) fn new(
        extracted: &Extracted,
        heads: &[Head],
        sample: usize,
        seed: u64,
    ) -> Result<Self> {
        let drawn = Selection::draw(extracted.features.len(), sample, seed);
        let features = extracted.features.gather(&drawn)?;
        let embeddings = UnitEmbeddings::new(features, extracted.features.width())?;
        let usage = |head: &Head| {
            HeadUsage::new(
                head.index,
                &extracted.assignments[head.place],
                &extracted.confidences[head.place],
                head.classes,
                &drawn,
                &embeddings,
            )
        };
        let usages = heads.iter().map(usage).collect::<Result<Vec<_>, _>>()?;
        let assignments = heads
            .iter()
            .map(|head| extracted.assignments[head.place].clone());
        let agreement = agreement(&assignments.collect::<Vec<_>>())?;
        let advice = advise(&usages, &agreement);
        Ok(Self {
            usages,
            agreement,
            advice,
        })
    }
}

/// Every cluster with sample images, a page at a time: images of one page are in memory.
fn pages(
    folder: &Path,
    head: usize,
    gallery: &Gallery<'_>,
    seed: u64,
    progress: Progress,
) -> Result<()> {
    let clusters = gallery.clusters();
    let style = GridStyle::default();
    for (number, page) in clusters.chunks(PAGE).enumerate() {
        let rows = gallery.rows(page, style.columns, Pick::Random { seed }, true)?;
        let name = format!("head{head}-clusters-{:03}.png", number + 1);
        write_png(&folder.join(name), &cluster_grid(&rows, &style)?)?;
    }
    let pages = clusters.len().div_ceil(PAGE);
    progress.note(&format!(
        "head {head}: {} clusters on {pages} {} in {}",
        clusters.len(),
        if pages == 1 { "page" } else { "pages" },
        folder.display()
    ));
    Ok(())
}

fn text(usages: &[HeadUsage], agreement: &[Vec<f64>], advice: &Advice) -> String {
    let mut table = Table::new(&[
        "head",
        "clusters",
        "used",
        "effective",
        "largest",
        "sure",
        "silhouette",
        "duplicates",
    ]);
    for head in usages {
        table.row(vec![
            head.head.to_string(),
            head.usage.sizes.len().to_string(),
            head.usage.used.to_string(),
            format!("{:.1}", head.usage.effective()),
            fraction(head.usage.largest_share()),
            fraction(head.confidence),
            head.silhouette.map_or("-".into(), fraction),
            head.similar.len().to_string(),
        ]);
    }
    let mut text = table.text();
    for head in usages.iter().filter(|head| !head.similar.is_empty()) {
        let named = head.similar.iter().take(PAIRS);
        let named: Vec<String> = named
            .map(|pair| format!("{}={}", pair.first, pair.second))
            .collect();
        text.push_str(&format!(
            "head {}: most alike {}\n",
            head.head,
            named.join(" ")
        ));
    }
    if usages.len() > 1 {
        text.push_str("\nagreement of heads (NMI)\n");
        let names: Vec<String> = usages.iter().map(|head| head.head.to_string()).collect();
        let mut header = vec!["head"];
        header.extend(names.iter().map(String::as_str));
        let mut table = Table::new(&header);
        for (name, row) in names.iter().zip(agreement) {
            let mut cells = vec![name.clone()];
            cells.extend(row.iter().map(|&nmi| fraction(nmi)));
            table.row(cells);
        }
        text.push_str(&table.text());
    }
    text.push_str(&format!("\n{}\n", advice.text));
    text
}

impl From<HeadUsage> for HeadSummary {
    fn from(head: HeadUsage) -> Self {
        Self {
            head: head.head,
            available: head.usage.sizes.len(),
            used: head.usage.used,
            effective: head.usage.effective(),
            entropy: head.usage.entropy,
            largest_share: head.usage.largest_share(),
            confidence: head.confidence,
            silhouette: head.silhouette,
            distinct: head.distinct(),
            empty: head.usage.empty(),
            near_duplicates: head
                .similar
                .iter()
                .map(|pair| Pair {
                    first: pair.first,
                    second: pair.second,
                    similarity: pair.similarity,
                })
                .collect(),
            sizes: head.usage.sizes,
        }
    }
}
