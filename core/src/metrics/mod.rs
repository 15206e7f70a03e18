//! How well clusters found without labels agree with labels, and how well embeddings separate classes.
//!
//! Labels are integer ids; only equality matters, so gaps and large ids cost nothing. Everything about
//! clusters is computed from one [`Contingency`] table:
//!
//! | file | measure | source |
//! |---|---|---|
//! | `information` | entropy, mutual information, NMI, AMI | Vinh, Epps, Bailey, JMLR 11 (2010) |
//! | `pairs` | adjusted Rand index | Hubert, Arabie, J. Classification 2 (1985) |
//! | `usage` | cluster sizes, entropy, effective clusters; no labels | Hill, Ecology 54 (1973) |
//! | `matching`, [`assignment`] | clustering accuracy | the authors' evaluation; Crouse 2016 |
//! | `separation` | silhouette, similar clusters; no labels | Rousseeuw 1987; Davies, Bouldin 1979 |
//! | [`knn`] | weighted nearest-neighbour accuracy | Wu et al., CVPR 2018, section 3.4 |
//!
//! Special cases (one class, one cluster, ...) follow scikit-learn and are documented at each measure.

pub mod assignment;
mod contingency;
mod information;
pub mod knn;
pub mod labels;
mod matching;
mod pairs;
mod report;
mod separation;
mod spread;
mod superclasses;
mod usage;

pub use contingency::{Cell, Contingency, Label, MAX_SAMPLES};
pub use matching::{Assigned, Rule};
pub use report::ClusterReport;
pub use separation::{Separation, SimilarPair};
pub use spread::Spread;
pub use superclasses::SuperclassMap;
pub use usage::Usage;
