//! Arms a rule, or with `"armed": false` disarms it.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Site, Verb};

/// One line for people.
pub const ABOUT: &str = "arm a rule; it holds over restarts";

/// Arguments of `arm`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The camera's name.
    pub camera: String,
    /// The rule's name.
    pub rule: String,
    /// Whether it is to report. Default true.
    #[serde(default = "yes")]
    pub armed: bool,
}

fn yes() -> bool {
    true
}

impl Verb for Config {
    fn run(&self, site: &mut Site) -> Result<Value, String> {
        set(site, &self.camera, &self.rule, self.armed)
    }
}

/// What `arm` and `disarm` have in common.
pub(super) fn set(site: &Site, camera: &str, rule: &str, armed: bool) -> Result<Value, String> {
    let (camera, rule) = site.rule(camera, rule)?;
    site.arming.set(&camera, &rule, armed).map_err(|e| format!("could not be saved: {e}"))?;
    log::info!(camera = camera.as_str(); "rule {rule} is {} by command", if armed { "armed" } else { "disarmed" });
    Ok(json!({"camera": camera, "rule": rule, "armed": armed}))
}
