//! Detector families: how the raw outputs of a network become boxes. A new one is one file in `families/` plus one
//! word in the list below.
//!
//! Owns: the seam between sessions and families. Does not know: ONNX Runtime, frames, manifests' other keys.

use std::fmt;

use vedette_core::registry::{UnknownKind, find};

pub mod nms;

vedette_core::registry! { dyn Family: nanodet, }

/// One output of a network, as a session hands it over.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// The graph's name for it.
    pub name: &'a str,
    /// Its axes.
    pub shape: &'a [i64],
    /// Its values, last axis fastest.
    pub data: &'a [f32],
}

/// What decoding keeps.
#[derive(Clone, Debug)]
pub struct Keep {
    /// Scores from here on.
    pub min_score: f32,
    /// Per class: whether it is wanted. Shorter than the classes means the rest is not.
    pub classes: Vec<bool>,
    /// Of two boxes of one class that overlap by more than this, the weaker one goes.
    pub nms_iou: f32,
    /// At most so many boxes, strongest first.
    pub limit: usize,
}

/// One box in the coordinates of the network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawBox {
    /// Index of the label.
    pub class: usize,
    /// 0..1.
    pub score: f32,
    /// Left, top, right, bottom in input pixels.
    pub xyxy: [f32; 4],
}

/// A family's outputs that are not as they must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("output `{output}` should be {expected}, is {found}")]
pub struct ShapeMismatch {
    /// The graph's name for it.
    pub output: String,
    /// In words.
    pub expected: String,
    /// In words.
    pub found: String,
}

/// Turns a network's outputs into boxes. Pure.
pub trait Family: fmt::Debug + Send + Sync {
    /// The outputs that [`Family::decode`] takes, in its order.
    fn outputs(&self) -> Vec<&str>;

    /// Whether outputs of these names and shapes (-1 = any) can be decoded for `labels` classes; asked once at load.
    fn check(&self, outputs: &[(String, Vec<i64>)], labels: usize) -> Result<(), ShapeMismatch>;

    /// Boxes after thresholds and suppression, strongest first. NaN and infinite values count as no box.
    fn decode(&self, outputs: &[Output<'_>], keep: &Keep) -> Result<Vec<RawBox>, ShapeMismatch>;
}

/// Why a `[family]` table is none.
#[derive(Debug, thiserror::Error)]
pub enum FamilyError {
    /// It does not say which.
    #[error("family.kind: missing; there are: {0}")]
    NoKind(String),
    /// It names one that there is not.
    #[error("family.kind: {0}")]
    Unknown(#[from] UnknownKind),
    /// The rest of it is wrong.
    #[error("family: {0}")]
    Invalid(String),
}

/// Builds the family that a manifest's `[family]` table describes: `kind` and what that kind takes.
pub fn build(mut table: toml::Table) -> Result<Box<dyn Family>, FamilyError> {
    let known = || ALL.iter().map(|k| k.name).collect::<Vec<_>>().join(", ");
    let Some(toml::Value::String(kind)) = table.remove("kind") else {
        return Err(FamilyError::NoKind(known()));
    };
    let kind = find(ALL, &kind)?;
    (kind.parse)(&mut <dyn erased_serde::Deserializer<'_>>::erase(toml::Value::Table(table)))
        .map_err(|e| FamilyError::Invalid(e.to_string().trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_is_wrong_with_it() {
        struct Case(&'static str, &'static str);
        let cases = [
            Case("", "family.kind: missing; there are: nanodet"),
            Case("kind = 'yolo'", "family.kind: no kind `yolo`; there are: nanodet"),
            Case("kind = 'nanodet'\nbox = 'b'", "family: unknown field `box`"),
        ];
        for Case(text, message) in cases {
            let error = build(text.parse().unwrap()).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
        assert_eq!(build("kind = 'nanodet'".parse().unwrap()).unwrap().outputs(), ["boxes", "scores"]);
    }
}
