//! Results on standard output.

use crate::error::{CliError, Result};
use serde::Serialize;
use std::borrow::Cow;
use std::io::{ErrorKind, Write};
use std::path::Path;

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

/// A file's path for a line of text: as it is, or, where it has characters that would do something to the line or the
/// terminal, or bytes that are no characters, in double quotes with escapes. Different paths give different texts.
pub(crate) fn path(path: &Path) -> Cow<'_, str> {
    match path.to_str() {
        Some(text) if !text.starts_with('"') && !text.contains(is_acting) => text.into(),
        _ => quoted(path.as_os_str().as_encoded_bytes()).into(),
    }
}

fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                c if is_acting(c) => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push('"');
    text
}

/// Text for a terminal, which may have come from a file: what would move its cursor or turn its writing round is shown as
/// an escape. Lines stay lines.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    let is_shown = |c: char| !is_acting(c) || c == '\n' || c == '\t';
    if text.chars().all(is_shown) {
        return text.into();
    }
    let mut escaped = String::new();
    for c in text.chars() {
        if is_shown(c) {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_default());
        }
    }
    escaped.into()
}

/// Whether a terminal does something else with it than show it: control characters, separators of lines, and Unicode's
/// embeddings, overrides and isolates of the direction of writing.
fn is_acting(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The bytes of a path, percent-encoded as in an address; none of a path that is text.
pub(crate) fn percent_encoded(path: &Path) -> Option<String> {
    if path.to_str().is_some() {
        return None;
    }
    let mut text = String::new();
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(byte));
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_fields_are_quoted_where_needed() {
        assert_eq!(csv_field("a b.png"), "a b.png");
        assert_eq!(csv_field("a,\"b\".png"), "\"a,\"\"b\"\".png\"");
    }

    #[test]
    fn names_do_nothing_to_a_terminal_and_stay_different() {
        for (name, expected) in [
            ("a b\\ö.png", "a b\\ö.png"),
            ("a\tb.png", r#""a\tb.png""#),
            (
                "a\\\n\u{1b}[2J\u{202e}\".png",
                r#""a\\\n\u{1b}[2J\u{202e}\".png""#,
            ),
            ("\"a\"", r#""\"a\"""#),
        ] {
            assert_eq!(path(Path::new(name)), expected);
        }
        assert_eq!(shown("a\n  - b\u{7}\u{1b}"), "a\n  - b\\u{7}\\u{1b}");
        assert!(matches!(shown("plain\ttext"), Cow::Borrowed(_)));
        assert_eq!(percent_encoded(Path::new("a b")), None);
    }

    #[test]
    #[cfg(unix)]
    fn names_that_are_no_text_stay_different() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let of = |name: &'static [u8]| Path::new(OsStr::from_bytes(name));
        assert_eq!(path(of(b"a/\xff.jpg")), r#""a/\xff.jpg""#);
        assert_eq!(path(of(b"a/\xfe.jpg")), r#""a/\xfe.jpg""#);
        let encoded = percent_encoded(of(b"a b/%\xff.jpg"));
        assert_eq!(encoded.as_deref(), Some("a%20b/%25%FF.jpg"));
    }
}
