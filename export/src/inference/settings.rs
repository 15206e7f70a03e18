//! Typed access to what an operation is told beside its inputs.

use super::network::{Attribute, Node};

/// What is inferred, or why it cannot be.
pub(super) type Inferred<T> = Result<T, String>;

/// A length that an axis may have.
pub(super) fn length(n: i64) -> Inferred<usize> {
    usize::try_from(n)
        .ok()
        .filter(|n| (1..=1 << 16).contains(n))
        .ok_or(format!("has the impossible length {n}"))
}

/// Typed access to a node's attributes.
pub(super) struct Settings<'n, 'a>(pub(super) &'n Node<'a>);

impl Settings<'_, '_> {
    /// Refuses settings that are not among `names`.
    pub(super) fn only(&self, names: &[&str]) -> Inferred<()> {
        match self.0.attributes.keys().find(|name| !names.contains(name)) {
            Some(name) => Err(format!("has the setting `{name}`, which is not supported")),
            None => Ok(()),
        }
    }

    /// Refuses an integer setting that is not one of `allowed`.
    pub(super) fn int(&self, name: &str, default: i64, allowed: &[i64]) -> Inferred<()> {
        let value = self.integer(name, default)?;
        if allowed.contains(&value) {
            Ok(())
        } else {
            Err(format!(
                "has `{name}` = {value}, expected one of {allowed:?}"
            ))
        }
    }

    /// An integer setting.
    pub(super) fn integer(&self, name: &str, default: i64) -> Inferred<i64> {
        match self.0.attributes.get(name) {
            None => Ok(default),
            Some(&Attribute::Int(value)) => Ok(value),
            Some(other) => Err(format!("has `{name}` = {other:?}")),
        }
    }

    /// The number of groups of a convolution.
    pub(super) fn groups(&self) -> Inferred<usize> {
        match self.0.attributes.get("group") {
            None => Ok(1),
            Some(&Attribute::Int(groups)) => length(groups),
            Some(other) => Err(format!("has `group` = {other:?}")),
        }
    }

    pub(super) fn ints(&self, name: &str) -> Inferred<Option<&[i64]>> {
        match self.0.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(other) => Err(format!("has `{name}` = {other:?}")),
        }
    }

    /// Height and width after a sliding window of `kernel` over `size`.
    pub(super) fn window(&self, size: [usize; 2], kernel: [usize; 2]) -> Inferred<[usize; 2]> {
        let declared = self.ints("kernel_shape")?;
        if declared.is_some_and(|d| d != kernel.map(|k| k as i64)) {
            return Err(format!(
                "declares the window {declared:?} but has {kernel:?}"
            ));
        }
        let strides = self.ints("strides")?.unwrap_or(&[1, 1]);
        let pads = self.ints("pads")?.unwrap_or(&[0; 4]);
        let (&[stride_h, stride_w], &[top, left, bottom, right]) = (strides, pads) else {
            return Err(format!("has strides {strides:?} and pads {pads:?}"));
        };
        let mut result = [0; 2];
        let both = [(stride_h, top, bottom), (stride_w, left, right)];
        for (axis, (stride, before, after)) in both.into_iter().enumerate() {
            // Padding as wide as the window would make outputs that see no input.
            let limit = kernel[axis] as i64;
            if !(0..limit).contains(&before) || !(0..limit).contains(&after) {
                return Err(format!("has pads {pads:?} for the window {kernel:?}"));
            }
            let padded = size[axis] + (before + after) as usize;
            let steps = padded
                .checked_sub(kernel[axis])
                .ok_or(format!("slides {kernel:?} over {size:?}, which is smaller"))?;
            result[axis] = steps / length(stride)? + 1;
        }
        Ok(result)
    }
}
