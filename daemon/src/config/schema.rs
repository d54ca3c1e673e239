//! The JSON Schema of the configuration, and which keys there are at a given place of it.
//!
//! Owns: `vedette schema` and the lists behind "did you mean". Does not know: files or values.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use vedette_analysis::rules::{ALL, Common};

use super::raw::{Raw, RawSecrets};

/// The JSON Schema (draft 2020-12) of a configuration file.
pub fn json_schema() -> Value {
    schema_of::<Raw>()
}

fn schema_of<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    close(&mut schema);
    schema
}

/// Unknown keys are errors, so the schema must refuse them; defaults of `null` say nothing.
fn close(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.contains_key("properties") && !object.contains_key("additionalProperties") {
                object.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            if object.get("default").is_some_and(|d| d.is_null() || d.is_object()) {
                object.remove("default");
            }
            object.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// The schema of a rule's table: one alternative a kind, each the common keys and the kind's own.
pub(super) fn rule(generator: &mut SchemaGenerator) -> Schema {
    let common = generator.subschema_for::<Common>();
    let common = inlined(generator, &common);
    let kinds: Vec<Value> = ALL
        .iter()
        .map(|kind| {
            let own = (kind.schema)(generator);
            let own = inlined(generator, &own);
            let mut properties = Map::new();
            properties.insert("kind".to_owned(), json!({ "const": kind.name, "description": kind.about }));
            for source in [&own, &common] {
                let more = source.get("properties").and_then(Value::as_object).into_iter().flatten();
                more.for_each(|(key, schema)| {
                    properties.entry(key.clone()).or_insert_with(|| schema.clone());
                });
            }
            json!({ "title": kind.name, "description": kind.about, "type": "object", "properties": properties })
        })
        .collect();
    for merged in ["Common", "Config"] {
        generator.definitions_mut().retain(|name, _| !name.starts_with(merged));
    }
    Schema::try_from(json!({
        "description": "A behaviour to report. `kind` is needed, here or in an earlier file.",
        "oneOf": kinds,
    }))
    .unwrap_or_default()
}

fn inlined(generator: &SchemaGenerator, schema: &Schema) -> Value {
    let value = schema.as_value();
    let target = value.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next());
    target.and_then(|name| generator.definitions().get(name)).unwrap_or(value).clone()
}

/// Which keys there are at a place: the schema, walked.
pub(super) struct Keys {
    main: Value,
    secrets: Value,
}

impl Keys {
    /// Of files and environment, and of secrets.
    pub(super) fn new() -> Self {
        Self { main: json_schema(), secrets: schema_of::<RawSecrets>() }
    }

    /// The keys of the table at `path`; `kind` is the rule's, where the path leads into one. Empty where keys are
    /// names that the user gives.
    pub(super) fn at(&self, secrets: bool, path: &[String], kind: Option<&str>) -> Vec<String> {
        let root = if secrets { &self.secrets } else { &self.main };
        let mut node = resolved(root, root, kind);
        for key in path {
            let child = node.get("properties").and_then(|p| p.get(key));
            let Some(child) = child.or_else(|| node.get("additionalProperties")) else { return Vec::new() };
            node = resolved(root, child, kind);
        }
        let properties = node.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().map(|(key, _)| key.clone()).collect()
    }
}

fn resolved<'a>(root: &'a Value, mut node: &'a Value, kind: Option<&str>) -> &'a Value {
    while let Some(name) = node.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next()) {
        let Some(target) = root.get("$defs").and_then(|d| d.get(name)) else { break };
        node = target;
    }
    let kinds = node.get("oneOf").and_then(Value::as_array);
    let of_kind = |node: &&Value| node.get("title").and_then(Value::as_str) == kind;
    kinds.and_then(|all| all.iter().find(of_kind)).unwrap_or(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|&k| k.to_owned()).collect()
    }

    #[test]
    fn keys_are_found_at_every_depth() {
        let keys = Keys::new();
        assert!(keys.at(false, &[], None).contains(&"camera".to_owned()));
        assert!(keys.at(false, &path(&["camera", "gate"]), None).contains(&"fps".to_owned()));
        assert!(keys.at(false, &path(&["camera"]), None).is_empty());
        let rule = path(&["camera", "gate", "rule", "night"]);
        let intrusion = keys.at(false, &rule, Some("intrusion"));
        assert!(intrusion.contains(&"zone".to_owned()) && intrusion.contains(&"cooldown".to_owned()));
        assert!(!intrusion.contains(&"line".to_owned()));
        assert_eq!(keys.at(true, &path(&["camera", "gate"]), None), ["user", "password"]);
    }

    /// `UPDATE_GOLDEN=1` rewrites it.
    #[test]
    fn the_schema_is_the_golden_one() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/schemas/config.schema.json");
        let now = format!("{}\n", serde_json::to_string_pretty(&json_schema()).unwrap());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(std::path::Path::new(file).parent().unwrap()).unwrap();
            std::fs::write(file, &now).unwrap();
        }
        let golden = std::fs::read_to_string(file).unwrap();
        assert!(
            golden == now,
            "etc/schemas/config.schema.json is not what the code says: UPDATE_GOLDEN=1 rewrites it"
        );
    }

    #[test]
    fn the_schema_is_one_and_knows_right_from_wrong() {
        let validator = jsonschema::draft202012::new(&json_schema()).unwrap();
        let config = |text: &str| serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
        let rule = "[camera.gate.rule.night]\nkind = \"intrusion\"\nzone = \"yard\"\n";
        assert!(validator.is_valid(&config(rule)));
        assert!(!validator.is_valid(&config("[camera.gate]\nfsp = 5")));
        assert!(
            !validator.is_valid(&config("[camera.gate.rule.night]\nkind = \"intrusion\"\nline = \"kerb\""))
        );
        assert!(!validator.is_valid(&config("[camera.gate.rule.night]\nkind = \"intruder\"")));
    }
}
