//! Somebody walks across a line; counts per direction.

use schemars::JsonSchema;
use serde::Deserialize;
use vedette_core::{Direction, Name};

use super::RuleConfig;

/// For tables and help.
pub const ABOUT: &str = "an object crosses a line, counted in and out";

/// Keys of `line_crossing` besides the common ones.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// The line's name. Needed.
    pub line: Option<Name>,
    /// Only this direction. Default: both.
    pub direction: Option<Direction>,
}

impl RuleConfig for Config {
    fn line(&self) -> Option<&Name> {
        self.line.as_ref()
    }

    fn missing(&self) -> Vec<(&'static str, &'static str)> {
        if self.line.is_none() { vec![("line", "name one of the camera's lines")] } else { Vec::new() }
    }

    fn default_classes(&self) -> &'static [&'static str] {
        &["person", "bicycle", "car", "motorcycle", "bus", "truck"]
    }
}
