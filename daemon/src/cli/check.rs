//! `vedette check`: the configuration, judged by the same function as at start and reload.

use serde_json::json;

use super::{Global, say, say_json};
use crate::config::{self, Level};
use crate::exit::{Exit, Failure, Outcome};
use crate::words::count;

pub(super) fn run(global: &Global) -> Outcome {
    let loaded = config::load(&global.options()).and_then(|config| {
        let labels = model_labels(global, &config).unwrap_or_default();
        let wrong =
            if labels.is_empty() { config::Diagnostics::default() } else { config.check_labels(&labels) };
        if wrong.has_errors() { Err(wrong) } else { Ok(config) }
    });
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
        Err(diagnostics) if global.json => {
            let of = |level| diagnostics.iter().filter(|d| d.level == level).collect::<Vec<_>>();
            say_json(&json!({ "ok": false, "errors": of(Level::Error), "warnings": of(Level::Warning) }))?;
            Err(Failure::new(Exit::Config, ""))
        }
        Err(diagnostics) => Err(diagnostics.into()),
    }
}

/// The labels of the configured model; none where its manifest cannot be read, which `doctor` and `run` report.
fn model_labels(global: &Global, config: &config::Config) -> Option<Vec<vedette_core::Class>> {
    let share = global.share().ok()?;
    let manifest = vedette_models::Manifest::load(&[share.manifests()], &config.inference.model).ok()?;
    Some(manifest.labels().to_vec())
}
