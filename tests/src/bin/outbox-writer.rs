//! `outbox-writer DIRECTORY CAMERAS FIRST BOUND`: opens the outbox there, which keeps `BOUND` events for a sink, and
//! appends for so many cameras at once until it is killed, which is what it is for. Each camera counts its events from
//! `FIRST`.
//!
//! Owns: saying what has happened, one line each on stdout, after it has happened: `strained` where only faults and
//! alarms are produced, at the start and with each loss, `produced CAMERA COUNT SEQ`, `lost CAMERA COUNT`, `sent SEQ HASH` of what the
//! sink `live` gets, before it acknowledges it. The sink `dead` never takes anything. Does not know: when it is killed;
//! `tests/it/outbox.rs` does.
#![forbid(unsafe_code)]

use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use vedette::outbox::sqlite::Limits;
use vedette::outbox::{Outbox, SqliteOutbox};
use vedette::wire::{ModelStamp, Stamp};
use vedette_core::{Clock, ClockSource, Event, Moment, Name, Phase, Pts, Severity, SystemClock};

type Fault = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Err(error) = run(&arguments) else { return ExitCode::SUCCESS };
    // Where stderr is gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{error}");
    ExitCode::FAILURE
}

fn run(arguments: &[String]) -> Result<(), Fault> {
    let [directory, cameras, first, bound] = arguments else {
        return Err("usage: outbox-writer DIRECTORY CAMERAS FIRST BOUND".into());
    };
    let (cameras, first): (u32, u64) = (cameras.parse()?, first.parse()?);
    let limits = Limits { events: bound.parse()?, ..Limits::default() };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (live, dead) = (Name::new("live")?, Name::new("dead")?);
    let model = ModelStamp { name: "m".into(), sha256: "0123456789".into(), provider: "cpu".into() };
    let stamp = Stamp::new(Name::new("box")?, "0123456789", model);
    let sinks = [live.clone(), dead];
    let outbox = SqliteOutbox::with_limits(Path::new(directory), stamp, &sinks, &clock, limits)?;
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
        let at = Moment { pts: Pts::ZERO, wall: clock.wall(), wall_ok: true, clock: ClockSource::Host };
        let event = Event {
            id: Uuid::new_v4(),
            phase: Phase::Once,
            kind: "occupancy",
            rule: Name::new("count")?,
            severity,
            camera: Some(Name::new(camera)?),
            zone: None,
            line: None,
            direction: None,
            captured: at,
            decided: at,
            object: None,
            value: Some(count as f64),
            unit: Some("persons"),
            why: "it was counted".to_owned(),
            ended_by: None,
            suppressed: 0,
        };
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
