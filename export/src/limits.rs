//! How large a run may be, for both halves of the crate: the writer writes no file that the reader refuses.

/// Most numbers in the input of one run, all images of a fixed batch together: 1 GiB of `f32`.
pub(crate) const MAX_INPUT: usize = 1 << 28;

/// Numbers in the input of `batch` images of `side` pixels, if there may be so many.
pub(crate) fn input_numbers(batch: usize, side: usize) -> Option<usize> {
    let image = side.checked_mul(side)?.checked_mul(3)?;
    image.checked_mul(batch).filter(|&n| n <= MAX_INPUT)
}
