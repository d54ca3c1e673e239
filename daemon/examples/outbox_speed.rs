//! How fast the outbox takes events to disk, and what that costs the threads that hand them over.
//!
//! `cargo run --release -p vedette --example outbox_speed [EVENTS [PRODUCERS [DIRECTORY]]]`: 20,000 events of 16
//! producers in a directory of its own below `DIRECTORY` (the system's temporary one: name one on the disk that is
//! meant, since a RAM disk knows no sync). One sink takes events as they come, one is dead, so that everything waits
//! for it. The figures come last, one JSON object.
#![expect(clippy::print_stdout, reason = "this is what the program is for")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;
use vedette::outbox::{Outbox, SqliteOutbox};
use vedette::usage;
use vedette::wire::{ModelStamp, Stamp};
use vedette_core::{
    BBox, Class, Clock, ClockSource, Event, Moment, Name, ObjectSummary, Phase, Pts, Severity, SpeedUnit,
    SystemClock, TrackId,
};

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// What one producer saw.
struct Producer {
    cpu: Duration,
    waits: Vec<Duration>,
}

fn main() -> Result<(), Fault> {
    let mut arguments = std::env::args().skip(1);
    let events: usize = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let producers: usize = arguments.next().map_or(Ok(16), |text| text.parse())?;
    let parent = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(parent)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (live, dead) = (Name::new("live")?, Name::new("dead")?);
    let model = ModelStamp { name: "nanodet-g-416".into(), sha256: "0".repeat(64), provider: "cpu".into() };
    let stamp = Stamp::new(Name::new("plant7-box2")?, "0".repeat(64), model);
    let sinks = [live.clone(), dead.clone()];
    let outbox = SqliteOutbox::open(folder.path(), stamp.clone(), &sinks, &clock)?;

    let resident = usage::resident_bytes();
    let each = events / producers;
    let done = AtomicBool::new(false);
    let began = clock.now();
    let (seen, lasted) = std::thread::scope(|scope| {
        let taker = scope.spawn(|| take(&outbox, &live, &done));
        let threads: Vec<_> = (0..producers)
            .map(|at| {
                let (outbox, clock) = (&outbox, &clock);
                scope.spawn(move || produce(outbox, &**clock, at, each))
            })
            .collect();
        let seen: Result<Vec<Producer>, Fault> =
            threads.into_iter().map(|t| t.join().map_err(|_| "a producer panicked")?).collect();
        let lasted = clock.now().since(began);
        done.store(true, Relaxed);
        let taken = taker.join().map_err(|_| "the sink panicked")?;
        taken.and_then(|()| Ok((seen?, lasted)))
    })?;

    let grown = usage::resident_bytes().saturating_sub(resident);
    let file = std::fs::metadata(folder.path().join("outbox.db"))?.len();
    println!(
        "waiting: {} for the live sink, {} for the dead one; {} MiB of file in {}, memory grew by {} KiB",
        outbox.depth(&live),
        outbox.depth(&dead),
        file >> 20,
        folder.path().display(),
        grown >> 10
    );
    // The thread is gone once the outbox is.
    let writer = usage::cpu_time().by_thread.get("outbox").copied().unwrap_or_default();
    outbox.close();
    drop(outbox);
    let again = reopen(folder.path(), stamp, &sinks, &clock)?;
    print_figures(seen, lasted, writer, &again);
    Ok(())
}

/// What a restart costs with everything waiting, and how fast a broker that is back gets it.
struct Again {
    open: Duration,
    page_wait_max: Duration,
    drained_per_s: f64,
    grown: u64,
}

fn reopen(directory: &Path, stamp: Stamp, sinks: &[Name; 2], clock: &Arc<dyn Clock>) -> Result<Again, Fault> {
    let [_, dead] = sinks;
    let resident = usage::resident_bytes();
    let before = clock.now();
    let outbox = SqliteOutbox::open(directory, stamp, sinks, clock)?;
    let (open, began) = (clock.now().since(before), clock.now());
    let (mut after, mut events, mut page_wait_max) = (0, 0, Duration::ZERO);
    loop {
        let asked = clock.now();
        let Some(stored) = outbox.next(dead, after) else { break };
        page_wait_max = page_wait_max.max(clock.now().since(asked));
        (after, events) = (stored.seq, events + 1);
        outbox.ack(dead, after);
    }
    let drained_per_s = f64::from(events) / clock.now().since(began).as_secs_f64();
    let grown = usage::resident_bytes().saturating_sub(resident);
    outbox.close();
    Ok(Again { open, page_wait_max, drained_per_s, grown })
}

