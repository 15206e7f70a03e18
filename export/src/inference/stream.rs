//! Many images, one after the other: decoding ahead, running batches, answering in order.
//!
//! ```text
//! pictures -> decoders (threads: read, decode, resize, normalise) -> runner (thread: batches) -> iterator
//! ```
//!
//! A picture is taken from its source only with a permit, and the permit is given back when its answer has
//! been taken. So no more than [`StreamOptions::ahead`] are ever under way, however slow or fast each part is.

use super::pixels::Stack;
use super::{Classifier, Decoding, Picture, Prediction};
use crate::{Error, Result};
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What pictures may wait in, prepared, unless somebody asks for more.
const WAITING_BYTES: usize = 1 << 30;

/// How a stream works.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamOptions {
    /// Images per run of the network; 0 is what the engine likes best. Default 0. A batch is run when it is
    /// full, so that the same pictures give the same numbers again; for a source that comes slowly choose 1.
    pub batch: usize,
    /// Pictures under way at most: being decoded, waiting for the network or for the caller; at least
    /// [`StreamOptions::batch`]. 0 is three batches, and at least 8, but no more than one batch where they would wait in
    /// more than 1 GiB. Default 0. An image of 224 waits in 0.6 MiB.
    pub ahead: usize,
    /// Threads that read and decode; 0 is one per core. Default 0.
    pub decoders: usize,
    /// How files are decoded. Default [`Decoding::Exact`].
    pub decoding: Decoding,
}

/// Answers in the order of the pictures, each with its picture. A picture that cannot be read is an error in
/// its place, and the others go on. Dropped early, it waits for the images and the batch in the making.
pub struct Stream<T> {
    answers: Option<Receiver<Answered<T>>>,
    permits: Arc<Permits>,
    threads: Vec<JoinHandle<()>>,
}

type Answered<T> = (T, Result<Prediction>);

/// A picture on its way to the network, with its number.
type Prepared<T> = (usize, T, Result<Stack>);

impl StreamOptions {
    /// Images per run of the network.
    #[must_use]
    pub fn batch(mut self, images: usize) -> Self {
        self.batch = images;
        self
    }

    /// Pictures under way at most.
    #[must_use]
    pub fn ahead(mut self, pictures: usize) -> Self {
        self.ahead = pictures;
        self
    }

    /// Threads that read and decode.
    #[must_use]
    pub fn decoders(mut self, threads: usize) -> Self {
        self.decoders = threads;
        self
    }

    /// How files are decoded.
    #[must_use]
    pub fn decoding(mut self, decoding: Decoding) -> Self {
        self.decoding = decoding;
        self
    }

    /// Begins to classify `pictures`.
    ///
    /// # Errors
    /// [`Error::Request`] if the file gives no classes, [`Error::Engine`] if the system has no thread left.
    pub fn start<I>(&self, classifier: &Classifier, pictures: I) -> Result<Stream<I::Item>>
    where
        I: IntoIterator<Item: Picture>,
        I::IntoIter: Send + 'static,
    {
        if classifier.head().is_none() {
            return Err(classifier.no_classes());
        }
        let batch = match self.batch {
            0 => classifier.best_batch(),
            batch => batch,
        };
        let ahead = match self.ahead {
            0 => {
                let image = classifier.preprocess().input_len() * size_of::<f32>();
                (3 * batch).max(8).min(WAITING_BYTES / image).max(batch)
            }
            ahead => ahead.max(batch),
        };
        let decoders = match self.decoders {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            decoders => decoders,
        };
        let permits = Arc::new(Permits::new(ahead));
        let shelf = Arc::new(Shelf {
            permits: Arc::clone(&permits),
            pictures: Mutex::new(pictures.into_iter().enumerate()),
            decoding: self.decoding,
            classifier: classifier.clone(),
        });
        let (prepared, to_run) = channel();
        let (answered, answers) = channel();
        // Dropped on an error, it stops the threads that there are.
        let mut stream = Stream {
            answers: Some(answers),
            permits,
            threads: Vec::new(),
        };
        let classifier = classifier.clone();
        stream.spawn("runner".to_owned(), move || {
            run(&classifier, batch, &to_run, &answered);
        })?;
        for number in 0..decoders {
            let (shelf, prepared) = (Arc::clone(&shelf), prepared.clone());
            stream.spawn(format!("decoder {number}"), move || shelf.work(&prepared))?;
        }
        Ok(stream)
    }
}

