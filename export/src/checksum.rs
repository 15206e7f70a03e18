//! What ties weights to the model that they lie beside: ONNX's `checksum` of an external file, SHA-1 of all its bytes.
//!
//! It finds other weights of the same sizes, a copy that was damaged, a file that was replaced. Against somebody who
//! can write both files nothing in them can help.

use sha1::{Digest, Sha1};

/// SHA-1, fed piece by piece.
#[derive(Default)]
pub(crate) struct Checksum(Sha1);

impl Checksum {
    /// Takes the next bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// 40 hexadecimal digits, in small letters.
    pub(crate) fn text(self) -> String {
        use std::fmt::Write;
        let mut text = String::with_capacity(40);
        for byte in self.0.finalize() {
            // A string takes whatever is written to it.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Checksum;

    /// The example of FIPS 180.
    #[test]
    fn it_is_sha_1() {
        let mut sum = Checksum::default();
        sum.add(b"a");
        sum.add(b"bc");
        assert_eq!(sum.text(), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }
}
