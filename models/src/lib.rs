//! Models: ONNX Runtime sessions, detector families, pre-processing of planes, evaluation of models.
//!
//! Owns: everything between a [`vedette_core::Frame`] and its [`vedette_core::Detection`]s. Does not know: cameras,
//! GStreamer, configuration, MQTT. Only this crate uses `ort`; only `native.rs` has `unsafe` code.
//!
//! In this order: [`Runtime::load`] opens the library, [`Manifest::load`] describes a model, [`Detector::open`] makes
//! a session of both, [`Detector::detect`] runs it.
#![deny(unsafe_code)]

mod bench;
mod classifier;
mod detector;
mod energy;
mod evaluate;
pub mod families;
mod features;
#[cfg(test)]
#[path = "hostile_tests.rs"]
mod hostile;
mod import;
mod inspect;
mod manifest;
mod native;
mod network;
mod onnx;
mod pose;
mod preprocess;
mod profile;
mod provider;
pub mod quantize;
mod quiet;
mod runtime;
mod session;
mod tensor;
mod tensorrt;
#[cfg(test)]
mod testing;
mod upgrade;

pub use bench::{BenchOptions, ColdStart, Joules, Measurement, bench, cold_start, compare};
pub use classifier::Classifier;
pub use detector::{Detector, DetectorOptions};
pub use energy::{Energy, EnergyMeter, NoEnergy};
pub use evaluate::{
    CocoSet, EvalError, Evaluation, PoseEvaluation, evaluate, evaluate_pose, frame_from_rgb, read_picture,
};
pub use features::FeatureExtractor;
pub use import::{Habits, ImportError, ImportOptions, Imported, Staged, import, install, read_model, sha256};
pub use inspect::{InspectOptions, Inspection, Port, inspect, inspect_bytes};
pub use manifest::{
    Card, ColorOrder, Draft, DraftForm, Element, Fit, FormFile, FormInput, Golden, InputSpec, Layout,
    Manifest, ManifestError, Tables, Upstream,
};
pub use network::{ModelError, Network, NetworkOptions, OutputMean};
pub use onnx::check::OnnxError;
pub use pose::{KeyPoint, PoseEstimator};
pub use preprocess::{EmptyView, Letterbox, Preprocessor};
pub use profile::{ProviderReport, ProviderShare, Registration};
pub use provider::{Form, Provider, U8S8_SLOW, UnknownName, u8s8_saturates};
pub use runtime::{Runtime, RuntimeError};
pub use tensorrt::TensorRtOptions;
pub use upgrade::{Served, Serving};
