//! A file in opset 21, which int4 needs, where that changes nothing else.
//!
//! Owns: which operators mean something else in 21 than in 13 to 20. The list is complete for the standard operators:
//! all whose schema has a version from 14 to 21 were gone through
//! (<https://github.com/onnx/onnx/blob/main/docs/Changelog.md>); the others among them only take more types, or new
//! attributes and inputs whose absence means what it was before. Does not know: weights.

use super::standard;
use crate::onnx::{ModelProto, NodeProto};
use crate::quantize::QuantizeError;

/// The first opset with int4 tensors,
const INT4_OPSET: i64 = 21;
/// and the first IR version with them.
const INT4_IR: i64 = 10;

/// Whether a node's text from `since` on would mean something else, or nothing.
struct Change {
    op: &'static str,
    since: i64,
    differs: fn(&NodeProto) -> bool,
}

const fn change(op: &'static str, since: i64, differs: fn(&NodeProto) -> bool) -> Change {
    Change { op, since, differs }
}

const CHANGES: [Change; 16] = [
    // Training became an attribute; its further outputs went.
    change("BatchNormalization", 14, |node| node.output.iter().filter(|o| !o.is_empty()).count() > 1),
    // The default of where pixels lie moved by half of one.
    change("RoiAlign", 16, |_| true),
    // Axes became an input.
    change("ReduceL1", 18, has_axes),
    change("ReduceL2", 18, has_axes),
    change("ReduceLogSum", 18, has_axes),
    change("ReduceLogSumExp", 18, has_axes),
    change("ReduceMax", 18, has_axes),
    change("ReduceMean", 18, has_axes),
    change("ReduceMin", 18, has_axes),
    change("ReduceProd", 18, has_axes),
    change("ReduceSumSquare", 18, has_axes),
    // Equal parts must be counted.
    change("Split", 18, |node| node.input.get(1).is_none_or(String::is_empty)),
    // What the last window of a row divides by.
    change("AveragePool", 19, |node| node.int("ceil_mode").unwrap_or(0) != 0),
    // The axis became an input.
    change("DFT", 20, |_| true),
    // Modes were renamed.
    change("GridSample", 20, |_| true),
    // Scale and bias are per channel, not per group.
    change("GroupNormalization", 21, |_| true),
];

fn has_axes(node: &NodeProto) -> bool {
    node.attribute("axes").is_some()
}

/// Raises the opset to 21 where it is lower.
pub(super) fn raise_for_int4(model: &mut ModelProto) -> Result<(), QuantizeError> {
    let from = model.opset();
    let nodes = model.graph.iter().flat_map(|graph| &graph.node).filter(|node| standard(node));
    for node in nodes {
        let differs = |c: &&Change| c.op == node.op_type() && from < c.since && (c.differs)(node);
        if CHANGES.iter().any(|c| differs(&c)) {
            return Err(QuantizeError::Refused {
                node: node.label(),
                what: "means something else in opset 21, which int4 needs; convert the fp32 file first \
                       (onnx.version_converter), or store weights as int8",
            });
        }
    }
    if from < INT4_OPSET {
        let standard = model.opset_import.iter_mut().filter(|i| matches!(i.domain(), "" | "ai.onnx"));
        standard.for_each(|import| import.version = Some(INT4_OPSET));
    }
    model.ir_version = Some(model.ir_version().max(INT4_IR));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{GraphProto, OperatorSetIdProto};

    fn raised(node: NodeProto, from: i64) -> Result<ModelProto, String> {
        let graph = Some(GraphProto { node: vec![node], ..Default::default() });
        let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(from) }];
        let mut model = ModelProto { ir_version: Some(8), graph, opset_import, ..Default::default() };
        raise_for_int4(&mut model).map_err(|e| e.to_string())?;
        Ok(model)
    }

    #[test]
    fn what_would_mean_something_else_is_refused_by_name() {
        let node = |op: &str| NodeProto::new(op, "it", &["x"], &["y"]);
        let refused = [
            (node("ReduceMean").with_ints("axes", &[2]), 17),
            (node("Split"), 13),
            (node("AveragePool").with_int("ceil_mode", 1), 18),
            (node("GroupNormalization"), 20),
            (node("RoiAlign"), 15),
        ];
        for (node, from) in refused {
            let error = raised(node.clone(), from).unwrap_err();
            assert!(error.starts_with(&format!("{} `it` means something else", node.op_type())), "{error}");
        }
        let kept = [
            (node("ReduceMean"), 17),
            (node("ReduceSum").with_ints("axes", &[2]), 17),
            (NodeProto::new("Split", "", &["x", "sizes"], &["y"]), 13),
            (node("AveragePool"), 13),
            (node("Conv"), 13),
            (node("RoiAlign"), 16),
        ];
        for (node, from) in kept {
            let model = raised(node, from).unwrap();
            assert_eq!((model.opset(), model.ir_version()), (21, 10));
        }
        assert_eq!(raised(node("Split"), 22).unwrap().opset(), 22);
    }
}
