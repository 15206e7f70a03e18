//! Labels from images: an exported file, opened in whichever engine this machine has.
//!
//! Nothing here depends on burn. A file is read and checked completely (sizes, shapes, operations,
//! metadata) before an engine sees it; see [`Classifier::open`]. For many images there is
//! [`Classifier::stream`].

mod answer;
mod arithmetic;
mod borders;
mod built_in;
mod classifier;
mod cut;
mod engine;
mod evaluation;
mod external;
mod fixed;
mod library;
mod network;
mod opened;
mod options;
mod order;
mod outputs;
mod picture;
mod pixel_shapes;
mod pixels;
mod places;
mod prediction;
mod provider;
mod quantised_shapes;
pub mod raw;
mod running;
mod sessions;
mod settings;
mod shapes;
mod stream;
mod together;
mod token_shapes;
mod tray;
mod wire;

pub use classifier::Classifier;
pub use engine::{Engine, EngineChoice, environment, in_use};
pub use evaluation::BackboneOf;
pub use library::{LIBRARY_VARIABLE, Library, oldest_version, well_known_places};
pub use opened::check_file;
pub use options::Options;
pub use outputs::{HeadLogits, Outputs};
pub use picture::{Decoding, Picture};
pub use prediction::{Candidate, Prediction};
pub use provider::{OpenVinoDevice, Provider};
pub use stream::{Stream, StreamOptions};

/// The crate that binds the engines, for [`environment`]. Not stable: it is a release candidate, and the one that is named
/// here changes in any version of this crate.
pub use ort;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// What an application may move to another thread, or use from several.
    #[test]
    fn threads_may_have_them() {
        fn shared<T: Send + Sync>() {}
        fn moved<T: Send>() {}
        shared::<Classifier>();
        shared::<Options>();
        shared::<StreamOptions>();
        shared::<Prediction>();
        shared::<Outputs>();
        shared::<Engine>();
        shared::<crate::Error>();
        moved::<Stream<PathBuf>>();
        moved::<Stream<Box<dyn Picture>, Outputs>>();
    }
}
