//! The short form of a list of heads: `10x1k`, `1k+2k+4k+8k`.

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use std::fmt;

/// More classifiers than anybody trains at a time; a bound against `99999999x1k`.
const MAX_HEADS: usize = 10_000;

/// Deserialises the classes of each head from a list of integers or from [`parse`]'s short form.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<usize>, D::Error> {
    struct Heads;
    impl<'de> Visitor<'de> for Heads {
        type Value = Vec<usize>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of integers, or a short form such as \"10x1k\" or \"1k+2k\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            parse(text).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut heads = Vec::new();
            while let Some(classes) = list.next_element()? {
                heads.push(classes);
            }
            Ok(heads)
        }
    }
    from.deserialize_any(Heads)
}

/// The classes of each head: terms joined by `+` (or `,`), each a number of classes, `k` for thousands,
/// after `COUNTx` for several equal heads.
fn parse(text: &str) -> Result<Vec<usize>, String> {
    let mut heads = Vec::new();
    for term in text.split(['+', ',']) {
        let (count, classes) = match term.split_once('x') {
            Some((count, classes)) => (count.trim().parse().ok(), number(classes)),
            None => (Some(1), number(term)),
        };
        let (Some(count), Some(classes)) = (count, classes) else {
            return Err(format!(
                "{:?} is not a number of classes; write a list such as [10, 20], or 10x1k or 1k+2k",
                term.trim()
            ));
        };
        if count > MAX_HEADS - heads.len() {
            return Err(format!("{text:?} means more than {MAX_HEADS} heads"));
        }
        heads.extend(std::iter::repeat_n(classes, count));
    }
    Ok(heads)
}

/// A whole number, perhaps in thousands.
fn number(text: &str) -> Option<usize> {
    let text = text.trim();
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1000),
        None => (text, 1),
    };
    digits
        .replace('_', "")
        .parse::<usize>()
        .ok()?
        .checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        for (text, expected) in [
            ("10", vec![10]),
            ("3x1k", vec![1000; 3]),
            ("1k+2k+4k+8k", vec![1000, 2000, 4000, 8000]),
            ("30x30", vec![30; 30]),
            (" 2x5 + 1_000, 7K ", vec![5, 5, 1000, 7000]),
            ("0x10", vec![]),
        ] {
            assert_eq!(parse(text).expect(text), expected);
        }
        for (text, wrong) in [
            ("", "\"\""),
            ("10x", "\"10x\""),
            ("x10", "\"x10\""),
            ("10,x1", "\"x1\""),
            ("1.5k", "\"1.5k\""),
            ("-3", "\"-3\""),
            ("1k+", "\"\""),
            ("99999999999999999999", "99999999999999999999"),
            ("18446744073709551615k", "18446744073709551615k"),
            ("9999x2+2x2", "10000 heads"),
        ] {
            let message = parse(text).expect_err(text);
            assert!(message.contains(wrong), "{message}");
        }
    }
}
