//! `vedette check`: the configuration, judged by the same function as at start and reload.

use serde_json::json;

use super::{Global, say, say_json};
use crate::config::{self, Level};
use crate::exit::{Exit, Failure, Outcome};
use crate::node::{self, StartError};
use crate::words::count;

pub(super) fn run(global: &Global) -> Outcome {
    let loaded = config::load(&global.options());
    if let Ok(config) = &loaded {
        match node::judge(config, &global.host()?) {
            Ok(()) => {}
            Err(StartError::Labels(wrong)) => return refuse(global, &wrong),
            // It has no place in a file: a model or pipeline whose name nothing has.
            Err(other) if global.json => {
                let error = json!({ "file": null, "message": other.to_string() });
                say_json(&json!({ "ok": false, "errors": [error], "warnings": config.warnings }))?;
                return Err(Failure::new(Failure::from(other).exit, ""));
            }
            Err(other) => return Err(other.into()),
        }
    }
    match loaded {
        Ok(config) => {
            if global.json {
                return say_json(&json!({
                    "ok": true, "config": config.hash, "cameras": config.cameras.len(),
                    "brokers": config.brokers.len(), "errors": [], "warnings": config.warnings,
                }));
            }
            for warning in config.warnings.iter() {
                say(format!("warning: {warning}"))?;
            }
            say(format!(
                "{}: ok: {}, {}, configuration {}",
                global.config.display(),
                count(config.cameras.len(), "camera"),
                count(config.brokers.len(), "broker"),
                config.hash
            ))
        }
        Err(diagnostics) => refuse(global, &diagnostics),
    }
}

fn refuse(global: &Global, diagnostics: &config::Diagnostics) -> Outcome {
    if !global.json {
        return Err(diagnostics.clone().into());
    }
    let of = |level| diagnostics.iter().filter(|d| d.level == level).collect::<Vec<_>>();
    say_json(&json!({ "ok": false, "errors": of(Level::Error), "warnings": of(Level::Warning) }))?;
    Err(Failure::new(Exit::Config, ""))
}
