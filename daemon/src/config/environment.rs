//! `VEDETTE_SECTION__KEY`: the environment as the last layer.
//!
//! Owns: which variables are configuration, how a variable names a key and how its text becomes a value. Does not
//! know: the process's environment, which comes in as a list.

use std::collections::BTreeMap;

use super::diagnostic::Diagnostic;
use super::layer::{KeyPath, Layer};
use super::schema::Keys;
use super::strict::{self, Finding, Kinds};
use super::words::nearest;

const PREFIX: &str = "VEDETTE_";

/// The layer, and what is wrong with it. Variables without `__` (`VEDETTE_LOG`) are not configuration.
pub(super) fn layer(
    environment: &[(String, String)],
    keys: &Keys,
    kinds: &mut Kinds,
) -> (Layer, Vec<Diagnostic>) {
    let mut entries: Vec<(&str, KeyPath, &str)> = environment
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), key_path(name)?, value.as_str())))
        .collect();
    entries.sort();
    for (_, path, value) in &entries {
        if let [camera, id, rule, name, kind] = path.as_slice()
            && (camera.as_str(), rule.as_str(), kind.as_str()) == ("camera", "rule", "kind")
        {
            kinds.insert((id.clone(), name.clone()), (*value).to_owned());
        }
    }
    let mut table = toml::Table::new();
    let mut variables = BTreeMap::new();
    let mut diagnostics = Vec::new();
    for (variable, path, text) in entries {
        match read(&path, text, kinds) {
            Ok(value) => {
                insert(&mut table, &path, value);
                variables.insert(path, variable.to_owned());
            }
            Err(finding) => {
                let kind = path.get(1).zip(path.get(3)).and_then(|(c, r)| kinds.get(&(c.clone(), r.clone())));
                let message = match &finding {
                    Finding::Unknown(unknown) => {
                        unknown_variable(variable, unknown, keys, kind.map(String::as_str))
                    }
                    Finding::Value(_, message) => {
                        format!("{variable}: {message}")
                    }
                };
                diagnostics.push(Diagnostic::error("environment", message));
            }
        }
    }
    (Layer::of_environment(table, variables), diagnostics)
}

/// `VEDETTE_CAMERA__CAR_PARK__TIME_ZONE` → camera, car-park, time_zone: names have `-` where variables cannot.
fn key_path(variable: &str) -> Option<KeyPath> {
    let rest = variable.strip_prefix(PREFIX)?;
    rest.contains("__").then(|| {
        let parts: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let named: Vec<bool> = (0..parts.len()).map(|at| is_name(&parts[..at])).collect();
        parts.into_iter().zip(named).map(|(p, named)| if named { p.replace('_', "-") } else { p }).collect()
    })
}

/// Whether the key below `path` is a name that users give.
pub(super) fn is_name(path: &[String]) -> bool {
    match path {
        [table] => matches!(table.as_str(), "camera" | "broker" | "webhook"),
        [table, _, inner] => table == "camera" && matches!(inner.as_str(), "mask" | "zone" | "line" | "rule"),
        _ => false,
    }
}

