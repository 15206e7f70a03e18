//! Shapes of operations on `[batch, channels, height, width]`.

use super::settings::{Inferred, Settings, length};
use super::shapes::Shape;

/// A convolution with bias.
pub(super) fn conv(
    settings: &Settings<'_, '_>,
    x: &Shape,
    weight: &Shape,
    bias: &Shape,
) -> Inferred<Vec<usize>> {
    settings.only(&["kernel_shape", "pads", "strides", "group"])?;
    let [channels, height, width] = image_axes(x)?;
    let groups = settings.groups()?;
    let &[output, input, kernel_h, kernel_w] = weight.axes.as_slice() else {
        return Err(format!("has a kernel of shape {:?}", weight.axes));
    };
    let fits = input.checked_mul(groups) == Some(channels) && output.is_multiple_of(groups);
    if weight.batched || bias.batched || !fits || bias.axes != [output] {
        return Err(format!(
            "has kernel {:?} and bias {:?} for {channels} channels in {groups} groups",
            weight.axes, bias.axes
        ));
    }
    let kernel = [kernel_h, kernel_w];
    let [height, width] = settings.window([height, width], kernel)?;
    Ok(vec![output, height, width])
}

/// The largest value in a sliding window.
pub(super) fn max_pool(settings: &Settings<'_, '_>, x: &Shape) -> Inferred<Vec<usize>> {
    settings.only(&["kernel_shape", "pads", "strides"])?;
    let [channels, height, width] = image_axes(x)?;
    let Some(&[kernel_h, kernel_w]) = settings.ints("kernel_shape")? else {
        return Err("has no two-dimensional window".to_owned());
    };
    let kernel = [length(kernel_h)?, length(kernel_w)?];
    let [height, width] = settings.window([height, width], kernel)?;
    Ok(vec![channels, height, width])
}

/// The mean of each channel.
pub(super) fn average(settings: &Settings<'_, '_>, x: &Shape) -> Inferred<Vec<usize>> {
    settings.only(&[])?;
    let [channels, ..] = image_axes(x)?;
    Ok(vec![channels, 1, 1])
}

fn image_axes(x: &Shape) -> Inferred<[usize; 3]> {
    let axes = x.axes.as_slice();
    axes.try_into()
        .map_err(|_| format!("expects [batch, channels, height, width], not [batch, {axes:?}]"))
}
