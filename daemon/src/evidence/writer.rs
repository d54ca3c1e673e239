//! The thread `evidence`: takes what cameras hand over, and makes files of it.
//!
//! Owns: clips that are being written, and looking after the disk. Does not know: which packets a clip needs.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use uuid::Uuid;
use vedette_core::{Clock, Frame, Moment, Mono, Pts};
use vedette_ingest::{ClipError, ClipWriter, Packet, open_decoder, ring::Entry};

use super::desk::{Job, Picture, Snapshot};
use super::files::{self, Draft, Found, Label};
use super::maker::Maker;
use super::retention::{self, Bounds, Kept};
use crate::config;
use crate::counters::CameraCounters;

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Seconds of a clip that a power cut may take.
const SYNC: Duration = Duration::from_secs(2);

/// How long a decoder may hold a picture back.
const PICTURE: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Writer {
    maker: Arc<Maker>,
    clock: Arc<dyn Clock>,
    bounds: Bounds,
    clips: BTreeMap<Uuid, OpenClip>,
    looked: Option<Mono>,
}

/// A clip that is being written.
struct OpenClip {
    draft: Draft,
    counters: Arc<CameraCounters>,
    /// None before the first packet.
    writer: Option<ClipWriter>,
    /// The first packet and the last one shown.
    span: Option<(Pts, Pts)>,
    synced: Pts,
}

impl Writer {
    pub(super) fn new(maker: Arc<Maker>, config: &config::Evidence, clock: Arc<dyn Clock>) -> Self {
        let bounds = Bounds {
            age: Duration::from_secs(u64::from(config.days) * 24 * 3600),
            bytes: config.max_bytes,
            camera_bytes: (config.max_bytes as f64 * f64::from(config.camera_share)) as u64,
            free: config.min_free_bytes,
        };
        Self { maker, clock, bounds, clips: BTreeMap::new(), looked: None }
    }

