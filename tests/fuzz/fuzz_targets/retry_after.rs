//! What the receiver of a webhook says in `Retry-After`.
//!
//! Owns: nothing. Does not know: what must hold (`vedette::fuzzing`).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vedette::fuzzing::retry_after(bytes));
