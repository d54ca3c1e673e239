//! The thread `log`: takes lines off the queue and writes them, holds repetitions back, reports what was lost.

use std::io::Write;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use log::{Level, Log, Record};
use systemd_journal_logger::JournalLog;
use vedette_core::Clock;

use super::Shared;
use super::limit::RateLimit;
use super::line::Line;

/// Where lines go.
pub(super) trait Sink: Send {
    fn write(&mut self, line: &Line);
}

/// Lines for people.
pub(super) struct Stderr {
    pub(super) colour: bool,
}

impl Sink for Stderr {
    fn write(&mut self, line: &Line) {
        write_stderr(&line.human(self.colour));
    }
}

/// One line to stderr; a closed stderr is nobody's fault.
pub(super) fn write_stderr(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Fields for journald.
pub(super) struct Journal(pub(super) JournalLog);

impl Sink for Journal {
    fn write(&mut self, line: &Line) {
        let fields: Vec<(&str, &str)> = line
            .fields
            .iter()
            // These two are journald's own: a second one would make two of each.
            .filter(|(key, _)| !matches!(key.as_str(), "priority" | "message"))
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        self.0.log(
            &Record::builder()
                .level(line.level)
                .target(&line.target)
                .args(format_args!("{}", line.text))
                .key_values(&fields)
                .build(),
        );
    }
}

type Key = (String, Option<&'static str>, Option<u32>);

/// Until the logger is gone. `limited`: warnings and errors about one camera or broker from one place of the source are
/// said once and then counted once a minute. Other lines are news, each of them.
pub(super) fn run(
    lines: &Receiver<Line>,
    clock: &dyn Clock,
    shared: &Shared,
    mut sink: Box<dyn Sink>,
    limited: bool,
) {
    let mut limit: RateLimit<Key, Line> = RateLimit::default();
    loop {
        let wait = limit.next_due(clock.now()).unwrap_or(Duration::from_secs(60));
        let received = lines.recv_timeout(wait.max(Duration::from_millis(10)));
        for (line, more) in limit.due(clock.now()) {
            sink.write(&counted(line, more));
        }
        let line = match received {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let repeats = limited && line.level <= Level::Warn && line.place.0.is_some();
        let key = line.about().filter(|_| repeats).map(str::to_owned);
        let admitted = match key {
            Some(about) => limit.admit((about, line.place.0, line.place.1), line, clock.now()),
            None => Some(line),
        };
        if let Some(line) = admitted {
            sink.write(&line);
        }
        *shared.written.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        shared.progress.notify_all();
        let dropped = shared.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            sink.write(&lost(dropped, clock.wall()));
        }
    }
}

fn counted(line: Line, more: u32) -> Line {
    let times = if more == 1 { "once".to_owned() } else { format!("{more} times") };
    Line { text: format!("{} (again, {times} in the last minute)", line.text), ..line }
}

fn lost(dropped: u64, wall: jiff::Timestamp) -> Line {
    Line {
        wall,
        level: Level::Warn,
        target: "vedette::logging".to_owned(),
        place: (None, None),
        text: format!("{dropped} log lines lost: they came faster than they could be written"),
        fields: Vec::new(),
    }
}
