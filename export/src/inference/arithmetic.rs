//! How much an operation has to compute, so that a small file cannot keep a machine busy for hours: one matrix of a megabyte
//! may be named by a thousand convolutions.

use super::network::Node;
use super::settings::Settings;
use super::shapes::Shape;

/// Images of a fixed batch that a run may have at the limit for one image: as large a network, a smaller batch.
pub(super) const IMAGES: u64 = 16;

/// Multiplications that go with an addition in what `node` makes of `inputs`, for each image; where there are none, the
/// numbers that it reads and makes.
pub(super) fn operations(node: &Node<'_>, inputs: &[&Shape], result: &Shape) -> u64 {
    let product = |axes: &[usize]| {
        let axes = axes.iter();
        axes.fold(1, |all: u64, &n| all.saturating_mul(n as u64))
    };
    let made = product(&result.axes);
    let moved = inputs.iter().filter(|input| input.batched);
    let moved = moved.fold(made, |all, input| all.saturating_add(product(&input.axes)));
    let sums = match (node.op, inputs) {
        ("Conv", [_, kernel, ..]) => {
            // For each pixel of the result the whole kernel.
            let pixels = result.axes.get(1..).unwrap_or_default();
            product(&kernel.axes).saturating_mul(product(pixels))
        }
        ("Gemm" | "MatMul", [rows, ..]) => {
            let length = rows.axes.last().copied().unwrap_or(1);
            made.saturating_mul(length as u64)
        }
        ("MaxPool", _) => {
            let settings = Settings(node);
            let window = settings.ints("kernel_shape").ok().flatten();
            let window = window.unwrap_or_default().iter();
            // A negative length is refused elsewhere.
            let lengths = window.map(|&n| u64::try_from(n).unwrap_or(1));
            lengths.fold(made, u64::saturating_mul)
        }
        _ => 0,
    };
    sums.max(moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::network::Attribute;

    #[test]
    fn they_are_counted_as_in_the_literature() {
        let of = |op, inputs: &[&Shape], result: &[usize]| {
            let node = Node {
                op,
                attributes: [("kernel_shape", Attribute::Ints(vec![3, 3]))].into(),
                ..Node::default()
            };
            operations(&node, inputs, &Shape::new(true, result))
        };
        // The first layer of ResNet-50: 118 million.
        let (image, kernel) = (
            Shape::new(true, &[3, 224, 224]),
            Shape::new(false, &[64, 3, 7, 7]),
        );
        let conv = of("Conv", &[&image, &kernel], &[64, 112, 112]);
        assert_eq!(conv, 118_013_952);
        // Its last one: 2 million.
        let (features, matrix) = (Shape::new(true, &[2048]), Shape::new(false, &[1000, 2048]));
        assert_eq!(of("Gemm", &[&features, &matrix], &[1000]), 2_048_000);
        // Attention of 197 tokens in 6 heads of 64.
        let (q, k) = (
            Shape::new(true, &[6, 197, 64]),
            Shape::new(true, &[6, 64, 197]),
        );
        let scores = of("MatMul", &[&q, &k], &[6, 197, 197]);
        assert_eq!(scores, 6 * 197 * 197 * 64);
        assert_eq!(of("MaxPool", &[&image], &[3, 112, 112]), 3 * 112 * 112 * 9);
        // What multiplies nothing still has to be read and written.
        assert_eq!(of("Relu", &[&features], &[2048]), 4096);
        let endless = Shape::new(true, &[usize::MAX, usize::MAX]);
        assert_eq!(of("MatMul", &[&endless, &endless], &[1]), u64::MAX);
    }
}
