//! What analysis wants to know beyond the detections of the whole frame: "run model role R on this region, rotated
//! so, by then". The answer comes in a later observation. Analysis does not know who runs it.

use crate::{BBox, Detection, Pts};

/// Names a want within one scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WantId(pub u64);

/// What a model is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Gives boxes.
    Detector,
    /// Gives key points of one person.
    Pose,
    /// Gives a feature vector.
    Features,
    /// Gives scores of attributes.
    Classifier,
}

/// A turn of the picture before the model sees it, clockwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Rotation {
    /// As captured.
    #[default]
    None,
    /// A quarter to the right.
    Clockwise90,
    /// Upside down.
    Half,
    /// A quarter to the left.
    CounterClockwise90,
}

/// Which part of a frame a model looks at, and how it is turned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The part, 0..1 of the picture; what reaches beyond is padding.
    pub region: BBox,
    /// How it is turned.
    pub rotation: Rotation,
}

impl View {
    /// The whole picture as captured.
    pub const WHOLE: Self = Self { region: BBox::FULL, rotation: Rotation::None };
}

/// One request of analysis.
#[derive(Clone, Debug, PartialEq)]
pub struct Want {
    /// Comes back in the [`Answer`].
    pub id: WantId,
    /// Which model.
    pub role: Role,
    /// On what.
    pub view: View,
    /// After this it is of no use.
    pub by: Pts,
}

/// What a model said.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerValue {
    /// Boxes, in coordinates of the whole, unturned picture.
    Detections(Vec<Detection>),
    /// A vector: key points, features or scores, as the role says.
    Vector(Vec<f32>),
    /// It could not be had: no such model, too late, or overload.
    Unavailable,
}

/// The answer to one [`Want`].
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Which want.
    pub id: WantId,
    /// The frame that was looked at.
    pub pts: Pts,
    /// What was said.
    pub value: AnswerValue,
}