/// How many pictures may still be taken from their source; none any more when it has ended.
struct Permits {
    free: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Permits {
    fn new(count: usize) -> Self {
        Self {
            free: Mutex::new(Some(count)),
            changed: Condvar::new(),
        }
    }

    /// Waits for a permit; false if there will be none.
    fn take(&self) -> bool {
        let mut free = self.free();
        loop {
            match *free {
                None => return false,
                Some(0) => {
                    let waited = self.changed.wait(free);
                    free = waited.unwrap_or_else(PoisonError::into_inner);
                }
                Some(count) => {
                    *free = Some(count - 1);
                    return true;
                }
            }
        }
    }

    fn give(&self) {
        if let Some(count) = &mut *self.free() {
            *count += 1;
        }
        self.changed.notify_one();
    }

    fn end(&self) {
        *self.free() = None;
        self.changed.notify_all();
    }

    fn free(&self) -> MutexGuard<'_, Option<usize>> {
        // A number is never half changed.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the decoders share.
struct Shelf<I> {
    permits: Arc<Permits>,
    pictures: Mutex<std::iter::Enumerate<I>>,
    decoding: Decoding,
    classifier: Classifier,
}

impl<T: Picture, I: Iterator<Item = T>> Shelf<I> {
    /// Prepares pictures until there are no more, or nobody wants them.
    fn work(&self, prepared: &Sender<Prepared<T>>) {
        while let Some((number, picture)) = self.next() {
            let stack = self.prepare(&picture);
            if prepared.send((number, picture, stack)).is_err() {
                return;
            }
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

    fn prepare(&self, picture: &T) -> Result<Stack> {
        let wanted = self.classifier.preprocess().resize;
        let prepare = AssertUnwindSafe(|| -> Result<Stack> {
            let image = picture.pixels(self.decoding, wanted)?;
            Ok(self.classifier.stack(&image))
        });
        catch_unwind(prepare).unwrap_or_else(|_| {
            Err(Error::Core(selfcls_core::Error::Data(
                "the image's decoder has failed".to_owned(),
            )))
        })
    }
}

/// Runs batches of what the decoders prepare, in order, until they are done or nobody listens.
fn run<T>(
    classifier: &Classifier,
    batch: usize,
    prepared: &Receiver<Prepared<T>>,
    answers: &Sender<Answered<T>>,
) {
    // Decoders finish out of order.
    let mut early = BTreeMap::new();
    let mut next = 0;
    let mut waiting = Vec::with_capacity(batch);
    for (number, picture, stack) in prepared {
        early.insert(number, (picture, stack));
        while let Some(prepared) = early.remove(&next) {
            next += 1;
            waiting.push(prepared);
            // Also those that could not be read count: they hold permits.
            if waiting.len() == batch && !answer(classifier, std::mem::take(&mut waiting), answers)
            {
                return;
            }
        }
    }
    answer(classifier, waiting, answers);
}

/// Runs the network on what was prepared and sends everything on; false if nobody listens.
fn answer<T>(
    classifier: &Classifier,
    waiting: Vec<(T, Result<Stack>)>,
    answers: &Sender<Answered<T>>,
) -> bool {
    let mut stacks = Vec::new();
    let mut pictures = Vec::with_capacity(waiting.len());
    for (picture, stack) in waiting {
        pictures.push((picture, stack.map(|stack| stacks.push(stack))));
    }
    let mut predictions = Vec::with_capacity(stacks.len());
    for stack in Stack::joined(stacks) {
        let count = stack.part().count;
        match classifier.run_stack(&stack) {
            Ok(outputs) => {
                predictions.extend((0..count).map(|index| classifier.prediction(&outputs, index)));
            }
            // Each of them has the right to know.
            Err(error) => predictions.extend((0..count).map(|_| Err(again(&error)))),
        }
    }
    let mut predictions = predictions.into_iter();
    pictures.into_iter().all(|(picture, prepared)| {
        let answer = prepared.and_then(|()| {
            // Invariant: there is one prediction for each stack.
            predictions.next().unwrap_or_else(|| Err(nothing()))
        });
        answers.send((picture, answer)).is_ok()
    })
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

impl<T> Iterator for Stream<T> {
    type Item = (T, Result<Prediction>);

    fn next(&mut self) -> Option<Self::Item> {
        let answered = self.answers.as_ref()?.recv().ok();
        if answered.is_some() {
            self.permits.give();
        } else if let Some(panic) = self.stop() {
            // An end would look as if there were no more pictures.
            resume_unwind(panic);
        }
        answered
    }
}

impl<T> Stream<T> {
    fn spawn(&mut self, name: String, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name(name).spawn(work);
        self.threads.push(thread.map_err(|error| {
            Error::Engine(format!("cannot start a thread for the images: {error}"))
        })?);
        Ok(())
    }

    /// Waits for the threads; what one of them panicked with.
    fn stop(&mut self) -> Option<Box<dyn Any + Send>> {
        // Without these nobody waits for anybody.
        self.permits.end();
        self.answers = None;
        let panics = self.threads.drain(..).map(|thread| thread.join().err());
        panics.fold(None, Option::or)
    }
}

impl<T> Drop for Stream<T> {
    fn drop(&mut self) {
        // A panic has been reported by the thread itself.
        self.stop();
    }
}

impl<T> std::fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}
