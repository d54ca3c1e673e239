//! The test harness: real peers that tests start, command and stop.
//!
//! Owns: the camera with faults ([`testcam`]) and the clips it plays ([`clips`]), the broker ([`mosquitto`]), what
//! subscribes to it ([`subscriber`], [`sparkplug`]), asks over it ([`asker`]) and is in between ([`proxy`]), the other
//! side of a webhook ([`receiver`]), a process that says lines ([`child`]), ports for all of them ([`ports`]), what a sink
//! tells ([`sinks`]), what is wrong with TLS ([`certificates`]), a small model ([`network`]), the judges of messages
//! ([`schemas`], [`audit`], [`ledger`]), and the product itself: in this process ([`site`]), on the command line
//! ([`binary`]), as systemd runs it ([`daemon`]).
//! Does not know: what the tests assert. The scenarios and assertions stand in `tests/it`.
#![forbid(unsafe_code)]

pub mod asker;
pub mod audit;
pub mod binary;
pub mod certificates;
pub mod child;
pub mod clips;
pub mod composed;
pub mod daemon;
pub mod ledger;
pub mod mosquitto;
pub mod network;
pub mod ports;
pub mod proxy;
pub mod receiver;
pub mod schemas;
pub mod sinks;
pub mod site;
pub mod sparkplug;
pub mod subscriber;
pub mod testcam;

/// Why a program for tests ends.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// What the `main` of a program for tests does: hands its arguments on, and says on stderr what went wrong.
pub fn main_of(run: impl FnOnce(&[String]) -> Result<(), Fault>) -> std::process::ExitCode {
    use std::io::Write;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Err(error) = run(&arguments) else { return std::process::ExitCode::SUCCESS };
    // Where stderr is gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{error}");
    std::process::ExitCode::FAILURE
}

/// How long the long form of a test lasts, where it is asked for: `./dev soak` says so in `VEDETTE_SOAK_SECONDS`.
pub fn soak_seconds() -> Option<std::time::Duration> {
    let text = std::env::var("VEDETTE_SOAK_SECONDS").ok()?;
    Some(std::time::Duration::from_secs(
        text.parse().unwrap_or_else(|_| panic!("VEDETTE_SOAK_SECONDS={text}")),
    ))
}

/// Says why a test does nothing here. What may be skipped stands in `tests/skips.allowed`.
pub fn skipped(reason: impl std::fmt::Display) {
    use std::io::Write;
    // Where stderr is gone nobody counts skips.
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}
