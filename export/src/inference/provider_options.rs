//! What execution providers are told: by us, by the options that all of them share, and by name.

use super::{OpenVinoDevice, Options, Provider};
use crate::{Error, Result};
use std::str::FromStr;

/// OpenVINO's own configuration that lets a processor compute with 16 bits; its option `precision` does not.
#[cfg(feature = "onnxruntime")]
const HALF_ON_PROCESSOR: (&str, &str) = (
    "load_config",
    r#"{"CPU":{"INFERENCE_PRECISION_HINT":"bf16"}}"#,
);

/// A setting of an execution provider, as ONNX Runtime's documentation calls it, e.g. `trt_engine_cache_enable` of
/// TensorRT. Written `PROVIDER:KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderOption {
    /// The provider's name: `cuda`, `tensorrt`, `coreml` or `openvino`.
    pub provider: String,
    /// The setting.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl FromStr for ProviderOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(provider, setting)| {
            let (key, value) = setting.split_once('=')?;
            Some((provider, key, value))
        });
        match parts {
            Some((provider, key, value)) if !provider.is_empty() && !key.is_empty() => Ok(Self {
                provider: provider.to_owned(),
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            _ => {
                Err("write PROVIDER:KEY=VALUE, e.g. tensorrt:trt_engine_cache_enable=1".to_owned())
            }
        }
    }
}

impl Options {
    /// Refuses what no provider that was asked for can be told.
    pub(super) fn check_provider_options(&self) -> Result<()> {
        for ProviderOption {
            provider,
            key,
            value,
        } in &self.provider_options
        {
            let refused = |reason: &str| {
                let option = format!("the provider option {provider}:{key}");
                Err(Error::Request(format!("{option} {reason}")))
            };
            let mut providers = self.providers.iter();
            if !providers.any(|asked| asked.feature() == provider) {
                return refused("is for a provider that was not asked for");
            }
            if provider == "directml" {
                return refused("cannot be given: DirectML takes none");
            }
            if [key, value].iter().any(|text| text.contains('\0')) {
                return refused("has a zero byte");
            }
        }
        if self.half_precision && self.providers.is_empty() {
            return Err(Error::Request(
                "half precision was asked for, and only execution providers have it: name one (TensorRT, OpenVINO)".to_owned(),
            ));
        }
        // Of several each runs what the one before it cannot: one that can be told will do.
        if self.half_precision && !self.providers.iter().any(|one| one.has_half_precision()) {
            let providers = self.providers.iter().map(Provider::to_string);
            return Err(Error::Request(format!(
                "half precision was asked for, and {} cannot be told so: leave it out, or give the provider's own options by name",
                providers.collect::<Vec<_>>().join(" and ")
            )));
        }
        Ok(())
    }

    /// What `provider` is told, for a session of so many threads. What is given by name comes last, and counts.
    #[cfg(feature = "onnxruntime")]
    pub(super) fn told(&self, provider: Provider, threads: usize) -> Vec<(String, String)> {
        let half = self.half_precision;
        let own = match provider {
            Provider::Cuda(device) => vec![
                ("device_id", device.to_string()),
                ("use_tf32", "0".to_owned()),
            ],
            Provider::TensorRt(device) => vec![
                ("device_id", device.to_string()),
                ("trt_fp16_enable", u8::from(half).to_string()),
            ],
            Provider::OpenVino(device) => openvino(device, threads, half),
            Provider::CoreMl | Provider::DirectMl(_) => Vec::new(),
        };
        let own = own.into_iter().map(|(key, value)| (key.to_owned(), value));
        let by_name = self.provider_options.iter();
        let by_name = by_name.filter(|option| option.provider == provider.feature());
        own.chain(by_name.map(|o| (o.key.clone(), o.value.clone())))
            .collect()
    }
}

#[cfg(feature = "onnxruntime")]
fn openvino(device: OpenVinoDevice, threads: usize, half: bool) -> Vec<(&'static str, String)> {
    let mut told = vec![
        ("device_type", device.name()),
        ("num_of_threads", threads.to_string()),
        // A session has one run at a time.
        ("num_streams", "1".to_owned()),
    ];
    // By itself OpenVINO takes 16 bits where a GPU is faster with them.
    match (device, half) {
        (OpenVinoDevice::Npu, _) => {}
        (OpenVinoDevice::Gpu(_), true) => told.push(("precision", "FP16".to_owned())),
        (_, false) => told.push(("precision", "FP32".to_owned())),
        (OpenVinoDevice::Cpu, true) => {
            let (key, value) = HALF_ON_PROCESSOR;
            told.push((key, value.to_owned()));
        }
    }
    told
}

