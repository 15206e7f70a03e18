//! Adding up the gradients of all ranks while the backward pass still goes on.
//!
//! A gradient is on its way as soon as no use of its parameter is left: gradients travel in buckets, and a
//! bucket leaves when all that belong to it are there. Which do is agreed by the ranks after the first
//! step: those of rank 0, in the order in which they were complete there. From then on buckets leave in that order
//! on every rank, whatever the order in which they fill, for sums must be begun in the same order everywhere.
//!
//! Weights of convolutions and linear layers, nearly all of a network, come early, where the kernels can
//! tell ([`Kernels::hand_over_matrix`](crate::kernels::Kernels::hand_over_matrix)). The others wait for the end of the
//! pass, and those of the classifiers have come before it.

use super::gradients::{ParamGradients, flatten, in_four_dims, unflatten};
use crate::collective::{Collective, PendingSum};
use crate::model::NamePath;
use crate::{Error, Result};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The gradients of one step after the other, on their way to all ranks.
#[derive(Debug)]
pub struct Exchange {
    peers: Arc<dyn Collective>,
    /// Values that a bucket holds at most, unless one gradient has more.
    bucket: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    step: Step,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

/// Which gradients travel together, and in which order.
struct Plan {
    buckets: Vec<Vec<String>>,
    place: HashMap<String, usize>,
}

/// What is there of a step's gradients.
#[derive(Default)]
struct Step {
    names: HashMap<ParamId, String>,
    /// What this rank's gradients are multiplied by.
    factor: Option<f64>,
    /// Whether the pass under way is the step's last.
    last: bool,
    /// Uses of a weight in the pass that it has not come by yet.
    awaited: HashMap<ParamId, usize>,
    /// The weights' gradients in this pass.
    passing: HashMap<ParamId, Tensor<4>>,
    /// Sums over passes.
    sums: BTreeMap<String, Tensor<4>>,
    /// Those that will not change any more, in the order in which that was known.
    complete: Vec<String>,
    done: BTreeSet<String>,
    /// Gradients that each bucket waits for; those of a bucket that has left stay at zero.
    missing: Vec<usize>,
    /// Buckets that have left, in order.
    left: Vec<Bucket>,
    failure: Option<Error>,
}

/// Gradients that travel together.
struct Bucket {
    shapes: Vec<(String, [usize; 4])>,
    sum: Box<dyn PendingSum>,
}

/// Where the gradient of one use of a weight is awaited.
#[derive(Debug, Clone)]
pub struct Arrival {
    exchange: Arc<Exchange>,
    param: ParamId,
}

impl Arrival {
    /// Takes the gradient, which is without autodiff. A peer that fails meanwhile is heard of when the pass is over.
    pub fn deliver<const D: usize>(&self, gradient: Tensor<D>) {
        let exchange = &self.exchange;
        let mut state = exchange.state();
        let (param, gradient) = (self.param, in_four_dims(gradient));
        let step = &mut state.step;
        let sum = match step.passing.remove(&param) {
            Some(sum) => gradient + sum,
            None => gradient,
        };
        step.passing.insert(param, sum);
        let awaited = step.awaited.entry(param).or_insert(1);
        *awaited = awaited.saturating_sub(1);
        if *awaited == 0
            && let Some(name) = step.settle(param)
            && step.last
            && !step.done.contains(&name)
        {
            exchange.complete(&mut state, name);
        }
    }
}

impl Exchange {
    /// Among `peers`, in buckets of `bucket` values.
    pub fn new(peers: Arc<dyn Collective>, bucket: usize) -> Self {
        Self {
            peers,
            bucket,
            state: Mutex::default(),
        }
    }

    /// Begins a step of `model`. The gradients of its passes are multiplied by `factor`.
    pub fn begin<M: Module>(&self, model: &M, factor: Option<f64>) {
        let mut lister = Lister::default();
        model.visit(&mut lister);
        let mut state = self.state();
        let missing = state
            .plan
            .iter()
            .flat_map(|plan| &plan.buckets)
            .map(Vec::len)
            .collect();
        state.step = Step {
            names: lister.names,
            factor,
            missing,
            ..Step::default()
        };
    }

