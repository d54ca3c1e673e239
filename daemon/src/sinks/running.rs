//! The handle of a sink whose worker is a task: what [`Sink`] asks of it.
//!
//! Owns: starting and stopping the task, its status. Does not know: what the worker does.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use vedette_core::Name;

use super::{Sink, SinkDeps, SinkStatus};
use crate::outbox::Outbox;

/// What worker and handle share.
#[derive(Debug, Default)]
pub(super) struct Status(pub(super) Mutex<SinkStatus>);

impl Status {
    pub(super) fn change(&self, change: impl FnOnce(&mut SinkStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A worker at work. Dropping it stops the worker at once; a broker then publishes the will.
pub struct RunningSink {
    /// `broker` or `webhook`, for people.
    kind: &'static str,
    id: Name,
    outbox: Arc<dyn Outbox>,
    status: Arc<Status>,
    stop: watch::Sender<Option<Duration>>,
    end: mpsc::Receiver<bool>,
    task: JoinHandle<()>,
}

impl RunningSink {
    /// Attaches the sink to the outbox and starts what `worker` makes. The worker is given its status and how long it
    /// has once it is to stop; it ends with whether nothing was left to deliver.
    pub(super) fn start<W>(
        kind: &'static str,
        id: Name,
        deps: &SinkDeps,
        worker: impl FnOnce(Arc<Status>, watch::Receiver<Option<Duration>>) -> W,
    ) -> Self
    where
        W: Future<Output = bool> + Send + 'static,
    {
        deps.outbox.attach(&id);
        let status = Arc::new(Status::default());
        let (stop, stopped) = watch::channel(None);
        let (ended, end) = mpsc::channel();
        let worker = worker(Arc::clone(&status), stopped);
        let task = deps.runtime.spawn(async move {
            let clean = worker.await;
            let _ = ended.send(clean);
        });
        Self { kind, id, outbox: Arc::clone(&deps.outbox), status, stop, end, task }
    }

    /// As [`Sink::id`].
    pub fn id(&self) -> &Name {
        &self.id
    }

    /// As [`Sink::status`].
    pub fn status(&self) -> SinkStatus {
        let mut status = self.status.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.queued = self.outbox.depth(&self.id);
        status.dropped = self.outbox.dropped(&self.id);
        status
    }

    /// As [`Sink::begin_stop`].
    pub fn begin_stop(&self, deadline: Duration) {
        self.stop.send_if_modified(|wish| {
            let first = wish.is_none();
            wish.get_or_insert(deadline);
            first
        });
    }

    /// As [`Sink::stop`].
    pub fn stop(self, deadline: Duration) -> bool {
        self.begin_stop(deadline);
        // The worker keeps the deadline itself; this bound is for a runtime that no longer turns.
        let clean = self.end.recv_timeout(deadline + Duration::from_secs(1)).unwrap_or(false);
        if !clean {
            let (kind, id, queued) = (self.kind, &self.id, self.outbox.depth(&self.id));
            log::warn!(sink = id.as_str(); "{kind} {id}: stopped with {queued} events not delivered");
        }
        clean
    }
}

impl Sink for RunningSink {
    fn id(&self) -> &Name {
        self.id()
    }

    fn status(&self) -> SinkStatus {
        self.status()
    }

    fn begin_stop(&self, deadline: Duration) {
        self.begin_stop(deadline);
    }

    fn stop(self: Box<Self>, deadline: Duration) -> bool {
        (*self).stop(deadline)
    }
}

impl Drop for RunningSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Lets a worker serve until it ends by itself, or until the time is over that whoever stopped it left it.
pub(super) async fn within_deadline(
    mut stop: watch::Receiver<Option<Duration>>,
    serving: impl Future<Output = ()>,
) {
    let deadline = async move {
        match stop.wait_for(Option::is_some).await.map(|wish| *wish) {
            Ok(Some(length)) => tokio::time::sleep(length).await,
            // Nobody can ask any more: the handle is gone, and the task with it.
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = serving => {}
        () = deadline => {}
    }
}
