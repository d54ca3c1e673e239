//! One camera's part in evidence: its encoded past, and which of its packets belong to which clip.
//!
//! Owns: that past, clips that are not over, and what an event may promise. Does not know: files. Nothing here waits:
//! cameras' threads call it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;
use jiff::Timestamp;
use uuid::Uuid;
use vedette_core::{Event, EvidenceKind, EvidenceNames, Frame, Moment, Phase, Pts, Severity};
use vedette_ingest::{Codec, Masks, Packet, Ring, StreamInfo, ring::Entry};

use super::desk::{Desk, Job, Picture, Snapshot, Task};
use super::files::{self, Label};
use crate::config::{self, MaskClips};
use crate::counters::CameraCounters;

/// The encoded past of a camera, and a clip that waits to be coded anew: 10 s of 25 Mbit/s.
pub(super) const CLIP_BYTES: usize = 32 << 20;

/// An event may be decided so long after its frame came: a camera that catches up is at most 4 s behind.
const LATE: Duration = Duration::from_secs(5);

/// Clips of one camera that are recorded at once.
const CLIPS: usize = 8;

/// Open incidents whose names are remembered; far more than a scene has.
const NAMED: usize = 1000;

/// See the module.
pub struct Recorder {
    config: Arc<config::Camera>,
    counters: Arc<CameraCounters>,
    masks: Masks,
    desk: Desk,
    inner: Mutex<Inner>,
}

struct Inner {
    ring: Ring,
    /// Why there is no main stream at the moment.
    trouble: Option<String>,
    /// The frame that was analysed last, its masks black.
    frame: Option<Frame>,
    /// Width over height of the analysed picture.
    aspect: Option<f32>,
    clips: Vec<Rolling>,
    /// What the events of open incidents have promised.
    named: BTreeMap<Uuid, EvidenceNames>,
}

/// A clip that is not over.
struct Rolling {
    label: Label,
    until: Pts,
    /// Of a camera with masks: nothing of it may touch the disk before it is masked.
    kept: Option<Kept>,
}

#[derive(Default)]
struct Kept {
    entries: Vec<Entry>,
    bytes: usize,
}

/// What an event has promised, to be begun once the event is produced.
#[must_use = "an event has promised it"]
pub struct Order {
    id: Uuid,
    event_kind: &'static str,
    severity: Severity,
    decided: Moment,
    snapshot: Option<Snapshot>,
    clip: bool,
}

/// Whether two streams' pictures are of one codec, profile, size and shape: one clip holds both, and one set of masks
/// fits them.
fn same_picture(a: &Arc<StreamInfo>, b: &Arc<StreamInfo>) -> bool {
    let alike = |a: &StreamInfo, b: &StreamInfo| {
        (a.codec, a.width, a.height, a.aspect(), &a.profile)
            == (b.codec, b.width, b.height, b.aspect(), &b.profile)
    };
    Arc::ptr_eq(a, b) || alike(a, b)
}

impl Recorder {
    pub(super) fn new(config: &Arc<config::Camera>, counters: &Arc<CameraCounters>, desk: Desk) -> Self {
        // Without clips, what a picture of now needs.
        let span = if config.evidence.clip { config.evidence.pre.0 + LATE } else { Duration::ZERO };
        let masks = if config.evidence_url().is_some() { &config.main_masks } else { &config.masks };
        let inner = Inner {
            ring: Ring::new(span, CLIP_BYTES),
            trouble: None,
            frame: None,
            aspect: None,
            clips: Vec::new(),
            named: BTreeMap::new(),
        };
        Self {
            config: Arc::clone(config),
            counters: Arc::clone(counters),
            masks: Masks::new(masks.values().cloned().collect()),
            desk,
            inner: Mutex::new(inner),
        }
    }

