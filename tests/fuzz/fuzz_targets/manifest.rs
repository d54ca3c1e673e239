//! The text of a model's manifest.
//!
//! Owns: what must hold of any text. Does not know: model files.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use vedette_models::{Manifest, Provider};

fuzz_target!(|text: &str| {
    match Manifest::parse(text, Path::new("mine.toml"), &[]) {
        Ok(manifest) => {
            for (form, _) in manifest.forms() {
                manifest.input_of(form);
            }
            manifest.form(Provider::Cpu);
            manifest.role();
        }
        Err(error) => assert!(error.to_string().contains("mine.toml")),
    }
});
