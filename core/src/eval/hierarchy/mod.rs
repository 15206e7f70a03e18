//! A tree of classes above those of a data set, and superclasses taken from it.
//!
//! Read from the files that the BREEDS benchmarks use for ImageNet (Santurkar, Tsipras, Madry: "BREEDS: Benchmarks for
//! Subpopulation Shift", ICLR 2021), which the authors' super-class evaluation uses too:
//!
//! | file | line or entry |
//! |---|---|
//! | `dataset_class_info.json` | `[number, "class id", "name"]` for each class of the data set |
//! | `class_hierarchy.txt` | `parent-id child-id` |
//! | `node_names.txt` | `id<TAB>name`; a node without a line is shown by its id |
//!
//! The depth of a node is the length of the longest path from the root. Nodes that lead to no class of the data set
//! do not count.

mod files;
mod superclasses;

pub use superclasses::{Granularity, Restricted, Superclass, Superclasses};

use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

const CLASSES: &str = "dataset_class_info.json";
const EDGES: &str = "class_hierarchy.txt";
const NAMES: &str = "node_names.txt";

/// Classes of a data set with the nodes above them.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    /// Ids of the data set's classes.
    classes: BTreeSet<String>,
    names: HashMap<String, String>,
    /// Children of each node, as far as they lead to a class.
    children: BTreeMap<String, BTreeSet<String>>,
    /// Longest path from the root, for the nodes below it that lead to a class.
    depth: BTreeMap<String, usize>,
}

impl Hierarchy {
    /// Reads the three files in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read; [`Error::Malformed`] naming file and line if one is not as described in
    /// the [module](self), if a node is its own ancestor (the cycle is shown), or if there is not exactly one root.
    pub fn read(folder: &Path) -> Result<Self> {
        let classes = files::classes(&folder.join(CLASSES))?;
        let path = folder.join(EDGES);
        let edges = files::edges(&path)?;
        let mut names = files::names(&folder.join(NAMES))?;
        // A class is called what the data set calls it.
        names.extend(classes.iter().map(|(id, name)| (id.clone(), name.clone())));
        let classes: BTreeSet<String> = classes.into_keys().collect();
        Self::new(classes, names, edges).map_err(|reason| Error::malformed(path, reason))
    }

    fn new(
        classes: BTreeSet<String>,
        names: HashMap<String, String>,
        edges: BTreeMap<String, BTreeSet<String>>,
    ) -> Result<Self, String> {
        let order = topological_order(&edges)?;
        let children = leading_to(&classes, &edges, &order);
        let below: BTreeSet<&String> = children.values().flatten().collect();
        let roots: Vec<&String> = children
            .keys()
            .filter(|node| !below.contains(node))
            .collect();
        let root = match roots[..] {
            [root] => root.clone(),
            [] => return Err(format!("no class of {CLASSES} is below any node")),
            _ => {
                let roots: Vec<&str> = roots.iter().map(|root| root.as_str()).take(5).collect();
                return Err(format!(
                    "several nodes have nothing above them ({}); one root is needed",
                    roots.join(", ")
                ));
            }
        };
        let mut depth = BTreeMap::from([(root, 0)]);
        for node in &order {
            let (Some(&above), Some(below)) = (depth.get(node), children.get(node)) else {
                continue;
            };
            for child in below {
                let reached = depth.entry(child.clone()).or_insert(0);
                *reached = (*reached).max(above + 1);
            }
        }
        Ok(Self {
            classes,
            names,
            children,
            depth,
        })
    }

    /// Whether `id` is a class of the data set.
    pub fn is_class(&self, id: &str) -> bool {
        self.classes.contains(id)
    }

    /// Checks that all of `classes`, the names of a data set's classes, are ids of classes in the hierarchy.
    ///
    /// # Errors
    /// [`Error::Data`] naming those that are not.
    pub fn check_classes(&self, classes: &[String]) -> Result<()> {
        const LISTED: usize = 5;
        let strangers: Vec<&str> = classes
            .iter()
            .filter(|class| !self.is_class(class))
            .map(String::as_str)
            .collect();
        if strangers.is_empty() {
            return Ok(());
        }
        let more = match strangers.len() {
            0..=LISTED => String::new(),
            count => format!(" and {} more", count - LISTED),
        };
        Err(Error::Data(format!(
            "the hierarchy lacks {} of the {} classes: {}{more}; classes are looked up by the names of their folders, such as n01440764",
            strangers.len(),
            classes.len(),
            strangers[..strangers.len().min(LISTED)].join(", "),
        )))
    }

