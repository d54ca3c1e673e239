//! About one picture a second of a stream, compared with the one before.
//!
//! Owns: which packets are decoded for that, which pictures are compared, and whether their noise is known. Does not
//! know: streams, decoders, what motion leads to. A stream with a keyframe every 2 s or oftener gives its keyframes;
//! of any other all is decoded that pictures refer to, also until that is known.

use std::time::Duration;

use vedette_analysis::gate::{PictureGate, Verdict, is_short_gop};
use vedette_core::{BBox, Frame, Polygon, Pts};
use vedette_ingest::{Packet, Skip};

use super::gop::Gop;
use crate::pacer::Pacer;

/// Keyframes closer together than this are not all looked at.
const KEYFRAMES_APART: Duration = Duration::from_millis(900);
/// Between keyframes, a second.
const PICTURES: f32 = 1.0;

/// See the module.
#[derive(Debug)]
pub(super) struct Sampler {
    gop: Gop,
    /// Compares keyframes; their noise is another one than that of other pictures.
    keyframes: PictureGate,
    pictures: PictureGate,
    keyframes_only: bool,
    pace: Pacer,
    /// The last keyframe that was decoded, and the last that was compared.
    sampled: Option<Pts>,
    compared: Option<Pts>,
}

impl Sampler {
    /// `masks`: polygons that are black in every picture.
    pub(super) fn new(masks: Vec<Polygon>) -> Self {
        Self {
            gop: Gop::default(),
            keyframes: PictureGate::new(masks.clone()),
            pictures: PictureGate::new(masks),
            keyframes_only: false,
            pace: Pacer::new(PICTURES),
            sampled: None,
            compared: None,
        }
    }

    /// The stream begins anew. The noise stays known.
    pub(super) fn interrupt(&mut self) {
        self.gop = Gop::default();
        self.keyframes.interrupt();
        self.pictures.interrupt();
        self.keyframes_only = false;
        (self.sampled, self.compared) = (None, None);
    }

    /// What the decoder is to pass over before it gets this packet of `at`; none where it does not get it at all.
    /// `keyframes_alone`: [`vedette_ingest::Decoder::gives_keyframes_alone`].
    pub(super) fn packet(&mut self, packet: &Packet, at: Pts, keyframes_alone: bool) -> Option<Skip> {
        if packet.keyframe {
            self.gop.keyframe(at);
            // Only here: what follows a keyframe that was decoded alone cannot be decoded.
            self.keyframes_only = keyframes_alone && self.gop.longest(at).is_some_and(is_short_gop);
        }
        if !self.keyframes_only {
            return Some(Skip::NonReference);
        }
        let due = self.sampled.is_none_or(|last| at.since(last) >= KEYFRAMES_APART);
        if !packet.keyframe || !due {
            return None;
        }
        self.sampled = Some(at);
        Some(Skip::NonKey)
    }

    /// Compares a picture that came out; none where it is not compared. `places`: as of [`PictureGate::look`].
    pub(super) fn picture(&mut self, frame: &Frame, places: &[BBox]) -> Option<Verdict> {
        let at = frame.moment().pts;
        if frame.is_keyframe() {
            // It is coded anew: what differs from the pictures before it is coding, also in those after it.
            self.pictures.interrupt();
            if self.compared.is_some_and(|last| at.since(last) < KEYFRAMES_APART) {
                return None;
            }
            self.compared = Some(at);
            return Some(self.keyframes.look(frame, places).verdict);
        }
        self.pace.take(at).then(|| self.pictures.look(frame, places).verdict)
    }

