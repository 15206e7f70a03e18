//! A graph under construction.

use super::proto::{
    AttributeProto, DimensionProto, FLOAT, FLOAT16, GraphProto, INT64, NodeProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use half::f16;
use std::collections::HashSet;

/// The name of a value in the graph.
///
/// Every node has one output, which is named like the node: by layer path, or as the file's output that
/// it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value(String);

impl Value {
    /// The value of that name.
    pub(super) fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The absence of an optional input.
    pub(super) fn absent() -> Self {
        Self(String::new())
    }
}

/// An axis of a value at the graph's border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// Of this length.
    Of(usize),
    /// Of any length; equal names mean equal lengths.
    Free(&'static str),
}

/// Name, element type and shape of an input or output.
pub(super) struct Border {
    /// The value's name.
    pub(super) name: String,
    /// One of ONNX's data types.
    pub(super) kind: i32,
    /// Its shape.
    pub(super) axes: Vec<Axis>,
}

/// Nodes and weights in the order in which the layers emitted them.
#[derive(Default)]
pub(super) struct Graph {
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
}

impl Graph {
    /// Appends an operation called `name` and gives its output.
    pub(super) fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&Value],
        attributes: Vec<AttributeProto>,
    ) -> Value {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: op.to_owned(),
            attribute: attributes,
        });
        Value::named(name)
    }

    /// Stores `data`, row-major of `shape` (empty for a scalar), under `name`.
    pub(super) fn initializer(&mut self, name: &str, shape: &[usize], data: &[f32]) -> Value {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len(), "{name}");
        let raw_data = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        let dims = shape.iter().map(|&n| n as i64).collect();
        self.store(name, FLOAT, dims, raw_data)
    }

    /// Stores `data` in 16 bits under `<name>.f16`, and as `name` gives it back in 32. The caller has made
    /// sure that 16 bits can hold them.
    pub(super) fn halves(&mut self, name: &str, shape: &[usize], data: &[f32]) -> Value {
        let halves = data.iter().map(|&x| f16::from_f32(x));
        let raw_data = halves.flat_map(|x| x.to_le_bytes()).collect();
        let dims = shape.iter().map(|&n| n as i64).collect();
        let stored = self.store(&format!("{name}.f16"), FLOAT16, dims, raw_data);
        self.cast(name, FLOAT, &stored)
    }

    /// Stores a list of integers, such as a shape, under `name`.
    pub(super) fn integers(&mut self, name: &str, values: &[i64]) -> Value {
        self.whole_numbers(name, vec![values.len() as i64], values)
    }

    /// Stores one integer under `name`.
    pub(super) fn integer(&mut self, name: &str, value: i64) -> Value {
        self.whole_numbers(name, Vec::new(), &[value])
    }

    /// `x` as numbers of `kind`, one of ONNX's data types, called `name`.
    pub(super) fn cast(&mut self, name: &str, kind: i32, x: &Value) -> Value {
        let to = AttributeProto::int("to", i64::from(kind));
        self.node("Cast", name, &[x], vec![to])
    }

    fn whole_numbers(&mut self, name: &str, dims: Vec<i64>, values: &[i64]) -> Value {
        let raw_data = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.store(name, INT64, dims, raw_data)
    }

    /// Stores little-endian values under `name`.
    pub(super) fn store(
        &mut self,
        name: &str,
        kind: i32,
        dims: Vec<i64>,
        raw_data: Vec<u8>,
    ) -> Value {
        self.initializers.push(TensorProto {
            dims,
            data_type: kind,
            name: name.to_owned(),
            raw_data,
            ..TensorProto::default()
        });
        Value::named(name)
    }

    /// The finished graph with its borders, without what no output needs.
    pub(super) fn finish(mut self, name: &str, input: &Border, outputs: &[Border]) -> GraphProto {
        self.prune(outputs);
        GraphProto {
            node: self.nodes,
            name: name.to_owned(),
            initializer: self.initializers,
            input: vec![input.info()],
            output: outputs.iter().map(Border::info).collect(),
        }
    }

    /// Drops operations and weights that `outputs` do not depend on.
    fn prune(&mut self, outputs: &[Border]) {
        let mut needed: HashSet<String> =
            outputs.iter().map(|output| output.name.clone()).collect();
        // Every operation stands after those that it reads from.
        let mut kept = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.drain(..).rev() {
            if node.output.iter().any(|output| needed.contains(output)) {
                needed.extend(node.input.iter().cloned());
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.initializers
            .retain(|weight| needed.contains(&weight.name));
    }
}

impl Border {
    fn info(&self) -> ValueInfoProto {
        let axes = self.axes.iter().map(|axis| match *axis {
            Axis::Of(length) => DimensionProto {
                dim_value: Some(length as i64),
                dim_param: None,
            },
            Axis::Free(name) => DimensionProto {
                dim_param: Some(name.to_owned()),
                dim_value: None,
            },
        });
        ValueInfoProto {
            name: self.name.clone(),
            r#type: Some(TypeProto {
                tensor_type: Some(TensorTypeProto {
                    elem_type: self.kind,
                    shape: Some(TensorShapeProto {
                        dim: axes.collect(),
                    }),
                }),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_output_needs_is_dropped() {
        let mut graph = Graph::default();
        let image = Value::named("image");
        let weight = graph.initializer("used", &[2], &[1.0, 2.0]);
        let x = graph.node("Mul", "x", &[&image, &weight], vec![]);
        let spare = graph.initializer("spare", &[], &[3.0]);
        graph.node("Mul", "y", &[&x, &spare], vec![]);
        let border = |name: &str| Border {
            name: name.to_owned(),
            kind: FLOAT,
            axes: vec![Axis::Free("batch"), Axis::Of(2)],
        };
        let finished = graph.finish("test", &border("image"), &[border("x")]);
        assert_eq!(finished.node.len(), 1);
        assert_eq!(finished.initializer.len(), 1);
        assert_eq!(finished.initializer[0].name, "used");
    }

    #[test]
    fn halves_are_rounded_and_cast_back() {
        let mut graph = Graph::default();
        graph.halves("w", &[2, 1], &[1.0, 1.0 + 1.0 / 4096.0]);
        assert_eq!(graph.initializers[0].name, "w.f16");
        assert_eq!(graph.initializers[0].raw_data, [0, 0x3c, 0, 0x3c]);
        assert_eq!(
            (&*graph.nodes[0].op_type, &*graph.nodes[0].name),
            ("Cast", "w")
        );
    }
}