    /// What a node is called, its id where it has no name.
    pub fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.get(id).map_or(id, String::as_str)
    }

    /// The largest depth of a node.
    pub fn deepest(&self) -> usize {
        self.depth.values().max().copied().unwrap_or(0)
    }

    /// Nodes of that depth, sorted by id; with `ancestor`, only those at or below it.
    fn at_depth(&self, depth: usize, ancestor: Option<&str>) -> Vec<&String> {
        let within = ancestor.map(|ancestor| self.below(ancestor));
        let nodes = self.depth.iter().filter(|&(_, &found)| found == depth);
        nodes
            .map(|(node, _)| node)
            .filter(|node| {
                within
                    .as_ref()
                    .is_none_or(|within| within.contains(node.as_str()))
            })
            .collect()
    }

    /// `node` and everything below it.
    fn below<'a>(&'a self, node: &'a str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut todo = vec![node];
        while let Some(node) = todo.pop() {
            if found.insert(node) {
                todo.extend(
                    self.children
                        .get(node)
                        .into_iter()
                        .flatten()
                        .map(String::as_str),
                );
            }
        }
        found
    }

    /// The classes at or below `node`. A class hides what is below it.
    fn classes_below(&self, node: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut todo = vec![node];
        if self.is_class(node) {
            found.insert(node.to_string());
        }
        while let Some(node) = todo.pop() {
            for child in self.children.get(node).into_iter().flatten() {
                if self.is_class(child) {
                    found.insert(child.clone());
                } else if seen.insert(child) {
                    todo.push(child);
                }
            }
        }
        found
    }
}

/// All nodes, parents before children; an error that shows a cycle if there is one.
fn topological_order(edges: &BTreeMap<String, BTreeSet<String>>) -> Result<Vec<String>, String> {
    let mut parents: BTreeMap<&String, usize> = edges.keys().map(|node| (node, 0)).collect();
    for child in edges.values().flatten() {
        *parents.entry(child).or_insert(0) += 1;
    }
    let free = parents.iter().filter(|&(_, &count)| count == 0);
    let mut todo: Vec<&String> = free.map(|(&node, _)| node).collect();
    let mut order = Vec::with_capacity(parents.len());
    while let Some(node) = todo.pop() {
        parents.remove(node);
        order.push(node.clone());
        for child in edges.get(node).into_iter().flatten() {
            if let Some(count) = parents.get_mut(child) {
                *count -= 1;
                if *count == 0 {
                    todo.push(child);
                }
            }
        }
    }
    match parents.keys().next() {
        None => Ok(order),
        Some(&stuck) => Err(cycle(edges, &parents, stuck)),
    }
}

/// What is left of a graph without its free nodes has a parent for each node, so that going up ends in a cycle.
fn cycle(
    edges: &BTreeMap<String, BTreeSet<String>>,
    left: &BTreeMap<&String, usize>,
    start: &String,
) -> String {
    let mut path = vec![start];
    loop {
        let node = path[path.len() - 1];
        let above = left
            .keys()
            .find(|parent| edges.get(**parent).is_some_and(|of| of.contains(node)));
        let Some(&&above) = above.as_ref() else {
            return format!("{node} is its own ancestor");
        };
        if let Some(place) = path.iter().position(|&seen| seen == above) {
            let mut shown: Vec<&str> = path[place..].iter().map(|node| node.as_str()).collect();
            shown.push(above);
            shown.reverse();
            return format!("{above} is its own ancestor: {}", shown.join(" > "));
        }
        path.push(above);
    }
}

/// The edges whose lower end is a class or leads to one.
fn leading_to(
    classes: &BTreeSet<String>,
    edges: &BTreeMap<String, BTreeSet<String>>,
    order: &[String],
) -> BTreeMap<String, BTreeSet<String>> {
    let mut kept: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in order.iter().rev() {
        let leads = |child: &&String| classes.contains(*child) || kept.contains_key(*child);
        let below: BTreeSet<String> = edges
            .get(node)
            .into_iter()
            .flatten()
            .filter(leads)
            .cloned()
            .collect();
        if !below.is_empty() {
            kept.insert(node.clone(), below);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
