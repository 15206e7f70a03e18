//! Weights out of and into a model, under the names of torchvision and the authors' code.

use crate::weights::{Array, StateDict};
use crate::{Error, Result};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

/// Where a visitor is in a module tree, and what the parameter there is called in checkpoints.
///
/// The name is the path through the fields, as PyTorch's, with two differences from burn's: the
/// variants of an enum are no level of their own (`mlp_head.mlp.3.weight` whatever kind of layer it
/// is), and `classifiers.0` is the authors' `cls_0`.
#[derive(Debug, Default)]
pub struct NamePath {
    parts: Vec<Option<String>>,
}

impl NamePath {
    /// Goes down into `name` of a container, as burn's visitors are told it.
    pub fn enter(&mut self, name: &str, container: &str) {
        let variant = container.starts_with("Enum:");
        self.parts.push((!variant).then(|| name.to_string()));
    }

    /// Comes back up.
    pub fn exit(&mut self) {
        self.parts.pop();
    }

    /// The name of the parameter here.
    pub fn name(&self) -> String {
        let parts: Vec<&str> = self.parts.iter().flatten().map(String::as_str).collect();
        match parts.as_slice() {
            ["classifiers", head, rest @ ..] => format!("cls_{head}.{}", rest.join(".")),
            all => all.join("."),
        }
    }
}

/// Whether `name` is a buffer (a running statistic) rather than a parameter.
pub fn is_buffer(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}

/// All parameters and buffers of `model`.
pub fn state_dict<M: Module>(model: &M) -> StateDict {
    struct Reader {
        path: NamePath,
        state: StateDict,
    }
    impl ModuleVisitor for Reader {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let name = self.path.name();
            self.state.insert(name, to_array(param.val()));
        }
    }
    let mut reader = Reader {
        path: NamePath::default(),
        state: StateDict::new(),
    };
    model.visit(&mut reader);
    reader.state
}

/// `model` with every parameter and buffer replaced by those of `state`.
///
/// # Errors
/// [`Error::Checkpoint`] listing every name that is missing, unexpected or of another shape.
pub fn with_state_dict<M: Module>(model: M, state: &StateDict) -> Result<M> {
    struct Writer<'a> {
        path: NamePath,
        state: &'a StateDict,
        used: usize,
        problems: Vec<String>,
    }
    impl ModuleMapper for Writer<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.path.name();
            // Asking for the tensor itself would draw the initial weights.
            let shape = param.lazy_shape().to_vec();
            let Some(array) = self.state.get(&name) else {
                self.problems.push(format!("{name} {shape:?} is missing"));
                return param;
            };
            self.used += 1;
            if array.shape != shape {
                self.problems.push(format!(
                    "{name} is {:?}, the model needs {shape:?}",
                    array.shape
                ));
                return param;
            }
            let new = TensorData::new(array.data.clone(), shape);
            let new = Tensor::from_data(new, &param.lazy_device());
            let id = param.id;
            param.transform_for_load(new, id)
        }
    }
    let mut writer = Writer {
        path: NamePath::default(),
        state,
        used: 0,
        problems: Vec::new(),
    };
    let model = model.map(&mut writer);
    let mut problems = writer.problems;
    if writer.used < state.len() {
        let known = state_dict(&model);
        problems.extend(
            state
                .keys()
                .filter(|name| !known.contains_key(*name))
                .map(|name| format!("{name} is not part of the model")),
        );
    }
    if problems.is_empty() {
        Ok(model)
    } else {
        Err(Error::Checkpoint(format!(
            "these weights do not fit the model: {}",
            problems.join("; ")
        )))
    }
}

/// A tensor's values on the host.
pub(crate) fn to_array<const D: usize>(tensor: Tensor<D>) -> Array {
    let shape = tensor.dims().to_vec();
    let data = tensor.into_data().convert::<f32>();
    // Invariant: the data was converted to f32 on the line above.
    Array::new(shape, data.try_into_vec::<f32>().expect("f32 data"))
}