fn print_figures(seen: Vec<Producer>, lasted: Duration, writer: Duration, again: &Again) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (producers, cpu) = (seen.len(), seen.iter().map(|p| p.cpu).sum());
    let mut waits: Vec<Duration> = seen.into_iter().flat_map(|p| p.waits).collect();
    waits.sort_unstable();
    let at = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied().unwrap_or_default();
    let per_event = |time: Duration| time.as_secs_f64() * 1e6 / waits.len().max(1) as f64;
    println!(
        "{{\"events\":{},\"producers\":{producers},\"events_per_s\":{:.0},\"cpu_us_per_event_producer\":{:.1},\
         \"cpu_us_per_event_writer\":{:.1},\"append_ms_median\":{:.2},\"append_ms_p99\":{:.2},\
         \"reopen_ms\":{:.0},\"drained_per_s\":{:.0},\"next_ms_max\":{:.2},\"drain_grew_kib\":{}}}",
        waits.len(),
        waits.len() as f64 / lasted.as_secs_f64(),
        per_event(cpu),
        per_event(writer),
        ms(at(0.5)),
        ms(at(0.99)),
        ms(again.open),
        again.drained_per_s,
        ms(again.page_wait_max),
        again.grown >> 10,
    );
}

/// The CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn produce(
    outbox: &SqliteOutbox,
    clock: &dyn Clock,
    camera: usize,
    events: usize,
) -> Result<Producer, Fault> {
    let camera = Name::new(&format!("camera-{camera}"))?;
    let wall = clock.wall();
    let made: Vec<Event> = (0..events).map(|_| event(&camera, wall)).collect::<Result<_, _>>()?;
    let mut waits = Vec::with_capacity(events);
    let before = thread_cpu();
    for event in made {
        let began = clock.now();
        outbox.append(event, Some(Duration::from_millis(548)))?;
        waits.push(clock.now().since(began));
    }
    Ok(Producer { cpu: thread_cpu().saturating_sub(before), waits })
}

/// Acknowledges everything as it comes.
fn take(outbox: &SqliteOutbox, sink: &Name, done: &AtomicBool) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let (mut appended, mut after) = (outbox.subscribe(), 0);
        loop {
            while let Some(stored) = outbox.next(sink, after) {
                after = stored.seq;
                outbox.ack(sink, after);
            }
            if done.load(Relaxed) && outbox.depth(sink) == 0 {
                return Ok(());
            }
            // Woken by the next event; the last one may have come before the end was known.
            let _ = tokio::time::timeout(Duration::from_millis(50), appended.changed()).await;
        }
    })
}

fn event(camera: &Name, wall: jiff::Timestamp) -> Result<Event, Fault> {
    let at = Moment { pts: Pts::ZERO, wall, wall_ok: true, clock: ClockSource::Camera };
    let object = ObjectSummary {
        track: TrackId(17),
        class: Class::new("person"),
        score: 0.83,
        bbox: BBox { x0: 0.41, y0: 0.52, x1: 0.47, y1: 0.78 },
        speed: 1.2,
        speed_unit: SpeedUnit::HeightsPerSecond,
    };
    Ok(Event {
        id: Uuid::new_v4(),
        phase: Phase::Once,
        kind: "line_crossing",
        rule: Name::new("night")?,
        severity: Severity::Alarm,
        camera: Some(camera.clone()),
        zone: Some(Name::new("yard")?),
        line: None,
        direction: None,
        captured: at,
        decided: at,
        object: Some(object),
        value: None,
        unit: None,
        why: "person inside yard for 0.4 s".to_owned(),
        ended_by: None,
        suppressed: 0,
        evidence: Default::default(),
    })
}
