//! A graph under construction.

use super::proto::{
    AttributeProto, DimensionProto, FLOAT, GraphProto, INT64, NodeProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

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
        self.initializers.push(TensorProto {
            dims: shape.iter().map(|&n| n as i64).collect(),
            data_type: FLOAT,
            name: name.to_owned(),
            raw_data: data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        });
        Value::named(name)
    }

    /// Stores a list of integers, such as a shape, under `name`.
    pub(super) fn integers(&mut self, name: &str, values: &[i64]) -> Value {
        self.whole_numbers(name, vec![values.len() as i64], values)
    }

    /// Stores one integer under `name`.
    pub(super) fn integer(&mut self, name: &str, value: i64) -> Value {
        self.whole_numbers(name, Vec::new(), &[value])
    }

    fn whole_numbers(&mut self, name: &str, dims: Vec<i64>, values: &[i64]) -> Value {
        self.initializers.push(TensorProto {
            dims,
            data_type: INT64,
            name: name.to_owned(),
            raw_data: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        });
        Value::named(name)
    }

    /// The finished graph with its borders: name and shape after the batch axis.
    pub(super) fn finish(
        self,
        name: &str,
        input: (&str, &[usize]),
        outputs: &[(String, usize)],
    ) -> GraphProto {
        GraphProto {
            node: self.nodes,
            name: name.to_owned(),
            initializer: self.initializers,
            input: vec![border(input.0, input.1)],
            output: outputs
                .iter()
                .map(|(name, width)| border(name, &[*width]))
                .collect(),
        }
    }
}

/// An `f32` tensor whose first axis is the free `batch`.
fn border(name: &str, shape: &[usize]) -> ValueInfoProto {
    let batch = DimensionProto {
        dim_param: Some("batch".to_owned()),
        dim_value: None,
    };
    let known = shape.iter().map(|&n| DimensionProto {
        dim_value: Some(n as i64),
        dim_param: None,
    });
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: FLOAT,
                shape: Some(TensorShapeProto {
                    dim: std::iter::once(batch).chain(known).collect(),
                }),
            }),
        }),
    }
}
