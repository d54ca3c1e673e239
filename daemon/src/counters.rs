//! What a camera counts; written by its thread where the thing happens, read by status, statistics and the watchdog.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use vedette_analysis::gate::Decode;
use vedette_ingest::ClockReport;

/// One number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// States are stored so that 0, the default, is watch.
const FROM_WATCH: u8 = Decode::ALL.len() as u8 - Decode::Watch as u8;

/// Counters of one camera since the daemon started. Nothing here ever shrinks, so rates are differences.
#[derive(Debug, Default)]
pub struct CameraCounters {
    /// Encoded access units received.
    pub received: Counter,
    /// Their bytes.
    pub received_bytes: Counter,
    /// Frames out of the decoder.
    pub decoded: Counter,
    /// Frames that went through the detector and the scene.
    pub analysed: Counter,
    /// Frames due for analysis that a newer one replaced because inference was busy.
    pub dropped_busy: Counter,
    /// Frames that the detector failed on.
    pub dropped_failed: Counter,
    /// Packets skipped because they need a keyframe that did not arrive.
    pub dropped_waiting: Counter,
    /// Packets dropped before the camera's thread took them, always up to a keyframe.
    pub dropped_receiving: Counter,
    /// Frames dropped behind the decoder, since the camera's thread did not take them in time.
    pub dropped_decoded: Counter,
    /// Packets and frames that the decoder found damaged.
    pub damaged: Counter,
    /// Packets and due frames of a catch-up that were passed over, since it was too far behind.
    pub skipped: Counter,
    /// Changes between quiet, watch and busy.
    pub transitions: Counter,
    /// Microseconds of stream in quiet, watch and busy.
    states: [Counter; 3],
    /// What the decoder does: one of [`Decode::ALL`], counted from watch; a level, not a count.
    decode: AtomicU8,
    /// Attempts to connect after the first.
    pub reconnects: Counter,
    /// Faults of the link (refused, timeout, read, ended, stalled, undecodable).
    pub link_faults: Counter,
    /// Faults of the configuration (login, path, codec, certificate).
    pub configuration_faults: Counter,
    /// Events handed to the outbox.
    pub events: Counter,
    /// Events that the outbox refused.
    pub events_lost: Counter,
    /// Files of evidence that are complete.
    pub evidence: Counter,
    /// Files of evidence that were promised and could not be made.
    pub evidence_lost: Counter,
    /// How its clock is; a level.
    clock: Mutex<ClockReport>,
    /// Tracks alive after the last step; a level, not a count.
    tracks: AtomicU64,
    /// Microseconds spent in inference, in sum.
    infer_micros: Counter,
    /// Microseconds from arrival of a frame to the end of its step, in sum over analysed frames.
    delay_micros: Counter,
    /// Moves with every analysed frame while live, with every second while not: the watchdog's food.
    progress: Counter,
}

impl CameraCounters {
    /// Notes one analysed frame.
    pub fn note_analysed(&self, infer: Duration, delay: Duration, tracks: usize) {
        self.analysed.one();
        self.infer_micros.add(micros(infer));
        self.delay_micros.add(micros(delay));
        self.tracks.store(tracks as u64, Relaxed);
        self.progress.one();
    }

    /// Notes that the thread is well though no frame is due.
    pub fn note_idle(&self) {
        self.progress.one();
    }

    /// See [`CameraCounters::note_analysed`] and [`CameraCounters::note_idle`].
    pub fn progress(&self) -> u64 {
        self.progress.get()
    }

    /// Notes `length` of stream in a state.
    pub fn note_state(&self, state: Decode, length: Duration) {
        self.states[state as usize].add(micros(length));
    }

    /// Notes another state.
    pub fn set_decode(&self, state: Decode) {
        self.decode.store(state as u8 + FROM_WATCH, Relaxed);
        self.transitions.one();
    }

    /// What the decoder does; `watch` at first.
    pub fn decode(&self) -> Decode {
        Decode::ALL[usize::from(self.decode.load(Relaxed) + Decode::Watch as u8) % Decode::ALL.len()]
    }

    /// Seconds of stream in quiet, watch and busy.
    pub fn state_seconds(&self) -> [f64; 3] {
        [0, 1, 2].map(|state: usize| self.states[state].get() as f64 / 1e6)
    }

    /// Notes how its clock is.
    pub fn note_clock(&self, clock: ClockReport) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = clock;
    }

    /// How its clock is, by the last second.
    pub fn clock(&self) -> ClockReport {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tracks alive after the last step.
    pub fn tracks(&self) -> u64 {
        self.tracks.load(Relaxed)
    }

    /// Forgets the tracks of a camera that is lost.
    pub fn clear_tracks(&self) {
        self.tracks.store(0, Relaxed);
    }

    /// Mean seconds of an inference and mean seconds from arrival to the end of the step.
    pub fn means(&self) -> (f64, f64) {
        let frames = self.analysed.get().max(1) as f64;
        (self.infer_micros.get() as f64 / 1e6 / frames, self.delay_micros.get() as f64 / 1e6 / frames)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
