//! A real RTSP camera with faults, for tests and for `vedette demo`: gst-rtsp-server on loopback, playing a clip
//! for ever, that stalls, drops, corrupts and jumps when told to.
//!
//! ```text
//! clip ──► playhead ──► pacer (thread) ──► appsrc ! rtp…pay ──probe──► gst-rtsp-server ──► clients
//!            time line     picture faults              packet faults     link faults
//! ```
//! Owns: serving and misbehaving. Does not know: Vedette's ingest; it must stay an independent peer of it, so
//! nothing here uses `vedette-ingest`.

pub mod clip;
pub mod command;
mod control;
mod faults;
mod harness;
mod pacer;
mod playhead;
mod rtp;
mod server;
mod silence;

pub use clip::{Clip, ClipError, Codec};
pub use command::Command;
pub use harness::{HarnessError, Options, TestCam};
pub use server::{Auth, Camera, CameraError, Login, Settings, Stream};
