//! Every data file that the program ships is what the code takes: a new one is tested by being there.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use vedette::config;
use vedette_ingest::Descriptions;
use vedette_models::{FormFile, Manifest, families};

use crate::cli::{folder, root};

/// The files of a folder with this ending, sorted; at least one.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).expect(folder);
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{folder}: no file ends with {ending}");
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|s| s.to_str()).unwrap_or_default()
}

#[test]
fn every_description_parses_and_its_elements_are_here() {
    vedette_ingest::init().expect("GStreamer");
    let folder = "pipelines/descriptions";
    let descriptions = Descriptions::load(&[root().join(folder)]).unwrap_or_else(|e| panic!("{e}"));
    for file in files(folder, ".toml") {
        descriptions.get(stem(&file)).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
    assert_eq!(descriptions.iter().count(), files(folder, "").len(), "nothing else lies there");
    assert_eq!(descriptions.missing_elements(), []);
}

#[test]
fn every_manifest_is_whole_and_its_weights_are_those_it_names() {
    let folders = [root().join("models/manifests")];
    let shipped: Vec<_> = files("models/weights", ".onnx");
    let mut named = Vec::new();
    for file in files("models/manifests", ".toml") {
        let manifest = Manifest::load(&folders, stem(&file)).unwrap_or_else(|e| panic!("{e}"));
        let table: toml::Table = read(&file).parse().expect("TOML");
        let kind = table["family"]["kind"].as_str().expect("a kind");
        assert!(families::ALL.iter().any(|k| k.name == kind), "{}: no family `{kind}`", file.display());
        assert!(!manifest.about().is_empty() && !manifest.licence().is_empty(), "{}", file.display());
        assert!(manifest.forms().any(|(_, form)| manifest.has(form)), "{}: no weights", file.display());
        for (_, FormFile { file: name, sha256, .. }) in manifest.forms() {
            let path = root().join("models/weights").join(name);
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(found, *sha256, "{}", path.display());
            named.push(path);
        }
    }
    named.sort();
    assert_eq!(named, shipped, "every file of weights has a manifest");
}

#[test]
fn every_schema_compiles_and_says_which_draft() {
    for file in files("etc/schemas", ".schema.json") {
        let schema: serde_json::Value = serde_json::from_str(&read(&file)).expect("JSON");
        let shown = file.display();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{shown}");
        jsonschema::draft202012::meta::validate(&schema).unwrap_or_else(|e| panic!("{shown}: {e}"));
        jsonschema::draft202012::new(&schema).unwrap_or_else(|e| panic!("{shown}: {e}"));
    }
}

/// The example camera is complete: it loads as it stands, without a warning, when its ending is taken away.
#[test]
fn the_example_configuration_loads() {
    let folder = folder();
    let conf_d = folder.path().join("conf.d");
    std::fs::create_dir(&conf_d).expect("a folder");
    std::fs::copy(root().join("etc/vedette.toml"), folder.path().join("vedette.toml")).expect("a copy");
    let examples = files("etc/conf.d", ".toml.example");
    for example in &examples {
        std::fs::copy(example, conf_d.join(stem(example))).expect("a copy");
    }
    let options = config::Options { config_dir: folder.path().to_owned(), ..config::Options::default() };
    let config = config::load(&options).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.warnings.to_string(), "");
    assert_eq!(config.cameras.len(), examples.len());
    assert!(config.cameras.values().all(|c| !c.rules.is_empty()), "an example shows rules");
}

#[test]
fn the_installed_schema_is_the_one_that_the_program_prints() {
    let installed: serde_json::Value =
        serde_json::from_str(&read(&root().join("etc/schemas/config.schema.json"))).expect("JSON");
    assert!(
        installed == config::json_schema(),
        "write it anew: vedette schema > etc/schemas/config.schema.json"
    );
}
