//! A tensor as a view of a storage.

use super::Dtype;
use crate::pretrained::pickle::Value;

/// Most axes of a tensor; those of models have at most four.
const MAX_AXES: usize = 16;

/// Where a tensor's values are: element `(i, j, ...)` is number `offset + i strides[0] + ...` of the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorRef {
    pub(crate) storage: String,
    pub(crate) dtype: Dtype,
    /// Elements in the storage, as the pickle says.
    pub(crate) length: usize,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

impl TensorRef {
    /// The tensor that `value` stands for; none if it is something else.
    ///
    /// # Errors
    /// If it is a tensor of a kind or with numbers that cannot be read.
    pub(crate) fn of(value: Value<'_>) -> Result<Option<Self>, String> {
        let Some((class, args)) = value.object() else {
            return Ok(None);
        };
        match class.global() {
            Some(("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2")) => {
                Self::rebuild(args).map(Some)
            }
            // (data, requires_grad, hooks): a parameter wraps a tensor, and nothing wraps a parameter.
            Some(("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")) => {
                let inner = args.element(0).and_then(Value::object);
                match inner.map(|(class, args)| (class.global(), args)) {
                    Some((Some(("torch._utils", "_rebuild_tensor_v2")), args)) => {
                        Self::rebuild(args).map(Some)
                    }
                    _ => Err("a parameter without a plain tensor in it".into()),
                }
            }
            Some((module @ ("torch._utils" | "torch._tensor"), name)) => Err(format!(
                "a tensor of a kind that is not read ({module}.{name}); save it as a dense one"
            )),
            _ => Ok(None),
        }
    }

    /// From (storage, offset, shape, strides, ...).
    fn rebuild(args: Value<'_>) -> Result<Self, String> {
        let part = |index| args.element(index);
        let id = part(0).and_then(Value::persistent);
        let (storage, dtype, length) = id
            .ok_or_else(|| "a tensor without a storage".to_string())
            .and_then(storage)?;
        let offset = part(1).and_then(Value::size);
        let shape = part(2).and_then(Value::sizes);
        let strides = part(3).and_then(Value::sizes);
        match (offset, shape, strides) {
            (Some(offset), Some(shape), Some(strides)) if shape.len() == strides.len() => {
                Ok(Self {
                    storage,
                    dtype,
                    length,
                    offset,
                    shape,
                    strides,
                })
            }
            _ => Err("a tensor whose shape and strides do not belong together".into()),
        }
    }

    /// Checks that every element lies in the storage, and that there are no more of them than the
    /// storage has: a view can repeat elements without end.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.shape.len() > MAX_AXES {
            return Err(format!(
                "{} axes, at most {MAX_AXES} are read",
                self.shape.len()
            ));
        }
        let numel = self
            .shape
            .iter()
            .try_fold(1_usize, |n, &size| n.checked_mul(size));
        let last = self
            .shape
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |last, (&size, &stride)| {
                last.checked_add(size.saturating_sub(1).checked_mul(stride)?)
            });
        let bytes = self.length.checked_mul(self.dtype.size());
        let (Some(numel), Some(last), Some(_)) = (numel, last, bytes) else {
            return Err(format!("shape {:?} is beyond all memory", self.shape));
        };
        if numel > 0 && last >= self.length {
            return Err(format!(
                "shape {:?} with strides {:?} from element {} reaches element {last}, its storage has {}",
                self.shape, self.strides, self.offset, self.length
            ));
        }
        if numel > self.length {
            return Err(format!(
                "shape {:?} repeats the {} elements of its storage; save a copy of the tensor (.clone())",
                self.shape, self.length
            ));
        }
        Ok(())
    }

    /// Bytes of the whole storage, once [`check`](Self::check)ed.
    pub(super) fn storage_bytes(&self) -> usize {
        self.length * self.dtype.size()
    }

    /// Bytes of its elements, once [`check`](Self::check)ed.
    pub(super) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }

    /// The elements, dense and row-major, out of the bytes of the storage.
    pub(super) fn gather(&self, storage: &[u8]) -> Vec<u8> {
        let size = self.dtype.size();
        let numel: usize = self.shape.iter().product();
        if self.is_dense() {
            let start = self.offset * size;
            return storage[start..start + numel * size].to_vec();
        }
        let mut bytes = Vec::with_capacity(numel * size);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..numel {
            let at: usize = index.iter().zip(&self.strides).map(|(i, s)| i * s).sum();
            let start = (self.offset + at) * size;
            bytes.extend_from_slice(&storage[start..start + size]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        bytes
    }

    fn is_dense(&self) -> bool {
        let mut expected = 1;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            // The stride of an axis of one element says nothing.
            if size != 1 && stride != expected {
                return self.shape.contains(&0);
            }
            expected *= size;
        }
        true
    }
}

/// Key, element type and number of elements of `('storage', class, key, device, elements, ...)`.
fn storage(id: Value<'_>) -> Result<(String, Dtype, usize), String> {
    let part = |index| id.element(index);
    let (Some(class), Some(key), Some(length)) = (
        part(1).and_then(Value::global),
        part(2).and_then(Value::text),
        part(4).and_then(Value::size),
    ) else {
        return Err("a storage without class, key and size".into());
    };
    if part(5).is_some_and(|view| view.elements().is_some()) {
        return Err("a storage that is a view of another (PyTorch before 0.4)".into());
    }
    let dtype = Dtype::of_storage(class.1).ok_or_else(|| {
        format!(
            "elements of {}.{}, which are not read; save it as float32",
            class.0, class.1
        )
    })?;
    Ok((key.to_string(), dtype, length))
}
