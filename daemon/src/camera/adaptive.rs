//! Which packets of a camera are decoded, and what is done with its pictures: quiet, watch or busy.
//!
//! Owns: the gates, the state machine and the cursor of one camera, and what they count. Does not know: where packets
//! come from, decoders, the detector, the scene's events. A live session and a replay drive it the same way: each
//! packet is [`Adaptive::receive`]d, [`Adaptive::next`] says what the decoder gets until it has nothing more, each
//! picture is [`Adaptive::picture`]d, and [`Adaptive::looked`] tells what the scene made of it. All of it runs on the
//! camera's time line, so that a replay decides as the live camera would.
//!
//! In `quiet` each keyframe is compared with the one before. One that shows motion, packets that are larger than quiet
//! ones, or a command set the cursor back to the last keyframe that showed none: what led to the motion is looked at
//! too, in order, as fast as the detector answers.

mod words;

use std::sync::Arc;
use std::time::Duration;

use vedette_analysis::Scene;
use vedette_analysis::gate::{
    Attention, AttentionConfig, Decode, Kind, Label, Mode, PacketSizes, PictureGate, Sight, SizesVerdict,
    Verdict,
};
use vedette_core::{BBox, Frame, Moment, Pts};
use vedette_ingest::ring::Entry;
use vedette_ingest::{Packet, Skip};

use super::cursor::{Cursor, Step};
use super::gate_stream::Standing;
use super::gop::Gop;
use crate::config;
use crate::counters::CameraCounters;
use crate::pacer::Pacer;

/// Rules for what may be over between two keyframes.
const BRIEF_RULES: [&str; 4] = ["line_crossing", "running", "tailgating", "wrong_way"];
/// Keyframes closer together than this are not all looked at: MJPEG has nothing else.
const KEYFRAMES_APART: Duration = Duration::from_millis(900);
/// Pictures in watch are compared over at least so long: slow things move further than noise.
const PICTURES_APART: Duration = Duration::from_millis(350);
/// The detector looks again at what is parked at most so often, where something changed there ...
const PARKED_AGAIN: Duration = Duration::from_secs(10);
/// ... and so often where nothing did: what was never there must go some time.
const PARKED_ANYWAY: Duration = Duration::from_secs(60);

/// What a picture is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nothing: it was decoded for those after it.
    Nothing,
    /// The scene is told that nothing has changed.
    Still,
    /// The detector looks at it.
    Look {
        /// The cursor is behind: no picture may take this one's place.
        in_order: bool,
    },
}

/// See the module.
pub(crate) struct Adaptive {
    attention: Attention,
    cursor: Cursor,
    sizes: PacketSizes,
    /// Compares keyframes; its own noise, since they are coded unlike other pictures.
    keyframes: PictureGate,
    /// Compares pictures in watch.
    pictures: PictureGate,
    gop: Gop,
    /// How the stream is that shows motion where this one does not; none where there is no such stream.
    beside: Option<Standing>,
    fps: f32,
    /// Which pictures are analysed, and which packets that no other needs are decoded for it.
    due: Pacer,
    needed: Pacer,
    counters: Arc<CameraCounters>,
    /// The newest picture that each gate compared, and that the scene was told of.
    compared: Option<Pts>,
    seen: Option<Pts>,
    told: Option<Pts>,
    /// The last keyframe that showed nothing new: where the cursor goes back to.
    still: Option<Pts>,
    parked: Vec<BBox>,
    moving: bool,
    /// When the detector last looked at what is parked.
    checked: Pts,
    /// The last keyframe that was decoded in quiet.
    sampled: Option<Pts>,
    /// Pictures come later than their packets: a keyframe alone does not come out.
    reordering: bool,
    /// But for a decoder that gives it all the same.
    keyframes_alone: bool,
    /// Packets are decoded until the picture of the last keyframe has come.
    owed: bool,
    last_stream_pts: Option<u64>,
}

impl Adaptive {
    pub(crate) fn new(config: &config::Camera, mode: Mode, counters: Arc<CameraCounters>) -> Self {
        let brief_rules = config.rules.values().any(|rule| BRIEF_RULES.contains(&rule.config.kind()));
        let attention = AttentionConfig { mode, quiet_after: config.quiet_after, brief_rules };
        let masks: Vec<_> = config.masks.values().cloned().collect();
        Self {
            attention: Attention::new(attention, Pts::ZERO),
            cursor: Cursor::new(config.catch_up_max),
            sizes: PacketSizes::default(),
            keyframes: PictureGate::new(masks.clone()),
            pictures: PictureGate::new(masks),
            gop: Gop::default(),
            beside: None,
            fps: config.fps,
            due: Pacer::new(config.fps),
            needed: Pacer::new(config.fps),
            counters,
            compared: None,
            seen: None,
            told: None,
            still: None,
            parked: Vec::new(),
            moving: false,
            checked: Pts::ZERO,
            sampled: None,
            reordering: false,
            keyframes_alone: false,
            owed: false,
            last_stream_pts: None,
        }
    }

