//! Fields of onnx.proto.

pub(crate) const MODEL_GRAPH: u64 = 7;
pub(crate) const MODEL_OPSET: u64 = 8;
pub(crate) const MODEL_METADATA: u64 = 14;
pub(crate) const GRAPH_NODE: u64 = 1;
pub(crate) const GRAPH_WEIGHT: u64 = 5;
pub(crate) const GRAPH_INPUT: u64 = 11;
pub(crate) const GRAPH_OUTPUT: u64 = 12;
pub(crate) const GRAPH_DECLARED: u64 = 13;
pub(crate) const NODE_INPUT: u64 = 1;
pub(crate) const NODE_OUTPUT: u64 = 2;
pub(crate) const NODE_NAME: u64 = 3;
pub(crate) const NODE_OP: u64 = 4;
pub(crate) const NODE_ATTRIBUTE: u64 = 5;
pub(crate) const ATTRIBUTE_NAME: u64 = 1;
pub(crate) const ATTRIBUTE_INTS: u64 = 8;
pub(crate) const ATTRIBUTE_TYPE: u64 = 20;
pub(crate) const WEIGHT_DIMS: u64 = 1;
pub(crate) const WEIGHT_TYPE: u64 = 2;
pub(crate) const WEIGHT_NAME: u64 = 8;
pub(crate) const WEIGHT_RAW: u64 = 9;
pub(crate) const WEIGHT_EXTERNAL: u64 = 13;
pub(crate) const WEIGHT_LOCATION: u64 = 14;
pub(crate) const BORDER_TYPE: u64 = 2;
