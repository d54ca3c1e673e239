//! How one camera is: its state, since when and why, and its rate; the retained topic `<camera>/status`.
//!
//! Owns: the state and when it is published. Does not know: how the state comes about.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vedette_analysis::gate::Decode;
use vedette_core::{CameraId, Clock, Mono};

use super::CameraDeps;
use crate::counters::CameraCounters;
use crate::sinks::Latest;
use crate::wire::CameraStatus;

/// While nothing but the rate changes, the status is published at most so often.
const REFRESH: Duration = Duration::from_secs(10);

/// What the camera is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CameraState {
    /// The first attempt since the start or since it was live is under way.
    Connecting,
    /// Frames come out of the decoder.
    Live,
    /// The link failed; tried again within seconds.
    Lost,
    /// Login, path, codec or certificate are wrong; tried again within minutes.
    Misconfigured,
    /// The daemon stops.
    Stopped,
}

impl CameraState {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Lost | Self::Stopped => "lost",
            Self::Misconfigured => "misconfigured",
        }
    }
}

/// The state at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// What it is doing.
    pub state: CameraState,
    /// Why it is not live: class, message and remedy.
    pub reason: Option<String>,
    /// Since when, UTC.
    pub since: jiff::Timestamp,
    /// Analysed frames a second, over the last ten seconds or so.
    pub fps: f64,
    /// What the decoder does: `quiet`, `watch` or `busy`.
    pub decode: &'static str,
    /// How motion is seen while it is quiet, or why it never is.
    pub gate: String,
}

struct Inner {
    now: Snapshot,
    published: Mono,
    muted: bool,
    measured: (Mono, u64),
}

/// The state, shared between the camera's thread and those who read it.
pub(super) struct Report {
    camera: CameraId,
    clock: Arc<dyn Clock>,
    latest: Arc<Latest>,
    counters: Arc<CameraCounters>,
    inner: Mutex<Inner>,
}

impl Report {
    pub(super) fn new(camera: CameraId, counters: Arc<CameraCounters>, deps: &CameraDeps) -> Self {
        let since = deps.clock.wall();
        let (decode, gate) = (Decode::Watch.as_str(), String::new());
        let now = Snapshot { state: CameraState::Connecting, reason: None, since, fps: 0.0, decode, gate };
        let start = deps.clock.now();
        let report = Self {
            camera,
            clock: Arc::clone(&deps.clock),
            latest: Arc::clone(&deps.latest),
            counters,
            inner: Mutex::new(Inner { now, published: start, muted: false, measured: (start, 0) }),
        };
        report.publish(&report.snapshot());
        report
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).now.clone()
    }

    /// Says nothing any more: a stream that closes slowly must not speak over what comes after it.
    pub(super) fn mute(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).muted = true;
    }

    pub(super) fn is_live(&self) -> bool {
        self.snapshot().state == CameraState::Live
    }

    /// Connecting again after a fault keeps saying what the fault was.
    pub(super) fn connecting(&self) {
        let faulty = matches!(self.snapshot().state, CameraState::Lost | CameraState::Misconfigured);
        if !faulty {
            self.set(CameraState::Connecting, None);
        }
    }

    /// Notes the state; true (and published) when it or its reason is new.
    pub(super) fn set(&self, state: CameraState, reason: Option<String>) -> bool {
        let snapshot = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            if inner.now.state == state && inner.now.reason == reason {
                return false;
            }
            if inner.now.state != state {
                inner.now.since = self.clock.wall();
            }
            (inner.now.state, inner.now.reason) = (state, reason);
            if state != CameraState::Live {
                inner.now.fps = 0.0;
            }
            inner.now.decode = self.decode(state);
            inner.measured = (self.clock.now(), self.counters.analysed.get());
            inner.published = self.clock.now();
            inner.now.clone()
        };
        self.publish(&snapshot);
        true
    }

    /// Notes what the gate sees and measures the rate; published at once when the decoder does something else, and when
    /// [`REFRESH`] is over.
    pub(super) fn refresh(&self, gate: String) {
        let snapshot = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.now();
            let (since, frames) = inner.measured;
            if inner.now.state == CameraState::Live && now.since(since) >= Duration::from_secs(2) {
                let analysed = self.counters.analysed.get();
                inner.now.fps = (analysed - frames) as f64 / now.since(since).as_secs_f64();
                if now.since(since) >= REFRESH {
                    inner.measured = (now, analysed);
                }
            }
            inner.now.gate = gate;
            let decode = self.decode(inner.now.state);
            let same = std::mem::replace(&mut inner.now.decode, decode) == decode;
            if same && now.since(inner.published) < REFRESH || inner.now.state != CameraState::Live {
                return;
            }
            inner.published = now;
            inner.now.clone()
        };
        self.publish(&snapshot);
    }

    /// A camera without pictures waits for them.
    fn decode(&self, state: CameraState) -> &'static str {
        let decode = if state == CameraState::Live { self.counters.decode() } else { Decode::Watch };
        decode.as_str()
    }

    fn publish(&self, snapshot: &Snapshot) {
        if self.inner.lock().unwrap_or_else(PoisonError::into_inner).muted {
            return;
        }
        self.latest.put(&CameraStatus {
            camera: self.camera.clone(),
            state: snapshot.state.as_str(),
            decode: snapshot.decode,
            fps: snapshot.fps,
            gate: (!snapshot.gate.is_empty()).then(|| snapshot.gate.clone()),
            reason: snapshot.reason.clone(),
            since: snapshot.since,
        });
    }
}