    /// The stream begins anew on the same time line. What was learnt stays; where things are must be looked at.
    pub(crate) fn interrupt(&mut self, now: Pts) {
        self.cursor.interrupt();
        self.sizes.interrupt();
        self.keyframes.interrupt();
        self.pictures.interrupt();
        self.gop.interrupt();
        (self.still, self.sampled, self.last_stream_pts, self.owed) = (None, None, None, false);
        self.attention.motion(now);
    }

    /// A packet came: what it says by its size, and the state it leads to.
    pub(crate) fn receive(&mut self, packet: &Packet, moment: Moment) {
        let before = self.cursor.head();
        self.cursor.receive(packet, moment);
        let at = self.cursor.head();
        self.counters.note_state(self.state(), at.since(before).min(Duration::from_secs(2)));
        if let Some(pts) = packet.stream_pts {
            self.reordering |= self.last_stream_pts.replace(pts).is_some_and(|last| pts < last);
        }
        if packet.keyframe {
            self.gop.keyframe(moment.pts);
        } else {
            let kind = if packet.droppable { Kind::NonReference } else { Kind::Reference };
            if self.sizes.packet(kind, packet.data.len()) {
                log::debug!("{:.2} s: motion by packet size, {} bytes", at.secs_f64(), packet.data.len());
                self.attention.motion(at);
            }
        }
        if self.cursor.is_behind() {
            self.attention.motion(at);
        }
        self.update();
    }

    /// Stays awake for so long.
    pub(crate) fn wake(&mut self, length: Duration) {
        self.attention.wake(self.cursor.head() + length);
        self.update();
    }

    /// How the camera's other stream is, and whether something `moved` in it since this was told last.
    pub(crate) fn beside(&mut self, standing: Standing, moved: bool) {
        if moved {
            log::debug!("{:.2} s: motion in the gate's stream", self.cursor.head().secs_f64());
            self.attention.motion(self.cursor.head());
        }
        self.beside = Some(standing);
        self.update();
    }

    /// Whether another stream would let this camera rest, which by itself never does.
    pub(crate) fn needs_beside(&self) -> bool {
        self.attention.needs_beside()
    }

    /// Where things stand that need not be looked at.
    pub(crate) fn parked(&self) -> &[BBox] {
        &self.parked
    }

    fn update(&mut self) {
        let sight = Sight {
            sizes: self.sizes.verdict() == SizesVerdict::Useful,
            gop: self.gop.longest(self.cursor.head()),
            taught: self.keyframes.is_taught(),
            beside: self.beside == Some(Standing::Sees),
        };
        let before = self.state();
        if !self.attention.update(self.cursor.head(), sight) {
            return;
        }
        self.counters.set_decode(self.state());
        if before == Decode::Quiet {
            self.pictures.interrupt();
            self.label(Label::Unsure);
            self.go_back(self.still);
        } else if self.state() == Decode::Quiet {
            self.owed = false;
        }
    }

    /// Sets the cursor back to a keyframe: pictures that come then are older than those that came.
    fn go_back(&mut self, to: Option<Pts>) -> Option<Pts> {
        (self.due, self.needed) = (Pacer::new(self.fps), Pacer::new(self.fps));
        self.cursor.go_back(to)
    }

    /// What the decoder is to do next; none until the next packet, or while the detector has to keep up.
    pub(crate) fn next(&mut self) -> Option<Step> {
        let quiet = self.state() == Decode::Quiet;
        let (sampled, owed) = (self.sampled, self.owed);
        let needed = &mut self.needed;
        let wanted = |entry: &Entry| {
            let at = entry.moment.pts;
            if quiet {
                let sample =
                    entry.packet.keyframe && sampled.is_none_or(|last| at.since(last) >= KEYFRAMES_APART);
                return sample || owed;
            }
            let due = needed.take(at);
            let intra_only = entry.packet.stream.codec == vedette_ingest::Codec::Mjpeg;
            due || !(entry.packet.droppable || intra_only)
        };
        let (step, skipped) = self.cursor.next(wanted);
        self.counters.skipped.add(skipped);
        if let (true, Some(Step::Push(entry))) = (quiet, &step)
            && entry.packet.keyframe
        {
            self.sampled = Some(entry.moment.pts);
            self.owed = self.reordering && !self.keyframes_alone;
        }
        step
    }

    /// What the decoder is to pass over, asked before each packet that it gets; `keyframes_alone`:
    /// [`vedette_ingest::Decoder::gives_keyframes_alone`]. Where quiet ends the cursor goes back to a keyframe, so that
    /// nothing needs what was passed over.
    pub(crate) fn skip(&mut self, keyframes_alone: bool) -> Skip {
        self.keyframes_alone = keyframes_alone;
        let alone = self.reordering && keyframes_alone && self.state() == Decode::Quiet;
        if alone { Skip::NonKey } else { Skip::None }
    }

