//! The weights of a resize along one axis, and the sums they are for.

use crate::config::Interpolation;
use std::ops::Range;

/// Fractional bits of a weight: 8 bits of pixel and a sign leave 22 and one spare of 32.
const PRECISION: u32 = 32 - 8 - 2;

/// Bytes of a line that are summed up at a time: their sums fill a quarter of the registers of AVX2.
pub(super) const LANES: usize = 32;

/// What one axis of a resize needs: which source pixels make each result pixel, with which weights.
#[derive(Debug)]
pub(super) struct Axis {
    /// First source pixel of each result pixel.
    starts: Vec<usize>,
    /// Number of weights of each result pixel.
    counts: Vec<usize>,
    /// `taps` weights for each result pixel.
    weights: Vec<i32>,
    taps: usize,
    /// First source pixel that any result pixel needs.
    first: usize,
}

impl Axis {
    /// The axis that maps `from` source pixels to `to` result pixels, for the result pixels in `window`.
    pub(super) fn new(from: usize, to: usize, window: Range<usize>, filter: Interpolation) -> Self {
        let scale = from as f64 / to as f64;
        // Enlarging interpolates between neighbours; reducing widens the filter to see every pixel.
        let widening = scale.max(1.0);
        let support = radius(filter) * widening;
        let taps = support.ceil() as usize * 2 + 1;
        let mut axis = Self {
            starts: Vec::with_capacity(window.len()),
            counts: Vec::with_capacity(window.len()),
            weights: vec![0; window.len() * taps],
            taps,
            first: 0,
        };
        let mut real = vec![0.0; taps];
        // Pillow multiplies by the reciprocal; a division would round differently now and then.
        let narrowing = widening.recip();
        for (weights, position) in axis.weights.chunks_exact_mut(taps).zip(window) {
            let centre = (position as f64 + 0.5) * scale;
            let start = ((centre - support + 0.5).max(0.0)) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let real = &mut real[..end - start];
            for (k, weight) in real.iter_mut().enumerate() {
                *weight = response(filter, ((start + k) as f64 - centre + 0.5) * narrowing);
            }
            let total: f64 = real.iter().sum();
            for (fixed, weight) in weights.iter_mut().zip(real.iter()) {
                let scaled = weight / total * f64::from(1u32 << PRECISION);
                *fixed = (scaled + 0.5f64.copysign(scaled)) as i32;
            }
            axis.starts.push(start);
            axis.counts.push(end - start);
        }
        axis.first = axis.starts.first().copied().unwrap_or(0);
        axis
    }

    /// Number of result pixels.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The source pixels that any result pixel needs.
    pub(super) fn extent(&self) -> Range<usize> {
        let ends = self.starts.iter().zip(&self.counts).map(|(s, n)| s + n);
        self.first..ends.max().unwrap_or(self.first)
    }

    /// Result line `k`: the weighted sum of lines that begin every `stride` bytes of `source`, the first
    /// of them the first of [`Axis::extent`]. It is summed up in whole [`LANES`], so as many bytes must
    /// follow the beginning of the last of them.
    #[inline(always)]
    pub(super) fn weigh(&self, k: usize, source: &[u8], stride: usize, out: &mut [u8]) {
        let weights = &self.weights[k * self.taps..][..self.counts[k]];
        let source = &source[(self.starts[k] - self.first) * stride..];
        let mut blocks = out.chunks_exact_mut(LANES);
        let mut at = 0;
        for block in &mut blocks {
            block.copy_from_slice(&weighted_sum(weights, &source[at..], stride));
            at += LANES;
        }
        let rest = blocks.into_remainder();
        if !rest.is_empty() {
            let block = weighted_sum(weights, &source[at..], stride);
            rest.copy_from_slice(&block[..rest.len()]);
        }
    }
}

/// The weighted sum of the first bytes of every line, rounded.
#[inline(always)]
fn weighted_sum(weights: &[i32], lines: &[u8], stride: usize) -> [u8; LANES] {
    let mut sums = [1 << (PRECISION - 1); LANES];
    for (k, &weight) in weights.iter().enumerate() {
        let line = &lines[k * stride..][..LANES];
        for (sum, &value) in sums.iter_mut().zip(line) {
            *sum += weight * i32::from(value);
        }
    }
    // Not `sums.map`: its loop is compiled apart, without the instruction set of the rest.
    let mut bytes = [0; LANES];
    for (byte, sum) in bytes.iter_mut().zip(sums) {
        *byte = (sum >> PRECISION).clamp(0, 255) as u8;
    }
    bytes
}

/// Half the width of the filter when it interpolates.
fn radius(filter: Interpolation) -> f64 {
    match filter {
        Interpolation::Bilinear => 1.0,
        Interpolation::Bicubic => 2.0,
    }
}

/// The filter's value at distance `x`: the triangle, or Keys' cubic with a = -0.5.
fn response(filter: Interpolation, x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match filter {
        Interpolation::Bilinear => (1.0 - x).max(0.0),
        Interpolation::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        Interpolation::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        Interpolation::Bicubic => 0.0,
    }
}
