//! A product, an exponential and a sum, forwards and backwards, against the same in f64: the least
//! that a backend must get right.

use crate::runner::Case;
use burn::tensor::{Tensor, TensorData};

const ROWS: usize = 3;
const INNER: usize = 4;
const COLUMNS: usize = 2;

/// `sum(exp(x . w))` and its gradients.
pub fn product_exponential_sum(case: &Case) {
    let (x, w) = (values(ROWS * INNER, 0.2), values(INNER * COLUMNS, 1.9));
    let (sum, dx, dw) = reference(&x, &w);

    let device = case.runtime.device.clone().autodiff();
    let leaf = |data: &[f32], shape: [usize; 2]| {
        let data = TensorData::new(data.to_vec(), shape);
        Tensor::<2>::from_data(data, &device).require_grad()
    };
    let (x, w) = (leaf(&x, [ROWS, INNER]), leaf(&w, [INNER, COLUMNS]));
    let y = x.clone().matmul(w.clone()).exp().sum();
    let gradients = y.backward();
    let of = |leaf: &Tensor<2>| read(leaf.grad(&gradients).expect("a leaf has a gradient"));
    case.close("sum", &read(y), &[sum as f32], 1e-5);
    case.close("gradient of x", &of(&x), &dx, 1e-5);
    case.close("gradient of w", &of(&w), &dw, 1e-5);
}

/// Small, irregular, both signs.
fn values(count: usize, phase: f64) -> Vec<f32> {
    (0..count)
        .map(|i| (0.7 * (i as f64 * 1.3 + phase).sin()) as f32)
        .collect()
}

/// The result and its gradients with respect to `x [ROWS, INNER]` and `w [INNER, COLUMNS]`,
/// computed in f64.
fn reference(x: &[f32], w: &[f32]) -> (f64, Vec<f32>, Vec<f32>) {
    let (mut sum, mut dx, mut dw) = (0.0, vec![0.0; x.len()], vec![0.0; w.len()]);
    for row in 0..ROWS {
        for column in 0..COLUMNS {
            let at = |k: usize| (row * INNER + k, k * COLUMNS + column);
            let product: f64 = (0..INNER)
                .map(|k| f64::from(x[at(k).0]) * f64::from(w[at(k).1]))
                .sum();
            let y = product.exp();
            sum += y;
            for k in 0..INNER {
                let (in_x, in_w) = at(k);
                dx[in_x] += y * f64::from(w[in_w]);
                dw[in_w] += y * f64::from(x[in_x]);
            }
        }
    }
    let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    (sum, narrow(dx), narrow(dw))
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.to_vec().expect("just converted to f32")
}