/// The value that fits: the text itself, what it is in TOML (`5`, `true`, `["cpu"]`), or a list with commas.
fn read(path: &[String], text: &str, kinds: &Kinds) -> Result<toml::Value, Finding> {
    let fits = |value: &toml::Value| {
        let mut table = toml::Table::new();
        insert(&mut table, path, value.clone());
        strict::read(&mut table, false, kinds).into_iter().next().map_or(Ok(()), Err)
    };
    let plain_text = toml::Value::String(text.to_owned());
    let first = match fits(&plain_text) {
        Ok(()) => return Ok(plain_text),
        Err(unknown @ Finding::Unknown(_)) => return Err(unknown),
        Err(finding) => finding,
    };
    let as_toml = format!("v = {text}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let list = text.split(',').map(|item| toml::Value::String(item.trim().to_owned())).collect();
    let mut finding = first;
    for (value, whole) in [(as_toml, true), (Some(toml::Value::Array(list)), false)] {
        let Some(value) = value else { continue };
        match fits(&value) {
            Ok(()) => return Ok(value),
            // What is wrong with one item of the list says more than that a text is no list.
            Err(wrong @ Finding::Value(..)) if whole || wrong.path().len() > path.len() => finding = wrong,
            Err(_) => {}
        }
    }
    Err(finding)
}

fn insert(table: &mut toml::Table, path: &[String], value: toml::Value) {
    let Some((key, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(key.clone(), value);
        return;
    }
    let inner = table.entry(key.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    if let toml::Value::Table(inner) = inner {
        insert(inner, rest, value);
    }
}

fn unknown_variable(variable: &str, unknown: &[String], keys: &Keys, kind: Option<&str>) -> String {
    let (key, parent) = unknown.split_last().map_or(("", unknown), |(k, p)| (k.as_str(), p));
    let known = keys.at(false, parent, kind);
    let guess = nearest(key, known.iter().map(String::as_str)).map(|best| {
        let path = parent.iter().map(String::as_str).chain([best]);
        let parts: Vec<String> = path.map(|p| p.to_uppercase().replace('-', "_")).collect();
        format!("; did you mean {PREFIX}{}?", parts.join("__"))
    });
    let guess = guess.unwrap_or_else(|| format!(" (there are: {})", known.join(", ")));
    format!("unknown variable {variable}{guess}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer_of(pairs: &[(&str, &str)]) -> (toml::Table, Vec<String>) {
        let environment: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (layer, diagnostics) = layer(&environment, &Keys::new(), &mut Kinds::new());
        (layer.table, diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn texts_become_what_the_key_wants() {
        let (table, errors) = layer_of(&[
            ("VEDETTE_CAMERA__CAR_PARK__FPS", "10"),
            ("VEDETTE_CAMERA__CAR_PARK__PASSWORD", "1234"),
            ("VEDETTE_INFERENCE__PROVIDERS", "xnnpack, cpu"),
            ("VEDETTE_INFERENCE__STRICT", "true"),
            ("VEDETTE_BROKER__FACTORY__DIALECTS", "[\"vedette\"]"),
            ("VEDETTE_CAMERA__GATE__RULE__NIGHT__KIND", "intrusion"),
            ("VEDETTE_CAMERA__GATE__RULE__NIGHT__ENTER_AFTER", "2s"),
            ("VEDETTE_NODE__TIME_ZONE", "Europe/Berlin"),
            ("VEDETTE_DATA", "not configuration"),
        ]);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(table["camera"]["car-park"]["fps"].as_integer(), Some(10));
        assert_eq!(table["camera"]["car-park"]["password"].as_str(), Some("1234"));
        assert_eq!(table["inference"]["providers"].as_array().unwrap().len(), 2);
        assert_eq!(table["inference"]["strict"].as_bool(), Some(true));
        assert_eq!(table["node"]["time_zone"].as_str(), Some("Europe/Berlin"));
    }

    #[test]
    fn variables_are_named_in_errors() {
        let (_, errors) = layer_of(&[
            ("VEDETTE_INFERENCE__THREADS", "two"),
            ("VEDETTE_INFERENCE__THREDS", "2"),
            ("VEDETTE_INFERENCE__PROVIDERS", "cpu,gpu"),
        ]);
        assert_eq!(
            errors,
            [
                "environment: VEDETTE_INFERENCE__PROVIDERS: `inference.providers`: unknown variant `gpu`, expected one of `tensorrt`, `cuda`, `xnnpack`, `openvino`, `cpu`; did you mean `cpu`?",
                "environment: VEDETTE_INFERENCE__THREADS: `inference.threads`: invalid type: string \"two\", expected a whole number, 0 or more",
                "environment: unknown variable VEDETTE_INFERENCE__THREDS; did you mean VEDETTE_INFERENCE__THREADS?",
            ]
        );
    }
}
