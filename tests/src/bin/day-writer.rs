//! `day-writer CONFIG STATE PER_DAY FIRST…`: a node as `vedette run` builds it, but with another wall clock and with
//! events from outside, until it is killed, which is what it is for.
//!
//! Real: [`Node`] with all that it starts (store, brokers' workers, cameras' threads, health) of the configuration folder
//! `CONFIG`. Simulated: what cameras see, by a thread for each that appends as fast as the store takes it, and the wall
//! clock, which events take on, `PER_DAY` of a camera a day. Cameras `c0`, `c1`, … count theirs from the `FIRST` of each. The monotonic clock is the system's:
//! the network, which it times, knows no other.
//!
//! Owns: saying `produced CAMERA COUNT SEQ` on stdout after `append` has returned, `lost CAMERA COUNT` where it refused.
//! Does not know: when it is killed; `tests/it/delivery.rs` does.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use vedette::config;
use vedette::node::{Host, Node};
use vedette::outbox::Outbox;
use vedette::share::Share;
use vedette_core::{Clock, Mono, Name, Severity, Shutdown, SystemClock};
use vedette_tests::Fault;

/// A day, in milliseconds.
const DAY: i64 = 86_400_000;
/// When it begins.
const MIDNIGHT: &str = "2026-06-01T00:00:00Z";

/// The system's clock, but for the wall's time, which events take on.
struct DayClock {
    system: SystemClock,
    midnight: Timestamp,
    /// Milliseconds since midnight.
    at: AtomicI64,
}

impl DayClock {
    /// It is `share` of the day, or later.
    fn reach(&self, share: f64) -> Timestamp {
        let at = (DAY as f64 * share) as i64;
        self.at.fetch_max(at, Ordering::Relaxed);
        self.after(at)
    }

    fn after(&self, ms: i64) -> Timestamp {
        self.midnight.checked_add(jiff::SignedDuration::from_millis(ms)).unwrap_or(self.midnight)
    }
}

impl Clock for DayClock {
    fn now(&self) -> Mono {
        self.system.now()
    }

    fn wall(&self) -> Timestamp {
        self.after(self.at.load(Ordering::Relaxed))
    }

    fn pause(&self, length: Duration, stop: &Shutdown) -> bool {
        self.system.pause(length, stop)
    }
}

fn main() -> ExitCode {
    vedette_tests::main_of(run)
}

fn run(arguments: &[String]) -> Result<(), Fault> {
    let [config, state, per_day, firsts @ ..] = arguments else {
        return Err("usage: day-writer CONFIG STATE PER_DAY FIRST…".into());
    };
    let per_day: u64 = per_day.parse()?;
    let firsts = firsts.iter().map(|first| first.parse()).collect::<Result<Vec<u64>, _>>()?;
    let clock =
        Arc::new(DayClock { system: SystemClock::new(), midnight: MIDNIGHT.parse()?, at: AtomicI64::new(0) });
    let options = config::Options::of_process(Some(PathBuf::from(config)), Some(PathBuf::from(state)));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let host = Host {
        share: Share::find(Some(&root), None, None)?,
        state: PathBuf::from(state),
        clock: Arc::<DayClock>::clone(&clock),
        embedded_port: 0,
    };
    let mut node = Node::build(config::load(&options)?, host)?;
    for (camera, first) in firsts.into_iter().enumerate() {
        let (outbox, clock) = (node.outbox(), Arc::clone(&clock));
        let camera = Name::new(&format!("c{camera}"))?;
        std::thread::Builder::new().spawn(move || {
            // Until nobody listens any more.
            let _ = (first..).try_for_each(|count| append(&*outbox, &clock, &camera, (count, per_day)));
        })?;
    }
    loop {
        clock.pause(Duration::from_secs(1), &Shutdown::new());
        node.tick();
    }
}

/// The event `count` of a camera that has `per_day` a day.
fn append(
    outbox: &dyn Outbox,
    clock: &DayClock,
    camera: &Name,
    (count, per_day): (u64, u64),
) -> Result<(), Fault> {
    const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Fault, Severity::Alarm];
    let wall = clock.reach(count as f64 / per_day as f64);
    let severity = SEVERITIES[count as usize % SEVERITIES.len()];
    let event = vedette_tests::sinks::count(camera.as_str(), wall, severity, count);
    let line = match outbox.append(event, Some(Duration::from_millis(7))) {
        Ok(seq) => format!("produced {camera} {count} {seq}\n"),
        Err(_) => format!("lost {camera} {count}\n"),
    };
    // One write a line, so that a kill cuts none but the last.
    Ok(std::io::stdout().lock().write_all(line.as_bytes())?)
}
