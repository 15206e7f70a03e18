//! Results on standard output.

use crate::error::{CliError, Result};
use serde::Serialize;
use std::borrow::Cow;
use std::io::{ErrorKind, Write};

/// Prints `value` as JSON on a line of its own.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value)
        .map_err(|error| CliError::failure(format!("cannot write the result as JSON: {error}")))?;
    line.push(b'\n');
    bytes(&line)
}

/// Prints `text` as it is.
pub(crate) fn text(text: &str) -> Result<()> {
    bytes(text.as_bytes())
}

/// Prints `bytes`. A reader that closes the pipe early, such as `head`, has what it wants: no error.
pub(crate) fn bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::failure(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// A CSV field, quoted where RFC 4180 asks for it.
pub(crate) fn csv_field(text: &str) -> Cow<'_, str> {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::csv_field;

    #[test]
    fn csv_fields_are_quoted_where_needed() {
        assert_eq!(csv_field("a b.png"), "a b.png");
        assert_eq!(csv_field("a,\"b\".png"), "\"a,\"\"b\"\".png\"");
    }
}
