//! What the threads of a stream do: decoders prepare pictures, runners run the network on them.

use super::belt::{Belt, Load};
use super::permits::Permits;
use super::{Answered, Reads, Run};
use crate::inference::picture::caught;
use crate::inference::{Classifier, Decoding, Picture};
use crate::{Error, Result};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

/// What the decoders share.
pub(super) struct Shelf<I: Iterator> {
    pub(super) permits: Arc<Permits>,
    pub(super) pictures: Mutex<std::iter::Enumerate<I>>,
    pub(super) decoding: Decoding,
    pub(super) classifier: Classifier,
    pub(super) belt: Arc<Belt<I::Item>>,
}

impl<T: Picture, I: Iterator<Item = T>> Shelf<I> {
    /// Prepares pictures until there are no more, or nobody wants them.
    pub(super) fn work(&self) {
        let _leaving = Leaving(&self.belt);
        while let Some((number, picture)) = self.next() {
            let laid = self.lay(number, &picture);
            let input = &self.classifier.opened.input;
            self.belt.put(number, input, picture, laid);
        }
    }

    fn next(&self) -> Option<(usize, T)> {
        if !self.permits.take() {
            return None;
        }
        // A panic of the caller's iterator has ended it: its numbers are no longer to be trusted.
        let next = self.pictures.lock().ok().and_then(|mut all| all.next());
        if next.is_none() {
            // The others need not wait for permits that nobody will give back.
            self.permits.end();
        }
        next
    }

    fn lay(&self, number: usize, picture: &T) -> Result<()> {
        let input = &self.classifier.opened.input;
        caught(picture.name(), || {
            let image = picture.pixels(self.decoding, input.preprocess.resize)?;
            let (tray, place) = self.belt.place(number, input);
            tray.lay(input, &image, place);
            Ok(())
        })
        .map_err(Error::Core)
    }
}

/// Runs the network on what the decoders prepare, until they are done or nobody listens.
pub(super) fn run<T, A>(
    classifier: &Classifier,
    belt: &Belt<T>,
    permits: &Permits,
    reads: Reads<A>,
    answers: &Sender<Run<T, A>>,
) {
    let _ending = Ending { belt, permits };
    while let Some(load) = belt.next() {
        let number = load.number;
        let tray = Arc::clone(&load.tray);
        let answered = answer(classifier, load, reads);
        belt.give_back(tray);
        if answers.send((number, answered)).is_err() {
            return;
        }
    }
}

/// Runs the network on what lies on the tray; an answer for each picture.
fn answer<T, A>(classifier: &Classifier, load: Load<T>, reads: Reads<A>) -> Vec<Answered<T, A>> {
    let is_laid = |(&place, (_, laid)): (&usize, &(T, Result<()>))| laid.is_ok().then_some(place);
    let places: Vec<usize> = load.pictures.iter().filter_map(is_laid).collect();
    let mut answers = Vec::with_capacity(places.len());
    load.tray.run(&classifier.opened.input, &places, |part| {
        match classifier.run_share(*part) {
            Ok(outputs) => {
                answers.extend((0..part.count).map(|index| reads(classifier, &outputs, index)));
            }
            // Each of them has the right to know.
            Err(error) => answers.extend((0..part.count).map(|_| Err(again(&error)))),
        }
    });
    let mut answers = answers.into_iter();
    let pictures = load.pictures.into_values();
    pictures
        .map(|(picture, laid)| {
            // Invariant: there is one answer for each picture that was laid.
            let answer = laid.and_then(|()| answers.next().unwrap_or_else(|| Err(nothing())));
            (picture, answer)
        })
        .collect()
}

/// The same failure for another picture.
fn again(error: &Error) -> Error {
    match error {
        Error::Run {
            engine,
            action,
            reason,
        } => Error::Run {
            engine: engine.clone(),
            action,
            reason: reason.clone(),
        },
        other => Error::Request(other.to_string()),
    }
}

fn nothing() -> Error {
    Error::Request("the network gave no answer for the image".to_owned())
}

/// Says at the end of a decoder, also at an unexpected one, that it brings no more.
struct Leaving<'a, T>(&'a Belt<T>);

impl<T> Drop for Leaving<'_, T> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Sends everybody home when a runner panics: the pictures it had would be waited for.
struct Ending<'a, T> {
    belt: &'a Belt<T>,
    permits: &'a Permits,
}

impl<T> Drop for Ending<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.belt.close();
            self.permits.end();
        }
    }
}
