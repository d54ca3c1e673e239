//! Disarms a rule: it reports nothing until it is armed again.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Site, Verb, arm};

/// One line for people.
pub const ABOUT: &str = "disarm a rule; it holds over restarts";

/// Arguments of `disarm`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The camera's name.
    pub camera: String,
    /// The rule's name.
    pub rule: String,
}

impl Verb for Config {
    fn run(&self, site: &mut Site) -> Result<Value, String> {
        arm::set(site, &self.camera, &self.rule, false)
    }
}
