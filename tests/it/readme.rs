//! The README keeps its word: its table of defaults is generated from the configuration's schema, its example is a
//! configuration that loads. `UPDATE_GOLDEN=1` rewrites the table.

use std::path::{Path, PathBuf};

use serde_json::Value;

fn readme() -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(&path).expect("the README should be readable");
    (path, text)
}

const BEGIN: &str = "<!-- defaults: generated from the schema -->\n";
const END: &str = "<!-- end of defaults -->";

/// One row a key: where, what it is by default, what it does.
fn table(schema: &Value) -> String {
    let mut rows = String::from("| key | default | what |\n|---|---|---|\n");
    let of = |pointer: &str| schema.pointer(pointer).expect("the schema should hold it").clone();
    let places = [
        ("node", of("/$defs/Node")),
        ("inference", of("/$defs/Inference")),
        ("inference.tensorrt", of("/$defs/TensorRt")),
        ("outbox", of("/$defs/Outbox")),
        ("broker.NAME", of("/$defs/Broker")),
        ("broker.NAME.filter", of("/$defs/Filter")),
        ("broker.NAME.homeassistant", of("/$defs/HomeAssistant")),
        ("broker.NAME.sparkplug", of("/$defs/Sparkplug")),
        ("broker.NAME.frigate", of("/$defs/Frigate")),
        ("broker.NAME.onvif", of("/$defs/Onvif")),
        ("broker.NAME.custom", of("/$defs/Custom")),
        ("webhook.NAME", of("/$defs/Webhook")),
        ("evidence", of("/$defs/Evidence")),
        ("camera.NAME", of("/$defs/Camera")),
        ("camera.NAME.evidence", of("/$defs/CameraEvidence")),
    ];
    let rules = of("/$defs/Rule/oneOf");
    let kinds = rules.as_array().expect("kinds").iter().map(|kind| {
        let title = kind["title"].as_str().unwrap_or_default();
        (format!("rule `{title}`"), kind.clone())
    });
    let mut common = Vec::new();
    for (place, object) in places.into_iter().map(|(p, o)| (format!("`[{p}]`"), o)).chain(kinds) {
        for (key, value) in object["properties"].as_object().expect("keys") {
            let (default, what) = described(value);
            let row = format!(" | {default} | {what} |\n");
            // What every rule has stands once, under the first kind that has it.
            if place.starts_with("rule") {
                let shared = rules.as_array().expect("kinds").iter().all(|k| !k["properties"][key].is_null());
                if shared && common.contains(key) || key == "kind" {
                    continue;
                }
                if shared {
                    common.push(key.clone());
                    rows.push_str(&format!("| every rule: `{key}`{row}"));
                    continue;
                }
            }
            rows.push_str(&format!("| {place} `{key}`{row}"));
        }
    }
    rows
}

/// The default and the text; a default that is only told in words is taken out of them.
fn described(value: &Value) -> (String, String) {
    let text = value["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
    let (what, told) = match text.split_once(" Default: ").or_else(|| text.split_once(" Default ")) {
        Some((what, told)) => (what.to_owned(), told.trim_end_matches('.').to_owned()),
        None => (text, String::new()),
    };
    let default = match value.get("default") {
        // Empty: what that means is told.
        Some(Value::String(text)) if !text.is_empty() || told.is_empty() => format!("`\"{text}\"`"),
        Some(Value::String(_)) => told,
        Some(Value::Number(n)) if n.is_f64() => {
            format!("`{}`", (n.as_f64().unwrap_or_default() * 1e4).round() / 1e4)
        }
        Some(other) if !other.as_object().is_some_and(serde_json::Map::is_empty) => format!("`{other}`"),
        _ => told,
    };
    (default, what)
}

#[test]
fn the_table_of_defaults_is_the_schema() {
    let (path, text) = readme();
    let (head, rest) = text.split_once(BEGIN).expect("the README should have the table's beginning");
    let (shown, tail) = rest.split_once(END).expect("the README should have the table's end");
    let table = table(&vedette::config::json_schema());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, format!("{head}{BEGIN}{table}{END}{tail}"))
            .expect("the README should be writable");
        return;
    }
    assert_eq!(shown, table, "run again with UPDATE_GOLDEN=1");
}

#[test]
fn the_example_loads() {
    let (_, text) = readme();
    let examples: Vec<_> = text.split("```toml\n").skip(1).filter_map(|t| t.split("```").next()).collect();
    assert!(!examples.is_empty(), "the README shows how to configure");
    let all = examples.concat();
    let loaded = vedette::config::from_text("README.md", &all, &vedette::config::Options::default());
    let config = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    assert!(!config.cameras.is_empty() && !config.brokers.is_empty());
}
