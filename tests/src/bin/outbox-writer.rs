//! `outbox-writer DIRECTORY CAMERAS FIRST BOUND`: opens the outbox there, which keeps `BOUND` events for a sink, and
//! appends for so many cameras at once until it is killed, which is what it is for. Each camera counts its events from
//! `FIRST`.
//!
//! Owns: saying what has happened, one line each on stdout, after it has happened: `strained` where only faults and
//! alarms are produced, at the start and with each loss, `produced CAMERA COUNT SEQ`, `lost CAMERA COUNT`, `sent SEQ
//! HASH` of what the sink `live` gets, before it acknowledges it. The sink `dead` never takes anything. Does not know:
//! when it is killed; `tests/it/outbox.rs` does.
#![forbid(unsafe_code)]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use vedette::outbox::sqlite::Limits;
use vedette::outbox::{Outbox, SqliteOutbox};
use vedette_core::{Clock, Name, Severity, SystemClock};
use vedette_tests::{Fault, sinks};

fn main() -> ExitCode {
    vedette_tests::main_of(run)
}

fn run(arguments: &[String]) -> Result<(), Fault> {
    let [directory, cameras, first, bound] = arguments else {
        return Err("usage: outbox-writer DIRECTORY CAMERAS FIRST BOUND".into());
    };
    let (cameras, first): (u32, u64) = (cameras.parse()?, first.parse()?);
    let limits = Limits { events: bound.parse()?, ..Limits::default() };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (live, dead) = (Name::new("live")?, Name::new("dead")?);
    let told = [live.clone(), dead];
    let outbox = SqliteOutbox::with_limits(Path::new(directory), sinks::stamp(), &told, &clock, limits)?;
    tell_strain(&outbox)?;
    std::thread::scope(|scope| {
        let outbox = &outbox;
        scope.spawn(move || take(outbox, &live));
        let cameras: Vec<_> = (0..cameras)
            .map(|camera| {
                let clock = Arc::clone(&clock);
                scope.spawn(move || append(outbox, &*clock, &format!("c{camera}"), first))
            })
            .collect();
        let ended = cameras.into_iter().map(|c| c.join().map_err(|_| Fault::from("a camera panicked"))?);
        ended.collect()
    })
}

fn tell(line: std::fmt::Arguments<'_>) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    Ok(writeln!(out, "{line}")?)
}

fn tell_strain(outbox: &SqliteOutbox) -> Result<(), Fault> {
    if outbox.is_strained() { tell(format_args!("strained")) } else { Ok(()) }
}

/// One camera, until nobody listens any more.
fn append(outbox: &SqliteOutbox, clock: &dyn Clock, camera: &str, first: u64) -> Result<(), Fault> {
    const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Fault, Severity::Alarm];
    for (severity, count) in SEVERITIES.into_iter().cycle().zip(first..) {
        let event = sinks::count(camera, clock.wall(), severity, count);
        match outbox.append(event, Some(Duration::from_millis(7))) {
            Ok(seq) => tell(format_args!("produced {camera} {count} {seq}"))?,
            Err(_) => {
                tell_strain(outbox)?;
                tell(format_args!("lost {camera} {count}"))?;
            }
        }
    }
    Ok(())
}

/// The sink that takes everything, until nobody listens any more.
fn take(outbox: &SqliteOutbox, sink: &Name) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let (mut appended, mut after) = (outbox.subscribe(), 0);
        loop {
            while let Some(stored) = outbox.next(sink, after) {
                after = stored.seq;
                let mut hasher = DefaultHasher::new();
                for message in &stored.messages {
                    (&message.dialect, &message.topic, &message.payload).hash(&mut hasher);
                }
                tell(format_args!("sent {after} {}", hasher.finish()))?;
                outbox.ack(sink, after);
            }
            appended.changed().await?;
        }
    })
}
