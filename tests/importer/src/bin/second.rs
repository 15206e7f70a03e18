//! `second OUT.onnx`: the residual network of `export/tests/fixtures/roundtrip/resnet.onnx`, exported by burn-onnx instead of
//! by our writer: an opinion on what the network computes that shares no code with ours.
//!
//! The exporter, which its authors call experimental, goes as far as the last block: it has no mean over an axis
//! (`MeanDim`), with which the pooling ends. The images are so small that the last maps have one pixel each, whose mean
//! is itself. `export/tests/second.rs` holds the kept file against ours; `cargo xtask roundtrip` makes it anew.

#[path = "../../../../export/tests/support/model.rs"]
#[allow(dead_code, reason = "the writer's own tests use the rest")]
mod model;

use burn::tensor::{Device, Tensor};
use burn_onnx::export::OnnxExporter;
use model::Example;
use selfcls_core::config::Arch;
use selfcls_core::model::{Context, Flow, with_state_dict};
use selfcls_core::runtime::Runtime;

/// Images of the file, whose batch is fixed, and their side.
const SHAPE: [usize; 4] = [3, 3, 16, 16];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::env::args().nth(1).ok_or("usage: second OUT.onnx")?;
    let example = Example::kept(Arch::ResNet10);
    let device = Device::default();
    let network = with_state_dict(example.model.init(&device, 0), &example.weights)?;
    let runtime = Runtime::new(device.clone());
    let images = Tensor::<4>::zeros(SHAPE, &device);
    let context = Context::evaluation(&*runtime.kernels);
    let exported = OnnxExporter::new().export(&network.backbone, images, |backbone, images| {
        let blocks = 0..backbone.stages() - 1;
        let last = blocks.fold(Flow::Maps(images), |x, stage| {
            backbone.stage(stage, x, &context)
        });
        let Flow::Maps(maps) = last else {
            unreachable!("a residual network makes maps until it pools them");
        };
        maps
    })?;
    exported.save(&out)?;
    Ok(())
}
