//! Matrices of bytes with rows and columns exchanged.
//!
//! A filter along rows is slow, for neighbouring results share no vector; on the transposed matrix it
//! works on whole lines at a time. Resizing and blurring turn their pixels for it and back again.

/// Side of the blocks that are transposed at a time: one vector of every instruction set in use.
pub(super) const BLOCK: usize = 16;

type Row = [u8; BLOCK];

/// Writes the first `width` columns of the `height` rows in `from` as the first `height` columns of
/// `width` rows in `to`; a row starts every `from_stride` and `to_stride` bytes.
#[inline(always)]
pub(super) fn transpose(
    from: &[u8],
    from_stride: usize,
    (width, height): (usize, usize),
    to: &mut [u8],
    to_stride: usize,
) {
    for y in (0..height).step_by(BLOCK) {
        for x in (0..width).step_by(BLOCK) {
            let from = &from[y * from_stride + x..];
            let to = &mut to[x * to_stride + y..];
            let (columns, rows) = (BLOCK.min(width - x), BLOCK.min(height - y));
            // The compiler unrolls the first case, where it knows the numbers.
            if (columns, rows) == (BLOCK, BLOCK) {
                transpose_block(from, from_stride, (BLOCK, BLOCK), to, to_stride);
            } else {
                transpose_block(from, from_stride, (columns, rows), to, to_stride);
            }
        }
    }
}

#[inline(always)]
fn transpose_block(
    from: &[u8],
    from_stride: usize,
    (columns, rows): (usize, usize),
    to: &mut [u8],
    to_stride: usize,
) {
    let mut block = [[0; BLOCK]; BLOCK];
    for (k, row) in block.iter_mut().take(rows).enumerate() {
        row[..columns].copy_from_slice(&from[k * from_stride..][..columns]);
    }
    let block = transposed(block);
    for (k, row) in block.iter().take(columns).enumerate() {
        to[k * to_stride..][..rows].copy_from_slice(&row[..rows]);
    }
}

/// Interleaving the upper with the lower half of the rows rotates the eight bits that number a byte
/// (four for its row, four for its column) by one place; four rotations exchange row and column.
#[inline(always)]
fn transposed(mut rows: [Row; BLOCK]) -> [Row; BLOCK] {
    for _ in 0..4 {
        let before = rows;
        let (upper, lower) = before.split_at(BLOCK / 2);
        let pairs = rows.chunks_exact_mut(2);
        for ((pair, &a), &b) in pairs.zip(upper).zip(lower) {
            pair.copy_from_slice(&interleaved(a, b));
        }
    }
    rows
}

/// `a[0], b[0], a[1], b[1], ...`.
#[inline(always)]
fn interleaved(a: Row, b: Row) -> [Row; 2] {
    // Written out, the compiler makes sixteen single bytes of it. Every x86-64 processor has SSE2, so
    // nothing is asked at run time.
    #[cfg(target_arch = "x86_64")]
    if let Some(sse2) = pulp::core_arch::x86::Sse2::try_new() {
        use pulp::bytemuck::cast;
        let (a, b) = (cast(a), cast(b));
        return [
            cast(sse2._mm_unpacklo_epi8(a, b)),
            cast(sse2._mm_unpackhi_epi8(a, b)),
        ];
    }
    interleaved_bytewise(a, b)
}

#[inline(always)]
fn interleaved_bytewise(a: Row, b: Row) -> [Row; 2] {
    let half = |from: usize| std::array::from_fn(|k| [a, b][k % 2][from + k / 2]);
    [half(0), half(BLOCK / 2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_any_size_and_touches_nothing_else() {
        for (width, height) in [(1_usize, 1_usize), (16, 16), (9, 33), (48, 5), (17, 32)] {
            let (from_stride, to_stride) = (width + 3, height + 5);
            let from: Vec<u8> = (0..from_stride * height)
                .map(|i| (i * 7 % 251) as u8)
                .collect();
            let mut to = vec![255; to_stride * width];
            transpose(&from, from_stride, (width, height), &mut to, to_stride);
            for (at, &value) in to.iter().enumerate() {
                let (x, y) = (at / to_stride, at % to_stride);
                let expected = if y < height {
                    from[y * from_stride + x]
                } else {
                    255
                };
                assert_eq!(value, expected, "{width} x {height} at {x}, {y}");
            }
        }
    }

    #[test]
    fn interleaves() {
        let (a, b) = (std::array::from_fn(|k| k as u8), [100; BLOCK]);
        let [low, high] = interleaved(a, b);
        assert_eq!(low[..6], [0, 100, 1, 100, 2, 100]);
        assert_eq!(high[12..], [14, 100, 15, 100]);
        assert_eq!([low, high], interleaved_bytewise(a, b));
    }
}
