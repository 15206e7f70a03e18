//! Walks a model's parameters and updates each from its gradient.

use super::gradients::{ParamGradients, in_four_dims};
use super::rule::{Moments, ParamUpdate, clip_factor};
use crate::checkpoint::OptimizerState;
use crate::config::OptimConfig;
use crate::kernels::Kernels;
use crate::model::{NamePath, to_array};
use crate::weights::Array;
use crate::{Error, Result};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use std::collections::BTreeMap;

/// SGD, LARC or AdamW over the parameters of a module, with state per parameter name.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimConfig,
    params: BTreeMap<String, ParamState>,
}

#[derive(Debug, Default)]
struct ParamState {
    /// Updates made.
    steps: usize,
    moments: Moments,
}

impl OptimConfig {
    /// An optimiser without history.
    pub fn init(&self) -> Optimizer {
        Optimizer {
            config: self.clone(),
            params: BTreeMap::new(),
        }
    }

    /// The weight decay of a parameter of `dims` dimensions, after the authors' groups: none for biases
    /// and one-dimensional parameters under `no_bias_weight_decay`, `backbone_weight_decay` (where given)
    /// for what remains of the backbone, `weight_decay` for the rest.
    pub fn weight_decay_of(&self, name: &str, dims: usize) -> f64 {
        if self.no_bias_weight_decay && (dims == 1 || name.ends_with(".bias")) {
            0.0
        } else if self.backbone_weight_decay >= 0.0 && name.contains("backbone") {
            self.backbone_weight_decay
        } else {
            self.weight_decay
        }
    }
}

impl Optimizer {
    /// Updates every parameter of `model` that has a gradient, with learning rate `lr`.
    pub fn apply<M: Module>(
        &mut self,
        lr: f64,
        model: M,
        mut grads: ParamGradients,
        kernels: &dyn Kernels,
    ) -> M {
        let limit = self.config.clip_grad_global;
        if limit > 0.0
            && let Some(norm) = grads.norm(kernels)
        {
            grads.scale(clip_factor(norm, limit), kernels);
        }
        // The parameters leave the model so that they have a single owner and can be updated in place.
        let mut taker = Taker {
            optimizer: self,
            path: NamePath::default(),
            grads,
            places: Vec::new(),
            updates: Vec::new(),
        };
        let model = model.map(&mut taker);
        let Taker {
            places, updates, ..
        } = taker;
        let updated = kernels.update(&self.config, lr, updates);
        let mut updated_params = BTreeMap::new();
        for ((name, shape), updated) in places.into_iter().zip(updated) {
            if let Some(state) = self.params.get_mut(&name) {
                state.moments = updated.moments;
            }
            updated_params.insert(name, (shape, updated.param));
        }
        model.map(&mut Putter {
            path: NamePath::default(),
            params: updated_params,
        })
    }

    /// [`apply`](Self::apply) with the gradients of a single backward pass.
    pub fn step<M: Module>(
        &mut self,
        lr: f64,
        model: M,
        grads: &mut Gradients,
        kernels: &dyn Kernels,
    ) -> M {
        let grads = ParamGradients::take(&model, grads);
        self.apply(lr, model, grads, kernels)
    }

    /// The history as plain data.
    pub fn state(&self) -> OptimizerState {
        let mut state = OptimizerState::default();
        for (name, param) in &self.params {
            state.steps.insert(name.clone(), param.steps);
            for (number, moment) in param.moments.iter().enumerate() {
                let data = to_array(moment.clone()).data;
                state
                    .moments
                    .insert(format!("{name}#{number}"), Array::new([data.len()], data));
            }
        }
        state
    }

    /// Takes up the history of `state`, on `device`.
    ///
    /// # Errors
    /// If a moment is missing.
    pub fn restore(&mut self, state: OptimizerState, device: &Device) -> Result<()> {
        let device = device.clone().without_autodiff();
        let OptimizerState { mut moments, steps } = state;
        self.params.clear();
        for (name, steps) in steps {
            let mut param = ParamState {
                steps,
                moments: Vec::new(),
            };
            while let Some(Array { data, .. }) =
                moments.remove(&format!("{name}#{}", param.moments.len()))
            {
                // The parameter's own shape is known when it comes to its update.
                let shape = [data.len(), 1, 1, 1];
                param
                    .moments
                    .push(Tensor::from_data(TensorData::new(data, shape), &device));
            }
            if param.moments.is_empty() {
                return Err(Error::Checkpoint(format!(
                    "the optimiser's state has no moments for {name}"
                )));
            }
            self.params.insert(name, param);
        }
        match moments.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::Checkpoint(format!(
                "the optimiser's state has {name}, of a parameter it does not count"
            ))),
        }
    }
}

/// Takes the parameters that have a gradient out of a model.
struct Taker<'a> {
    optimizer: &'a mut Optimizer,
    path: NamePath,
    grads: ParamGradients,
    /// Name and shape of each.
    places: Vec<(String, Vec<usize>)>,
    updates: Vec<ParamUpdate>,
}

impl ModuleMapper for Taker<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let Some(grad) = self.grads.remove(&name) else {
            return param;
        };
        let weight_decay = self.optimizer.config.weight_decay_of(&name, D);
        let state = self.optimizer.params.entry(name.clone()).or_default();
        state.steps += 1;
        let (id, tensor, mapper) = param.consume();
        let (shape, device) = (tensor.dims(), tensor.device());
        let values = in_four_dims(tensor.without_autodiff());
        let mut moments = std::mem::take(&mut state.moments);
        for moment in &mut moments {
            if moment.dims() != values.dims() {
                moment.inplace(|moment| moment.reshape(values.dims()));
            }
        }
        self.places.push((name, shape.to_vec()));
        self.updates.push(ParamUpdate {
            param: values,
            grad,
            moments,
            weight_decay,
            step: state.steps,
        });
        // Nobody reads what keeps the place: a device is not to fill it.
        Param::from_mapped_value(id, Tensor::empty([1; D], &device), mapper)
    }
}

/// Puts parameters into the places that a [`Taker`] left.
struct Putter {
    path: NamePath,
    params: BTreeMap<String, (Vec<usize>, Tensor<4>)>,
}

impl ModuleMapper for Putter {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((shape, updated)) = self.params.remove(&self.path.name()) else {
            return param;
        };
        let (id, place, mapper) = param.consume();
        // Invariant: names are unique, so this is the parameter whose shape was noted.
        let shape: [usize; D] = shape.try_into().expect("the parameter's own dimensions");
        let updated = updated
            .reshape(shape)
            .to_device(&place.device())
            .autodiff()
            .require_grad();
        Param::from_mapped_value(id, updated, mapper)
    }
}
