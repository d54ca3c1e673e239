//! A broker's templates of topic and payload.
//!
//! Owns: nothing. Does not know: what must hold (`vedette::fuzzing`).
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| vedette::fuzzing::template(text));
