//! Whether the operations of another program's file can be done in some order.
//!
//! ONNX asks that they stand in it, which not every program keeps to and ONNX Runtime does not need. What waits for its
//! own result can be done in none; tract runs it nevertheless. (Of our own files each value must be there before it is
//! read, see [`super::shapes`].) What a graph inside an operation reads from outside is left to the engine.

use super::network::{Network, Refusal};
use std::collections::BTreeMap;

/// Refuses values that are computed twice and operations that wait for themselves.
pub(super) fn check(network: &Network<'_>) -> Result<(), Refusal> {
    let nodes = &network.nodes;
    let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, node) in nodes.iter().enumerate() {
        // Nameless ones are not wanted.
        for &output in node.outputs.iter().filter(|output| !output.is_empty()) {
            if makers.insert(output, number).is_some() {
                return Err(Refusal::new(format!(
                    "the value `{output}` is computed twice"
                )));
            }
        }
    }
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    // Results that each has to wait for.
    let mut waits = vec![0_usize; nodes.len()];
    for (number, node) in nodes.iter().enumerate() {
        for maker in node.inputs.iter().filter_map(|input| makers.get(input)) {
            readers[*maker].push(number);
            waits[number] += 1;
        }
    }
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|&n| waits[n] == 0).collect();
    while let Some(done) = ready.pop() {
        for &reader in &readers[done] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push(reader);
            }
        }
    }
    match waits.iter().position(|&left| left > 0) {
        None => Ok(()),
        Some(stuck) => Err(Refusal::new(format!(
            "operation `{}` ({}) waits for its own result, or for one that does",
            nodes[stuck].name, nodes[stuck].op
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::network::Node;

    fn network<'a>(nodes: &[(&[&'a str], &'a str)]) -> Network<'a> {
        let nodes = nodes.iter().map(|(inputs, output)| Node {
            inputs: inputs.to_vec(),
            outputs: vec![output],
            ..Node::default()
        });
        Network {
            nodes: nodes.collect(),
            ..Network::default()
        }
    }

    #[test]
    fn any_order_will_do_but_none_will_not() {
        let fine = |nodes: &[(&[&'static str], &'static str)]| check(&network(nodes)).is_ok();
        assert!(fine(&[]));
        assert!(fine(&[(&["x"], "a"), (&["a", "x", "a"], "b")]));
        assert!(fine(&[(&["a", ""], "b"), (&["x"], "a")]));
        assert!(!fine(&[(&["a"], "a")]));
        assert!(!fine(&[(&["x"], "a"), (&["a", "c"], "b"), (&["b"], "c")]));
        assert!(!fine(&[(&["x"], "a"), (&["x"], "a")]));
        assert!(fine(&[(&["x"], ""), (&["x"], "")]));
    }
}
