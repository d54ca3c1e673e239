//! An ONNX file of unknown origin: read, checked, its shapes inferred and everything counted.
//!
//! Owns: what must hold of any bytes. Does not know: ONNX Runtime.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vedette_models::{InspectOptions, inspect_bytes};

fuzz_target!(|bytes: &[u8]| {
    for size in [None, Some((224, 192))] {
        match inspect_bytes(bytes, "m.onnx", InspectOptions { size }) {
            Ok(found) => {
                assert!(found.peak_activation_bytes <= found.total_activation_bytes);
                assert!(found.quantised_share.is_none_or(|share| (0.0..=1.0).contains(&share)));
            }
            Err(error) => assert!(error.to_string().starts_with("m.onnx: ")),
        }
    }
});