    fn has_main(&self) -> bool {
        self.config.evidence_url().is_some()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A packet of the analysed stream came, at this moment of the camera's line.
    pub fn packet(&self, packet: &Packet, moment: Moment) {
        if !self.has_main() {
            self.record(packet, moment);
        }
    }

    /// A packet of the main stream came, at this moment of that stream's own line.
    pub(super) fn main_packet(&self, packet: &Packet, moment: Moment) {
        self.record(packet, moment);
    }

    fn record(&self, packet: &Packet, moment: Moment) {
        let mut inner = self.inner();
        inner.trouble = None;
        let before = inner.ring.iter().next_back().map(|entry| Arc::clone(&entry.packet.stream));
        if before.is_some_and(|before| !same_picture(&before, &packet.stream)) {
            // No file can hold both, and masks are looked at against the picture of now.
            self.forget(&mut inner);
        }
        inner.ring.push(packet.clone(), moment);
        let mut clips = std::mem::take(&mut inner.clips);
        clips.retain_mut(|clip| {
            let goes_on = moment.pts < clip.until && self.extend(clip, packet, moment);
            if !goes_on {
                self.end(clip);
            }
            goes_on
        });
        inner.clips = clips;
    }

    /// Adds a packet to a clip; false where that cannot be, and the clip ends before its time.
    fn extend(&self, clip: &mut Rolling, packet: &Packet, moment: Moment) -> bool {
        let fits = match &mut clip.kept {
            None => self.desk.put(Job::Packet(clip.label.id, packet.clone(), moment)),
            Some(kept) if kept.bytes + packet.data.len() > CLIP_BYTES => false,
            Some(kept) => {
                kept.bytes += packet.data.len();
                kept.entries.push(Entry { seq: kept.entries.len() as u64, packet: packet.clone(), moment });
                true
            }
        };
        if !fits {
            let id = clip.label.id;
            log::warn!(camera = self.config.id.as_str(), event_id:% = id; "clip ends early: too much waits to be written");
        }
        fits
    }

    fn end(&self, clip: &mut Rolling) {
        let Some(Kept { entries, .. }) = clip.kept.take() else {
            self.desk.put(Job::End(clip.label.id));
            return;
        };
        let task = Task {
            label: clip.label.clone(),
            entries,
            masks: self.masks.clone(),
            counters: Arc::clone(&self.counters),
        };
        if !self.desk.encode(task) {
            self.counters.evidence_lost.one();
            let id = clip.label.id;
            log::warn!(camera = self.config.id.as_str(), event_id:% = id; "no clip: too many wait to be coded anew");
        }
    }

    /// A frame is analysed: events that follow are about it.
    pub fn frame(&self, frame: &Frame) {
        let mut inner = self.inner();
        inner.aspect = Some(frame.aspect());
        inner.frame = self.config.evidence.snapshot.then(|| frame.clone());
    }

    /// The analysed stream has ended, or begins anew: clips end where it did.
    pub fn cut(&self) {
        self.inner().frame = None;
        if !self.has_main() {
            self.end_all(None);
        }
    }

    /// The main stream has ended, for this reason.
    pub(super) fn main_cut(&self, why: Option<String>) {
        self.end_all(why);
    }

    fn end_all(&self, why: Option<String>) {
        let mut inner = self.inner();
        self.forget(&mut inner);
        inner.trouble = why;
    }

    /// Ends all clips where the past does.
    fn forget(&self, inner: &mut Inner) {
        inner.clips.drain(..).for_each(|mut clip| self.end(&mut clip));
        inner.ring.clear();
    }

    /// A moment of the analysed stream on the line of the recorded one; their wall clocks tell. Those that lie further
    /// apart than an event can be late do not agree (one is the camera's, or one was set): then it is now.
    fn on_line(&self, inner: &Inner, at: Moment) -> Pts {
        let newest = inner.ring.iter().next_back().map(|entry| entry.moment);
        let Some(newest) = newest.filter(|_| self.has_main()) else { return at.pts };
        let behind = newest.wall.duration_since(at.wall);
        match (Duration::try_from(behind), behind.unsigned_abs()) {
            (_, apart) if apart > LATE => newest.pts,
            (Ok(behind), _) => newest.pts - behind,
            (Err(_), ahead) => newest.pts + ahead,
        }
    }

    /// Why nothing of the main stream may be shown: its picture has another shape than the one its masks were drawn on.
    fn misfit(&self, inner: &Inner) -> Option<String> {
        let same = !self.masks.is_empty() && self.config.main_masks == self.config.masks;
        (same && self.has_main() && !self.same_shape(inner)).then(|| {
            "withheld: `url` and `main_url` show pictures of different shapes, and `main_mask` is the same as `mask`: draw \
             it on the main stream's"
                .to_owned()
        })
    }

    /// Whether both streams' pictures have one shape, within 2 %.
    fn same_shape(&self, inner: &Inner) -> bool {
        let recorded = inner.ring.iter().next_back().and_then(|entry| entry.packet.stream.aspect());
        match (inner.aspect, recorded) {
            (Some(analysed), Some(recorded)) => (analysed / recorded - 1.0).abs() <= 0.02,
            // Before the first frame nobody knows.
            _ => !self.has_main(),
        }
    }

    /// Writes into an event what will show it, or why nothing will. What is promised is begun by [`Recorder::begin`],
    /// once the event is produced.
    pub fn promise(&self, event: &mut Event) -> Option<Order> {
        let mut inner = self.inner();
        match event.phase {
            Phase::Begin | Phase::Once => {}
            Phase::Update => {
                event.evidence = inner.named.get(&event.id).cloned().unwrap_or_default();
                return None;
            }
            Phase::End => {
                event.evidence = inner.named.remove(&event.id).unwrap_or_default();
                return None;
            }
        }
        let wanted = &self.config.evidence;
        if event.severity < wanted.severity || !(wanted.snapshot || wanted.clip) {
            return None;
        }
        let mut order = Order {
            id: event.id,
            event_kind: event.kind,
            severity: event.severity,
            decided: event.decided,
            snapshot: None,
            clip: false,
        };
        let mut missing = Vec::new();
        if let Some(refusal) = self.desk.refusal().or_else(|| self.misfit(&inner)) {
            missing.push(refusal);
        } else {
            if wanted.snapshot {
                match self.picture(&inner, event) {
                    Ok(snapshot) => order.snapshot = Some(snapshot),
                    Err(why) => missing.push(why),
                }
            }
            if wanted.clip {
                match self.no_clip(&inner) {
                    None => order.clip = true,
                    Some(why) => missing.push(why),
                }
            }
        }
        event.evidence = EvidenceNames {
            snapshot: order.snapshot.is_some().then(|| files::name(event.id, EvidenceKind::Snapshot)),
            clip: order.clip.then(|| files::name(event.id, EvidenceKind::Clip)),
            missing: (!missing.is_empty()).then(|| missing.join("; ")),
        };
        if event.phase == Phase::Begin {
            while inner.named.len() >= NAMED {
                inner.named.pop_first();
            }
            inner.named.insert(event.id, event.evidence.clone());
        }
        (order.snapshot.is_some() || order.clip).then_some(order)
    }

    fn picture(&self, inner: &Inner, event: &Event) -> Result<Snapshot, String> {
        let (picture, at) = match self.of_main(inner, event.decided) {
            Some(entries) => {
                let at = entries.last().map_or(event.decided.wall, |entry| entry.moment.wall);
                (Picture::Packets(entries, self.masks.clone()), at)
            }
            // Also where the main stream is away: better than nothing.
            None => {
                let frame = inner.frame.clone().ok_or("there was no picture of it")?;
                let at = frame.moment().wall;
                (Picture::Frame(frame), at)
            }
        };
        let draw = self.config.evidence.draw_box && self.same_shape(inner);
        Ok(Snapshot {
            label: self.label((event.id, event.kind, event.severity), EvidenceKind::Snapshot, at),
            picture,
            boxes: event.object.iter().filter(|_| draw).map(|object| object.bbox).collect(),
            counters: Arc::clone(&self.counters),
            reply: None,
        })
    }

    /// What of the main stream leads to the picture of a moment.
    fn of_main(&self, inner: &Inner, at: Moment) -> Option<Vec<Entry>> {
        let at = Some(self.on_line(inner, at)).filter(|_| self.has_main())?;
        let until = inner.ring.from_keyframe_before(at).take_while(|entry| entry.moment.pts <= at);
        let entries: Vec<Entry> = until.cloned().collect();
        (!entries.is_empty()).then_some(entries)
    }

    /// Why there can be no clip.
    fn no_clip(&self, inner: &Inner) -> Option<String> {
        if !self.masks.is_empty() && self.config.evidence.mask_clips == MaskClips::Withhold {
            return Some("clips are withheld: the camera has privacy masks (mask_clips)".to_owned());
        }
        if inner.clips.len() >= CLIPS {
            return Some(format!("{CLIPS} clips of this camera are being recorded"));
        }
        match inner.ring.iter().next_back().map(|entry| entry.packet.stream.codec) {
            None => Some(match &inner.trouble {
                Some(trouble) => format!("no main stream: {trouble}"),
                None => "there was no video of it in memory".to_owned(),
            }),
            Some(Codec::Mjpeg) => {
                Some("Motion JPEG gives no clips: set the camera to H.264 or H.265".to_owned())
            }
            Some(Codec::H264 | Codec::H265) => None,
        }
    }

    fn label(&self, of: (Uuid, &'static str, Severity), kind: EvidenceKind, from: Timestamp) -> Label {
        let (id, event_kind, severity) = of;
        Label { camera: self.config.id.clone(), id, kind, event_kind, severity, from }
    }

    /// Begins what an event has promised.
    pub fn begin(&self, order: Order) {
        let Order { id, event_kind, severity, decided, snapshot, clip } = order;
        if let Some(snapshot) = snapshot
            && !self.desk.put(Job::Snapshot(Box::new(snapshot)))
        {
            self.lost(id, "picture");
        }
        if !clip {
            return;
        }
        let mut inner = self.inner();
        let wanted = &self.config.evidence;
        let decided = Moment { pts: self.on_line(&inner, decided), ..decided };
        let past: Vec<Entry> = inner.ring.from_keyframe_before(decided.pts - wanted.pre.0).cloned().collect();
        let Some(first) = past.first() else { return self.lost(id, "clip") };
        // By the clock of the event, which may be another than the first packet had.
        let from = decided.shifted_to(first.moment.pts).wall;
        let label = self.label((id, event_kind, severity), EvidenceKind::Clip, from);
        let kept = (!self.masks.is_empty()).then(Kept::default);
        if kept.is_none() {
            self.desk.put(Job::Begin(label.clone(), Arc::clone(&self.counters)));
        }
        let mut clip = Rolling { label, until: decided.pts + wanted.post.0, kept };
        for Entry { packet, moment, .. } in &past {
            if moment.pts >= clip.until || !self.extend(&mut clip, packet, *moment) {
                return self.end(&mut clip);
            }
        }
        inner.clips.push(clip);
    }

    fn lost(&self, id: Uuid, what: &str) {
        self.counters.evidence_lost.one();
        log::warn!(camera = self.config.id.as_str(), event_id:% = id; "no {what}: too much waits to be written");
    }

    /// Asks for a picture of now.
    pub(super) fn snapshot(&self, reply: Sender<Result<String, String>>) -> Result<(), String> {
        if let Some(refusal) = self.desk.refusal() {
            return Err(refusal);
        }
        let inner = self.inner();
        if let Some(misfit) = self.misfit(&inner) {
            return Err(misfit);
        }
        let entries: Vec<Entry> = inner.ring.from_last_keyframe().cloned().collect();
        let Some(last) = entries.last() else {
            return Err(format!("camera {} gives no video at the moment", self.config.id));
        };
        let label = self.label(
            (Uuid::new_v4(), files::COMMAND, Severity::Info),
            EvidenceKind::Snapshot,
            last.moment.wall,
        );
        let snapshot = Snapshot {
            label,
            picture: Picture::Packets(entries, self.masks.clone()),
            boxes: Vec::new(),
            counters: Arc::clone(&self.counters),
            reply: Some(reply),
        };
        let taken = self.desk.put(Job::Snapshot(Box::new(snapshot)));
        taken.then_some(()).ok_or_else(|| "too much waits to be written".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::Receiver;
    use vedette_core::{BBox, ClockSource, Mono};

    struct Rig {
        recorder: Recorder,
        desk: Desk,
        jobs: Receiver<Job>,
        tasks: Receiver<Task>,
        stream: Arc<StreamInfo>,
        next: u64,
    }

    fn stream(codec: Codec, size: (u32, u32)) -> Arc<StreamInfo> {
        let (width, height) = size;
        Arc::new(StreamInfo { codec, profile: None, width, height, fps: None, caps: String::new() })
    }

    fn rig(text: &str) -> Rig {
        let text = format!("[camera.gate]\nurl = \"rtsp://127.0.0.1/x\"\n{text}");
        let config = config::from_text("x.toml", &text, &config::Options::default()).unwrap();
        let (desk, jobs, tasks) = Desk::new();
        let recorder = Recorder::new(&config.cameras["gate"], &Arc::default(), desk.clone());
        Rig { recorder, desk, jobs, tasks, stream: stream(Codec::H264, (640, 360)), next: 0 }
    }

    fn at(millis: u64) -> Moment {
        let pts = Pts::ZERO + Duration::from_millis(millis);
        let wall = Timestamp::from_millisecond(i64::try_from(millis).unwrap()).unwrap();
        Moment { pts, wall, wall_ok: true, clock: ClockSource::Host }
    }

    impl Rig {
        /// Packets 100 ms apart, a keyframe each second, up to `millis`.
        fn packets(&mut self, millis: u64) {
            while self.next <= millis {
                let keyframe = self.next.is_multiple_of(1000);
                let packet = Packet {
                    data: vec![0; 100].into(),
                    stream_pts: None,
                    reference: None,
                    arrival: Mono::default(),
                    keyframe,
                    droppable: false,
                    stream: Arc::clone(&self.stream),
                };
                if self.recorder.has_main() {
                    self.recorder.main_packet(&packet, at(self.next));
                } else {
                    self.recorder.packet(&packet, at(self.next));
                }
                self.next += 100;
            }
        }

        fn frame(&self, size: (u32, u32), millis: u64) {
            let (w, h) = (size.0 as usize, size.1 as usize);
            let frame = Frame::packed_i420(at(millis), size, vec![16; w * h * 3 / 2]).unwrap();
            self.recorder.frame(&frame);
        }

        fn promise(&self, millis: u64, phase: Phase, severity: Severity) -> (EvidenceNames, Option<Order>) {
            let mut event = event(millis, phase, severity);
            let order = self.recorder.promise(&mut event);
            (event.evidence, order)
        }

        /// What clips became: when each packet was, by the order in which they were written; the rest is counted.
        fn clip(&self) -> Vec<u64> {
            let millis = |job: Job| match job {
                Job::Packet(_, packet, moment) => Some((moment.pts.nanos() / 1_000_000, packet.keyframe)),
                _ => None,
            };
            let packets: Vec<(u64, bool)> = self.jobs.try_iter().filter_map(millis).collect();
            assert!(packets.first().is_none_or(|first| first.1), "begins on a keyframe");
            packets.into_iter().map(|(millis, _)| millis).collect()
        }
    }

    fn event(millis: u64, phase: Phase, severity: Severity) -> Event {
        Event {
            id: Uuid::from_u128(7),
            phase,
            kind: "intrusion",
            rule: vedette_core::Name::new("night").unwrap(),
            severity,
            camera: None,
            zone: None,
            line: None,
            direction: None,
            captured: at(millis),
            decided: at(millis),
            object: Some(vedette_core::ObjectSummary {
                track: vedette_core::TrackId(1),
                class: vedette_core::Class::new("person"),
                score: 0.5,
                bbox: BBox { x0: 0.1, y0: 0.1, x1: 0.2, y1: 0.2 },
                speed: 0.0,
                speed_unit: vedette_core::SpeedUnit::HeightsPerSecond,
            }),
            value: None,
            unit: None,
            why: String::new(),
            ended_by: None,
            suppressed: 0,
            evidence: EvidenceNames::default(),
        }
    }

    const ON: &str = "[camera.gate.evidence]\nsnapshot = true\nclip = true\npre = \"2s\"\npost = \"3s\"\n";
    const MASK: &str = "[camera.gate.mask]\nm = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0]]\n";

    #[test]
    fn a_clip_is_what_was_before_and_what_comes_until_its_time_is_over() {
        let mut rig = rig(ON);
        rig.packets(6_400);
        rig.frame((64, 36), 6_400);
        let (names, order) = rig.promise(6_400, Phase::Begin, Severity::Alarm);
        assert_eq!(names.clip.as_deref(), Some("00000000-0000-0000-0000-000000000007.mp4"));
        assert_eq!((names.snapshot.is_some(), &names.missing), (true, &None));
        assert!(rig.jobs.is_empty(), "nothing before the event is produced");
        rig.recorder.begin(order.unwrap());
        rig.packets(20_000);
        let clip = rig.clip();
        assert_eq!((clip.first(), clip.last(), clip.len()), (Some(&4_000), Some(&9_300), 54));
        // All messages of an incident say the same; behind its end it is forgotten.
        assert_eq!(rig.promise(7_000, Phase::Update, Severity::Alarm).0, names);
        assert_eq!(rig.promise(8_000, Phase::End, Severity::Alarm).0, names);
        assert_eq!(rig.promise(8_000, Phase::End, Severity::Alarm).0, EvidenceNames::default());
    }

    #[test]
    fn a_camera_that_is_lost_ends_its_clips() {
        let mut rig = rig(ON);
        rig.packets(3_000);
        rig.recorder.begin(rig.promise(3_000, Phase::Once, Severity::Alarm).1.unwrap());
        rig.recorder.cut();
        assert!(matches!(rig.jobs.try_iter().last(), Some(Job::End(_))));
        let (names, order) = rig.promise(3_000, Phase::Once, Severity::Alarm);
        assert!(order.is_none() && names.missing.unwrap().contains("no video of it in memory"));
    }

    #[test]
    fn what_cannot_be_is_said_and_what_is_not_wanted_is_not() {
        struct Case(&'static str, Codec, Severity, Option<&'static str>);
        let reencode = "[camera.gate.evidence]\nclip = true\nmask_clips = \"reencode\"\n";
        let clip = "[camera.gate.evidence]\nclip = true\n";
        let cases = [
            Case("", Codec::H264, Severity::Alarm, None),
            Case(ON, Codec::H264, Severity::Info, None),
            Case(clip, Codec::H264, Severity::Review, None),
            Case(reencode, Codec::H264, Severity::Review, None),
            Case(clip, Codec::Mjpeg, Severity::Alarm, Some("Motion JPEG")),
            Case("MASK", Codec::H264, Severity::Alarm, Some("privacy masks")),
        ];
        for Case(text, codec, severity, expected) in cases {
            let text = if text == "MASK" { format!("{clip}{MASK}") } else { text.to_owned() };
            let mut rig = rig(&text);
            rig.stream = stream(codec, (640, 360));
            rig.packets(3_000);
            let (names, order) = rig.promise(3_000, Phase::Once, severity);
            assert_eq!(names.missing.is_some(), expected.is_some(), "{text}: {names:?}");
            assert!(expected.is_none_or(|word| names.missing.unwrap().contains(word)), "{text}");
            assert_eq!(order.is_some(), names.clip.is_some(), "{text}");
        }
    }

    #[test]
    fn nothing_of_a_masked_clip_goes_to_the_disk_before_it_is_masked() {
        let mut rig = rig(&format!("{ON}mask_clips = \"reencode\"\n{MASK}"));
        rig.packets(5_000);
        rig.recorder.begin(rig.promise(5_000, Phase::Once, Severity::Alarm).1.unwrap());
        rig.packets(9_000);
        assert!(rig.jobs.is_empty());
        let task = rig.tasks.try_recv().unwrap();
        assert_eq!((task.entries.len(), task.masks.is_empty()), (50, false));
    }

    #[test]
    fn a_disk_that_takes_nothing_is_a_reason_and_never_a_wait() {
        let mut rig = rig(ON);
        rig.packets(3_000);
        rig.desk.refuse(Some("the disk is full".to_owned()));
        let (names, order) = rig.promise(3_000, Phase::Once, Severity::Alarm);
        assert!(order.is_none());
        assert_eq!(
            names,
            EvidenceNames { missing: Some("the disk is full".to_owned()), ..Default::default() }
        );
        rig.desk.refuse(None);
        // Packets that nobody writes: the clip ends, and no more is taken.
        rig.recorder.begin(rig.promise(3_000, Phase::Once, Severity::Alarm).1.unwrap());
        let big = Packet {
            data: vec![0; 40 << 20].into(),
            ..rig.recorder.inner().ring.iter().next().unwrap().packet.clone()
        };
        (0..3).for_each(|n| rig.recorder.packet(&big, at(3_100 + n)));
        assert!(rig.recorder.inner().clips.is_empty());
        let why = rig.promise(3_200, Phase::Once, Severity::Alarm).0.missing.unwrap();
        assert!(why.contains("too slow"), "{why}");
    }

    #[test]
    fn the_main_stream_has_a_line_of_its_own() {
        let main = "main_url = \"rtsp://127.0.0.1/y\"\n";
        let mut rig = rig(&format!("{main}{ON}"));
        rig.packets(6_000);
        rig.frame((64, 36), 5_000);
        // The analysed stream's line began 90 s before; both walls are the same.
        let mut event = event(5_000, Phase::Once, Severity::Alarm);
        event.decided.pts = event.decided.pts + Duration::from_secs(90);
        let order = rig.recorder.promise(&mut event).unwrap();
        assert!(
            matches!(order.snapshot.as_ref().unwrap().picture, Picture::Packets(ref e, _) if e.len() == 1)
        );
        assert_eq!(order.snapshot.as_ref().unwrap().boxes.len(), 1);
        rig.recorder.begin(order);
        rig.packets(12_000);
        let clip = rig.clip();
        assert_eq!((clip.first(), clip.last()), (Some(&3_000), Some(&7_900)));
        rig.recorder.main_cut(Some("refused: it is off".to_owned()));
        let (names, _) = rig.promise(12_000, Phase::Once, Severity::Alarm);
        assert!(names.snapshot.is_some(), "of the analysed stream");
        assert_eq!(names.missing.as_deref(), Some("no main stream: refused: it is off"));
    }

    #[test]
    fn wall_clocks_that_disagree_make_no_clip_of_an_hour_and_none_of_nothing() {
        for minutes in [-60, 60] {
            let mut rig = rig(&format!("main_url = \"rtsp://127.0.0.1/y\"\n{ON}"));
            rig.packets(6_000);
            let mut event = event(5_000, Phase::Once, Severity::Alarm);
            event.decided.wall += jiff::SignedDuration::from_mins(minutes);
            let order = rig.recorder.promise(&mut event).unwrap();
            rig.recorder.begin(order);
            rig.packets(12_000);
            let clip = rig.clip();
            assert_eq!((clip.first(), clip.last()), (Some(&4_000), Some(&8_900)), "{minutes} min");
        }
    }

    #[test]
    fn a_picture_of_another_size_or_profile_ends_clips_and_begins_the_past_anew() {
        let mut other = (*rig(ON).stream).clone();
        other.profile = Some("constrained-baseline".to_owned());
        for then in [stream(Codec::H264, (320, 240)), Arc::new(other)] {
            let mut rig = rig(ON);
            rig.packets(3_000);
            rig.recorder.begin(rig.promise(3_000, Phase::Once, Severity::Alarm).1.unwrap());
            rig.stream = then;
            rig.packets(4_500);
            assert!(matches!(rig.jobs.try_iter().last(), Some(Job::End(_))));
            rig.recorder.begin(rig.promise(4_500, Phase::Once, Severity::Alarm).1.unwrap());
            rig.packets(9_000);
            let clip = rig.clip();
            assert_eq!((clip.first(), clip.last()), (Some(&4_000), Some(&7_400)), "with the incident");
        }
    }

    #[test]
    fn what_was_of_another_shape_before_is_in_no_masked_clip() {
        let masks = format!("{MASK}{}", MASK.replace("gate.mask", "gate.main_mask"));
        let main = "main_url = \"rtsp://127.0.0.1/y\"\n";
        let mut rig = rig(&format!("{main}{ON}mask_clips = \"reencode\"\n{masks}"));
        rig.stream = stream(Codec::H264, (640, 480));
        rig.packets(3_000);
        rig.stream = stream(Codec::H264, (640, 360));
        rig.packets(4_500);
        rig.frame((64, 36), 4_500);
        rig.recorder.begin(rig.promise(4_500, Phase::Once, Severity::Alarm).1.unwrap());
        rig.packets(9_000);
        let task = rig.tasks.try_recv().unwrap();
        assert!(task.entries.iter().all(|entry| entry.packet.stream.height == 360));
        assert_eq!(task.entries.len(), 35);
    }

    #[test]
    fn masks_of_another_shape_withhold_everything() {
        let main = "main_url = \"rtsp://127.0.0.1/y\"\n";
        let masks = format!("{MASK}{}", MASK.replace("gate.mask", "gate.main_mask"));
        for (size, fits) in [((64, 36), true), ((64, 48), false)] {
            let mut rig = rig(&format!("{main}{ON}{masks}"));
            rig.packets(6_000);
            rig.frame(size, 6_000);
            let (names, _) = rig.promise(6_000, Phase::Once, Severity::Alarm);
            assert_eq!(names.snapshot.is_some(), fits, "{names:?}");
            assert!(names.missing.unwrap().contains(if fits { "privacy masks" } else { "different shapes" }));
        }
    }
}
