//! What makes a layer's operation beside its operands.

/// The shape of a convolution, the same along height and width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Convolution {
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) groups: usize,
}

/// How a batch normalisation takes its statistics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Normalisation {
    /// From the batch, which counts `momentum` in the new running ones; otherwise from the running ones.
    pub(crate) training: bool,
    pub(crate) momentum: f64,
    pub(crate) eps: f64,
}
