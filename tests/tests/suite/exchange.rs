//! Gradients on their way to other ranks.

use crate::fixture::{hash_tensor, values};
use crate::runner::Case;
use selfcls_core::model::SelfClassifier;
use selfcls_core::optim::{Exchange, ParamGradients};
use selfcls_tests::{on_threads, small_config};
use std::sync::Arc;

/// The gradients of the classifiers of these heads.
fn gradients(model: &SelfClassifier, heads: &[usize]) -> ParamGradients {
    let device = model.classifiers[0].weight_g.val().device();
    let rows = hash_tensor::<2>(1, [3, 8], &device);
    let logits = heads.iter().map(|&head| {
        let logits = model.classifiers[head].forward(rows.clone());
        (logits.clone() * logits).sum()
    });
    let mut grads = logits.reduce(|a, b| a + b).expect("a head").backward();
    ParamGradients::take(model, &mut grads)
}

/// Sums come back, whatever is sent before the end and whatever at the end; a rank that then has other gradients
/// than in its first step says of which parameter.
pub(crate) fn gradients_are_of_the_same_parameters_in_each_step(case: &Case) {
    let device = case.runtime.device.clone().autodiff();
    let mut config = small_config();
    config.model.heads = vec![3, 5];
    let model = config.model.init(&device, 0);
    let names: Vec<String> = gradients(&model, &[0, 1])
        .names()
        .map(str::to_owned)
        .collect();
    assert_eq!(names.len(), 4);
    let messages = on_threads(2, |peers| {
        // So small that each gradient travels alone.
        let exchange = Exchange::new(Arc::clone(&peers), 1);
        for early in [vec![], vec![1], vec![0, 1]] {
            exchange.begin(&model, None);
            let late: Vec<usize> = (0..2).filter(|head| !early.contains(head)).collect();
            if !early.is_empty() {
                exchange.send(gradients(&model, &early));
            }
            let late = match late.as_slice() {
                [] => ParamGradients::default(),
                heads => gradients(&model, heads),
            };
            let sums = exchange.finish(late).expect("sums");
            let own = gradients(&model, &[0, 1]);
            for name in &names {
                let twice = own.get(name).expect("a gradient").clone() * 2.0;
                let sum = sums.get(name).expect("a sum").clone();
                // Computed anew, by kernels that a backend may have chosen anew.
                case.close(name, &values(sum), &values(twice), 1e-5);
            }
        }
        let failed = |early: Option<&[usize]>, late: &[usize]| {
            exchange.begin(&model, None);
            if let Some(heads) = early {
                exchange.send(gradients(&model, heads));
            }
            let failed = exchange.finish(gradients(&model, late));
            failed.expect_err("refused").to_string()
        };
        (failed(None, &[0]), failed(Some(&[0]), &[0, 1]))
    });
    for (rank, (missing, twice)) in messages.iter().enumerate() {
        assert!(
            missing.contains(&format!("rank {rank} has no gradient of cls_1.")),
            "{missing}"
        );
        assert!(
            twice.contains("cls_0.") && twice.contains("after the gradient had been sent"),
            "{twice}"
        );
    }
    let new = on_threads(2, |peers| {
        let exchange = Exchange::new(peers, 1);
        exchange.begin(&model, None);
        exchange.finish(gradients(&model, &[0])).expect("sums");
        exchange.begin(&model, None);
        let failed = exchange.finish(gradients(&model, &[0, 1]));
        failed.expect_err("refused").to_string()
    });
    for message in new {
        assert!(
            message.contains("cls_1.") && message.contains("had none before"),
            "{message}"
        );
    }
}
