//! From features to the unit embedding, and from there to logits and probabilities.

use super::fold::weight_norm;
use super::graph::Value;
use super::layers::Emitter;
use crate::names;
use selfcls_core::config::ModelConfig;

/// The MLP head and the L2 normalisation: features `[batch, backbone_dim]` to `embedding` `[batch, dim]`.
///
/// The layers are numbered as in the authors' `nn.Sequential`: Linear, BatchNorm1d (if any) and
/// activation per hidden layer, then a Linear. A single layer has no number.
pub(super) fn embedding(e: &mut Emitter<'_>, model: &ModelConfig, features: &Value) -> Value {
    let step = if model.head_bn { 3 } else { 2 };
    let dims = model.head_dims();
    let mut x = features.clone();
    for (layer, &widths) in dims.iter().enumerate() {
        let first = layer * step;
        let path = match dims.len() {
            1 => "mlp_head.mlp".to_owned(),
            _ => format!("mlp_head.mlp.{first}"),
        };
        if layer + 1 == dims.len() {
            x = e.linear(&path, None, widths, &x);
        } else {
            let norm = format!("mlp_head.mlp.{}", first + 1);
            x = e.linear(&path, model.head_bn.then_some(norm.as_str()), widths, &x);
            let activation = format!("mlp_head.mlp.{}", first + step - 1);
            x = if model.leaky {
                e.leaky_relu(&activation, &x)
            } else {
                e.relu(&activation, &x)
            };
        }
    }
    e.unit_length(names::EMBEDDING, &x)
}

/// The weight-normalised classifier at `index`: embedding to `logits.<index>` `[batch, classes]`. None, with
/// the problem noted, where a row has no direction.
pub(super) fn classifier(
    e: &mut Emitter<'_>,
    (index, classes): (usize, usize),
    (embedding, dim): (&Value, usize),
) -> Option<Value> {
    let gain = e
        .weights
        .take(&format!("cls_{index}.weight_g"), &[classes, 1]);
    let name = format!("cls_{index}.weight_v");
    let taken = e.weights.take(&name, &[classes, dim]);
    let Some(weight) = weight_norm(&gain, &taken) else {
        e.weights.refuse(format!(
            "`{name}` has a row of zeros, which has no direction"
        ));
        return None;
    };
    let weight_name = format!("cls_{index}.weight");
    let logits = names::logits(index);
    Some(e.products(&logits, &weight_name, (dim, classes), &weight, embedding))
}
