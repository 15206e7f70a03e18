//! What ends a computation in its middle, as errors.
//!
//! burn's operations return no errors: where a device refuses one, for want of memory most often, they panic. Whoever
//! trains or evaluates is told of it as of anything else: [`guarded`].

use crate::{Error, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What devices and allocators say when they have no more memory.
const WANT_OF_MEMORY: [&str; 5] = [
    "not enough memory",
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "outofmemory",
];

/// How much of a message is shown: libraries add the frames of their own stack.
const LONGEST: usize = 600;

/// The result of `work`, or the panic that ended it, as an error. What `work` was changing is not to be used any more.
///
/// # Errors
/// Those of `work`; [`Error::Memory`] if it panicked for want of memory, [`Error::Failed`] if for anything else. (Where the
/// host's own allocator fails, Rust ends the process.)
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = message(&*payload);
        let essence = essence(text);
        Err(if wants_memory(text) {
            Error::Memory(format!("memory has run out: {essence}"))
        } else {
            Error::Failed(format!("a computation failed: {essence}"))
        })
    })
}

/// What a panic said, given its payload.
pub fn message(payload: &dyn Any) -> &str {
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    let text = payload.downcast_ref::<&str>().copied().or_else(owned);
    text.unwrap_or("it did not say why")
}

/// Whether a panic with this message is one for want of memory.
pub fn wants_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    WANT_OF_MEMORY.iter().any(|words| message.contains(words))
}

/// The first line, without what `unwrap` puts around an error.
fn essence(text: &str) -> String {
    let error = text.rsplit_once("`Err` value: ").map(|(_, error)| error);
    let unquoted = error.map(|error| {
        // `Kind("first line\nframes")`
        let inner = error.split_once("(\"").map_or(error, |(_, inner)| inner);
        let inner = inner.strip_suffix("\")").unwrap_or(inner);
        inner.replace("\\n", "\n").replace("\\\"", "\"")
    });
    let text = unquoted.as_deref().unwrap_or(text).trim();
    let first = text.lines().next().unwrap_or_default();
    first.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panics_with(text: &str) -> Error {
        let text = text.to_owned();
        guarded::<()>(|| std::panic::resume_unwind(Box::new(text))).expect_err("a panic")
    }

    #[test]
    fn want_of_memory_is_told_from_the_rest() {
        for (text, expected) in [
            (
                "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 3 GiB\\nException raised from malloc at c10/cuda\\nframe #0: x(\\\"y\\\")\")",
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 3 GiB",
            ),
            (
                "libtorch's convolution: not enough memory: a tensor of 8 bytes was asked for\nException raised from allocate\nframe #0",
                "libtorch's convolution: not enough memory: a tensor of 8 bytes was asked for",
            ),
        ] {
            match panics_with(text) {
                Error::Memory(said) => {
                    assert_eq!(said, format!("memory has run out: {expected}"));
                }
                other => panic!("{other:?}"),
            }
        }
        match panics_with("index out of bounds: the len is 3 but the index is 3\nmore") {
            Error::Failed(said) => assert_eq!(
                said,
                "a computation failed: index out of bounds: the len is 3 but the index is 3"
            ),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_payload_has_a_message_and_results_pass() {
        assert_eq!(message(&"text"), "text");
        assert_eq!(message(&"text".to_owned()), "text");
        assert_eq!(message(&7), "it did not say why");
        assert_eq!(guarded(|| Ok(7)).expect("passes"), 7);
        let error = guarded::<()>(|| Err(Error::Data("no images".into())));
        assert_eq!(error.expect_err("passes").to_string(), "no images");
        let long = panics_with(&"x".repeat(10_000)).to_string();
        assert!(long.len() < 1000, "{}", long.len());
    }
}
