//! Why a node does not start, and with which exit code.

use vedette_core::CameraId;
use vedette_ingest::{DescriptionError, Fault};
use vedette_models::{ManifestError, ModelError, RuntimeError};

use crate::camera;
use crate::config;
use crate::exit::{Exit, Failure};
use crate::outbox::OutboxError;
use crate::signing::KeyError;
use crate::sinks::SinkError;
use crate::sinks::embedded::EmbeddedError;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// GStreamer does not start, or a plugin is missing.
    #[error("{0}")]
    Ingest(#[from] Fault),
    /// A pipeline description is wrong.
    #[error("{0}")]
    Description(#[from] DescriptionError),
    /// ONNX Runtime cannot be loaded.
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
    /// A manifest or weight file is wrong.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// The session cannot be opened.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// The state directory cannot be used.
    #[error("{0}")]
    Outbox(#[from] OutboxError),
    /// The key that signs events cannot be used.
    #[error("{0}")]
    Signing(#[from] KeyError),
    /// A file of the state directory cannot be read or written.
    #[error("state directory {path}: {source}; give the daemon's user write access to it")]
    State {
        /// Which one.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The embedded broker's port is taken.
    #[error("{0}")]
    Embedded(#[from] EmbeddedError),
    /// A camera's scene or thread.
    #[error("camera {0}: {1}")]
    Camera(CameraId, camera::StartError),
    /// A broker's settings.
    #[error("{0}")]
    Sink(#[from] SinkError),
    /// Threads or sockets that the system refuses.
    #[error("the system refuses what the daemon needs: {0}")]
    System(#[from] std::io::Error),
    /// A camera's pipeline that no description has.
    #[error("camera {0}: {1}")]
    Pipeline(CameraId, DescriptionError),
    /// Asked to build what was stopped meanwhile.
    #[error("the node was stopped while it started")]
    Stopped,
    /// The configuration names classes that the model does not know.
    #[error("{0}")]
    Labels(config::Diagnostics),
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match &error {
            StartError::Labels(wrong) => return wrong.clone().into(),
            StartError::Camera(_, camera::StartError::Scene(_))
            | StartError::Sink(_)
            | StartError::Pipeline(..)
            | StartError::Manifest(ManifestError::Unknown { .. }) => Exit::Config,
            StartError::Ingest(_)
            | StartError::Runtime(_)
            | StartError::Model(_)
            | StartError::Manifest(_) => Exit::Unavailable,
            StartError::Embedded(_) => Exit::Unavailable,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}
