//! Whether a camera is worth decoding: the cheap looks at packets and pictures, and what follows from them.
//!
//! Owns: the three states and when they change ([`Attention`]), the packet-size gate ([`PacketSizes`]), the picture
//! gate ([`PictureGate`]). Does not know: streams, decoders, cursors, cameras. Sizes, pictures and moments come in,
//! verdicts go out; who acts on them is the caller's business.

mod attention;
mod picture;
mod sizes;

pub use attention::{Attention, AttentionConfig, Decode, Hold, Mode, Sight, is_short_gop};
pub use picture::{Look, PictureGate, Verdict};
pub use sizes::{Kind, Label, PacketSizes, SizesVerdict};
