//! Many images, one after the other: decoding ahead, running batches, answering in order.
//!
//! ```text
//! pictures -> decoders (threads: read, decode, resize, normalise) -> runners (threads: batches) -> iterator
//! ```
//!
//! Decoders write into the batch itself. There is a runner for each session of the engine, which takes the next batch
//! when it is done with one, and waits for nobody. Batches may be done out of order; the iterator puts them right.
//!
//! A picture is taken from its source only with a permit, and the permit is given back when its answer has
//! been taken. So no more than [`StreamOptions::ahead`] are ever under way, however slow or fast each part is.

mod belt;
mod permits;
mod work;

use super::{Classifier, Decoding, Outputs, Picture, Prediction};
use crate::{Error, Result};
use belt::Belt;
use permits::Permits;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::vec::IntoIter;
use work::Shelf;

/// What pictures may wait in, prepared, unless somebody asks for more.
const WAITING_BYTES: usize = 1 << 30;

/// How a stream works. Later versions may have more fields: write a literal with `..StreamOptions::default()` at its
/// end, or call the methods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamOptions {
    /// Images in the network at a time, over all its runs ([`Options::runs`](super::Options::runs)); 0 is what the
    /// engine likes best. Default 0. A run begins when it is full, so that the same pictures give the same numbers
    /// again; for a source that comes slowly choose 1.
    pub batch: usize,
    /// Pictures under way at most: being decoded, waiting for the network or for the caller; at least
    /// [`StreamOptions::batch`]. 0 is three batches, and at least 8, but no more than one batch where they would wait in
    /// more than 1 GiB. Default 0. An image of 224 waits in 0.6 MiB.
    pub ahead: usize,
    /// Threads that read and decode, beside those that run the network; 0 is as many as
    /// [`Options::threads`](super::Options::threads). Default 0.
    pub decoders: usize,
    /// How files are decoded, if not as the classifier does it ([`Options::decoding`](super::Options::decoding)). Default
    /// none.
    pub decoding: Option<Decoding>,
}

/// Answers in the order of the pictures, each with its picture. A picture that cannot be read, or whose answer is not
/// finite, is an error in its place, and the others go on. Dropped early, it waits for the images and the batches in the making.
pub struct Stream<T, A = Prediction> {
    /// Runs, numbered, as they are done.
    answers: Option<Receiver<Run<T, A>>>,
    /// Those whose turn has not come.
    early: BTreeMap<usize, Vec<Answered<T, A>>>,
    /// The run whose turn comes next.
    next: usize,
    /// What is left of the one before.
    current: IntoIter<Answered<T, A>>,
    permits: Arc<Permits>,
    belt: Arc<Belt<T>>,
    threads: Vec<JoinHandle<()>>,
}

type Answered<T, A> = (T, Result<A>);

/// The answers of a run, with its number.
type Run<T, A> = (usize, Vec<Answered<T, A>>);

/// The answer for one image of what the network gave.
type Reads<A> = fn(&Classifier, &Outputs, usize) -> Result<A>;

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

    /// How files are decoded, whatever the classifier does.
    #[must_use]
    pub fn decoding(mut self, decoding: Decoding) -> Self {
        self.decoding = Some(decoding);
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
        self.begin(classifier, pictures, Classifier::prediction)
    }

    /// Begins to run the network on `pictures`: everything that it says of each, [`Outputs`] of one image. Also for
    /// files that give no classes, but embeddings or features.
    ///
    /// # Errors
    /// [`Error::Engine`] if the system has no thread left.
    pub fn start_outputs<I>(
        &self,
        classifier: &Classifier,
        pictures: I,
    ) -> Result<Stream<I::Item, Outputs>>
    where
        I: IntoIterator<Item: Picture>,
        I::IntoIter: Send + 'static,
    {
        self.begin(classifier, pictures, |classifier, outputs, index| {
            classifier.finite(outputs, index, None)?;
            Ok(outputs.image(index))
        })
    }

    fn begin<I, A>(
        &self,
        classifier: &Classifier,
        pictures: I,
        reads: Reads<A>,
    ) -> Result<Stream<I::Item, A>>
    where
        I: IntoIterator<Item: Picture>,
        I::IntoIter: Send + 'static,
        A: Send + 'static,
    {
        let runners = classifier.runs();
        let batch = match self.batch {
            0 => classifier.best_batch(),
            batch => batch,
        };
        let run = batch.div_ceil(runners);
        let ahead = match self.ahead {
            0 => {
                let image = classifier.preprocess().input_len() * size_of::<f32>();
                (3 * batch).max(8).min(WAITING_BYTES / image).max(batch)
            }
            ahead => ahead.max(batch),
        };
        let decoders = match self.decoders {
            0 => classifier.threads(),
            decoders => decoders,
        };
        let permits = Arc::new(Permits::new(ahead));
        let belt = Arc::new(Belt::new(run, decoders));
        let shelf = Arc::new(Shelf {
            permits: Arc::clone(&permits),
            pictures: Mutex::new(pictures.into_iter().enumerate()),
            decoding: self.decoding.unwrap_or(classifier.opened.decoding),
            classifier: classifier.clone(),
            belt: Arc::clone(&belt),
        });
        let (answered, answers) = channel();
        // Dropped on an error, it stops the threads that there are.
        let mut stream = Stream {
            answers: Some(answers),
            early: BTreeMap::new(),
            next: 0,
            current: Vec::new().into_iter(),
            permits: Arc::clone(&permits),
            belt: Arc::clone(&belt),
            threads: Vec::new(),
        };
        for number in 0..runners {
            let (belt, permits) = (Arc::clone(&belt), Arc::clone(&permits));
            let (classifier, answered) = (classifier.clone(), answered.clone());
            stream.spawn(format!("runner {number}"), move || {
                work::run(&classifier, &belt, &permits, reads, &answered);
            })?;
        }
        for number in 0..decoders {
            let shelf = Arc::clone(&shelf);
            stream.spawn(format!("decoder {number}"), move || shelf.work())?;
        }
        Ok(stream)
    }
}

impl<T, A> Iterator for Stream<T, A> {
    type Item = (T, Result<A>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(answered) = self.current.next() {
                self.permits.give();
                return Some(answered);
            }
            if let Some(run) = self.early.remove(&self.next) {
                self.next += 1;
                self.current = run.into_iter();
                continue;
            }
            match self.answers.as_ref()?.recv() {
                Ok((number, run)) => self.early.insert(number, run),
                Err(_) => {
                    if let Some(panic) = self.stop() {
                        // An end would look as if there were no more pictures.
                        resume_unwind(panic);
                    }
                    return None;
                }
            };
        }
    }
}

impl<T, A> Stream<T, A> {
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
        self.belt.close();
        self.answers = None;
        let panics = self.threads.drain(..).map(|thread| thread.join().err());
        panics.fold(None, Option::or)
    }
}

impl<T, A> Drop for Stream<T, A> {
    fn drop(&mut self) {
        // A panic has been reported by the thread itself.
        self.stop();
    }
}

impl<T, A> std::fmt::Debug for Stream<T, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}