    /// Begins a forward pass whose gradients follow; the `last` of the step completes what it comes by.
    pub fn begin_pass(&self, last: bool) {
        let mut state = self.state();
        state.step.last = last;
        state.step.settle_all();
    }

    /// Where the gradient of a use of the weight `param` goes to.
    pub(crate) fn expect(self: &Arc<Self>, param: ParamId) -> Arrival {
        let mut state = self.state();
        *state.step.awaited.entry(param).or_default() += 1;
        Arrival {
            exchange: Arc::clone(self),
            param,
        }
    }

    /// Sends gradients that nothing will be added to.
    pub fn send(&self, grads: ParamGradients) {
        let mut state = self.state();
        for (name, grad) in grads.into_pairs() {
            state.step.add(name.clone(), grad);
            self.complete(&mut state, name);
        }
    }

    /// The sums over ranks of all gradients of the step: those that have come already, and `rest`, which belongs to
    /// other parameters.
    ///
    /// # Errors
    /// If a peer fails, or the ranks do not have gradients of the same parameters in each step.
    pub fn finish(&self, rest: ParamGradients) -> Result<ParamGradients> {
        let mut state = self.state();
        state.step.settle_all();
        for (name, grad) in rest.into_pairs() {
            state.step.add(name, grad);
        }
        let step = &state.step;
        let open = step.sums.keys().filter(|name| !step.done.contains(*name));
        for name in open.cloned().collect::<Vec<_>>() {
            self.complete(&mut state, name);
        }
        if state.plan.is_none() && state.step.failure.is_none() {
            self.agree(&mut state)?;
        }
        let mut step = std::mem::take(&mut state.step);
        if let Some(failure) = step.failure {
            return Err(failure);
        }
        let missing = step.missing.iter().position(|&missing| missing > 0);
        if let (Some(bucket), Some(plan)) = (missing, &state.plan) {
            let names = &plan.buckets[bucket];
            let absent = names.iter().find(|name| !step.done.contains(*name));
            return Err(Error::Invalid(format!(
                "rank {} has no gradient of {} in this step, though it had one before",
                self.peers.rank(),
                absent.map_or("a parameter", String::as_str)
            )));
        }
        let mut sums = ParamGradients::default();
        for Bucket { shapes, sum } in step.left.drain(..) {
            let lengths: Vec<usize> = shapes
                .iter()
                .map(|(_, shape)| shape.iter().product())
                .collect();
            let pieces = sum.wait_in_pieces(&lengths)?;
            for ((name, shape), flat) in shapes.into_iter().zip(pieces) {
                sums.insert(name, unflatten(flat, shape));
            }
        }
        Ok(sums)
    }

    /// Notes that the gradient of `name` is complete, and lets the buckets leave whose turn it is.
    fn complete(&self, state: &mut State, name: String) {
        let State { plan, step } = state;
        step.done.insert(name.clone());
        step.complete.push(name.clone());
        if let Some(plan) = plan {
            match plan.place.get(&name) {
                Some(&bucket) if step.missing[bucket] > 0 => step.missing[bucket] -= 1,
                _ => {
                    let rank = self.peers.rank();
                    step.failure.get_or_insert(Error::Invalid(format!(
                        "rank {rank} has a gradient of {name} in this step, though it had none before"
                    )));
                }
            }
            self.leave(plan, step);
        }
    }

    /// Lets buckets leave that are full, as far as those before them have left.
    fn leave(&self, plan: &Plan, step: &mut Step) {
        while step.failure.is_none()
            && step.left.len() < plan.buckets.len()
            && step.missing[step.left.len()] == 0
        {
            let names = &plan.buckets[step.left.len()];
            let grads: Vec<_> = names
                .iter()
                .filter_map(|name| step.sums.remove_entry(name))
                .collect();
            let flat = grads.iter().map(|(_, grad)| flatten(grad)).collect();
            match self.peers.begin_sum(Tensor::cat(flat, 0)) {
                Ok(sum) => step.left.push(Bucket {
                    shapes: grads
                        .into_iter()
                        .map(|(name, grad)| (name, grad.dims()))
                        .collect(),
                    sum,
                }),
                Err(error) => step.failure = Some(error),
            }
        }
    }

