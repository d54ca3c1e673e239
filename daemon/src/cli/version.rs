//! `vedette version`: of the program and of what it loads.

use serde_json::json;

use super::{Global, say, say_json};
use crate::exit::Outcome;
use crate::node::runtime_folders;

pub(super) fn run(global: &Global) -> Outcome {
    let gstreamer = vedette_ingest::init().map_or_else(|e| e.to_string(), |()| vedette_ingest::version());
    let runtime = vedette_models::Runtime::load(None, &runtime_folders());
    let runtime = runtime.map_or_else(|_| "not found".to_owned(), |r| r.version().to_owned());
    if global.json {
        return say_json(&json!({
            "vedette": env!("CARGO_PKG_VERSION"), "gstreamer": gstreamer, "onnxruntime": runtime,
        }));
    }
    say(format!("vedette {}\ngstreamer {gstreamer}\nonnxruntime {runtime}", env!("CARGO_PKG_VERSION")))
}
