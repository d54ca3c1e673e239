//! What strangers' bytes go through, as functions of bytes: the fuzz targets of `tests/fuzz` call them for as long as
//! they are given, the tests below for a moment. Built for both alone.
//!
//! Owns: what must hold of any bytes. Does not know: where they come from.

use std::path::Path;

use crate::fixtures::{event, name, stamp};
use crate::wire::{CustomSettings, Settings, custom};

pub use crate::sinks::mqtt::fuzzing::{edge_node, message};
pub use crate::sinks::webhook::fuzzing::retry_after;

/// A request: verb, topic for the answer and payload, as in [`message`].
pub fn command(folder: &Path, bytes: &[u8]) {
    message(folder, &[b"vedette/box/command/", bytes].concat());
}

/// A broker's templates, of the topic in the first line and of the payload in those that follow, against events.
pub fn template(text: &str) {
    let (topic, payload) = text.split_once('\n').unwrap_or((text, ""));
    let (topic, payload, content_type) = (topic.to_owned(), payload.to_owned(), String::new());
    let custom = CustomSettings { topic, payload, content_type };
    let built = custom::build(&Settings { broker: Some(name("factory")), custom, ..Settings::default() });
    let dialect = match built {
        Ok(dialect) => dialect,
        Err(error) => return assert!(error.contains("`custom."), "{error}"),
    };
    let bare = vedette_core::Event { camera: None, object: None, ..event() };
    let strange =
        vedette_core::Event { why: "{{ kind }}/#\0\n\"".repeat(40), value: Some(f64::NAN), ..event() };
    for (seq, event) in [(7, event()), (0, bare), (u64::MAX, strange)] {
        if let Some(message) = dialect.event(&stamp(), seq, Some(5), &event) {
            assert!(custom::fault_of_topic(&message.topic).is_none(), "{:?}", message.topic);
            assert!(message.payload.len() as u64 <= 64 * custom::FUEL, "{} bytes", message.payload.len());
            assert!(!message.retained);
        }
    }
}

#[cfg(test)]
mod tests;