    /// Whether the noise is known of the pictures that are compared.
    pub(super) fn is_taught(&self) -> bool {
        if self.keyframes_only { self.keyframes.is_taught() } else { self.pictures.is_taught() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use vedette_core::{Moment, Mono};
    use vedette_ingest::{Codec, StreamInfo};

    fn packet(keyframe: bool) -> Packet {
        let caps = "video/x-h264".to_owned();
        let stream = StreamInfo { codec: Codec::H264, profile: None, width: 64, height: 48, fps: None, caps };
        Packet {
            data: vec![0; 10].into(),
            stream_pts: None,
            reference: None,
            arrival: Mono::default(),
            keyframe,
            droppable: false,
            stream: Arc::new(stream),
        }
    }

    fn tenths(n: u64) -> Pts {
        Pts::from_nanos(n * 100_000_000)
    }

    /// Grey, with a light square of 16 pixels where somebody is.
    fn picture(n: u64, keyframe: bool, somebody: bool) -> Frame {
        let mut bytes = vec![90; 64 * 48 * 3 / 2];
        if somebody {
            (16..32).for_each(|y| bytes[y * 64 + 16..y * 64 + 32].fill(200));
        }
        let moment = Moment::of_file(jiff::Timestamp::UNIX_EPOCH, tenths(n));
        Frame::packed_i420(moment, (64, 48), bytes).unwrap().with_keyframe(keyframe)
    }

    /// Ten packets a second, a keyframe at each `gop`th; what is decoded of them, in tenths of seconds.
    fn decoded(sampler: &mut Sampler, from: u64, to: u64, gop: u64, alone: bool) -> Vec<u64> {
        (from..to).filter(|n| sampler.packet(&packet(n % gop == 0), tenths(*n), alone).is_some()).collect()
    }

    #[test]
    fn keyframes_alone_once_they_are_known_to_be_near() {
        let mut sampler = Sampler::new(Vec::new());
        assert_eq!(
            decoded(&mut sampler, 0, 45, 10, true),
            [(0..10).collect(), vec![10, 20, 30, 40]].concat()
        );
        assert_eq!(sampler.packet(&packet(true), tenths(50), true), Some(Skip::NonKey));
        // Of pictures that are all keyframes, one a second.
        let mut sampler = Sampler::new(Vec::new());
        assert_eq!(decoded(&mut sampler, 0, 30, 1, true), [0, 1, 10, 19, 28]);
        // Another decoder holds a keyframe back until packets follow it.
        let mut sampler = Sampler::new(Vec::new());
        assert_eq!(decoded(&mut sampler, 0, 45, 10, false).len(), 45);
    }

    #[test]
    fn all_that_others_refer_to_where_keyframes_are_far_apart_or_become_so() {
        let mut sampler = Sampler::new(Vec::new());
        assert_eq!(sampler.packet(&packet(true), tenths(0), true), Some(Skip::NonReference));
        assert_eq!(decoded(&mut sampler, 1, 200, 60, true).len(), 199);
        let mut sampler = Sampler::new(Vec::new());
        decoded(&mut sampler, 0, 41, 10, true);
        // From a keyframe on, since nothing else can be decoded.
        assert_eq!(decoded(&mut sampler, 41, 130, 80, true), (80..130).collect::<Vec<_>>());
        sampler.interrupt();
        assert_eq!(sampler.packet(&packet(false), tenths(131), true), Some(Skip::NonReference), "not known");
    }

    #[test]
    fn who_comes_is_seen_in_keyframes_and_between_them() {
        let mut sampler = Sampler::new(Vec::new());
        decoded(&mut sampler, 0, 41, 10, true);
        let look = |sampler: &mut Sampler, n, keyframe, somebody| {
            sampler.picture(&picture(n, keyframe, somebody), &[])
        };
        assert_eq!(look(&mut sampler, 0, true, false), Some(Verdict::First));
        for n in [10, 20, 30] {
            assert!(!sampler.is_taught());
            assert_eq!(look(&mut sampler, n, true, false), Some(Verdict::Still));
        }
        assert!(sampler.is_taught());
        assert_eq!(look(&mut sampler, 35, true, true), None, "too near the one before");
        assert_eq!(look(&mut sampler, 40, true, true), Some(Verdict::Moved));
        // One endless GOP: a picture a second.
        sampler.interrupt();
        assert_eq!(look(&mut sampler, 100, true, false), Some(Verdict::First));
        assert!(!sampler.is_taught(), "of other pictures nothing is known");
        let verdicts: Vec<_> = (101..141).filter_map(|n| look(&mut sampler, n, false, false)).collect();
        assert_eq!(verdicts, [Verdict::First, Verdict::Still, Verdict::Still, Verdict::Still]);
        assert!(sampler.is_taught());
        let verdicts: Vec<_> = (141..151).filter_map(|n| look(&mut sampler, n, false, true)).collect();
        assert_eq!(verdicts, [Verdict::Moved]);
        let place = BBox::from([0.2, 0.3, 0.5, 0.7]);
        let gone = sampler.picture(&picture(152, false, false), &[place]);
        assert_eq!(gone, Some(Verdict::Still), "it is known to stand there");
    }
}
