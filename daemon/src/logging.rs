//! The daemon's log: `log` records into a bounded queue, one thread `log` that writes them to the journal or to
//! stderr. Nobody who logs ever waits: journald blocks its callers when it is busy, so a full queue drops and counts.
//!
//! Owns: the global logger, flushing at exit, and what a panic looks like. Does not know: who logs what. Key-values
//! of records become journal fields: `log::info!(camera = id.as_str(); "text")` gives `CAMERA=`.

mod filter;
mod limit;
mod line;
mod writer;

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use log::{Log, Metadata, Record};
use vedette_core::Clock;

pub use self::filter::{Filter, FilterError};
pub use self::limit::RateLimit;
use self::line::Line;
use self::writer::{Journal, Sink, Stderr};

/// Lines that wait for the writer: a burst of a few seconds of debug output, about 1 MiB.
const QUEUE: usize = 4096;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The thread could not be started.
    #[error("the log's thread could not be started: {0}")]
    Thread(#[source] std::io::Error),
    /// Somebody else installed a logger.
    #[error("a log is installed already")]
    Installed,
}

static INSTALLED: OnceLock<Arc<Shared>> = OnceLock::new();

/// What loggers and writer share: how much was accepted, dropped and written.
#[derive(Debug, Default)]
struct Shared {
    accepted: AtomicU64,
    dropped: AtomicU64,
    written: Mutex<u64>,
    progress: Condvar,
}

impl Shared {
    /// Waits until all that was accepted before the call is written; false where `deadline` passed first.
    fn flush(&self, deadline: Duration) -> bool {
        let target = self.accepted.load(Ordering::Acquire);
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (written, _) = self
            .progress
            .wait_timeout_while(written, deadline, |written| *written < target)
            .unwrap_or_else(PoisonError::into_inner);
        *written >= target
    }
}

struct Logger {
    filter: Filter,
    clock: Arc<dyn Clock>,
    queue: SyncSender<Line>,
    shared: Arc<Shared>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.filter.level(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        match self.queue.try_send(Line::of(record, self.clock.wall())) {
            Ok(()) => {
                self.shared.accepted.fetch_add(1, Ordering::AcqRel);
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn flush(&self) {
        self.shared.flush(Duration::from_secs(1));
    }
}

impl Logger {
    /// A logger and its writing thread; the thread ends when the logger is dropped.
    fn start(filter: Filter, clock: Arc<dyn Clock>, sink: Box<dyn Sink>) -> Result<Self, LogError> {
        let shared = Arc::new(Shared::default());
        let (queue, lines) = sync_channel(QUEUE);
        // Whoever asks for details wants all of them.
        let limited = filter.max() <= log::LevelFilter::Info;
        let (its_clock, its_shared) = (Arc::clone(&clock), Arc::clone(&shared));
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer::run(&lines, &*its_clock, &its_shared, sink, limited))
            .map_err(LogError::Thread)?;
        Ok(Self { filter, clock, queue, shared })
    }
}

/// Installs the log for the rest of the process: to the journal where stderr is connected to it, else to stderr
/// (in colour on a terminal, unless `NO_COLOR` is set). Also takes over what panics print.
///
/// # Errors
/// Where a log is installed already or its thread cannot start.
pub fn install(filter: Filter, clock: Arc<dyn Clock>) -> Result<(), LogError> {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let journal = systemd_journal_logger::connected_to_journal()
        .then(systemd_journal_logger::JournalLog::new)
        .and_then(Result::ok);
    let sink: Box<dyn Sink> = match journal {
        Some(log) => Box::new(Journal(log)),
        None => Box::new(Stderr { colour }),
    };
    let max = filter.max();
    let logger = Logger::start(filter, clock, sink)?;
    let shared = Arc::clone(&logger.shared);
    log::set_boxed_logger(Box::new(logger)).map_err(|_| LogError::Installed)?;
    log::set_max_level(max);
    let _ = INSTALLED.set(shared);
    std::panic::set_hook(Box::new(on_panic));
    Ok(())
}

/// Waits until all lines so far are written, at most for `deadline`; false where some are not.
pub fn flush(deadline: Duration) -> bool {
    INSTALLED.get().is_none_or(|shared| shared.flush(deadline))
}

/// A panic is a defect of the daemon: one line that says where, instead of a dump on a user's terminal.
fn on_panic(info: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let text = panic_text(name, &place, info.payload_as_str());
    if name == "log" {
        // The one thread that cannot wait for itself.
        writer::write_stderr(&text);
    } else {
        log::error!("{text}");
        flush(Duration::from_secs(1));
    }
}

fn panic_text(thread: &str, place: &str, payload: Option<&str>) -> String {
    let what = payload.unwrap_or("no message");
    format!("internal error in thread {thread} at {place}: {what}: please report")
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::{Level, LevelFilter};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use vedette_core::SimulatedClock;

    /// Writes lines into a channel, each one only when the test lets it.
    struct Gated {
        seen: Sender<Line>,
        gate: Option<Receiver<()>>,
    }

    impl Sink for Gated {
        fn write(&mut self, line: &Line) {
            if let Some(gate) = &self.gate {
                let _ = gate.recv();
            }
            let _ = self.seen.send(line.clone());
        }
    }

    fn logger(gate: Option<Receiver<()>>) -> (Logger, Receiver<Line>) {
        let (seen, lines) = channel();
        let clock = Arc::new(SimulatedClock::new(jiff::Timestamp::UNIX_EPOCH));
        let filter = Filter::new(LevelFilter::Info);
        (Logger::start(filter, clock, Box::new(Gated { seen, gate })).unwrap(), lines)
    }

    fn say(logger: &Logger, target: &str, level: Level, text: &str) {
        let camera = [("camera", "gate")];
        logger.log(
            &Record::builder()
                .level(level)
                .target(target)
                .args(format_args!("{text}"))
                .key_values(&camera)
                .build(),
        );
    }

    #[test]
    fn lines_carry_fields_and_pass_the_filter() {
        let (logger, lines) = logger(None);
        say(&logger, "vedette::run", Level::Info, "started");
        say(&logger, "vedette::run", Level::Debug, "details");
        say(&logger, "rumqttc::state", Level::Info, "chatter");
        assert!(logger.shared.flush(Duration::from_secs(30)));
        drop(logger);
        let lines: Vec<Line> = lines.iter().collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0].text, "started");
        assert_eq!(lines[0].fields, [("camera".to_owned(), "gate".to_owned())]);
    }

