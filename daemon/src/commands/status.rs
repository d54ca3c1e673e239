//! How the node and its cameras are.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Site, Verb};

/// One line for people.
pub const ABOUT: &str = "the status of node, cameras and rules, as the retained topics say it";

/// `status` has no arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

impl Verb for Config {
    fn run(&self, site: &mut Site) -> Result<Value, String> {
        Ok((site.status)())
    }
}
