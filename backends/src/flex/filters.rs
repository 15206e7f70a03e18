//! A convolution's weights, and their gradients, in the orders that its products read them in.
//!
//! Weights come as `[groups * outputs, inputs, kernel]`; what is read is of the taps that are `kept` alone.

use rayon::prelude::*;

/// Rows that one task writes: their sources lie side by side.
const BLOCK: usize = 16;

/// The shape of a convolution's weights.
#[derive(Debug, Clone)]
pub(super) struct Filters {
    /// Parts of the channels that do not see each other.
    pub(super) groups: usize,
    /// Input channels of a group.
    pub(super) inputs: usize,
    /// Output channels of a group.
    pub(super) outputs: usize,
    /// Taps of the kernel.
    pub(super) taps: usize,
    /// Those that ever meet an image, ascending.
    pub(super) kept: Vec<usize>,
}

impl Filters {
    /// Values of a group's weights, of the taps that are kept.
    pub(super) fn group(&self) -> usize {
        self.kept.len() * self.inputs * self.outputs
    }

    /// `[groups, outputs, kept, inputs]`.
    pub(super) fn outputs_first(&self, weight: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.groups * self.group()];
        out.par_chunks_mut(self.kept.len() * self.inputs)
            .zip(weight.par_chunks(self.inputs * self.taps))
            .for_each(|(out, weight)| {
                for (out, tap) in out.chunks_exact_mut(self.inputs).zip(&self.kept) {
                    self.of_tap(weight, *tap, out);
                }
            });
        out
    }

    /// `[groups, kept from last to first, outputs, inputs]`.
    pub(super) fn reversed(&self, weight: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.groups * self.group()];
        let count = self.kept.len() * self.outputs;
        let rows = out.chunks_exact_mut(self.inputs).enumerate();
        let mut blocks = blocks(rows, |row| {
            let (group, row) = (row / count, row % count);
            let (tap, output) = (row / self.outputs, row % self.outputs);
            let tap = self.kept[self.kept.len() - 1 - tap];
            (group * self.outputs + output, tap)
        });
        blocks.par_iter_mut().for_each(|rows| {
            for ((filter, tap), row) in rows {
                let length = self.inputs * self.taps;
                self.of_tap(&weight[*filter * length..][..length], *tap, row);
            }
        });
        out
    }

    /// `[groups, kept, inputs, outputs]`.
    pub(super) fn outputs_last(&self, weight: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.groups * self.group()];
        let count = self.kept.len() * self.inputs;
        let rows = out.chunks_exact_mut(self.outputs).enumerate();
        let mut blocks = blocks(rows, |row| {
            let (group, row) = (row / count, row % count);
            let (tap, input) = (row / self.inputs, row % self.inputs);
            (group * self.inputs + input, self.kept[tap])
        });
        blocks.par_iter_mut().for_each(|rows| {
            for output in 0..self.outputs {
                for ((channel, tap), row) in rows.iter_mut() {
                    let (group, input) = (*channel / self.inputs, *channel % self.inputs);
                    let filter = group * self.outputs + output;
                    row[output] = weight[(filter * self.inputs + input) * self.taps + *tap];
                }
            }
        });
        out
    }

    /// From [`outputs_first`](Self::outputs_first)'s order back to that of the weights, with zeros for the taps
    /// that were not kept.
    pub(super) fn restored(&self, gradient: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.groups * self.outputs * self.inputs * self.taps];
        out.par_chunks_mut(self.inputs * self.taps)
            .zip(gradient.par_chunks(self.kept.len() * self.inputs))
            .for_each(|(out, gradient)| {
                for (gradient, tap) in gradient.chunks_exact(self.inputs).zip(&self.kept) {
                    for (taps, value) in out.chunks_exact_mut(self.taps).zip(gradient) {
                        taps[*tap] = *value;
                    }
                }
            });
        out
    }

    /// One tap of a filter `[inputs, taps]`.
    fn of_tap(&self, filter: &[f32], tap: usize, out: &mut [f32]) {
        for (out, taps) in out.iter_mut().zip(filter.chunks_exact(self.taps)) {
            *out = taps[tap];
        }
    }
}

/// A channel, a tap, and the row of weights that belongs to them.
type Row<'a> = ((usize, usize), &'a mut [f32]);

/// Rows whose channels are neighbours, together. `place` tells channel and tap of a row.
fn blocks<'a>(
    rows: impl Iterator<Item = (usize, &'a mut [f32])>,
    place: impl Fn(usize) -> (usize, usize),
) -> Vec<Vec<Row<'a>>> {
    let mut blocks: Vec<Vec<Row<'a>>> = Vec::new();
    for (number, row) in rows {
        let (channel, tap) = place(number);
        let block = channel / BLOCK;
        if blocks.len() <= block {
            blocks.resize_with(block + 1, Vec::new);
        }
        blocks[block].push(((channel, tap), row));
    }
    for block in &mut blocks {
        block.sort_by_key(|(place, _)| *place);
    }
    blocks
}
