//! Commands and states of hosts at an edge node of Sparkplug.
//!
//! Owns: nothing. Does not know: what must hold (`vedette::fuzzing`).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vedette::fuzzing::edge_node(bytes));
