//! Who writes and who reads each value of a graph.
//!
//! Owns: names to nodes, and an order in which nodes can run. Does not know: what they compute.

use std::collections::{BTreeMap, HashMap};

use super::{GraphProto, TensorProto};

/// The wiring of one graph, by index of its nodes; made anew after each change of it.
#[derive(Debug, Default)]
pub(crate) struct Wiring<'a> {
    /// The node that writes a value.
    pub writer: HashMap<&'a str, usize>,
    /// The nodes that read it, each once for every input, in the order of the file.
    pub readers: HashMap<&'a str, Vec<usize>>,
    /// Constants of the file.
    pub constants: HashMap<&'a str, &'a TensorProto>,
}

impl<'a> Wiring<'a> {
    pub(crate) fn new(graph: &'a GraphProto) -> Self {
        let mut wiring = Self::default();
        for (at, node) in graph.node.iter().enumerate() {
            for output in node.output.iter().filter(|name| !name.is_empty()) {
                wiring.writer.insert(output, at);
            }
            for input in node.input.iter().filter(|name| !name.is_empty()) {
                wiring.readers.entry(input).or_default().push(at);
            }
        }
        wiring.constants = graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect();
        wiring
    }

    /// How often nodes read a value; graph outputs are not counted.
    pub(crate) fn reader_count(&self, value: &str) -> usize {
        self.readers.get(value).map_or(0, Vec::len)
    }
}

/// The nodes in an order in which each comes after those it reads from; of several possible ones the order of the
/// file. Else the nodes of a circle.
pub(crate) fn sorted(graph: &GraphProto) -> Result<Vec<usize>, Vec<usize>> {
    let wiring = Wiring::new(graph);
    let sources = |at: usize| graph.node[at].input.iter().filter_map(|name| wiring.writer.get(name.as_str()));
    let mut waits: BTreeMap<usize, usize> =
        (0..graph.node.len()).map(|at| (at, sources(at).count())).collect();
    let mut ready: std::collections::BTreeSet<usize> =
        waits.iter().filter(|(_, count)| **count == 0).map(|(at, _)| *at).collect();
    let mut order = Vec::with_capacity(graph.node.len());
    while let Some(at) = ready.pop_first() {
        order.push(at);
        waits.remove(&at);
        let outputs =
            graph.node[at].output.iter().filter(|name| wiring.writer.get(name.as_str()) == Some(&at));
        for reader in outputs.filter_map(|name| wiring.readers.get(name.as_str())).flatten() {
            if let Some(count) = waits.get_mut(reader) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    ready.insert(*reader);
                }
            }
        }
    }
    if waits.is_empty() { Ok(order) } else { Err(waits.into_keys().collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::NodeProto;

    #[test]
    fn nodes_come_after_what_they_read() {
        let node = |reads: &str, writes: &str| NodeProto::new("Add", "", &[reads, reads], &[writes]);
        let graph = |nodes: Vec<NodeProto>| GraphProto { node: nodes, ..Default::default() };
        let backwards = graph(vec![node("b", "c"), node("a", "b"), node("in", "a")]);
        assert_eq!(sorted(&backwards), Ok(vec![2, 1, 0]));
        let circle = graph(vec![node("in", "a"), node("c", "b"), node("b", "c")]);
        assert_eq!(sorted(&circle), Err(vec![1, 2]));
        assert_eq!(Wiring::new(&backwards).reader_count("a"), 2);
    }
}
