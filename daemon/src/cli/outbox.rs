//! `vedette outbox status | purge`: what waits for the brokers, and giving it up.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use vedette_core::{Clock, Name, SystemClock};

use super::{Global, note, say, say_json};
use crate::exit::{Failure, Outcome};
use crate::outbox::sqlite::status::{self, SinkWaiting, StoreStatus};
use crate::signing::Signer;
use crate::words::{columns, count};

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// What waits for each broker, since when, and what was dropped; while the service runs, too
    Status,
    /// Drop what waits, counted; the service must be stopped
    Purge(Purge),
}

#[derive(Args, Debug)]
pub(super) struct Purge {
    /// Only what waits for this broker [default: for all]
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(global: &Global, verb: &Verb) -> Outcome {
    let (state, now) = (global.state(), SystemClock::new().wall());
    match verb {
        Verb::Status => tell(global, &state, now),
        Verb::Purge(arguments) => purge(global, &state, arguments, now),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    status: StoreStatus,
    /// What verifies this appliance's events; null where it has no key.
    public_key: Option<String>,
}

fn tell(global: &Global, state: &Path, now: Timestamp) -> Outcome {
    let status = read(state)?;
    // That a key cannot be used is no reason to keep quiet about the rest.
    let signer = Signer::read(state).unwrap_or_else(|error| {
        log::warn!("{error}");
        None
    });
    let key = signer.map(|signer| signer.public().to_string());
    if global.json {
        return say_json(&Told { status, public_key: key });
    }
    let StoreStatus { epoch, last_seq, open_incidents, file_bytes, sinks } = status;
    say(format!("epoch {epoch}, last number {last_seq}, {}", count(open_incidents, "open incident")))?;
    say(format!("{} on disk in {}", size(file_bytes), state.display()))?;
    key.map_or(Ok(()), |key| say(format!("public key of its signatures: {key}")))?;
    let row = |sink: SinkWaiting| {
        let gone = if sink.attached { "" } else { " (not configured)" };
        let oldest = sink.oldest.map_or_else(|| "-".to_owned(), |oldest| age(oldest, now));
        let SinkWaiting { sink, waiting, dropped, bytes, .. } = sink;
        [format!("{sink}{gone}"), waiting.to_string(), oldest, size(bytes), dropped.to_string()]
    };
    let head = ["broker", "waiting", "oldest", "size", "dropped"].map(str::to_owned);
    let rows = std::iter::once(head).chain(sinks.into_iter().map(row)).collect();
    columns(rows).into_iter().try_for_each(say)
}

fn read(state: &Path) -> Result<StoreStatus, Failure> {
    let nothing = || {
        let place = state.display();
        Failure::failed(format!(
            "no event store in {place}: the service has not run yet, or name its place with --state"
        ))
    };
    status::status(state).map_err(Failure::failed)?.ok_or_else(nothing)
}

fn purge(global: &Global, state: &Path, arguments: &Purge, now: Timestamp) -> Outcome {
    let status = read(state)?;
    let sink = arguments.sink.as_deref().map(|name| known(name, &status)).transpose()?;
    let chosen = |s: &&SinkWaiting| sink.as_ref().is_none_or(|name| *name == s.sink);
    let waiting: u64 = status.sinks.iter().filter(chosen).map(|s| s.waiting).sum();
    if waiting > 0 && !arguments.yes && !agreed(waiting, sink.as_ref())? {
        return Err(Failure::failed("nothing was dropped"));
    }
    let purged = status::purge(state, sink.as_ref(), now).map_err(Failure::failed)?;
    if global.json {
        let rows: Vec<_> =
            purged.iter().map(|(sink, dropped)| json!({"sink": sink, "dropped": dropped})).collect();
        return say_json(&json!({ "purged": rows }));
    }
    purged.iter().try_for_each(|(sink, dropped)| say(format!("{sink}: {} dropped", count_events(*dropped))))
}

/// The sink of that name, of those that the store has heard of.
fn known(name: &str, status: &StoreStatus) -> Result<Name, Failure> {
    let found = status.sinks.iter().map(|s| &s.sink).find(|sink| sink.as_str() == name);
    let unknown = || {
        let names: Vec<_> = status.sinks.iter().map(|s| s.sink.as_str()).collect();
        Failure::usage(format!("no broker `{name}` in the event store; there are: {}", names.join(", ")))
    };
    found.cloned().ok_or_else(unknown)
}

/// Asks the person; where there is none, says what to say.
fn agreed(waiting: u64, sink: Option<&Name>) -> Result<bool, Failure> {
    let whom = sink.map_or_else(|| "all brokers".to_owned(), |name| format!("broker {name}"));
    let events = count_events(waiting);
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "{events} wait for {whom} and would never be delivered: say --yes to drop them"
        )));
    }
    note(format!("{events} wait for {whom} and will never be delivered."));
    let mut answer = String::new();
    let asked = write!(std::io::stderr(), "Drop them? [y/N] ")
        .and_then(|()| std::io::stderr().flush())
        .and_then(|()| std::io::stdin().lock().read_line(&mut answer));
    asked.map_err(|error| Failure::failed(format!("cannot ask: {error}; say --yes")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn count_events(n: u64) -> String {
    count(usize::try_from(n).unwrap_or(usize::MAX), "event")
}

fn size(bytes: u64) -> String {
    if bytes < 1 << 20 {
        format!("{} KiB", bytes.div_ceil(1024))
    } else {
        format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
    }
}

/// How long ago, in the largest unit that fits twice.
fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_are_for_people() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let ages = [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 days")];
        for (seconds, expected) in ages {
            assert_eq!(age(at(0), at(seconds)), expected);
        }
        assert_eq!(age(at(5), at(0)), "0 s", "a clock that was set back");
        assert_eq!([0, 1, 1024, 1025, 3 << 20].map(size), ["0 KiB", "1 KiB", "1 KiB", "2 KiB", "3.0 MiB"]);
    }
}
