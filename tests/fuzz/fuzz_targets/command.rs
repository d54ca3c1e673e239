//! A request over MQTT: verb, topic of the answer and payload.
//!
//! Owns: nothing. Does not know: what must hold (`vedette::fuzzing`).
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a temporary folder should be possible"));

fuzz_target!(|bytes: &[u8]| vedette::fuzzing::command(FOLDER.path(), bytes));
