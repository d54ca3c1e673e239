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
use vedette_ingest::{Codec, Masks, Packet, Ring, ring::Entry};

use super::desk::{Desk, Job, Picture, Snapshot, Task};
use super::files::{self, Label};
use crate::config::{self, MaskClips};
use crate::counters::CameraCounters;

/// The encoded past of a camera, and a clip that waits to be coded anew: 10 s of 25 Mbit/s.
pub(super) const CLIP_BYTES: usize = 32 << 20;

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
    /// The frame that was analysed last, its masks black.
    frame: Option<Frame>,
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

impl Recorder {
    pub(super) fn new(config: &Arc<config::Camera>, counters: &Arc<CameraCounters>, desk: Desk) -> Self {
        // Without clips, what a picture of now needs.
        let span = if config.evidence.clip { config.evidence.pre.0 } else { Duration::ZERO };
        let inner = Inner {
            ring: Ring::new(span, CLIP_BYTES),
            frame: None,
            clips: Vec::new(),
            named: BTreeMap::new(),
        };
        Self {
            config: Arc::clone(config),
            counters: Arc::clone(counters),
            masks: Masks::new(config.masks.values().cloned().collect()),
            desk,
            inner: Mutex::new(inner),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A packet came, at this moment of the camera's line.
    pub fn packet(&self, packet: &Packet, moment: Moment) {
        let mut inner = self.inner();
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
        if self.config.evidence.snapshot {
            self.inner().frame = Some(frame.clone());
        }
    }

    /// The stream has ended, or begins anew: clips end where it did.
    pub fn cut(&self) {
        let mut inner = self.inner();
        inner.clips.drain(..).for_each(|mut clip| self.end(&mut clip));
        inner.ring.clear();
        inner.frame = None;
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
        if let Some(refusal) = self.desk.refusal() {
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
        let frame = inner.frame.clone().ok_or("there was no picture of it")?;
        let boxes = event.object.iter().filter(|_| self.config.evidence.draw_box).map(|o| o.bbox).collect();
        Ok(Snapshot {
            label: self.label((event.id, event.kind, event.severity), EvidenceKind::Snapshot, frame.moment().wall),
            picture: Picture::Frame(frame),
            boxes,
            counters: Arc::clone(&self.counters),
            reply: None,
        })
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
            None => Some("there was no video of it in memory".to_owned()),
            Some(Codec::Mjpeg) => Some("Motion JPEG gives no clips: set the camera to H.264 or H.265".to_owned()),
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
        let past: Vec<Entry> =
            inner.ring.from_keyframe_before(decided.pts - wanted.pre.0).cloned().collect();
        let Some(first) = past.first() else { return self.lost(id, "clip") };
        let label = self.label((id, event_kind, severity), EvidenceKind::Clip, first.moment.wall);
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
        let entries: Vec<Entry> = inner.ring.from_last_keyframe().cloned().collect();
        let Some(last) = entries.last() else {
            return Err(format!("camera {} gives no video at the moment", self.config.id));
        };
        let label =
            self.label((Uuid::new_v4(), "command", Severity::Info), EvidenceKind::Snapshot, last.moment.wall);
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