    /// Makes the plan of all later steps, and of what is left of this one, which is all.
    fn agree(&self, state: &mut State) -> Result<()> {
        let State { plan, step } = state;
        let order = step.complete.join("\n").into_bytes();
        let order = self.peers.broadcast(order, 0)?;
        let order = String::from_utf8_lossy(&order).into_owned();
        let order: Vec<&str> = order.lines().collect();
        let sorted: BTreeSet<&str> = order.iter().copied().collect();
        let own: BTreeSet<&str> = step.sums.keys().map(String::as_str).collect();
        if own != sorted {
            return Err(Error::Invalid(format!(
                "rank {} does not have gradients of the same parameters as rank 0; they differ in {}",
                self.peers.rank(),
                own.symmetric_difference(&sorted)
                    .copied()
                    .collect::<Vec<_>>()
                    .join(", ")
            )));
        }
        let sizes = order
            .iter()
            .map(|&name| (name, step.sums[name].dims().iter().product()));
        let made = plan.insert(Plan::new(sizes, self.bucket));
        step.missing = vec![0; made.buckets.len()];
        self.leave(made, step);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    /// `sizes`, by name, in order, as many together as `bucket` values hold.
    fn new<'a>(sizes: impl Iterator<Item = (&'a str, usize)>, bucket: usize) -> Self {
        let mut plan = Self {
            buckets: Vec::new(),
            place: HashMap::new(),
        };
        let mut filled = 0;
        for (name, size) in sizes {
            if plan.buckets.is_empty() || filled + size > bucket {
                plan.buckets.push(Vec::new());
                filled = 0;
            }
            filled += size;
            let last = plan.buckets.len() - 1;
            plan.buckets[last].push(name.to_owned());
            plan.place.insert(name.to_owned(), last);
        }
        plan
    }
}

impl Step {
    /// Adds what a weight has got in this pass to its sum. Returns its name.
    fn settle(&mut self, param: ParamId) -> Option<String> {
        let name = self.names.get(&param)?.clone();
        let mut grad = self.passing.remove(&param)?;
        if let Some(factor) = self.factor {
            grad = grad * factor;
        }
        self.add(name.clone(), grad);
        Some(name)
    }

    /// Adds a part of the gradient of `name`.
    fn add(&mut self, name: String, grad: Tensor<4>) {
        if self.done.contains(&name) {
            self.failure.get_or_insert(Error::Invalid(format!(
                "a part of the gradient of {name} came after the gradient had been sent"
            )));
            return;
        }
        let sum = match self.sums.remove(&name) {
            Some(sum) => sum + grad,
            None => grad,
        };
        self.sums.insert(name, sum);
    }

    /// Ends a pass: what it has not come by is not part of the loss.
    fn settle_all(&mut self) {
        self.awaited.clear();
        let passing: Vec<ParamId> = self.passing.keys().copied().collect();
        for param in passing {
            self.settle(param);
        }
    }
}

/// Notes what parameters are called.
#[derive(Default)]
struct Lister {
    path: NamePath,
    names: HashMap<ParamId, String>,
}

impl ModuleVisitor for Lister {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.names.insert(param.id, self.path.name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_take_what_fits_and_keep_the_order() {
        let sizes = [("d", 3), ("a", 3), ("c", 1), ("huge", 50), ("b", 6)];
        let plan = Plan::new(sizes.into_iter(), 7);
        assert_eq!(plan.buckets, [vec!["d", "a", "c"], vec!["huge"], vec!["b"]]);
        assert_eq!(plan.place["huge"], 1);
        assert!(Plan::new([].into_iter(), 7).buckets.is_empty());
    }
}
