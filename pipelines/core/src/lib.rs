//! The nouns that flow through Vedette: cameras, times, frames, detections, tracks, events and the geometry
//! between them; besides them the three things every room needs: the clock, the shutdown signal and the registry.
//!
//! Owns: the types in which the rooms talk to each other. Does not know: GStreamer, ONNX Runtime, MQTT, files,
//! configuration, threads. A type that only one room needs lives in that room.
#![forbid(unsafe_code)]

pub mod clock;
pub mod detection;
pub mod event;
pub mod evidence;
pub mod frame;
pub mod geometry;
pub mod ids;
pub mod name;
pub mod registry;
pub mod secret;
pub mod shutdown;
pub mod span;
pub mod time;
pub mod track;
pub mod want;

pub use clock::{Clock, Mono, SimulatedClock, SystemClock};
pub use detection::{Class, Detection};
pub use event::{Direction, EndedBy, Event, EvidenceNames, ObjectSummary, Phase, Severity, SpeedUnit};
pub use evidence::{Evidence, EvidenceKind};
pub use frame::{Frame, FrameBytes, Matrix, PixelFormat, Plane, Range};
pub use geometry::{BBox, Point, Polygon, Polyline};
pub use ids::IncidentIds;
pub use name::{CameraId, Name, NameError};
pub use registry::Kind;
pub use secret::Secret;
pub use shutdown::Shutdown;
pub use span::Span;
pub use time::{ClockSource, Moment, Pts};
pub use track::{Track, TrackId};
pub use want::{Answer, AnswerValue, Role, Rotation, View, Want, WantId};

#[doc(hidden)]
pub use {erased_serde as __erased_serde, schemars as __schemars};
