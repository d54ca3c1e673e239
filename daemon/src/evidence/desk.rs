//! What is to be written, on its way from cameras' threads to the one that writes.
//!
//! Owns: the queues, their bounds, and why nothing is taken at the moment. Does not know: files.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use uuid::Uuid;
use vedette_core::{BBox, Frame, Moment};
use vedette_ingest::{Masks, Packet, ring::Entry};

use super::files::Label;
use crate::counters::CameraCounters;

/// Bytes of packets and pictures that may wait for the disk: ten seconds of sixteen cameras of 4 Mbit/s, with room.
const WAITING: usize = 96 << 20;

/// What a packet costs beside its bytes.
const PACKET: usize = 256;

/// Clips that may wait to be coded anew, each of up to [`super::recorder::CLIP_BYTES`].
const TASKS: usize = 4;

/// Where a picture comes from.
pub(super) enum Picture {
    /// As it was decoded; its masks are black.
    Frame(Frame),
    /// From a keyframe on: the last one is meant. Masks are painted when it is decoded.
    Packets(Vec<Entry>, Masks),
}

impl Picture {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.width() as usize * frame.height() as usize * 3 / 2,
            Self::Packets(entries, _) => entries.iter().map(|e| e.packet.data.len() + PACKET).sum(),
        }
    }
}

/// A picture to be written.
pub(super) struct Snapshot {
    pub(super) label: Label,
    pub(super) picture: Picture,
    pub(super) boxes: Vec<BBox>,
    pub(super) counters: Arc<CameraCounters>,
    /// Somebody who waits for it, in the place of the outbox.
    pub(super) reply: Option<Sender<Result<String, String>>>,
}

/// What the writer is asked.
pub(super) enum Job {
    Snapshot(Box<Snapshot>),
    /// A clip begins.
    Begin(Label, Arc<CameraCounters>),
    /// The next packet of it; the first is a keyframe.
    Packet(Uuid, Packet, Moment),
    /// It is over.
    End(Uuid),
    /// No job comes after this one.
    Close,
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Snapshot(snapshot) => snapshot.picture.bytes(),
            Self::Packet(_, packet, _) => packet.data.len() + PACKET,
            Self::Begin(..) | Self::End(_) | Self::Close => 0,
        }
    }
}

/// A clip to be coded anew.
pub(super) struct Task {
    pub(super) label: Label,
    pub(super) entries: Vec<Entry>,
    pub(super) masks: Masks,
    pub(super) counters: Arc<CameraCounters>,
}

/// The senders' side. Cheap to clone.
#[derive(Clone)]
pub(super) struct Desk {
    jobs: Sender<Job>,
    tasks: Arc<Mutex<Option<Sender<Task>>>>,
    waiting: Arc<AtomicUsize>,
    refusal: Arc<Mutex<Option<String>>>,
}

impl Desk {
    pub(super) fn new() -> (Self, Receiver<Job>, Receiver<Task>) {
        // Bounded by bytes: a clip's end costs none and must always come through.
        let (jobs, work) = unbounded();
        let (tasks, to_encode) = bounded(TASKS);
        let tasks = Arc::new(Mutex::new(Some(tasks)));
        (Self { jobs, tasks, waiting: Arc::default(), refusal: Arc::default() }, work, to_encode)
    }

    /// Why nothing new is taken; none where it is.
    pub(super) fn refusal(&self) -> Option<String> {
        if self.waiting.load(Relaxed) > WAITING / 2 {
            return Some("the disk is too slow: too much evidence waits for it".to_owned());
        }
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes nothing new for this reason, or again everything.
    pub(super) fn refuse(&self, reason: Option<String>) {
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*refusal, &reason) {
            (None, Some(why)) => log::warn!("no evidence is kept: {why}"),
            (Some(_), None) => log::info!("evidence is kept again"),
            _ => {}
        }
        *refusal = reason;
    }

    /// Hands over a job; false where too much waits, or nobody works any more.
    pub(super) fn put(&self, job: Job) -> bool {
        let bytes = job.bytes();
        if bytes > 0 && self.waiting.load(Relaxed).saturating_add(bytes) > WAITING {
            return false;
        }
        self.waiting.fetch_add(bytes, Relaxed);
        self.jobs.send(job).is_ok()
    }

    /// A job was taken.
    pub(super) fn taken(&self, job: &Job) {
        self.waiting.fetch_sub(job.bytes(), Relaxed);
    }

    /// Hands over a clip to be coded anew; false where too many wait.
    pub(super) fn encode(&self, task: Task) -> bool {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.as_ref().is_some_and(|tasks| tasks.try_send(task).is_ok())
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        self.put(Job::Close);
        drop(self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
