//! GStreamer behind a plain Rust door: a camera's address goes in, encoded packets and decoded frames come out.
//!
//! Owns: receiving ([`Receiver`]), decoding ([`open_decoder`], [`FileReader`]), the one time line of a camera
//! ([`TimeLine`]), what a fault of a camera means ([`Fault`], [`Backoff`], [`Watchdog`]), the encoded past
//! ([`Ring`]) and the description files. Does not know: detection, rules, configuration files, MQTT; no type of
//! GStreamer leaves this crate.
#![forbid(unsafe_code)]

mod assemble;
pub mod backoff;
mod bus;
pub mod decode;
pub mod description;
pub mod fault;
pub mod file;
mod handshake;
pub mod mask;
mod nal;
pub mod packet;
mod picture;
pub mod probe;
pub mod receive;
pub mod ring;
pub mod route;
pub mod source;
#[cfg(test)]
mod testing;
pub mod timeline;
pub mod trust;
mod unpack;
pub mod watchdog;

pub use backoff::Backoff;
pub use decode::{Decoder, open_decoder};
pub use description::{Description, DescriptionError, Descriptions, MissingElement};
pub use fault::{Fault, FaultClass};
pub use file::FileReader;
pub use handshake::Login;
pub use mask::Masks;
pub use packet::{Codec, Item, Packet, StreamInfo};
pub use probe::{Probe, probe};
pub use receive::{Receiver, leaked_pipelines};
pub use ring::Ring;
pub use route::Route;
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
