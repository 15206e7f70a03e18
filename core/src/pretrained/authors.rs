//! The authors' whole checkpoints: what is needed to go on where their training stopped.

use super::file::WeightFile;
use super::pickle::Value;
use super::read::{Recognised, recognise};
use super::torch::{TensorRef, TorchFile};
use crate::checkpoint::{OptimizerState, QueueState};
use crate::weights::{Array, StateDict};
use crate::{Error, Result};
use std::path::Path;

/// The state of a training of the authors' code between two epochs.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthorsCheckpoint {
    /// Complete epochs.
    pub epoch: usize,
    /// The lowest mean loss of an epoch so far.
    pub best_loss: Option<f64>,
    /// Parameters and buffers under our names.
    pub model: StateDict,
    /// The optimiser's history, and what the file says of its settings.
    pub optimizer: AuthorsOptimizer,
    /// The nearest-neighbour queue; none in files of the first version of their code.
    pub queue: Option<QueueState>,
}

/// The optimiser of an [`AuthorsCheckpoint`]. LARC keeps nothing of its own: its file is SGD's.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthorsOptimizer {
    /// Moments as `<parameter>#<number>`, flattened: the momentum of SGD, or AdamW's two.
    /// `steps` counts AdamW's updates; SGD does not count, there it is 0.
    pub state: OptimizerState,
    /// Whether the moments are AdamW's.
    pub adamw: bool,
    /// SGD's momentum.
    pub momentum: Option<f64>,
    /// Weight decay of weights, of biases and other one-dimensional parameters, and of the backbone's weights; the
    /// same where they are of one group. None where the file does not tell.
    pub weight_decays: Option<[f64; 3]>,
}

/// Reads a `model_last.pth.tar` of the authors' training, or one of its siblings.
///
/// # Errors
/// If it is no such file, naming what is missing or does not fit.
pub fn authors_checkpoint(path: &Path) -> Result<AuthorsCheckpoint> {
    let file = WeightFile::open(path)?;
    let recognised = recognise(&file, &[])?;
    let WeightFile::Torch(torch) = &file else {
        return Err(Error::malformed(path, "safetensors hold no training state"));
    };
    let root = torch.root();
    let need = |key: &str| {
        root.get(key).ok_or_else(|| {
            Error::malformed(
                path,
                format!("no {key:?}: not a whole checkpoint of the authors' training, but its weights can be used"),
            )
        })
    };
    let epoch = need("epoch")?
        .size()
        .ok_or_else(|| Error::malformed(path, "\"epoch\" is not a number from 0 up"))?;
    let model = recognised.state(&file)?;
    let optimizer = optimizer(torch, need("optimizer")?, &recognised, &model)
        .map_err(|reason| Error::malformed(path, format!("optimizer: {reason}")))?;
    let queue = root
        .get("nn_queue")
        .map(|value| queue(torch, value))
        .transpose()?;
    Ok(AuthorsCheckpoint {
        epoch,
        best_loss: root.get("best_loss").and_then(Value::float),
        model,
        optimizer,
        queue,
    })
}

/// The pickled `utils.NNQueue`: an object of unknown class with known attributes.
fn queue(file: &TorchFile, value: Value<'_>) -> Result<QueueState> {
    let fail = |reason: String| Error::malformed(file.path(), format!("nn_queue: {reason}"));
    let attribute = |name: &str| {
        value
            .attribute(name)
            .ok_or_else(|| fail(format!("{} has no {name}", value.kind())))
    };
    let tensor = |name: &str| {
        let tensor = TensorRef::of(attribute(name)?).map_err(&fail)?;
        tensor.ok_or_else(|| fail(format!("{name} is not a tensor")))
    };
    let embeddings = file.array("nn_queue.queue", &tensor("queue")?)?;
    // Labels are kept as floats; both are exact up to 2^24.
    let labels = file.array("nn_queue.queue_targets", &tensor("queue_targets")?)?;
    let indices = file.integers("nn_queue.queue_indices", &tensor("queue_indices")?)?;
    let (next, full) = (attribute("ptr")?.size(), attribute("full")?.bool());
    let (&[length, _], Some(next), Some(full)) = (embeddings.shape.as_slice(), next, full) else {
        return Err(fail(
            "its queue, ptr or full are not of the usual kind".into(),
        ));
    };
    if labels.data.len() != length || indices.len() != length || next >= length {
        return Err(fail(format!(
            "{length} embeddings, {} labels, {} indices and position {next} do not belong together",
            labels.data.len(),
            indices.len()
        )));
    }
    Ok(QueueState {
        embeddings: embeddings.data,
        indices,
        labels: labels.data.iter().map(|&label| label as i64).collect(),
        next,
        full,
    })
}