impl Provider {
    /// Whether [`Options::half_precision`] is anything to it. OpenVINO's neural processors have 16 bits always.
    fn has_half_precision(self) -> bool {
        match self {
            Self::TensorRt(_) => true,
            Self::OpenVino(device) => device != OpenVinoDevice::Npu,
            Self::Cuda(_) | Self::CoreMl | Self::DirectMl(_) => false,
        }
    }

    /// Its name, and whether it has been told to compute with 16 bits where `half` was asked for.
    pub(super) fn in_words(self, half: bool) -> String {
        match half && self.has_half_precision() {
            true => format!("{self} in half precision"),
            false => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let option: ProviderOption = "openvino:load_config={\"CPU\":{\"A\":\"b=c\"}}"
            .parse()
            .expect("an option");
        assert_eq!(option.provider, "openvino");
        assert_eq!(option.key, "load_config");
        assert_eq!(option.value, "{\"CPU\":{\"A\":\"b=c\"}}");
        for wrong in [
            "", "cuda", "cuda:", "cuda:key", "cuda:=1", ":key=1", "key=1",
        ] {
            assert!(wrong.parse::<ProviderOption>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_no_provider_can_be_told_is_refused() {
        let message = |options: &Options| {
            let checked = options.check_provider_options();
            checked.expect_err("refused").to_string()
        };
        let options = Options::default().half_precision(true);
        assert!(message(&options).contains("name one"));
        let cuda = options.clone().provider(Provider::Cuda(0));
        assert!(message(&cuda).contains("CUDA device 0 cannot"));
        let npu = options
            .clone()
            .provider(Provider::OpenVino(OpenVinoDevice::Npu));
        assert!(message(&npu).contains("cannot be told so"));
        let neither = cuda.clone().provider(Provider::DirectMl(1));
        assert!(message(&neither).contains("CUDA device 0 and DirectML device 1 cannot"));
        // As the documentation has it, and the other way round.
        let both = options.provider(Provider::TensorRt(0));
        let both = both.provider(Provider::Cuda(0));
        assert!(both.check_provider_options().is_ok());
        let both = cuda.provider(Provider::TensorRt(0));
        assert!(both.check_provider_options().is_ok());
        let lost = both.provider_option("openvino", "precision", "FP32");
        assert!(message(&lost).contains("openvino:precision is for a provider"));
        let directml = Options::default().provider(Provider::DirectMl(0));
        let told = directml.provider_option("directml", "device_filter", "gpu");
        assert!(message(&told).contains("takes none"));
        let cuda = Options::default().provider(Provider::Cuda(0));
        let zero = cuda.provider_option("cuda", "a\0b", "1");
        assert!(message(&zero).contains("zero byte"));
    }

    #[test]
    fn half_precision_is_said_of_those_that_have_it() {
        for (provider, half, expected) in [
            (Provider::TensorRt(0), true, " in half precision"),
            (Provider::TensorRt(0), false, ""),
            (Provider::Cuda(0), true, ""),
            (
                Provider::OpenVino(OpenVinoDevice::Cpu),
                true,
                " in half precision",
            ),
            (Provider::OpenVino(OpenVinoDevice::Npu), true, ""),
        ] {
            assert_eq!(provider.in_words(half), format!("{provider}{expected}"));
        }
    }

    #[test]
    #[cfg(feature = "onnxruntime")]
    fn providers_are_told_what_was_asked_for() {
        let text = |options: &Options, provider| -> String {
            let told = options.told(provider, 3);
            let told: Vec<String> = told.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
            told.join(" ")
        };
        let openvino = Provider::OpenVino;
        let half = Options::default().half_precision(true);
        for (options, provider, expected) in [
            (
                Options::default(),
                Provider::Cuda(1),
                "device_id=1 use_tf32=0",
            ),
            (
                Options::default(),
                Provider::TensorRt(0),
                "device_id=0 trt_fp16_enable=0",
            ),
            (
                half.clone()
                    .provider_option("tensorrt", "trt_engine_cache_enable", "1")
                    .provider_option("cuda", "use_tf32", "1"),
                Provider::TensorRt(0),
                "device_id=0 trt_fp16_enable=1 trt_engine_cache_enable=1",
            ),
            (
                Options::default().provider_option("openvino", "cache_dir", "a b"),
                openvino(OpenVinoDevice::Cpu),
                "device_type=CPU num_of_threads=3 num_streams=1 precision=FP32 cache_dir=a b",
            ),
            (
                half.clone(),
                openvino(OpenVinoDevice::Cpu),
                "device_type=CPU num_of_threads=3 num_streams=1 load_config={\"CPU\":{\"INFERENCE_PRECISION_HINT\":\"bf16\"}}",
            ),
            (
                half,
                openvino(OpenVinoDevice::Gpu(1)),
                "device_type=GPU.1 num_of_threads=3 num_streams=1 precision=FP16",
            ),
        ] {
            assert_eq!(text(&options, provider), expected);
        }
    }
}
