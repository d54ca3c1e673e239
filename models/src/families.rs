//! Families: how the raw outputs of a network become boxes, key points, scores or features. A new one is one file in
//! `families/` plus one word in the list below.
//!
//! Owns: the seam between sessions and families. Does not know: ONNX Runtime, frames, manifests' other keys.

use std::fmt;

use vedette_core::Role;
use vedette_core::registry::{Kind, UnknownKind, find};

mod activation;
mod candidates;
mod grid;
pub mod nms;
mod shape;

vedette_core::registry! {
    dyn Family:
    nanodet, nanodet_plus, yolox, yolo, yolo_end2end, ssd, detr, movenet, simcc, heatmap, classifier, features,
}

/// Width and height of a network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputSize {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
}

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

/// One key point in the coordinates of the network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawPoint {
    /// Input pixels from the left.
    pub x: f32,
    /// Input pixels from the top.
    pub y: f32,
    /// 0..1; 0 for a point that is not there.
    pub score: f32,
}

/// One map (or, with one row and one column, one vector) of features.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMap {
    /// The graph's name for it.
    pub name: String,
    /// How many values each place has.
    pub channels: usize,
    /// Places from top to bottom.
    pub rows: usize,
    /// Places from left to right.
    pub columns: usize,
    /// `channels` planes of `rows` x `columns`; NaN and infinite values as 0.
    pub data: Vec<f32>,
}

/// What a network says, by its role.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// A detector's: after thresholds and suppression, strongest first.
    Boxes(Vec<RawBox>),
    /// A pose estimator's: one point per label, in their order.
    Pose(Vec<RawPoint>),
    /// A classifier's: one score 0..1 per label, in their order.
    Scores(Vec<f32>),
    /// A feature extractor's, in the order of [`Family::outputs`].
    Features(Vec<FeatureMap>),
}

/// What outputs of some shapes could be.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// The `[family]` table of a manifest, `kind` included.
    pub table: toml::Table,
    /// How many labels the manifest needs.
    pub labels: usize,
    /// What such a network is used for.
    pub role: Role,
    /// How far the shapes are from being this kind's alone: 0 hardly anything else looks so.
    pub doubt: u8,
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

/// Turns a network's outputs into what they mean. Pure; no content of a tensor makes it panic.
pub trait Family: fmt::Debug + Send + Sync {
    /// What networks of this family are used for; decides the variant of [`Decoded`].
    fn role(&self) -> Role;

    /// The outputs that [`Family::decode`] takes, in its order.
    fn outputs(&self) -> Vec<&str>;

    /// Whether outputs of these names and shapes (-1 = any) can be decoded for `labels` labels (classes; a pose
    /// estimator's key points; none for features); asked once at load.
    fn check(
        &self,
        outputs: &[(String, Vec<i64>)],
        labels: usize,
        input: InputSize,
    ) -> Result<(), ShapeMismatch>;

    /// The meaning of one inference. NaN and infinite values count as not there. `keep` concerns boxes alone.
    fn decode(&self, outputs: &[Output<'_>], input: InputSize, keep: &Keep)
    -> Result<Decoded, ShapeMismatch>;

    /// Whether outputs of these names and shapes look like this kind; asked of its default configuration.
    fn guess(&self, outputs: &[(String, Vec<i64>)], input: InputSize) -> Option<Guess>;
}

/// The kinds that outputs of these names and shapes (-1 = any) look like, the likeliest first. Empty: none does.
pub fn guess(outputs: &[(String, Vec<i64>)], input: InputSize) -> Vec<Guess> {
    let ask = |kind: &Kind<dyn Family>| {
        let mut guess = by_default(kind).ok()?.guess(outputs, input)?;
        guess.table.insert("kind".to_owned(), kind.name.into());
        Some(guess)
    };
    let mut guesses: Vec<Guess> = ALL.iter().filter_map(ask).collect();
    guesses.sort_by_key(|guess| guess.doubt);
    guesses
}

fn by_default(kind: &Kind<dyn Family>) -> Result<Box<dyn Family>, erased_serde::Error> {
    let empty = toml::Value::Table(toml::Table::new());
    (kind.parse)(&mut <dyn erased_serde::Deserializer<'_>>::erase(empty))
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
#[path = "families_tests.rs"]
mod tests;
