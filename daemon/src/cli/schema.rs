//! `vedette schema`: the JSON Schema of the configuration, for editors.

use super::say;
use crate::config;
use crate::exit::{Failure, Outcome};

pub(super) fn run() -> Outcome {
    say(serde_json::to_string_pretty(&config::json_schema()).map_err(Failure::failed)?)
}
