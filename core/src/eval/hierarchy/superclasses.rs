//! Superclasses: the nodes of one depth, or one of the BREEDS selections.

use super::Hierarchy;
use crate::metrics::SuperclassMap;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// How coarse superclasses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// The nodes of a depth below the root (ImageNet's hierarchy has 0 to 8); not all classes have one.
    Level(usize),
    /// The 13 nodes of depth 3 with at least 20 classes.
    Entity13,
    /// The 30 nodes of depth 4 with at least 8 classes.
    Entity30,
    /// The 17 nodes of depth 5 with at least 4 classes among living things.
    Living17,
    /// The 26 nodes of depth 5 with at least 4 classes among non-living things.
    Nonliving26,
}

/// Living and non-living things in ImageNet's hierarchy.
const LIVING: &str = "n00004258";
const NONLIVING: &str = "n00021939";

impl Granularity {
    /// The named selections.
    pub const SELECTIONS: [Self; 4] = [
        Self::Entity13,
        Self::Entity30,
        Self::Living17,
        Self::Nonliving26,
    ];

    /// Depth, fewest classes of a superclass, and the node that it is at or below.
    fn rule(self) -> (usize, usize, Option<&'static str>) {
        match self {
            Self::Level(depth) => (depth, 1, None),
            Self::Entity13 => (3, 20, None),
            Self::Entity30 => (4, 8, None),
            Self::Living17 => (5, 4, Some(LIVING)),
            Self::Nonliving26 => (5, 4, Some(NONLIVING)),
        }
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level(depth) => write!(f, "{depth}"),
            Self::Entity13 => f.write_str("entity13"),
            Self::Entity30 => f.write_str("entity30"),
            Self::Living17 => f.write_str("living17"),
            Self::Nonliving26 => f.write_str("nonliving26"),
        }
    }
}

impl FromStr for Granularity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(depth) = text.parse() {
            return Ok(Self::Level(depth));
        }
        let mut selections = Self::SELECTIONS.into_iter();
        selections
            .find(|selection| selection.to_string() == text)
            .ok_or_else(|| {
                format!("{text:?} is neither a level such as 3 nor entity13, entity30, living17 or nonliving26")
            })
    }
}

/// A node with classes below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superclass {
    /// The node's id.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// Ids of the classes at or below it, sorted.
    pub classes: Vec<String>,
}

/// Superclasses of one granularity, sorted by id. No class is in two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superclasses {
    granularity: Granularity,
    list: Vec<Superclass>,
}

impl Hierarchy {
    /// The superclasses of `granularity`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the hierarchy is not that deep, has no such node, or has a class below two of them.
    pub fn superclasses(&self, granularity: Granularity) -> Result<Superclasses> {
        let (depth, fewest, ancestor) = granularity.rule();
        let deepest = self.deepest();
        if depth > deepest {
            return Err(Error::Invalid(format!(
                "superclasses {granularity} are at level {depth}, but the hierarchy's levels are 0 to {deepest}"
            )));
        }
        let list: Vec<Superclass> = self
            .at_depth(depth, ancestor)
            .into_iter()
            .map(|id| Superclass {
                id: id.clone(),
                name: self.name(id).to_string(),
                classes: self.classes_below(id).into_iter().collect(),
            })
            .filter(|superclass| superclass.classes.len() >= fewest)
            .collect();
        let found = Superclasses { granularity, list };
        found.check(fewest)?;
        Ok(found)
    }
}

impl Superclasses {
    /// The superclasses.
    pub fn list(&self) -> &[Superclass] {
        &self.list
    }

    /// Position among [`Self::list`] of the superclass of each of `classes`, the ids of a data set's classes in the
    /// order of its labels; none for a class that has no superclass of this granularity. That they are classes of the
    /// hierarchy at all is for [`Hierarchy::check_classes`] to say.
    ///
    /// # Errors
    /// [`Error::Data`] if none has a superclass.
    pub fn of(&self, classes: &[String]) -> Result<Vec<Option<usize>>> {
        let places = self.places();
        let found: Vec<Option<usize>> = classes
            .iter()
            .map(|class| places.get(class.as_str()).copied())
            .collect();
        if found.iter().all(Option::is_none) {
            return Err(Error::Data(format!(
                "none of the classes is in a superclass of {}",
                self.granularity
            )));
        }
        Ok(found)
    }

    fn places(&self) -> BTreeMap<&str, usize> {
        let members = self.list.iter().enumerate();
        members
            .flat_map(|(place, superclass)| {
                superclass
                    .classes
                    .iter()
                    .map(move |class| (class.as_str(), place))
            })
            .collect()
    }

    fn check(&self, fewest: usize) -> Result<()> {
        if self.list.is_empty() {
            return Err(Error::Invalid(format!(
                "the hierarchy has no superclass of {} (at least {fewest} classes each)",
                self.granularity
            )));
        }
        let mut of: BTreeMap<&str, &str> = BTreeMap::new();
        for superclass in &self.list {
            for class in &superclass.classes {
                if let Some(other) = of.insert(class, &superclass.id) {
                    return Err(Error::Invalid(format!(
                        "class {class} is in two superclasses of {}, {other} and {}",
                        self.granularity, superclass.id
                    )));
                }
            }
        }
        Ok(())
    }
}

/// The part of a labelling that has superclasses.
#[derive(Debug, Clone, PartialEq)]
pub struct Restricted {
    /// Labels of the samples that are left.
    pub targets: Vec<usize>,
    /// Their clusters.
    pub predictions: Vec<usize>,
    /// Superclass of each class that has one.
    pub map: SuperclassMap,
}

impl Restricted {
    /// Leaves out the samples whose class has no superclass, as the authors' evaluation does. `superclass_of` is of
    /// [`Superclasses::of`].
    pub fn new(targets: &[usize], predictions: &[usize], superclass_of: &[Option<usize>]) -> Self {
        let has_one = |target: &usize| superclass_of.get(*target).is_some_and(Option::is_some);
        let pairs = targets.iter().zip(predictions);
        let (targets, predictions) = pairs.filter(|(target, _)| has_one(target)).unzip();
        let entries = superclass_of.iter().enumerate();
        Self {
            targets,
            predictions,
            map: entries
                .filter_map(|(class, superclass)| Some((class as u64, (*superclass)? as u64)))
                .collect(),
        }
    }
}
