//! How to open a file.

use super::{Decoding, EngineChoice, Provider, ProviderOption};
#[cfg(feature = "onnxruntime")]
use crate::Result;
use selfcls_core::data::MAX_DECODED_BYTES;
use selfcls_core::preprocess::Preprocess;

/// How to open a file; [`Options::default`] suits most.
///
/// Later versions may have more fields: write a literal with `..Options::default()` at its end (which is why it may be
/// written at all), or call the methods.
///
/// ```
/// use selfcls_export::{EngineChoice, Options};
///
/// let options = Options::default().engine(EngineChoice::Tract).threads(1);
/// assert_eq!(options.threads, 1);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The engine. Default [`EngineChoice::Auto`].
    pub engine: EngineChoice,
    /// Threads that compute at a time, the caller's among them; 0 is one per core. Default 0. A call prepares its
    /// images on so many threads and then runs the network on so many; a stream does both at once, and so has twice as
    /// many ([`StreamOptions::decoders`](super::StreamOptions::decoders) says otherwise). Calls from several threads of
    /// the application prepare their images each on their own, and share those of the network. On a GPU the network has
    /// what threads it likes.
    pub threads: usize,
    /// Runs of the network at a time, which share the threads out (of more runs than threads each has one); with ONNX
    /// Runtime each keeps a copy of the weights.
    /// 0 leaves it to [`Options::many`] with ONNX Runtime, which can spread a run over its threads; with tract, which
    /// cannot, it is [`Options::threads`]. Default 0.
    pub runs: usize,
    /// Whether there are many images, of which all are to be done soon, rather than one whose answer is to come
    /// soonest. Then ONNX Runtime makes up to four runs at a time instead of one: a ResNet-18 on one thread takes
    /// 33.5 ms of processor time per image, on two that wait for each other 36. Default false.
    pub many: bool,
    /// Whether ONNX Runtime's threads wait busily for their next part of an image, as it does by itself. Default
    /// false: with two threads, a ResNet-18 takes 37 ms of processor time per image instead of 64, which decoding
    /// and everything else on the machine can use; alone on its machine, it may answer a little sooner with true.
    pub spin: bool,
    /// Execution providers to try in order before the processor, none by default. One that cannot be had is
    /// an error: whoever asks for a GPU does not want to wait for the processor. Numbers of 32 bits stay so, where
    /// the device can: [`Provider`] says where not.
    pub providers: Vec<Provider>,
    /// Settings of the providers by name, none by default. What they mean, and what is no setting, ONNX Runtime says.
    pub provider_options: Vec<ProviderOption>,
    /// Whether providers compute with 16 bits: TensorRT and OpenVINO's GPUs in f16, OpenVINO on processors in bf16. With
    /// instructions for that a processor takes half the time, and probabilities are off by a hundredth (`docs/onnx.md`
    /// has figures). The others cannot be told so, and keep what they have: 32, or the 16 of OpenVINO's neural processors. One
    /// at least must be able to. Default false.
    pub half_precision: bool,
    /// The head that answers, by its index in the trained model. Default: the one the file says.
    pub head: Option<usize>,
    /// How images become the network's input, for files that do not say. Default: only files that do say
    /// are opened.
    pub preprocess: Option<Preprocess>,
    /// How image files are decoded, wherever this classifier is given one. Default [`Decoding::Exact`].
    pub decoding: Decoding,
    /// Largest file to read, in bytes. Default 2 GiB, where protobuf ends.
    pub max_file_bytes: u64,
    /// Most bytes that weights beside the file may have, all together. Default 16 GiB.
    pub max_data_bytes: u64,
    /// Most bytes that an image may have when it is decoded, each pixel counted as three or, where it has more, as
    /// those. Default 512 MiB
    /// ([`MAX_DECODED_BYTES`](selfcls_core::data::MAX_DECODED_BYTES)); lower it where strangers send images, for each
    /// one that is decoded at the same time can take as much, and for a moment up to four times that. It holds for
    /// [`classify_file`](super::Classifier::classify_file) and [`classify_bytes`](super::Classifier::classify_bytes). A
    /// stream's pictures decode themselves, ours within the default, whatever is said here. A file of more than
    /// [`MAX_FILE_BYTES`](selfcls_core::data::MAX_FILE_BYTES) is not read, whatever its image would take.
    pub max_image_bytes: u64,
    /// Most bytes that the values of one run of the network may take, as far as they can be foreseen: in files of this
    /// project. Default 4 GiB; a ResNet-50 takes 17 MiB for each image of 224.
    pub max_run_bytes: u64,
    /// Most multiplications that an image may take, of files of this project; a fixed batch may have 16 images' worth of
    /// them. Default 2^37; a ResNet-50 needs about 2^32 for an image of 224.
    pub max_operations: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: EngineChoice::Auto,
            threads: 0,
            runs: 0,
            many: false,
            spin: false,
            providers: Vec::new(),
            provider_options: Vec::new(),
            half_precision: false,
            head: None,
            preprocess: None,
            decoding: Decoding::Exact,
            max_file_bytes: 1 << 31,
            max_data_bytes: 1 << 34,
            max_image_bytes: MAX_DECODED_BYTES,
            max_run_bytes: 1 << 32,
            max_operations: 1 << 37,
        }
    }
}