    /// The decoder failed: once more from the last keyframe, whose moment it gives, or from the next where there is
    /// none or it was `tried`.
    pub(crate) fn restart(&mut self, tried: Option<Pts>) -> Option<Pts> {
        let at = self.go_back(None);
        if at.is_none() || at == tried {
            self.cursor.await_keyframe();
            return None;
        }
        at
    }

    /// Whether the cursor is behind, so that the decoder is to be waited for and pictures taken one by one.
    pub(crate) fn is_behind(&self) -> bool {
        self.cursor.is_behind()
    }

    /// A picture came out of the decoder: what it shows, and what it is for.
    pub(crate) fn picture(&mut self, frame: &Frame) -> Use {
        let at = frame.moment().pts;
        if self.state() == Decode::Quiet {
            return if frame.is_keyframe() { self.quiet_picture(frame) } else { Use::Nothing };
        }
        if frame.is_keyframe() {
            // It is coded anew: what differs from the pictures before it is coding, also in those after it.
            self.pictures.interrupt();
        }
        if frame.is_keyframe() && self.compared.is_none_or(|last| at >= last + KEYFRAMES_APART) {
            self.compare_keyframe(frame);
        }
        if !self.due.take(at) {
            return Use::Nothing;
        }
        if !frame.is_keyframe() && self.seen.is_none_or(|last| at >= last + PICTURES_APART) {
            self.compare_picture(frame);
        }
        if self.told.is_some_and(|told| at <= told) {
            return Use::Nothing;
        }
        if self.cursor.is_too_far(at) {
            self.counters.skipped.one();
            return Use::Nothing;
        }
        Use::Look { in_order: self.cursor.is_behind() }
    }

    fn quiet_picture(&mut self, frame: &Frame) -> Use {
        let at = frame.moment().pts;
        self.owed = false;
        // From before the camera became quiet.
        if self.compared.is_some_and(|last| at <= last) {
            return Use::Nothing;
        }
        let places_changed = match self.compare_keyframe(frame) {
            (Verdict::Moved, _) => {
                self.label(Label::Unsure);
                self.update();
                return Use::Nothing;
            }
            (Verdict::Still, places_changed) => {
                self.label(Label::Quiet);
                places_changed
            }
            (Verdict::First | Verdict::Light, places_changed) => {
                self.label(Label::Unsure);
                places_changed
            }
        };
        let patience = if places_changed { PARKED_AGAIN } else { PARKED_ANYWAY };
        if !self.parked.is_empty() && at.since(self.checked) >= patience {
            self.checked = at;
            return Use::Look { in_order: false };
        }
        self.told = Some(at);
        Use::Still
    }

    /// Tells the packet-size gate what pictures showed; the first GOP is not counted, in which encoders still look for
    /// their rate.
    fn label(&mut self, label: Label) {
        self.sizes.label(if self.gop.is_known() { label } else { Label::Unsure });
    }

    fn compare_keyframe(&mut self, frame: &Frame) -> (Verdict, bool) {
        let at = frame.moment().pts;
        self.compared = Some(at);
        let look = self.keyframes.look(frame, &self.parked);
        if look.verdict == Verdict::Moved {
            log::debug!(
                "{:.2} s: motion between keyframes, {:.4} of the picture",
                at.secs_f64(),
                look.changed
            );
            self.attention.motion(at);
        } else {
            self.still = Some(at);
        }
        (look.verdict, look.places_changed)
    }

    fn compare_picture(&mut self, frame: &Frame) {
        let at = frame.moment().pts;
        self.seen = Some(at);
        let look = self.pictures.look(frame, &self.parked);
        let verdict = look.verdict;
        if verdict == Verdict::First {
            return;
        }
        if verdict == Verdict::Moved {
            log::debug!("{:.2} s: motion between pictures, {:.4} of them", at.secs_f64(), look.changed);
            self.attention.motion(at);
        }
        let label = match verdict {
            // The packets that wait for a label are newer than this picture.
            _ if self.cursor.is_behind() => Label::Unsure,
            Verdict::Moved => Label::Active,
            Verdict::Still if !self.moving => Label::Quiet,
            _ => Label::Unsure,
        };
        self.label(label);
    }

    /// What the scene made of a picture of `at`.
    pub(crate) fn looked(&mut self, at: Pts, scene: &Scene) {
        self.told = self.told.max(Some(at));
        let known = self.parked.len();
        (self.parked, self.moving) = scene.parked();
        self.attention.tracks(at, self.moving);
        if self.state() == Decode::Quiet && self.parked.len() < known {
            // What was parked was not found again: gone, or hidden.
            self.attention.motion(at);
        }
        if self.state() != Decode::Quiet {
            self.checked = at;
        }
        self.update();
    }

    /// What the decoder does.
    pub(crate) fn state(&self) -> Decode {
        self.attention.state()
    }
}