    /// Until [`Job::Close`]; clips that are open then are completed.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        self.adopt();
        loop {
            self.look_after_the_disk();
            match jobs.recv_timeout(LOOK) {
                Ok(Job::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(job) => {
                    self.maker.desk.taken(&job);
                    self.work(job);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        let open: Vec<Uuid> = self.clips.keys().copied().collect();
        open.into_iter().for_each(|id| self.end(id));
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Snapshot(snapshot) => self.snapshot(*snapshot),
            Job::Begin(label, counters) => self.begin(&label, counters),
            Job::Packet(id, packet, moment) => self.packet(id, &packet, moment),
            Job::End(id) => self.end(id),
            Job::Close => {}
        }
    }

    /// What a crash left behind: it was promised.
    fn adopt(&self) {
        let parts = match files::list(&self.maker.root) {
            Ok((_, parts)) => parts,
            Err(error) => return log::error!("evidence: {}: {error}", self.maker.root.display()),
        };
        for (camera, path) in parts {
            let done = match files::adopt(&camera, &path) {
                Ok(Some((draft, last))) => self.maker.complete(draft, last),
                Ok(None) => Ok(()),
                Err(error) => Err(self.maker.of_disk(&error)),
            };
            match done {
                Ok(()) => {
                    log::info!(camera = camera.as_str(); "evidence that a crash left unfinished is put in order");
                }
                Err(error) => log::error!(camera = camera.as_str(); "evidence {}: {error}", path.display()),
            }
        }
    }

    fn snapshot(&self, snapshot: Snapshot) {
        let Snapshot { label, picture, boxes, counters, reply } = snapshot;
        let made = match picture {
            Picture::Frame(frame) => Ok(frame),
            Picture::Packets(entries, masks) => self.decode(&entries, &masks),
        };
        let made = made.and_then(|frame| {
            let bytes = vedette_ingest::jpeg(&frame, &boxes, &self.maker.descriptions)?;
            let mut draft = self.maker.create(label.clone())?;
            draft.file().write_all(&bytes).map_err(|error| self.maker.of_disk(&error))?;
            match &reply {
                // Whoever asked is answered; nobody else has heard of it.
                Some(_) => self.maker.store(&mut draft).map(drop),
                None => self.maker.complete(draft, frame.moment().wall),
            }
        });
        self.note(&label, &counters, &made);
        if let Some(reply) = reply {
            // Who asked may have gone.
            let _ = reply.try_send(made.map(|()| label.name()).map_err(|error| error.to_string()));
        }
    }

    /// The last picture of a row of packets.
    fn decode(&self, entries: &[Entry], masks: &vedette_ingest::Masks) -> Result<Frame, ClipError> {
        let nothing = || ClipError::Pipeline("there is no picture in the last packets".to_owned());
        let first = entries.first().ok_or_else(nothing)?;
        let mut decoder = open_decoder(&self.maker.descriptions, &first.packet.stream, masks)?;
        let (mut newest, last) = (None, entries.iter().map(|e| e.moment.pts).max());
        for entry in entries {
            decoder.push(&entry.packet, entry.moment)?;
            newest = decoder.frames().try_iter().last().or(newest);
        }
        let is_last = |frame: &Option<Frame>| frame.as_ref().is_some_and(|f| Some(f.moment().pts) >= last);
        // A stream with B-frames keeps its last pictures inside: then the one before will do.
        let patience = |newest: &Option<Frame>| if newest.is_some() { PICTURE / 10 } else { PICTURE };
        while !is_last(&newest)
            && let Ok(frame) = decoder.frames().recv_timeout(patience(&newest))
        {
            newest = Some(frame);
        }
        newest.ok_or_else(nothing)
    }

    fn begin(&mut self, label: &Label, counters: Arc<CameraCounters>) {
        match self.maker.create(label.clone()) {
            Ok(draft) => {
                let clip = OpenClip { draft, counters, writer: None, span: None, synced: Pts::ZERO };
                self.clips.insert(label.id, clip);
            }
            Err(error) => self.maker.failed(label, &counters, &error),
        }
    }

    fn packet(&mut self, id: Uuid, packet: &Packet, moment: Moment) {
        // Gone where it failed, or ended early.
        let Some(clip) = self.clips.get_mut(&id) else { return };
        if clip.writer.as_ref().is_some_and(|writer| !writer.takes(packet)) {
            return self.end(id);
        }
        if let Err(error) = clip.push(packet, moment, &self.maker) {
            self.give_up(id, &error);
        }
    }

    fn end(&mut self, id: Uuid) {
        let Some(mut clip) = self.clips.remove(&id) else { return };
        let label = clip.draft.label().clone();
        let finished = match (clip.writer.take(), clip.span) {
            (Some(writer), Some((first, last))) => writer.finish().map(|()| last.since(first)),
            _ => Err(ClipError::Pipeline("no packet came".to_owned())),
        };
        let counters = Arc::clone(&clip.counters);
        match finished {
            Ok(length) => {
                let done = self.maker.complete(clip.draft, label.to(length));
                self.note(&label, &counters, &done);
            }
            Err(error) => self.salvage(clip, &error),
        }
    }

    /// A clip that cannot go on.
    fn give_up(&mut self, id: Uuid, error: &ClipError) {
        if let Some(clip) = self.clips.remove(&id) {
            self.salvage(clip, error);
        }
    }

    /// What was written before something failed is kept, where it shows something.
    fn salvage(&self, mut clip: OpenClip, error: &ClipError) {
        drop(clip.writer.take());
        let label = clip.draft.label().clone();
        match (clip.draft.cut(), clip.span) {
            (Ok(true), Some((first, last))) => {
                log::warn!(camera = label.camera.as_str(), event_id:% = label.id; "clip ends early: {error}");
                if *error == ClipError::Full {
                    self.maker.desk.refuse(Some("the disk is full".to_owned()));
                }
                let done = self.maker.complete(clip.draft, label.to(last.since(first)));
                self.note(&label, &clip.counters, &done);
            }
            _ => self.note(&label, &clip.counters, &Err(error.clone())),
        }
    }

    fn note(&self, label: &Label, counters: &CameraCounters, made: &Result<(), ClipError>) {
        match made {
            Ok(()) => counters.evidence.one(),
            Err(error) => self.maker.failed(label, counters, error),
        }
    }

    /// Deletes what is too old or too much; sees whether there is room for more.
    fn look_after_the_disk(&mut self) {
        let now = self.clock.now();
        if self.looked.is_some_and(|before| now.since(before) < LOOK) {
            return;
        }
        self.looked = Some(now);
        let found = match files::list(&self.maker.root) {
            Ok((found, _)) => found,
            Err(error) => {
                let why = format!("{}: {error}", self.maker.root.display());
                log::error!("evidence: {why}");
                return self.maker.desk.refuse(Some(why));
            }
        };
        let wall = self.clock.wall();
        let awaited = self.maker.outbox.waiting_since();
        let kept = |found: &Found| Kept {
            camera: found.camera.clone(),
            bytes: found.bytes,
            age: self.maker.age(&found.path).unwrap_or_else(|| {
                // A file of a time to come is new: a clock was wrong.
                Duration::try_from(wall.duration_since(found.made)).unwrap_or_default()
            }),
            awaited: awaited.is_some_and(|since| found.made >= since),
        };
        let files: Vec<Kept> = found.iter().map(kept).collect();
        let free = self.free();
        let mut room = free.unwrap_or(u64::MAX);
        for at in retention::plan(&files, &self.bounds, room) {
            let path = &found[at].path;
            match std::fs::remove_file(path) {
                Ok(()) => room = room.saturating_add(found[at].bytes),
                Err(error) => log::error!("evidence {} cannot be deleted: {error}", path.display()),
            }
            self.maker.forget(path);
        }
        let scarce = room < self.bounds.free;
        self.maker.desk.refuse(scarce.then(|| {
            let (free, wanted) = (room >> 20, self.bounds.free >> 20);
            format!("{free} MiB are free on the disk, and {wanted} are to be left (min_free_mib)")
        }));
    }

    /// Bytes free on the disk; none where nobody can tell.
    fn free(&self) -> Option<u64> {
        // Before the first file the folder is not there.
        let place = self.maker.root.ancestors().find(|path| path.exists())?;
        let found = rustix::fs::statvfs(place).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

impl OpenClip {
    fn push(&mut self, packet: &Packet, moment: Moment, maker: &Maker) -> Result<(), ClipError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                self.synced = moment.pts;
                let path = self.draft.path();
                self.writer.insert(ClipWriter::create(path, &packet.stream, &maker.descriptions)?)
            }
        };
        writer.push(packet, moment.pts)?;
        let (first, last) = self.span.unwrap_or((moment.pts, moment.pts));
        self.span = Some((first, last.max(moment.pts)));
        if moment.pts.since(self.synced) >= SYNC {
            self.synced = moment.pts;
            self.draft.sync().map_err(|error| maker.of_disk(&error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::time::UNIX_EPOCH;

    use jiff::Timestamp;
    use vedette_core::{Name, SimulatedClock};

    use super::super::EvidenceDeps;
    use super::super::desk::Desk;
    use crate::outbox::SqliteOutbox;
    use crate::wire::{ModelStamp, Stamp};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn writer(state: &Path, config: &config::Evidence) -> (Writer, Arc<SimulatedClock>) {
        let simulated = Arc::new(SimulatedClock::new(now()));
        let clock: Arc<dyn Clock> = simulated.clone();
        let model = ModelStamp { name: "m".into(), sha256: "00".into(), provider: "cpu".into() };
        let stamp = Stamp::new(Name::new("box").unwrap(), "00", model);
        let outbox = SqliteOutbox::open(state, stamp, &[sink()], &clock).unwrap();
        let deps = EvidenceDeps {
            state: state.to_owned(),
            clock: Arc::clone(&clock),
            outbox: Arc::new(outbox),
            descriptions: Arc::default(),
        };
        let (desk, _, _) = Desk::new();
        (Writer::new(Arc::new(Maker::new(&deps, desk)), config, clock), simulated)
    }

    fn sink() -> Name {
        Name::new("main").unwrap()
    }

    #[test]
    fn word_that_a_crash_swallowed_is_given_by_the_next_start_once() {
        let state = tempfile::tempdir().unwrap();
        let (writer, _) = writer(state.path(), &WIDE);
        let label = Label {
            camera: vedette_core::CameraId::new("gate").unwrap(),
            id: Uuid::from_u128(1),
            kind: vedette_core::EvidenceKind::Snapshot,
            event_kind: "intrusion",
            severity: vedette_core::Severity::Alarm,
            from: now(),
        };
        let mut draft = writer.maker.create(label.clone()).unwrap();
        draft.file().write_all(b"a picture").unwrap();
        writer.maker.store(&mut draft).unwrap();
        // The process ends before the word is in the outbox.
        std::mem::forget(draft);
        for _start in 0..2 {
            writer.adopt();
            assert_eq!(writer.maker.outbox.depth(&sink()), 1);
            assert_eq!(names(state.path()), [label.name()]);
        }
        let word = writer.maker.outbox.next(&sink(), 0).unwrap();
        let word: serde_json::Value = serde_json::from_slice(&word.messages[0].payload).unwrap();
        assert_eq!((&word["file"], &word["bytes"]), (&label.name().into(), &9.into()));
    }

    /// A file that was made so long before now.
    fn file(state: &Path, name: &str, age: Duration) {
        let folder = state.join("evidence/gate");
        std::fs::create_dir_all(&folder).unwrap();
        let file = std::fs::File::create(folder.join(name)).unwrap();
        let made = u64::try_from((now() - age).as_second()).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(made)).unwrap();
    }

    fn names(state: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(state.join("evidence/gate")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    const WIDE: config::Evidence =
        config::Evidence { days: 14, max_bytes: 1 << 30, min_free_bytes: 0, camera_share: 1.0 };

    #[test]
    fn what_is_too_old_goes_and_what_is_not_ours_stays() {
        let state = tempfile::tempdir().unwrap();
        let (mut writer, clock) = writer(state.path(), &WIDE);
        for (name, days) in [("a.jpg", 15), ("b.mp4", 13), ("c.jpg", 0), ("notes.txt", 90)] {
            file(state.path(), name, DAY * days);
        }
        writer.look_after_the_disk();
        assert_eq!(names(state.path()), ["b.mp4", "c.jpg", "notes.txt"]);
        clock.advance(DAY * 2);
        writer.look_after_the_disk();
        assert_eq!(names(state.path()), ["c.jpg", "notes.txt"]);
        assert_eq!(writer.maker.desk.refusal(), None);
    }

    #[test]
    fn a_clock_that_is_set_makes_no_file_old() {
        let state = tempfile::tempdir().unwrap();
        let (mut writer, clock) = writer(state.path(), &WIDE);
        let label = Label {
            camera: vedette_core::CameraId::new("gate").unwrap(),
            id: Uuid::from_u128(1),
            kind: vedette_core::EvidenceKind::Snapshot,
            event_kind: "test",
            severity: vedette_core::Severity::Alarm,
            from: now(),
        };
        writer.maker.create(label).unwrap().complete().map(drop).unwrap();
        let path = state.path().join("evidence/gate/00000000-0000-0000-0000-000000000001.jpg");
        assert!(path.exists());
        // Made by this process an hour ago, on a clock that stood at 1970 then.
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
        writer.maker.remember(&path);
        clock.advance(Duration::from_secs(3600));
        writer.look_after_the_disk();
        assert!(path.exists());
    }

    #[test]
    fn a_disk_without_room_is_said() {
        let state = tempfile::tempdir().unwrap();
        let scarce = config::Evidence { min_free_bytes: 1 << 60, ..WIDE };
        let (mut writer, _) = writer(state.path(), &scarce);
        file(state.path(), "a.jpg", DAY);
        writer.look_after_the_disk();
        assert!(names(state.path()).is_empty(), "all that can make room does");
        let why = writer.maker.desk.refusal().unwrap();
        assert!(why.contains("MiB are free on the disk, and"), "{why}");
    }
}