impl Options {
    /// With this [`engine`](Options::engine).
    #[must_use]
    pub fn engine(mut self, engine: EngineChoice) -> Self {
        self.engine = engine;
        self
    }

    /// With so many [`threads`](Options::threads).
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// With so many [`runs`](Options::runs) at a time.
    #[must_use]
    pub fn runs(mut self, runs: usize) -> Self {
        self.runs = runs;
        self
    }

    /// For [`many`](Options::many) images.
    #[must_use]
    pub fn many(mut self, many: bool) -> Self {
        self.many = many;
        self
    }

    /// With threads that [`spin`](Options::spin) or not.
    #[must_use]
    pub fn spin(mut self, spin: bool) -> Self {
        self.spin = spin;
        self
    }

    /// With one more of [`providers`](Options::providers).
    #[must_use]
    pub fn provider(mut self, provider: Provider) -> Self {
        self.providers.push(provider);
        self
    }

    /// With one more of [`provider_options`](Options::provider_options).
    #[must_use]
    pub fn provider_option(
        mut self,
        provider: impl Into<String>,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        self.provider_options.push(ProviderOption {
            provider: provider.into(),
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// With providers that compute in [`half_precision`](Options::half_precision) or not.
    #[must_use]
    pub fn half_precision(mut self, half: bool) -> Self {
        self.half_precision = half;
        self
    }

    /// With answers of this [`head`](Options::head).
    #[must_use]
    pub fn head(mut self, index: usize) -> Self {
        self.head = Some(index);
        self
    }

    /// For a file of another program, of which [`preprocess`](Options::preprocess) says what its input is.
    /// The caller vouches for such a file: of its operations only the engine judges.
    #[must_use]
    pub fn preprocessing(mut self, preprocess: Preprocess) -> Self {
        self.preprocess = Some(preprocess);
        self
    }

    /// With image files [decoded](Options::decoding) so.
    #[must_use]
    pub fn decoding(mut self, decoding: Decoding) -> Self {
        self.decoding = decoding;
        self
    }

    /// With files of at most so many bytes.
    #[must_use]
    pub fn max_file_bytes(mut self, bytes: u64) -> Self {
        self.max_file_bytes = bytes;
        self
    }

    /// With images of at most so many bytes when decoded.
    #[must_use]
    pub fn max_image_bytes(mut self, bytes: u64) -> Self {
        self.max_image_bytes = bytes;
        self
    }

    /// With runs whose values take at most so many bytes.
    #[must_use]
    pub fn max_run_bytes(mut self, bytes: u64) -> Self {
        self.max_run_bytes = bytes;
        self
    }

    /// With images that take at most so many multiplications.
    #[must_use]
    pub fn max_operations(mut self, operations: u64) -> Self {
        self.max_operations = operations;
        self
    }

    /// With at most so many bytes of weights beside the file.
    #[must_use]
    pub fn max_data_bytes(mut self, bytes: u64) -> Self {
        self.max_data_bytes = bytes;
        self
    }

    /// The providers as ONNX Runtime takes them, for a session of so many threads.
    #[cfg(feature = "onnxruntime")]
    pub(super) fn dispatches(
        &self,
        threads: usize,
    ) -> Result<Vec<ort::ep::ExecutionProviderDispatch>> {
        let providers = self.providers.iter();
        providers.map(|one| one.dispatch(threads, self)).collect()
    }
}
