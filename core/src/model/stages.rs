//! A backbone as a chain of stages: what is kept of a forward pass can be what flows between them alone.

use burn::tensor::{Gradients, Tensor};

/// What one stage of a backbone hands to the next.
#[derive(Debug, Clone)]
pub enum Flow {
    /// Images or feature maps, `[batch, channels, h, w]`.
    Maps(Tensor<4>),
    /// Tokens, `[batch, tokens, dim]`.
    Tokens(Tensor<3>),
    /// Features, `[batch, dim]`.
    Features(Tensor<2>),
}

/// The same for the tensor of each kind.
macro_rules! each {
    ($flow:expr, $x:ident => $body:expr) => {
        match $flow {
            Flow::Maps($x) => Flow::Maps($body),
            Flow::Tokens($x) => Flow::Tokens($body),
            Flow::Features($x) => Flow::Features($body),
        }
    };
}

impl Flow {
    /// A leaf of a new graph with these values.
    #[must_use]
    pub fn leaf(self) -> Self {
        each!(self, x => x.without_autodiff().autodiff().require_grad())
    }

    /// Its gradient in `grads`, of a graph in which it is a leaf.
    pub fn take_gradient(&self, grads: &mut Gradients) -> Option<Self> {
        Some(each!(self, x => x.grad_remove(grads)?))
    }

    /// The sum of products with `gradient`, `[1]`: what has it for its gradient.
    pub fn dot(self, gradient: Self) -> Tensor<1> {
        match (self, gradient) {
            (Self::Maps(x), Self::Maps(g)) => (x * g).sum(),
            (Self::Tokens(x), Self::Tokens(g)) => (x * g).sum(),
            (Self::Features(x), Self::Features(g)) => (x * g).sum(),
            _ => unreachable!("a gradient is of the kind of what it is of"),
        }
    }

    pub(super) fn maps(self) -> Tensor<4> {
        match self {
            Self::Maps(x) => x,
            _ => unreachable!("stages are run in order"),
        }
    }

    pub(super) fn tokens(self) -> Tensor<3> {
        match self {
            Self::Tokens(x) => x,
            _ => unreachable!("stages are run in order"),
        }
    }

    /// What the last stage gives.
    pub fn features(self) -> Tensor<2> {
        match self {
            Self::Features(x) => x,
            _ => unreachable!("all stages have run"),
        }
    }
}
