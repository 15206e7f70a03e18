//! Images kept in memory while there is room.

use crate::Result;
use crate::pixels::Rgb8;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// A place for each image of a source, and a budget of bytes for all.
pub(super) struct Cache {
    images: Vec<OnceLock<Arc<Rgb8>>>,
    room: AtomicUsize,
}

impl Cache {
    /// For `count` images, of which as many are kept as fit into `bytes`.
    pub(super) fn new(count: usize, bytes: usize) -> Self {
        Self {
            images: (0..count).map(|_| OnceLock::new()).collect(),
            room: AtomicUsize::new(bytes),
        }
    }

    /// Image `index`: the one kept, or what `make` makes.
    ///
    /// # Errors
    /// Those of `make`; nothing is kept then.
    pub(super) fn get(
        &self,
        index: usize,
        make: impl FnOnce() -> Result<Rgb8>,
    ) -> Result<Arc<Rgb8>> {
        let slot = &self.images[index];
        if let Some(image) = slot.get() {
            return Ok(Arc::clone(image));
        }
        let image = Arc::new(make()?);
        let bytes = image.data().len();
        let take = |room: usize| room.checked_sub(bytes);
        let taken = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if taken.is_ok() && slot.set(Arc::clone(&image)).is_err() {
            // Another thread was faster; its copy stays, and this one's room is free again.
            self.room.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_made_once_while_there_is_room() {
        let cache = Cache::new(3, 7);
        let made = AtomicUsize::new(0);
        let get = |index| {
            let image = cache.get(index, || {
                made.fetch_add(1, Ordering::Relaxed);
                Rgb8::new(1, 1, vec![index as u8; 3])
            });
            assert_eq!(image.expect("an image").data(), [index as u8; 3]);
            made.load(Ordering::Relaxed)
        };
        // Two images of three bytes fit into seven.
        assert_eq!(
            [get(0), get(0), get(1), get(1), get(2), get(2)],
            [1, 1, 2, 2, 3, 4]
        );
    }
}
