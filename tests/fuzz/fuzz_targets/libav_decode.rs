//! A camera's packets, through the reader of their headers, libavcodec and the masks.
//!
//! Owns: nothing. Does not know: what must hold (`vedette_ingest::fuzzing`).
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vedette_ingest::fuzzing::libav_decode(bytes));
