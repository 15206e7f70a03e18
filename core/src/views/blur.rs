//! Gaussian blur as Pillow does it, to the bit: three box filters of fractional width along each axis
//! (Gwosdek et al., "Theoretical Foundations of Gaussian Convolution by Extended Box Filtering", 2011).

use super::planes::Planes;
use super::simd::dispatch;
use super::transpose::transpose;

/// Box filters along each axis.
const PASSES: usize = 3;

/// A box of `2 * radius + 1` whole pixels and a fraction of the next one on either side; the weights have
/// 24 fractional bits.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ExtendedBox {
    radius: usize,
    inner: u32,
    outer: u32,
}

impl ExtendedBox {
    /// The box whose `PASSES`-fold repetition has standard deviation `sigma`.
    fn new(sigma: f32) -> Self {
        let variance = sigma * sigma / PASSES as f32;
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let whole = ((length - 1.0) / 2.0).floor();
        let rest = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance)
            / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
        let half = whole + rest;
        let radius = half as u32;
        let one = 1u32 << 24;
        let inner = (one as f32 / (half * 2.0 + 1.0)) as u32;
        Self {
            radius: radius as usize,
            inner,
            outer: (one - (radius * 2 + 1) * inner) / 2,
        }
    }
}

/// Buffers of [`Planes::blur`], kept between calls.
#[derive(Default)]
pub(crate) struct BlurScratch {
    first: Vec<u8>,
    second: Vec<u8>,
    sums: Vec<u32>,
}

impl Planes {
    /// Blurs with standard deviation `sigma` pixels (Pillow calls it radius); 0 changes nothing.
    pub fn blur(&mut self, sigma: f32) {
        self.blur_with(sigma, &mut BlurScratch::default());
    }

    pub(crate) fn blur_with(&mut self, sigma: f32, scratch: &mut BlurScratch) {
        let (width, height) = (self.width(), self.height());
        let kernel = ExtendedBox::new(sigma);
        if sigma <= 0.0 || self.data().is_empty() {
            return;
        }
        let BlurScratch {
            first,
            second,
            sums,
        } = scratch;
        first.resize(width * height, 0);
        second.resize(width * height, 0);
        sums.resize(width.max(height), 0);
        dispatch(
            #[inline(always)]
            || {
                for plane in self.channels_mut() {
                    // Along rows: on the transposed plane, where neighbours in a row are whole lines apart.
                    transpose(plane, width, (width, height), first, height);
                    pass(kernel, first, second, sums, height);
                    pass(kernel, second, first, sums, height);
                    pass(kernel, first, second, sums, height);
                    transpose(second, height, (height, width), first, width);
                    pass(kernel, first, second, sums, width);
                    pass(kernel, second, first, sums, width);
                    pass(kernel, first, plane, sums, width);
                }
            },
        );
    }
}

/// One box filter across lines of `stride` bytes; lines beyond the edge repeat the edge.
#[inline(always)]
fn pass(kernel: ExtendedBox, from: &[u8], to: &mut [u8], sums: &mut [u32], stride: usize) {
    let ExtendedBox {
        radius,
        inner,
        outer,
    } = kernel;
    let last = (from.len() / stride) as isize - 1;
    let line = |k: isize| &from[k.clamp(0, last) as usize * stride..][..stride];
    let round = |sum: u32| ((sum + (1 << 23)) >> 24) as u8;
    let lines = to.chunks_exact_mut(stride).enumerate();
    if radius == 0 {
        for (k, out) in lines {
            let k = k as isize;
            let (before, here, after) = (line(k - 1), line(k), line(k + 1));
            for (((out, &h), &b), &a) in out.iter_mut().zip(here).zip(before).zip(after) {
                *out = round(u32::from(h) * inner + (u32::from(b) + u32::from(a)) * outer);
            }
        }
        return;
    }
    let reach = radius as isize;
    let sums = &mut sums[..stride];
    sums.fill(0);
    for k in -reach - 1..reach {
        for (sum, &value) in sums.iter_mut().zip(line(k)) {
            *sum += u32::from(value);
        }
    }
    for (k, out) in lines {
        let k = k as isize;
        let (gone, come) = (line(k - reach - 1), line(k + reach));
        let far = line(k + reach + 1);
        let neighbours = gone.iter().zip(come).zip(far);
        for ((out, sum), ((&gone, &come), &far)) in out.iter_mut().zip(&mut *sums).zip(neighbours) {
            *sum = *sum + u32::from(come) - u32::from(gone);
            *out = round(*sum * inner + (u32::from(gone) + u32::from(far)) * outer);
        }
    }
}
