//! The worker of one webhook: takes the next event, posts it, and does what the answer asks for.
//!
//! Owns: what is tried when. Does not know: connections.
//!
//! Order is kept per camera. A receiver that is away, or takes nothing (408, 429, 502, 503, …), is given time; an event
//! that it stumbles over (500) or will not have (another 4xx) holds up its own camera alone. What it will not have is
//! given up after [`TRIES`] tries, and counted; everything else is tried until it is delivered or the outbox drops it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use vedette_core::{CameraId, Clock, Mono, Name};

use super::post::{Answer, PostError, Poster};
use crate::outbox::{Outbox, Stored};
use crate::sinks::backoff::Backoff;
use crate::sinks::order::{Cursor, PutOff};
use crate::sinks::running::Status;
use crate::sinks::running::within_deadline;
use crate::sinks::{Replay, SinkDeps};
use crate::wire;

/// How often an event is offered to a receiver that refuses it.
const TRIES: u32 = 3;

/// A receiver that wants more time is asked all the same.
const LONGEST: Duration = Duration::from_secs(3600);

/// Nothing to wait for but news.
const LONG: Duration = Duration::from_secs(60);

/// While the daemon stops, tries come at least so often.
const HURRY: Duration = Duration::from_secs(1);

/// A camera whose event was not taken.
#[derive(Default)]
struct Parked {
    until: Option<Mono>,
    backoff: Backoff,
    /// Which event, and how often it was refused.
    refused: (u64, u32),
    /// Where to go on.
    put_off: PutOff,
}

pub(super) struct Worker {
    id: Name,
    poster: Poster,
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    status: Arc<Status>,
    stop: watch::Receiver<Option<Duration>>,
    appended: watch::Receiver<u64>,
    /// Events up to here are answered or parked.
    replay: Replay,
    cursor: Cursor,
    parked: HashMap<Option<CameraId>, Parked>,
    /// The receiver takes nothing until then.
    paused: Option<Mono>,
    backoff: Backoff,
    complaint: Option<String>,
    /// Since when nothing has gone wrong.
    answers_since: Option<Mono>,
}

impl Worker {
    pub(super) fn new(
        id: Name,
        poster: Poster,
        replay: Replay,
        deps: SinkDeps,
        status: Arc<Status>,
        stop: watch::Receiver<Option<Duration>>,
    ) -> Self {
        // Until it is asked for the first time, nothing speaks against it.
        status.change(|s| s.connected = true);
        let (appended, began) = (deps.outbox.subscribe(), deps.clock.now());
        Self {
            id,
            poster,
            outbox: deps.outbox,
            clock: deps.clock,
            status,
            stop,
            appended,
            replay,
            cursor: Cursor::new(replay),
            parked: HashMap::new(),
            paused: None,
            backoff: Backoff::default(),
            complaint: None,
            answers_since: Some(began),
        }
    }

    /// Serves until asked to stop; true when nothing was left to deliver.
    pub(super) async fn run(mut self) -> bool {
        let stop = self.stop.clone();
        within_deadline(stop, self.serve()).await;
        self.outbox.depth(&self.id) == 0
    }

    async fn serve(&mut self) {
        loop {
            let now = self.clock.now();
            if let Some(stored) = self.pick(now) {
                self.offer(&stored).await;
                continue;
            }
            let stopping = self.stop.borrow().is_some();
            if stopping && self.outbox.next(&self.id, 0).is_none() {
                return;
            }
            let wait = self.wait(now);
            tokio::select! {
                () = tokio::time::sleep(if stopping { wait.min(HURRY) } else { wait }) => {}
                _ = self.appended.changed() => {}
                () = begins(&mut self.stop), if !stopping => {}
            }
            if stopping {
                self.hurry();
            }
        }
    }

    /// The first event that may be tried now.
    fn pick(&mut self, now: Mono) -> Option<Arc<Stored>> {
        if self.paused.is_some_and(|until| now < until) {
            return None;
        }
        self.paused = None;
        for parked in self.parked.values_mut() {
            if parked.until.is_some_and(|until| now >= until) {
                parked.until = None;
                self.cursor.back_to(std::mem::take(&mut parked.put_off));
            }
        }
        loop {
            let stored = self.cursor.next(&*self.outbox, &self.id)?;
            let parked = self.parked.get_mut(&stored.camera).filter(|parked| parked.until.is_some());
            let Some(parked) = parked else { return Some(stored) };
            parked.put_off.note(self.cursor.rank(&stored));
            self.cursor.pass(&stored);
        }
    }

    /// How long until something can be tried although nothing happens.
    fn wait(&self, now: Mono) -> Duration {
        let parked = self.parked.values().filter_map(|parked| parked.until);
        let until = self.paused.or_else(|| parked.min());
        until.map_or(LONG, |until| until.since(now))
    }

