//! A step that keeps what flows between the blocks of the backbone alone (Chen et al. 2016, gradient
//! checkpointing): the rest is computed a second time, block by block, when the gradient comes by.

use crate::model::{Context, Flow, SelfClassifier, ViewBatch};
use crate::optim::ParamGradients;
use burn::tensor::Tensor;

/// What is kept of a forward pass.
pub(super) struct Kept {
    runs: Vec<Run>,
    /// What the head was given, `[views * batch, backbone_dim]`.
    features: Tensor<2>,
}

/// The views of one size.
struct Run {
    /// What each stage of the backbone was given.
    inputs: Vec<Flow>,
    /// Number of images.
    rows: usize,
}

/// Unit embeddings of all views, `[views * batch, dim]`, and what [`backward`] needs. Neither carries a graph;
/// `model` is one without autodiff, whose running statistics nobody needs.
pub(super) fn embed(
    model: &SelfClassifier,
    views: ViewBatch,
    context: &Context<'_>,
) -> (Tensor<2>, Kept) {
    let mut pass = *context;
    let (mut runs, mut features) = (Vec::new(), Vec::new());
    for images in views.by_size() {
        let rows = images.dims()[0];
        let (mut x, mut inputs) = (Flow::Maps(images), Vec::new());
        for stage in 0..model.backbone.stages() {
            inputs.push(x.clone());
            x = model.backbone.stage(stage, x, &pass);
        }
        features.push(x.features());
        runs.push(Run { inputs, rows });
        pass.noise = pass.noise.next_pass();
    }
    let features = Tensor::cat(features, 0);
    let embeddings = model.mlp_head.forward(features.clone(), context);
    (embeddings, Kept { runs, features })
}

/// The gradients of head and backbone, given that of the embeddings, `[views * batch, dim]`. Running
/// statistics take up the batch.
pub(super) fn backward(
    model: &SelfClassifier,
    kept: Kept,
    gradient: Tensor<2>,
    context: &Context<'_>,
) -> ParamGradients {
    let mut found = ParamGradients::default();
    let begin_pass = |last: bool| {
        if let Some(exchange) = context.exchange {
            exchange.begin_pass(last);
        }
    };
    begin_pass(true);
    let head = |x: Flow| Flow::Features(model.mlp_head.forward(x.features(), context));
    let features = Flow::Features(kept.features);
    let gradient = Flow::Features(gradient);
    // Invariant (here and below): what a stage gives depends on what it was given.
    let gradient = through(model, features, gradient, head, &mut found).expect("a gradient");
    let gradient = gradient.features();

    let (mut pass, mut start) = (*context, 0);
    let count = kept.runs.len();
    for (number, Run { mut inputs, rows }) in kept.runs.into_iter().enumerate() {
        let mut gradient = Flow::Features(gradient.clone().slice(start..start + rows));
        while let Some(input) = inputs.pop() {
            begin_pass(number + 1 == count);
            let stage = |x| model.backbone.stage(inputs.len(), x, &pass);
            gradient = through(model, input, gradient, stage, &mut found).expect("a gradient");
        }
        start += rows;
        pass.noise = pass.noise.next_pass();
    }
    found
}

/// Runs a stage again, adds the gradients of its parameters to `found`, and returns that of `input`.
fn through(
    model: &SelfClassifier,
    input: Flow,
    gradient: Flow,
    stage: impl FnOnce(Flow) -> Flow,
    found: &mut ParamGradients,
) -> Option<Flow> {
    let leaf = input.leaf();
    let mut grads = stage(leaf.clone()).dot(gradient).backward();
    found.add(ParamGradients::take(model, &mut grads));
    leaf.take_gradient(&mut grads)
}
