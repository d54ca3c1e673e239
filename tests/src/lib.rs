//! The test harness: real peers that tests start, command and stop.
//!
//! Owns: the camera with faults ([`testcam`]) and the clips it plays ([`clips`]), the broker ([`mosquitto`]), what
//! subscribes to it ([`subscriber`]) and what is in between ([`proxy`]), the judges of messages ([`schemas`], [`audit`]), and the
//! product itself, in this process ([`site`]) or as a child ([`daemon`]).
//! Does not know: what the tests assert. The scenarios and assertions stand in `tests/it`.
#![forbid(unsafe_code)]

pub mod audit;
pub mod clips;
pub mod daemon;
pub mod mosquitto;
pub mod proxy;
pub mod schemas;
pub mod site;
pub mod subscriber;
pub mod testcam;
