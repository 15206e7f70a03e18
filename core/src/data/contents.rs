//! Which images a source holds, told by their names: the contents are read when they are needed, and not before.

use super::Source;
use sha2::{Digest, Sha256};

/// SHA-256 of the names of the images in their order, of their labels and of the classes. The folder that all images
/// share is left out: the same data may lie elsewhere on another machine.
pub(crate) fn digest(source: &dyn Source) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut put = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for class in source.classes() {
        put(class.as_bytes());
    }
    let shared = shared_folder(source);
    for index in 0..source.len() {
        put(&source.name(index).as_bytes()[shared..]);
        let label = source.label(index);
        put(&label.map_or(u64::MAX, |label| label as u64).to_le_bytes());
    }
    hash.finalize().into()
}

/// Bytes of the longest common beginning of all names that ends with a separator.
fn shared_folder(source: &dyn Source) -> usize {
    if source.is_empty() {
        return 0;
    }
    let first = source.name(0);
    let mut shared = first.len();
    for index in 1..source.len() {
        let name = source.name(index);
        let same = first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b);
        shared = shared.min(same.count());
    }
    let beginning = &first.as_bytes()[..shared];
    let separator = beginning
        .iter()
        .rposition(|&byte| byte == b'/' || byte == b'\\');
    separator.map_or(0, |place| place + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;
    use crate::pixels::Rgb8;
    use std::sync::Arc;

    struct Named(Vec<String>, Option<Vec<usize>>, Vec<String>);

    impl Source for Named {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn image(&self, _: usize) -> Result<Arc<Rgb8>> {
            unreachable!("only names are asked for")
        }

        fn label(&self, index: usize) -> Option<usize> {
            self.1.as_ref().map(|labels| labels[index])
        }

        fn classes(&self) -> &[String] {
            &self.2
        }

        fn name(&self, index: usize) -> String {
            self.0[index].clone()
        }
    }

    fn of(names: [&str; 3], labels: Option<[usize; 3]>, classes: &[&str]) -> [u8; 32] {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let labels = labels.map(Vec::from);
        digest(&Named(owned(&names), labels, owned(classes)))
    }

    #[test]
    fn names_order_and_labels_count_and_the_folder_does_not() {
        let names = ["/data/a/1.png", "/data/a/2.png", "/data/b/1.png"];
        let own = of(names, Some([0, 0, 1]), &["a", "b"]);
        let elsewhere = ["d/a/1.png", "d/a/2.png", "d/b/1.png"];
        assert_eq!(of(elsewhere, Some([0, 0, 1]), &["a", "b"]), own);
        let [first, second, third] = names;
        for other in [
            of([second, first, third], Some([0, 0, 1]), &["a", "b"]),
            of(
                [first, "/data/a/3.png", third],
                Some([0, 0, 1]),
                &["a", "b"],
            ),
            of(names, Some([0, 1, 1]), &["a", "b"]),
            of(names, None, &[]),
            of(names, Some([0, 0, 1]), &["b", "a"]),
        ] {
            assert_ne!(other, own);
        }
    }
}
