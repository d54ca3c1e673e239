//! A picture of what a camera sees now, kept on the box.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Site, Verb};

/// One line for people.
pub const ABOUT: &str = "keep a picture of what a camera sees now; masks are black in it";

/// Longer than a busy box needs, and not so long that other requests are kept waiting for a broken disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `snapshot`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The camera's name.
    pub camera: String,
}

impl Verb for Config {
    fn run(&self, site: &mut Site) -> Result<Value, String> {
        let camera = site.camera(&self.camera)?.0.clone();
        let file = site.evidence.snapshot(&camera, PATIENCE)?;
        log::info!(camera = camera.as_str(); "picture {file} taken by command");
        Ok(json!({"camera": camera, "file": file}))
    }
}
