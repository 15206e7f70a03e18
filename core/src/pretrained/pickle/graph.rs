//! What a pickle describes: nodes, and a way to look at them.

/// The number of a node in its [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(pub(super) u32);

/// A value of a pickle; its parts are other nodes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer that `i64` cannot hold.
    Long,
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function: only its name.
    Global {
        module: String,
        name: String,
    },
    /// What the file keeps outside the pickle, by its identifier.
    Persistent(Id),
    /// A call or a construction that was not made.
    Object(Box<Object>),
}

/// What was to be called, and what was to be put into the result.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    pub(super) class: Id,
    pub(super) args: Id,
    pub(super) state: Option<Id>,
    pub(super) elements: Vec<Id>,
    pub(super) items: Vec<(Id, Id)>,
}

/// All nodes of a pickle.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Id,
}

impl Graph {
    /// The value that the pickle stands for.
    pub(crate) fn root(&self) -> Value<'_> {
        Value {
            graph: self,
            id: self.root,
        }
    }

    /// The identifiers of everything outside the pickle.
    pub(crate) fn persistent(&self) -> impl Iterator<Item = Value<'_>> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Persistent(id) => Some(Value {
                graph: self,
                id: *id,
            }),
            _ => None,
        })
    }
}

/// A node seen in its graph. Accessors give none where the value is of another kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'a> {
    graph: &'a Graph,
    id: Id,
}

impl<'a> Value<'a> {
    fn at(self, id: Id) -> Self {
        Self { id, ..self }
    }

    fn node(self) -> &'a Node {
        // Invariant: the machine hands out numbers of nodes it has made.
        &self.graph.nodes[self.id.0 as usize]
    }

    /// A truth value.
    pub(crate) fn bool(self) -> Option<bool> {
        match self.node() {
            Node::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer.
    pub(crate) fn int(self) -> Option<i64> {
        match self.node() {
            Node::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer from 0 up.
    pub(crate) fn size(self) -> Option<usize> {
        self.int().and_then(|value| usize::try_from(value).ok())
    }

    /// A number.
    pub(crate) fn float(self) -> Option<f64> {
        match self.node() {
            Node::Float(value) => Some(*value),
            Node::Int(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// A string.
    pub(crate) fn text(self) -> Option<&'a str> {
        match self.node() {
            Node::Text(value) => Some(value),
            _ => None,
        }
    }

    /// The elements of a tuple or list.
    pub(crate) fn elements(self) -> Option<impl ExactSizeIterator<Item = Value<'a>>> {
        match self.node() {
            Node::Tuple(ids) | Node::List(ids) => Some(ids.iter().map(move |&id| self.at(id))),
            _ => None,
        }
    }

    /// The elements of a tuple or list of sizes.
    pub(crate) fn sizes(self) -> Option<Vec<usize>> {
        self.elements()?.map(Value::size).collect()
    }

    /// Element `index` of a tuple or list.
    pub(crate) fn element(self, index: usize) -> Option<Value<'a>> {
        self.elements()?.nth(index)
    }

    /// Keys and values of a dictionary, in order: of a plain one or one of Python's ordered, default
    /// and counting ones.
    pub(crate) fn entries(self) -> Option<Vec<(Value<'a>, Value<'a>)>> {
        let pairs = |items: &'a [(Id, Id)]| -> Vec<_> {
            items
                .iter()
                .map(|&(key, value)| (self.at(key), self.at(value)))
                .collect()
        };
        match self.node() {
            Node::Dict(items) => Some(pairs(items)),
            Node::Object(object) => {
                let ("collections", "OrderedDict" | "defaultdict" | "Counter") =
                    self.at(object.class).global()?
                else {
                    return None;
                };
                let mut entries = Vec::new();
                // Python 2 gave an ordered dictionary its items as an argument.
                let given = self
                    .at(object.args)
                    .element(0)
                    .and_then(|list| list.elements());
                for pair in given.into_iter().flatten() {
                    entries.push((pair.element(0)?, pair.element(1)?));
                }
                entries.extend(pairs(&object.items));
                Some(entries)
            }
            _ => None,
        }
    }

    /// What a dictionary has under the string `key`.
    pub(crate) fn get(self, key: &str) -> Option<Value<'a>> {
        let mut entries = self.entries()?.into_iter();
        entries
            .find(|(name, _)| name.text() == Some(key))
            .map(|(_, value)| value)
    }

    /// Module and name of a class or function.
    pub(crate) fn global(self) -> Option<(&'a str, &'a str)> {
        match self.node() {
            Node::Global { module, name } => Some((module.as_str(), name.as_str())),
            _ => None,
        }
    }

    /// Class and arguments of an object.
    pub(crate) fn object(self) -> Option<(Value<'a>, Value<'a>)> {
        match self.node() {
            Node::Object(object) => Some((self.at(object.class), self.at(object.args))),
            _ => None,
        }
    }

    /// Attribute `name` of an object.
    pub(crate) fn attribute(self, name: &str) -> Option<Value<'a>> {
        match self.node() {
            Node::Object(object) => self.at(object.state?).get(name),
            _ => None,
        }
    }

    /// The identifier of what is outside the pickle.
    pub(crate) fn persistent(self) -> Option<Value<'a>> {
        match self.node() {
            Node::Persistent(id) => Some(self.at(*id)),
            _ => None,
        }
    }

    /// What kind of value this is, for messages.
    pub(crate) fn kind(self) -> String {
        let name = match self.node() {
            Node::None => "None",
            Node::Bool(_) => "a bool",
            Node::Int(_) | Node::Long => "an int",
            Node::Float(_) => "a float",
            Node::Text(_) => "a str",
            Node::Bytes(_) => "bytes",
            Node::Tuple(_) => "a tuple",
            Node::List(_) => "a list",
            Node::Set(_) => "a set",
            Node::Dict(_) => "a dict",
            Node::Global { .. } => "a class or function",
            Node::Persistent(_) => "a tensor's storage",
            Node::Object(object) => {
                return match self.at(object.class).global() {
                    Some((module, name)) => format!("an object of {module}.{name}"),
                    None => "an object".into(),
                };
            }
        };
        name.into()
    }
}