    #[test]
    fn repeated_warnings_of_a_camera_are_held_back_but_news_are_not() {
        let (logger, lines) = logger(None);
        for level in [Level::Warn, Level::Warn, Level::Info, Level::Info] {
            let camera = [("camera", "gate")];
            let (file, args) = (Some("ingest.rs"), format_args!("{level}"));
            let mut record = Record::builder();
            record.level(level).target("vedette").file_static(file).line(Some(7)).key_values(&camera);
            logger.log(&record.args(args).build());
        }
        assert!(logger.shared.flush(Duration::from_secs(30)));
        drop(logger);
        let texts: Vec<String> = lines.iter().map(|line| line.text).collect();
        assert_eq!(texts, ["WARN", "INFO", "INFO"]);
    }

    #[test]
    fn a_stuck_writer_holds_nobody_up_and_drops_are_reported() {
        let (open, gate) = channel();
        let (logger, lines) = logger(Some(gate));
        for n in 0..QUEUE + 100 {
            // Returns at once each time although nothing is written.
            say(&logger, "vedette", Level::Info, &n.to_string());
        }
        assert!(!logger.shared.flush(Duration::ZERO));
        let dropped = logger.shared.dropped.load(Ordering::Relaxed);
        // The writer may have taken one line out of the queue already.
        assert!((99..=100).contains(&dropped), "{dropped}");
        drop(open);
        assert!(logger.shared.flush(Duration::from_secs(30)));
        drop(logger);
        let report = lines.iter().find(|l| l.text.contains("lost")).map(|l| l.text);
        assert!(report.is_some_and(|text| text.starts_with(&dropped.to_string())));
    }

    #[test]
    fn a_panic_is_one_line() {
        assert_eq!(
            panic_text("cam-gate", "src/a.rs:1:2", Some("index out of bounds")),
            "internal error in thread cam-gate at src/a.rs:1:2: index out of bounds: please report"
        );
    }
}
