//! The test harness: real peers that tests start, command and stop.
//!
//! Owns: the camera with faults ([`testcam`]) and the clips it plays ([`clips`]). Does not know: what the tests
//! assert. The scenarios and assertions stand in `tests/it`.
#![forbid(unsafe_code)]

pub mod clips;
pub mod testcam;