/// `torch.optim.Optimizer.state_dict()`: the state of each parameter by its number, and the numbers in
/// each group.
fn optimizer(
    file: &TorchFile,
    value: Value<'_>,
    recognised: &Recognised,
    model: &StateDict,
) -> Result<AuthorsOptimizer, String> {
    let groups: Vec<Value<'_>> = value
        .get("param_groups")
        .and_then(Value::elements)
        .ok_or("no param_groups")?
        .collect();
    let sizes: Vec<usize> = groups
        .iter()
        .map(|group| Some(group.get("params")?.elements()?.len()))
        .collect::<Option<_>>()
        .ok_or("a group without params")?;
    let parameters: Vec<(&str, &Array)> = recognised
        .entries
        .iter()
        .filter(|(_, ours, _)| !ours.ends_with(".running_mean") && !ours.ends_with(".running_var"))
        .filter_map(|(_, ours, _)| Some((ours.as_str(), model.get(ours)?)))
        .collect();
    let states = value
        .get("state")
        .and_then(Value::entries)
        .ok_or("no state")?;

    // Parameters are numbered group by group, and the file does not say which are in which: the
    // authors' rules are tried until lengths and shapes fit.
    let mut reasons = Vec::new();
    for Order { parameters, places } in orders(&parameters, &sizes) {
        match moments(file, &states, &parameters) {
            Ok(state) => {
                let adamw = state.moments.keys().any(|name| name.ends_with("#1"));
                return Ok(AuthorsOptimizer {
                    state,
                    adamw,
                    momentum: groups.first().and_then(|group| number(*group, "momentum")),
                    weight_decays: decays(&groups, places),
                });
            }
            Err(reason) => reasons.push(reason),
        }
    }
    match reasons.into_iter().next() {
        Some(reason) => Err(reason),
        None => Err(format!(
            "its groups hold {sizes:?} parameters, the model has {}",
            parameters.len()
        )),
    }
}

fn number(group: Value<'_>, key: &str) -> Option<f64> {
    group.get(key).and_then(Value::float)
}

/// The weight decay of each kind of parameter, by the place of its group.
fn decays(groups: &[Value<'_>], places: [usize; 3]) -> Option<[f64; 3]> {
    let mut decays = [0.0; 3];
    for (decay, place) in decays.iter_mut().zip(places) {
        *decay = number(*groups.get(place)?, "weight_decay")?;
    }
    Some(decays)
}

/// A way to number parameters.
struct Order<'a> {
    /// In the order of their numbers.
    parameters: Vec<(&'a str, &'a Array)>,
    /// Which of the file's groups weights, one-dimensional parameters and the backbone's weights are in.
    places: [usize; 3],
}

/// The ways in which the authors' code numbers these parameters into groups of these sizes: all in one
/// group; or weights, then biases and other one-dimensional ones without decay, then those of the
/// backbone with a decay of their own; with or without fixed classifiers.
fn orders<'a>(parameters: &[(&'a str, &'a Array)], sizes: &[usize]) -> Vec<Order<'a>> {
    let mut orders = Vec::new();
    for classifiers in [true, false] {
        for (no_bias, backbone) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut groups: [Vec<(&str, &Array)>; 3] = Default::default();
            for &(name, array) in parameters {
                if !classifiers && name.starts_with("cls_") {
                    continue;
                }
                let bias = name.ends_with(".bias") || array.shape.len() == 1;
                let group = if bias && no_bias {
                    1
                } else if backbone && name.contains("backbone") {
                    2
                } else {
                    0
                };
                groups[group].push((name, array));
            }
            let lengths: Vec<usize> = groups
                .iter()
                .map(Vec::len)
                .filter(|&length| length > 0)
                .collect();
            if lengths == sizes {
                // Those before it that are there, without which kinds are in the first.
                let place = |group: usize, apart: bool| match apart {
                    true => groups[..group].iter().filter(|g| !g.is_empty()).count(),
                    false => 0,
                };
                orders.push(Order {
                    places: [0, place(1, no_bias), place(2, backbone)],
                    parameters: groups.concat(),
                });
            }
        }
    }
    orders
}

/// The moments under the names of `order`.
fn moments(
    file: &TorchFile,
    states: &[(Value<'_>, Value<'_>)],
    order: &[(&str, &Array)],
) -> Result<OptimizerState, String> {
    let mut result = OptimizerState::default();
    for (number, state) in states {
        let number = number
            .size()
            .ok_or("a parameter whose number is no number")?;
        let &(name, array) = order
            .get(number)
            .ok_or_else(|| format!("state of parameter {number}, there are {}", order.len()))?;
        let mut count = 0;
        for key in ["momentum_buffer", "exp_avg", "exp_avg_sq"] {
            let Some(value) = state.get(key) else {
                continue;
            };
            // None before the first step.
            let Some(tensor) = TensorRef::of(value)? else {
                continue;
            };
            if tensor.shape != array.shape {
                return Err(format!(
                    "{key} of parameter {number} is {:?}, {name} is {:?}",
                    tensor.shape, array.shape
                ));
            }
            let moment = file
                .array(&format!("optimizer {key} of {name}"), &tensor)
                .map_err(|error| error.to_string())?;
            let flat = Array::new([moment.data.len()], moment.data);
            result.moments.insert(format!("{name}#{count}"), flat);
            count += 1;
        }
        if state.get("max_exp_avg_sq").is_some() {
            return Err("AMSGrad's maxima, which this version's AdamW does not have".into());
        }
        if count > 0 {
            result
                .steps
                .insert(name.to_string(), steps(file, state.get("step"))?);
        }
    }
    Ok(result)
}

/// AdamW's count of updates: a number, or since PyTorch 1.12 a tensor of one.
fn steps(file: &TorchFile, value: Option<Value<'_>>) -> Result<usize, String> {
    let Some(value) = value else {
        return Ok(0);
    };
    if let Some(steps) = value.size() {
        return Ok(steps);
    }
    let tensor = TensorRef::of(value)?.ok_or("step is no number")?;
    let step = file
        .array("optimizer step", &tensor)
        .map_err(|error| error.to_string())?;
    step.data
        .first()
        .map(|&step| step as usize)
        .ok_or_else(|| "step is an empty tensor".into())
}
