//! Matrix products of slices.

use std::ops::Range;

/// A matrix in a slice: the element at `(row, column)` is `data[row * steps[0] + column * steps[1]]`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    shape: [usize; 2],
    steps: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// A matrix row after row.
    pub(super) fn new(data: &'a [f32], shape: [usize; 2]) -> Self {
        Self::spaced(data, shape, shape[1])
    }

    /// A matrix whose rows begin `step` elements apart.
    pub(super) fn spaced(data: &'a [f32], shape: [usize; 2], step: usize) -> Self {
        Self {
            data,
            shape,
            steps: [step, 1],
        }
    }

    /// Rows as columns.
    pub(super) fn transposed(self) -> Self {
        let ([rows, columns], [down, right]) = (self.shape, self.steps);
        Self {
            data: self.data,
            shape: [columns, rows],
            steps: [right, down],
        }
    }

    /// Some columns.
    pub(super) fn columns(self, range: Range<usize>) -> Self {
        assert!(range.end <= self.shape[1]);
        Self {
            data: &self.data[(range.start * self.steps[1]).min(self.data.len())..],
            shape: [self.shape[0], range.len()],
            steps: self.steps,
        }
    }

    fn ends_within(&self) -> bool {
        ends_within(self.shape, self.steps, self.data.len())
    }
}

/// Whether the last element of a matrix is one of `length`.
fn ends_within([rows, columns]: [usize; 2], steps: [usize; 2], length: usize) -> bool {
    rows == 0 || columns == 0 || (rows - 1) * steps[0] + (columns - 1) * steps[1] < length
}

/// `out = left right`, or `out += left right`. The rows of `out` begin `step` elements apart. On the calling
/// thread alone: threads share out the products.
#[allow(unsafe_code, reason = "gemm takes pointers")]
pub(super) fn product(
    out: &mut [f32],
    step: usize,
    left: Matrix<'_>,
    right: Matrix<'_>,
    accumulate: bool,
) {
    let ([rows, depth], [right_rows, columns]) = (left.shape, right.shape);
    assert!(depth == right_rows && left.ends_within() && right.ends_within());
    assert!(columns <= step && ends_within([rows, columns], [step, 1], out.len()));
    let stride = |step: usize| step as isize;
    // SAFETY: all three matrices lie within their slices, as asserted above; rows of `out` do not overlap each
    // other, and `out`, borrowed mutably, overlaps neither factor.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            out.as_mut_ptr(),
            1,
            stride(step),
            accumulate,
            left.data.as_ptr(),
            stride(left.steps[1]),
            stride(left.steps[0]),
            right.data.as_ptr(),
            stride(right.steps[1]),
            stride(right.steps[0]),
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
