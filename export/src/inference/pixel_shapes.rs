//! The operations that resize and crop inside the graph, where `image` has any size.
//!
//! What they compute depends on the image's size, so their shapes cannot be followed beforehand. They are
//! held to a vocabulary instead, and to a place: they come first, and what they make is the value `input`,
//! from which on the graph is like any other.

use super::network::{Attribute, Network, Node, Refusal};
use std::collections::BTreeSet;

/// What they make: `[batch, 3, crop, crop]`.
pub(super) const END: &str = "input";

/// The operations that they may be.
const VOCABULARY: [&str; 21] = [
    "Add",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Div",
    "Floor",
    "Gather",
    "Max",
    "Min",
    "Mul",
    "ReduceMin",
    "Reshape",
    "Resize",
    "Round",
    "Shape",
    "Slice",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
];

/// Most of them.
const MOST: usize = 100;

/// Whether a value belongs to them.
pub(super) fn is_part(name: &str) -> bool {
    name == END || name.starts_with("input.")
}

/// The operations up to the one that makes [`END`], and the others.
pub(super) fn split<'n, 'a>(
    nodes: &'n [Node<'a>],
) -> Result<(&'n [Node<'a>], &'n [Node<'a>]), Refusal> {
    let end = nodes.iter().position(|node| node.outputs.contains(&END));
    match end {
        Some(end) if end < MOST => Ok(nodes.split_at(end + 1)),
        _ => Err(Refusal::new(format!(
            "it takes images of any size, but no operation among its first {MOST} makes `{END}` of them"
        ))),
    }
}

/// Holds `nodes`, those of `network` that [`split`] gave, to what is known of them.
pub(super) fn check(nodes: &[Node<'_>], network: &Network<'_>) -> Result<(), Refusal> {
    let mut known: BTreeSet<&str> = network.inputs.iter().map(|input| input.name).collect();
    known.extend(network.weights.keys().copied());
    for node in nodes {
        let refuse = |reason: String| {
            Err(Refusal::new(format!(
                "operation `{}` ({}): {reason}",
                node.name, node.op
            )))
        };
        if !VOCABULARY.contains(&node.op) {
            return refuse("does not belong to resizing an image".to_owned());
        }
        // Resize leaves out what it does not need by naming nothing.
        let missing = |name: &&&str| !name.is_empty() && !known.contains(**name);
        if let Some(name) = node.inputs.iter().find(missing) {
            return refuse(format!("reads `{name}` before it is computed"));
        }
        let settings = node.attributes.iter();
        if let Some((name, _)) = settings
            .clone()
            .find(|(_, value)| **value == Attribute::Other)
        {
            return refuse(format!("has the setting `{name}`, which is not supported"));
        }
        let &[output] = node.outputs.as_slice() else {
            return refuse(format!("has {} outputs instead of one", node.outputs.len()));
        };
        if !is_part(output) || !known.insert(output) {
            return refuse(format!("makes `{output}`, which is not its own"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node<'a>(op: &'a str, inputs: &[&'a str], output: &'a str) -> Node<'a> {
        Node {
            op,
            name: output,
            inputs: inputs.to_vec(),
            outputs: vec![output],
            ..Node::default()
        }
    }

    fn checked(nodes: &[Node<'_>]) -> Result<usize, String> {
        let network = Network {
            inputs: vec![super::super::network::Border {
                name: "image",
                ..Default::default()
            }],
            ..Network::default()
        };
        let (resize, rest) = split(nodes).map_err(|refusal| refusal.reason)?;
        check(resize, &network).map_err(|refusal| refusal.reason)?;
        Ok(rest.len())
    }

    #[test]
    fn operations_before_the_input_are_held_to_their_vocabulary() {
        let shape = node("Shape", &["image"], "input.shape");
        let resize = node("Resize", &["image", "", "", "input.shape"], "input");
        let conv = node("Conv", &["input"], "a");
        assert_eq!(
            checked(&[shape.clone(), resize.clone(), conv.clone()]),
            Ok(1)
        );
        for (nodes, said) in [
            (vec![conv.clone()], "no operation among"),
            (vec![resize.clone()], "before it is computed"),
            (vec![conv, shape.clone(), resize.clone()], "does not belong"),
            (
                vec![shape.clone(), shape.clone(), resize.clone()],
                "not its own",
            ),
            (vec![node("Shape", &["image"], "b"), resize], "not its own"),
        ] {
            let message = checked(&nodes).expect_err(said);
            assert!(message.contains(said), "{message}");
        }
    }
}
