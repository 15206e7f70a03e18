use super::*;

fn write(files: [&str; 3]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [CLASSES, EDGES, NAMES].into_iter().zip(files) {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

const TWO: &str = r#"[[0, "cat", "house cat"], [1, "dog", "hound"]]"#;

fn read(edges: &str) -> Result<Hierarchy> {
    Hierarchy::read(write([TWO, edges, "top\teverything\n"]).path())
}

fn refusal(edges: &str) -> String {
    read(edges).expect_err(edges).to_string()
}

#[test]
fn depth_is_the_longest_path_and_dead_ends_do_not_count() {
    let tree = read("top pet\ntop dog\npet dog\npet cat\ntop stone\nother cat2\n").expect("reads");
    assert_eq!(tree.deepest(), 2);
    assert_eq!(tree.depth.get("dog"), Some(&2));
    assert!(!tree.depth.contains_key("stone"));
    assert_eq!(
        (tree.name("top"), tree.name("pet"), tree.name("cat")),
        ("everything", "pet", "house cat")
    );
    assert_eq!(tree.classes_below("top").len(), 2);
}

#[test]
fn cycles_are_shown() {
    let message = refusal("top a\na b\nb c\nc a\nc cat\ntop dog\n");
    assert!(
        message.contains(EDGES) && message.contains("is its own ancestor"),
        "{message}"
    );
    let shown = ["a > b > c > a", "b > c > a > b", "c > a > b > c"];
    assert!(
        shown.iter().any(|cycle| message.contains(cycle)),
        "{message}"
    );
    assert!(refusal("top top\ntop cat\n").contains("top > top"));
}

#[test]
fn a_class_in_two_superclasses_is_named() {
    let tree = read("top a\ntop b\na cat\nb cat\na dog\n").expect("reads");
    let error = tree
        .superclasses(Granularity::Level(1))
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("class cat is in two superclasses of 1, a and b"),
        "{error}"
    );
    let error = tree
        .superclasses(Granularity::Living17)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("levels are 0 to 2"), "{error}");
}

#[test]
fn malformed_files_are_named_with_their_line() {
    assert!(refusal("top cat\nonly-one\n").contains("class_hierarchy.txt: line 2"));
    assert!(refusal("a cat\nb dog\n").contains("several nodes have nothing above them (a, b)"));
    assert!(refusal("a b\n").contains("no class of dataset_class_info.json"));
    let cases = [
        (["{}", "top cat", ""], CLASSES),
        (["[]", "top cat", ""], "no classes"),
        (
            [r#"[[0, "cat", "x"], [1, "cat", "y"]]"#, "top cat", ""],
            "class cat occurs twice",
        ),
        ([TWO, "top cat", "top everything"], "node_names.txt: line 1"),
    ];
    for (files, expected) in cases {
        let error = Hierarchy::read(write(files).path())
            .expect_err(expected)
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = Hierarchy::read(Path::new("/nowhere"))
        .expect_err("absent")
        .to_string();
    assert!(
        error.contains("cannot read /nowhere/dataset_class_info.json"),
        "{error}"
    );
}
