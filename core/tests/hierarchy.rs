//! Superclasses of ImageNet against those of the authors' evaluation.
//!
//! `fixtures/hierarchy` holds ImageNet's class hierarchy as BREEDS gives it (names shortened);
//! `fixtures/superclasses.json` what the authors' evaluation makes of it: for each granularity the classes, by number,
//! of each superclass.

#![allow(clippy::unwrap_used)]

use selfcls_core::eval::hierarchy::{Granularity, Hierarchy, Restricted};
use selfcls_core::metrics::ClusterReport;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn imagenet() -> Hierarchy {
    Hierarchy::read(&fixture("hierarchy")).unwrap()
}

/// Ids of the classes, by number.
fn class_ids() -> Vec<String> {
    let text = std::fs::read_to_string(fixture("hierarchy/dataset_class_info.json")).unwrap();
    let entries: Vec<(usize, String, String)> = serde_json::from_str(&text).unwrap();
    assert!(
        entries
            .iter()
            .enumerate()
            .all(|(place, entry)| place == entry.0)
    );
    entries.into_iter().map(|(_, id, _)| id).collect()
}

#[test]
fn superclasses_are_those_of_the_authors_evaluation() {
    let text = std::fs::read_to_string(fixture("superclasses.json")).unwrap();
    let theirs: BTreeMap<String, BTreeMap<String, Vec<usize>>> =
        serde_json::from_str(&text).unwrap();
    assert_eq!(theirs.len(), 13);
    let (hierarchy, ids) = (imagenet(), class_ids());
    assert_eq!((hierarchy.deepest(), ids.len()), (8, 1000));
    for (name, groups) in theirs {
        let granularity: Granularity = name.parse().unwrap();
        assert_eq!(granularity.to_string(), name);
        let ours = hierarchy.superclasses(granularity).unwrap();
        let of = ours.of(&ids).unwrap();
        let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (class, superclass) in of.iter().enumerate() {
            if let Some(place) = *superclass {
                found
                    .entry(ours.list()[place].id.clone())
                    .or_default()
                    .push(class);
            }
        }
        assert_eq!(found, groups, "{name}");
        // The names of the selections say how many superclasses they have.
        let count = name.trim_start_matches(char::is_alphabetic);
        if count != name {
            assert_eq!(ours.list().len().to_string(), count);
        }
    }
}

#[test]
fn superclasses_have_names() {
    let hierarchy = imagenet();
    let names = |granularity| -> Vec<String> {
        let superclasses = hierarchy.superclasses(granularity).unwrap();
        superclasses
            .list()
            .iter()
            .map(|one| one.name.clone())
            .collect()
    };
    assert_eq!(names(Granularity::Level(0)), ["entity"]);
    assert_eq!(
        names(Granularity::Level(1)),
        ["living thing, animate thing", "non-living thing"]
    );
    assert!(names(Granularity::Entity13).contains(&"bird".to_string()));
    // A class is a superclass of its own where it lies at that depth.
    assert!(names(Granularity::Level(8)).contains(&"triceratops".to_string()));
}

#[test]
fn samples_without_superclass_are_left_out() {
    let (hierarchy, ids) = (imagenet(), class_ids());
    let superclasses = hierarchy.superclasses(Granularity::Level(1)).unwrap();
    let of = superclasses.of(&ids).unwrap();
    let without = of.iter().position(Option::is_none).unwrap();
    // A fish, and the first class that is not alive.
    let living = 0;
    let other = of
        .iter()
        .position(|found| found.is_some() && *found != of[living])
        .unwrap();
    // Class 1 is a fish too: right as a living thing.
    let targets = [living, living, 1, other, without, without];
    let predictions = [5, 5, 5, 6, 5, 6];
    let kept = Restricted::new(&targets, &predictions, &of);
    assert_eq!(
        (kept.targets.len(), &kept.predictions[..]),
        (4, &[5, 5, 5, 6][..])
    );
    let report =
        ClusterReport::with_superclasses(&kept.targets, &kept.predictions, &kept.map).unwrap();
    assert_eq!((report.acc, report.classes), (1.0, 3));
}

#[test]
fn classes_that_the_hierarchy_lacks_are_named() {
    let hierarchy = imagenet();
    let classes = ["n01440764".to_string(), "tabby".into(), "n99999999".into()];
    let error = hierarchy.check_classes(&classes).unwrap_err().to_string();
    assert!(
        error.contains("lacks 2 of the 3 classes: tabby, n99999999"),
        "{error}"
    );
    // A fish is not in living17.
    let living = hierarchy.superclasses(Granularity::Living17).unwrap();
    let error = living.of(&classes[..1]).unwrap_err().to_string();
    assert!(
        error.contains("none of the classes is in a superclass of living17"),
        "{error}"
    );
    let error = hierarchy
        .superclasses(Granularity::Level(9))
        .unwrap_err()
        .to_string();
    assert!(error.contains("levels are 0 to 8"), "{error}");
    assert!(
        "entity14"
            .parse::<Granularity>()
            .unwrap_err()
            .contains("entity13")
    );
}