    /// There is no time for patience any more.
    fn hurry(&mut self) {
        self.paused = None;
        self.cursor.rewind();
        self.parked.values_mut().for_each(|parked| parked.until = None);
    }

    async fn offer(&mut self, stored: &Stored) {
        let seq = stored.seq;
        let Some(frozen) = stored.messages.iter().find(|m| m.dialect == wire::vedette::NAME) else {
            self.outbox.ack(&self.id, seq);
            return;
        };
        let handed = self.clock.now();
        match self.poster.post(seq, frozen.payload.clone()).await {
            Ok(Answer::Taken) => self.delivered(stored, handed),
            Ok(Answer::Refused(code)) => self.refused(stored, code),
            Ok(Answer::Failed(code, after)) => {
                self.trouble(false, &format!("answers {code}"));
                self.park(&stored.camera, after);
            }
            Ok(Answer::Busy(code, after)) => {
                let redirects = if code.is_redirection() { ", to another URL: give that one" } else { "" };
                self.trouble(false, &format!("answers {code}{redirects}"));
                self.pause(after);
            }
            Err(error) => {
                let wrong = matches!(error, PostError::Tls(_) | PostError::Handshake(_));
                self.trouble(wrong, &error.to_string());
                self.pause(None);
            }
        }
    }

    fn delivered(&mut self, stored: &Stored, handed: Mono) {
        self.outbox.ack(&self.id, stored.seq);
        self.parked.remove(&stored.camera);
        self.backoff.reset();
        let now = self.clock.now();
        let live = stored.captured.filter(|at| self.answers_since.is_some_and(|since| *at >= since));
        self.answers_since.get_or_insert(handed);
        self.status.change(|s| {
            s.acked += 1;
            s.answer.note(now.since(handed));
            live.into_iter().for_each(|at| s.capture.note(now.since(at)));
            (s.connected, s.last_error) = (true, None);
        });
        if self.complaint.take().is_some() {
            let (id, address) = (&self.id, self.poster.address());
            log::info!(sink = id.as_str(); "webhook {id}: {address} takes events again");
            self.replay.announce("webhook", id, self.outbox.depth(id));
        }
    }

    fn refused(&mut self, stored: &Stored, code: hyper::StatusCode) {
        let (id, seq) = (&self.id, stored.seq);
        let remedy = match code.as_u16() {
            401 | 403 => format!("; check `token` of [webhook.{id}] in vedette.secrets"),
            404 | 405 | 410 => "; check its URL".to_owned(),
            _ => String::new(),
        };
        let parked = self.parked.entry(stored.camera.clone()).or_default();
        let tries = if parked.refused.0 == seq { parked.refused.1 + 1 } else { 1 };
        parked.refused = (seq, tries);
        let mut error = format!("refused event {seq}: {code}{remedy}");
        let given_up = tries >= TRIES;
        if given_up {
            error = format!("event {seq} is given up: {code}{remedy}");
            log::error!(sink = id.as_str(), seq; "webhook {id}: {error}");
            self.outbox.ack(id, seq);
            self.parked.remove(&stored.camera);
        } else {
            log::debug!(sink = id.as_str(), seq; "webhook {id}: {error}");
            self.park(&stored.camera, None);
        }
        self.backoff.reset();
        self.status.change(|s| {
            s.refused += 1;
            s.given_up += u64::from(given_up);
            (s.connected, s.last_error) = (true, Some(error));
        });
    }

    fn park(&mut self, camera: &Option<CameraId>, after: Option<Duration>) {
        let now = self.clock.now();
        let parked = self.parked.entry(camera.clone()).or_default();
        parked.until = Some(now + parked.backoff.next().max(after.unwrap_or_default().min(LONGEST)));
    }

    fn pause(&mut self, after: Option<Duration>) {
        let wait = self.backoff.next().max(after.unwrap_or_default().min(LONGEST));
        self.paused = Some(self.clock.now() + wait);
    }

    /// The same trouble is said once, not at every try. `wrong`: it will not pass by itself.
    fn trouble(&mut self, wrong: bool, text: &str) {
        self.answers_since = None;
        self.status.change(|s| (s.connected, s.last_error) = (false, Some(text.to_owned())));
        let id = &self.id;
        if self.complaint.as_deref() == Some(text) {
            log::debug!(sink = id.as_str(); "webhook {id}: still: {text}");
            return;
        }
        if wrong {
            log::error!(sink = id.as_str(); "webhook {id}: {text}");
        } else {
            log::warn!(sink = id.as_str(); "webhook {id}: {text}; events are kept, trying again");
        }
        self.complaint = Some(text.to_owned());
    }
}

/// Ends when stopping begins.
async fn begins(stop: &mut watch::Receiver<Option<Duration>>) {
    if stop.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}
