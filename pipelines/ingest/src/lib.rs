//! GStreamer behind a plain Rust door: a camera's address goes in, encoded packets and decoded frames come out.
//!
//! Owns: receiving ([`Receiver`]), decoding ([`open_decoder`], [`FileReader`], [`PacketReader`]), the one time line of a camera
//! ([`TimeLine`]), what a fault of a camera means ([`Fault`], [`Backoff`], [`Watchdog`]), the encoded past
//! ([`Ring`]), clips and snapshots of it ([`ClipWriter`], [`jpeg`]) and the description files. Does not know: detection, rules, configuration files, MQTT; no type of
//! GStreamer leaves this crate.
#![deny(unsafe_code)]

mod assemble;
pub mod backoff;
mod bus;
mod camera_clock;
pub mod clip;
pub mod decode;
pub mod description;
pub mod fault;
pub mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handshake;
mod libav;
pub mod local;
pub mod mask;
mod nal;
pub mod packet;
pub mod packets;
mod picture;
pub mod probe;
pub mod receive;
pub mod ring;
pub mod route;
pub mod snapshot;
pub mod source;
#[cfg(test)]
mod testing;
pub mod timeline;
#[cfg(test)]
mod timeline_tests;
pub mod trust;
mod unpack;
pub mod watchdog;

pub use backoff::Backoff;
pub use camera_clock::{ClockNews, ClockReport};
pub use clip::{ClipEncoder, ClipError, ClipWriter};
pub use decode::{Decoder, DecoderChoice, DecoderConfig, LoopFilter, Skip, open_decoder};
pub use description::{Description, DescriptionError, Descriptions, MissingElement};
pub use fault::{Fault, FaultClass};
pub use file::FileReader;
pub use handshake::Login;
pub use local::Local;
pub use mask::Masks;
pub use packet::{Codec, Item, Packet, StreamInfo};
pub use packets::PacketReader;
pub use probe::{Probe, probe};
pub use receive::{Receiver, leaked_pipelines};
pub use ring::Ring;
pub use route::Route;
pub use snapshot::jpeg;
pub use source::{SourceConfig, Transport};
pub use timeline::{Placed, TimeLine};
pub use trust::{Fingerprint, Trust};
pub use watchdog::Watchdog;

/// Starts GStreamer once for the process: reads its plugin registry. Later calls do nothing. Set GStreamer's
/// environment variables before.
pub fn init() -> Result<(), Fault> {
    gstreamer::init().map_err(|error| {
        Fault::new(
            FaultClass::MissingElement,
            format!("GStreamer does not start: {error}"),
            "install gstreamer1.0-plugins-base, -good, -bad and gstreamer1.0-libav",
        )
    })
}

/// GStreamer's version, such as `1.22.0`.
pub fn version() -> String {
    let (major, minor, micro, _) = gstreamer::version();
    format!("{major}.{minor}.{micro}")
}
