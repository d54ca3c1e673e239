//! Keeps a camera awake: a door contact or somebody at a screen knows before the gate does.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Site, Verb};

/// One line for people.
pub const ABOUT: &str =
    "have a camera decode and look at everything for a while, as though something had moved";

/// Arguments of `wake`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which camera.
    pub camera: String,
    /// For how long, 1 to 3600. Default 30.
    #[serde(default = "half_a_minute")]
    pub seconds: f64,
}

fn half_a_minute() -> f64 {
    30.0
}

impl Verb for Config {
    fn run(&self, site: &mut Site) -> Result<Value, String> {
        let camera = site.camera(&self.camera)?.0.clone();
        if !(1.0..=3600.0).contains(&self.seconds) {
            return Err(format!("`seconds`: {} is not within 1 to 3600", self.seconds));
        }
        site.wakes.ask(&camera, Duration::from_secs_f64(self.seconds));
        Ok(json!({"camera": camera, "seconds": self.seconds}))
    }
}
