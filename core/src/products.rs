//! Dot products of all pairs of rows, the arithmetic behind nearest neighbours, k-means and silhouettes.

/// `out[i, j] = sum_d left[i, d] * right[j, d]`; `left` is `[m, dim]`, `right` `[n, dim]`, `out` `[m, n]`.
#[allow(unsafe_code)]
pub(crate) fn dot_products(left: &[f32], right: &[f32], dim: usize, out: &mut [f32]) {
    let (m, n) = (left.len() / dim, right.len() / dim);
    assert!(left.len() == m * dim && right.len() == n * dim && out.len() == m * n);
    let stride = |length: usize| length as isize;
    // SAFETY: the strides describe row-major matrices of the lengths asserted above, and `out` overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            dim,
            out.as_mut_ptr(),
            1,
            stride(n),
            false,
            left.as_ptr(),
            1,
            stride(dim),
            right.as_ptr(),
            stride(dim),
            1,
            0.0f32,
            1.0f32,
            false,
            false,
            false,
            // Threads share out the tiles; one more level would only contend.
            gemm::Parallelism::None,
        );
    }
}
