//! Models: ONNX Runtime sessions, detector families, pre-processing of planes, evaluation of models.
//!
//! Owns: everything between a [`vedette_core::Frame`] and its [`vedette_core::Detection`]s. Does not know: cameras,
//! GStreamer, configuration, MQTT. Only this crate uses `ort`; only `native.rs` has `unsafe` code.
//!
//! In this order: [`Runtime::load`] opens the library, [`Manifest::load`] describes a model, [`Detector::open`] makes
//! a session of both, [`Detector::detect`] runs it.
#![deny(unsafe_code)]

mod detector;
mod evaluate;
pub mod families;
mod manifest;
mod native;
mod onnx;
mod preprocess;
mod profile;
mod provider;
mod quiet;
mod runtime;
mod session;

pub use detector::{Detector, DetectorOptions, ModelError};
pub use evaluate::{CocoSet, EvalError, Evaluation, evaluate, frame_from_rgb, read_picture};
pub use manifest::{
    Card, ColorOrder, Element, FormFile, Golden, InputSpec, Layout, Manifest, ManifestError, Upstream,
};
pub use preprocess::{EmptyView, Letterbox, Preprocessor};
pub use profile::{ProviderReport, ProviderShare, Registration};
pub use provider::{Form, Provider, UnknownName};
pub use runtime::{Runtime, RuntimeError};
