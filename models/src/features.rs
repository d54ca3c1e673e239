//! Feature maps of a view: what appearance and anomaly models build on.
//!
//! Owns: nothing but the way from a view to maps. Does not know: what is made of them.

use vedette_core::{Frame, Role, View};

use crate::families::{Decoded, FeatureMap};
use crate::manifest::Manifest;
use crate::network::{ModelError, Network, NetworkOptions, everything, expect_role};
use crate::preprocess::Letterbox;
use crate::runtime::Runtime;

/// A feature trunk, ready to run.
#[derive(Debug)]
pub struct FeatureExtractor {
    network: Network,
}

impl FeatureExtractor {
    /// As [`Network::open`]; refuses a model of another role.
    pub fn open(
        runtime: &'static Runtime,
        manifest: &Manifest,
        options: &NetworkOptions,
    ) -> Result<Self, ModelError> {
        expect_role(manifest, Role::Features)?;
        Ok(Self { network: Network::open(runtime, manifest, options)? })
    }

    /// The maps of what the view shows, in the order of the manifest, and where the picture lies in the input.
    pub fn extract(&mut self, frame: &Frame, view: View) -> Result<(Vec<FeatureMap>, Letterbox), ModelError> {
        let letterbox = self.network.look(frame, view)?;
        match self.network.decode(&everything())? {
            Decoded::Features(maps) => Ok((maps, letterbox)),
            _ => Err(self.network.failed("its family gives no feature maps".to_owned())),
        }
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
