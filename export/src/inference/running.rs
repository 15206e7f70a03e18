//! Prepared images through the sessions: shared out, cut into batches, filled up.

use super::Classifier;
use super::borders::Output;
use super::outputs::Outputs;
use super::pixels::Part;
use crate::{Error, Result};

/// Numbers that the values of a run may have, if it can be had with fewer images: 1 GiB of `f32`.
const MAX_NUMBERS: usize = 1 << 28;

impl Classifier {
    /// Images per run of the engine.
    pub(super) fn batch(&self) -> usize {
        if let Some(fixed) = self.opened.borders.batch {
            return fixed;
        }
        let best = self.opened.sessions.batch(self.input_side());
        // A network of large values gets fewer images.
        let numbers = self.opened.numbers.unwrap_or(1).max(1);
        best.min(MAX_NUMBERS / numbers).max(1)
    }

    pub(super) fn run_part(&self, images: &Part<'_>) -> Result<Outputs> {
        let parallel = self.opened.sessions.parallel();
        let share = images.count.div_ceil(parallel).max(1);
        let mut shares = images.chunks(share);
        let first = shares.next();
        let rest: Vec<Part<'_>> = shares.collect();
        match first {
            None => Ok(Outputs::empty(&self.opened.borders)),
            Some(all) if rest.is_empty() => self.run_share(all),
            Some(first) => {
                let mut outputs = Outputs::empty(&self.opened.borders);
                for part in self.run_side_by_side(first, &rest)? {
                    outputs.extend(part);
                }
                Ok(outputs)
            }
        }
    }

    /// Runs `first` on this thread and the others on one each.
    fn run_side_by_side(&self, first: Part<'_>, rest: &[Part<'_>]) -> Result<Vec<Outputs>> {
        std::thread::scope(|scope| {
            let workers: Vec<_> = rest
                .iter()
                .map(|&share| scope.spawn(move || self.run_share(share)))
                .collect();
            let first = self.run_share(first);
            let others = workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|_| Err(self.nothing_came())));
            std::iter::once(first)
                .chain(others.collect::<Vec<_>>())
                .collect()
        })
    }

    /// Runs images one batch after the other, on one session at a time.
    pub(super) fn run_share(&self, images: Part<'_>) -> Result<Outputs> {
        let borders = &self.opened.borders;
        let mut outputs = Outputs::empty(borders);
        for part in images.chunks(self.batch()) {
            match borders.batch {
                Some(fixed) if part.count < fixed => {
                    let padded = part.padded(fixed);
                    self.run_batch(&padded.part(), part.count, &mut outputs)?;
                }
                _ => self.run_batch(&part, part.count, &mut outputs)?,
            }
        }
        Ok(outputs)
    }

    /// Runs one batch, of which the first `wanted` images count.
    fn run_batch(&self, images: &Part<'_>, wanted: usize, outputs: &mut Outputs) -> Result<()> {
        let sessions = &self.opened.sessions;
        let failed = |reason: String| sessions.failed("give the outputs", reason);
        sessions.run(images, |found| {
            outputs.append(wanted, &self.opened.borders, |output: &Output| {
                let Output { name, width } = output;
                let (shape, values) = found.get(name).map_err(failed)?;
                let expected = [images.count, *width];
                if shape != expected {
                    return Err(failed(format!(
                        "`{name}` has shape {shape:?}, expected {expected:?}"
                    )));
                }
                Ok(&values[..wanted * width])
            })
        })
    }

    /// Refuses what is said of image `index` of `outputs` where it is not finite: the others that went through the network
    /// with it are as good as they are. The error calls it `image`, if that says anything to the caller.
    pub(super) fn finite(
        &self,
        outputs: &Outputs,
        index: usize,
        image: Option<usize>,
    ) -> Result<()> {
        let Some(Output { name, .. }) = outputs.not_finite(&self.opened.borders, index) else {
            return Ok(());
        };
        Err(Error::NotFinite {
            engine: self.engine().to_string(),
            output: name.clone(),
            image,
        })
    }

    fn nothing_came(&self) -> Error {
        self.opened
            .sessions
            .failed("run the network", "it stopped without an answer")
    }
}
