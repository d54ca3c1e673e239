//! Scores of attributes: a network whose outputs stand for its labels.
//!
//! Owns: nothing but the way from a view to scores. Does not know: what the labels mean.

use vedette_core::{Class, Frame, Role, View};

use crate::families::Decoded;
use crate::manifest::Manifest;
use crate::network::{ModelError, Network, NetworkOptions, everything, expect_role};
use crate::runtime::Runtime;

/// A classifier, ready to run.
#[derive(Debug)]
pub struct Classifier {
    network: Network,
}

impl Classifier {
    /// As [`Network::open`]; refuses a model of another role.
    pub fn open(
        runtime: &'static Runtime,
        manifest: &Manifest,
        options: &NetworkOptions,
    ) -> Result<Self, ModelError> {
        expect_role(manifest, Role::Classifier)?;
        Ok(Self { network: Network::open(runtime, manifest, options)? })
    }

    /// The scores (0..1) of what the view shows, in the order of [`Classifier::labels`].
    pub fn classify(&mut self, frame: &Frame, view: View) -> Result<Vec<f32>, ModelError> {
        self.network.look(frame, view)?;
        match self.network.decode(&everything())? {
            Decoded::Scores(scores) => Ok(scores),
            _ => Err(self.network.failed("its family gives no scores".to_owned())),
        }
    }

    /// What the scores stand for.
    pub fn labels(&self) -> &[Class] {
        self.network.manifest().labels()
    }

    /// The model's name in the configuration.
    pub fn name(&self) -> &str {
        self.network.name()
    }

    /// The network behind it.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }
}
