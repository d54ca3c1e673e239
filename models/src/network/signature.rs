//! Whether a session's inputs and outputs are those that the manifest describes.
//!
//! Owns: this comparison. Does not know: what flows through them.

use ort::session::Session;
use ort::value::{TensorElementType, ValueType};

use super::ModelError;
use crate::families::InputSize;
use crate::manifest::{InputSpec, Manifest};
use crate::tensor::element_type;

pub(super) fn check_input(
    manifest: &Manifest,
    spec: &InputSpec,
    session: &Session,
) -> Result<(), ModelError> {
    let wanted = spec.shape();
    let ty = element_type(spec.element);
    let name = spec.name.as_deref();
    let expected =
        format!("one tensor {}of {ty} {wanted:?}", name.map(|n| format!("`{n}` ")).unwrap_or_default());
    let found = match session.inputs() {
        [only] => match only.dtype() {
            ValueType::Tensor { ty: found, shape, .. }
                if *found == ty
                    && name.is_none_or(|name| only.name() == name)
                    && shape.len() == wanted.len()
                    && shape.iter().zip(wanted).all(|(found, w)| *found == w || *found == -1) =>
            {
                return Ok(());
            }
            other => format!("`{}` of {other}", only.name()),
        },
        several => format!("{} inputs", several.len()),
    };
    let (model, what) = (manifest.name().to_owned(), "the input".to_owned());
    Err(ModelError::Shape { model, what, expected, found })
}

pub(super) fn check_outputs(manifest: &Manifest, session: &Session) -> Result<(), ModelError> {
    let shapes: Vec<(String, Vec<i64>)> = session
        .outputs()
        .iter()
        .filter(|outlet| outlet.dtype().tensor_type() == Some(TensorElementType::Float32))
        .filter_map(|outlet| Some((outlet.name().to_owned(), outlet.dtype().tensor_shape()?.to_vec())))
        .collect();
    let spec = manifest.input();
    let size = InputSize { width: spec.width, height: spec.height };
    manifest.family().check(&shapes, manifest.labels().len(), size).map_err(|mismatch| ModelError::Shape {
        model: manifest.name().to_owned(),
        what: format!("output `{}`", mismatch.output),
        expected: mismatch.expected,
        found: mismatch.found,
    })
}
