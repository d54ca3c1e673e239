//! Packets in, frames out: what a decoder is, and how its frames find their moments and their way out.
//!
//! Owns: the seam ([`Decoder`]) and what its implementations share. Does not know: which packets are worth decoding
//! (the gate), the ring, or the camera. Memory is bounded by shape: four frames wait at the most; who does not take
//! them in time loses the oldest, counted.

mod choice;
mod gst;
mod outlet;
mod trial;

use std::collections::BTreeMap;
use std::time::Duration;

use crossbeam_channel::Receiver;
use vedette_core::{Frame, Moment, Pts};

use crate::{Descriptions, Fault, Masks, Packet, StreamInfo};

pub use choice::{DecoderChoice, DecoderConfig, LoopFilter};
pub(crate) use outlet::{Outlet, WAITING_FRAMES};

/// Moments of packets that have not come out yet: H.264 holds back 16 pictures at most.
const WITHIN: usize = 64;

/// Turns packets into frames. The seam between implementations.
pub trait Decoder: Send {
    /// Gives it the next packet in decoding order; may decode it at once, or wait while two are still before it, at
    /// most 5 s. Its frame, if it has one, comes out of [`Decoder::frames`] with this moment, soon or after some
    /// packets more. What is damaged within a packet is concealed, as far as that goes.
    fn push(&mut self, packet: &Packet, moment: Moment) -> Result<(), Fault>;

    /// Frames in the order of display, their `pts` never running backwards between two flushes. Four may wait; then
    /// the oldest goes, see [`Decoder::dropped`]. Who takes frames after each push loses none.
    fn frames(&self) -> &Receiver<Frame>;

    /// Waits until all packets that were given to it have been decoded: the frames that they give are out then, but for
    /// those that a reordering stream needs later packets for. At most 5 s.
    fn settle(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    /// The stream ends here: some of what a reordering stream holds back comes out, four frames at the most. Called until
    /// none come, it gives them all, but for an implementation that keeps them. Then flush.
    fn finish(&mut self) -> Result<(), Fault> {
        self.settle()
    }

    /// Drops what is inside. The next packet must be a keyframe, and may be an earlier one.
    fn flush(&mut self);

    /// Frames that nobody took in time.
    fn dropped(&self) -> u64;

    /// Whether with [`Skip::NonKey`] the picture of a keyframe comes out at once, also of a stream with B-frames.
    fn gives_keyframes_alone(&self) -> bool {
        false
    }

    /// Packets that it refused as damaged, and pictures that it says were damaged and concealed: lost packets, bit
    /// errors, a stream that begins in the middle. H.265 tells little of it. Of GStreamer's decoders only the pictures, as
    /// far as the element marks them.
    fn damaged(&self) -> u64 {
        0
    }

    /// Which packets are passed over from now on; at first none, and an implementation may decode more. Pictures that
    /// need one that was passed over are passed over too, so less skipping than before begins at the next keyframe, or where the pictures allow it.
    fn set_skip(&mut self, skip: Skip) {
        let _ = skip;
    }
}

/// Which packets a decoder does not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Skip {
    /// Decodes all.
    #[default]
    None,
    /// Those that no other picture refers to ([`Packet::droppable`]): the rest loses nothing.
    NonReference,
    /// All but keyframes, which `libav` gives at once, B-frames or not. What depends on a keyframe so decoded is
    /// passed over too: to go on from it, flush and begin at it again.
    NonKey,
}

impl Skip {
    fn passes_over(self, packet: &Packet) -> bool {
        match self {
            Self::None => false,
            Self::NonReference => packet.droppable,
            Self::NonKey => !packet.keyframe,
        }
    }
}

/// Opens the best decoder for a stream, by [`DecoderConfig::default`].
pub fn open_decoder(
    descriptions: &Descriptions,
    stream: &StreamInfo,
    masks: &Masks,
) -> Result<Box<dyn Decoder>, Fault> {
    DecoderConfig::default().open(descriptions, stream, masks)
}

/// Which frame belongs to which packet.
#[derive(Default)]
pub(crate) struct Moments {
    /// Moments and keyframe marks of the packets inside, by PTS; what is not in here was flushed.
    inside: BTreeMap<Pts, (Moment, bool)>,
    last: Option<Pts>,
}

impl Moments {
    pub(crate) fn insert(&mut self, moment: Moment, keyframe: bool) {
        while self.inside.len() >= WITHIN {
            self.inside.pop_first();
        }
        self.inside.insert(moment.pts, (moment, keyframe));
    }

    /// Takes the moment of a frame, moved forward where a camera's clock stepped back between two keyframes.
    pub(crate) fn take(&mut self, pts: Pts) -> Option<(Moment, bool)> {
        let (moment, keyframe) = self.inside.remove(&pts)?;
        let earliest = self.last.map_or(Pts::ZERO, |last| last + Duration::from_nanos(1));
        let moment = if moment.pts < earliest { moment.shifted_to(earliest) } else { moment };
        self.last = Some(moment.pts);
        Some((moment, keyframe))
    }
}

#[cfg(test)]
mod tests;
