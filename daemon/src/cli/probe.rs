//! `vedette probe URL`: what a camera sends, and what to change in it.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use vedette_core::{Name, Secret, SystemClock};
use vedette_ingest::probe::{Probe, probe};
use vedette_ingest::{Descriptions, SourceConfig, Transport};

use super::{Global, say, say_json};
use crate::exit::{Failure, Outcome};

/// The whole look takes at most so long.
const BUDGET: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// rtsp:// or rtsps:// address of the stream
    url: String,
    /// User name
    #[arg(long)]
    user: Option<String>,
    /// Name of the environment variable that holds the password (never the password itself: `ps` shows arguments)
    #[arg(long, value_name = "VARIABLE", default_value = "VEDETTE_PROBE_PASSWORD")]
    password_env: String,
    /// How RTP comes
    #[arg(long, value_name = "tcp|udp", default_value = "tcp", value_parser = ["tcp", "udp"])]
    transport: String,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    vedette_ingest::init().map_err(Failure::unavailable)?;
    let descriptions = Descriptions::load(&global.share()?.descriptions()).map_err(Failure::failed)?;
    let config = SourceConfig {
        camera: Name::from_host("probe"),
        url: arguments.url.clone(),
        user: arguments.user.clone(),
        password: std::env::var(&arguments.password_env).ok().map(Secret::new),
        transport: if arguments.transport == "udp" { Transport::Udp } else { Transport::Tcp },
        pipeline: None,
    };
    let result = probe(&config, &descriptions, Arc::new(SystemClock::new()), BUDGET).map_err(Failure::failed)?;
    if global.json { say_json(&result) } else { print(&result) }
}

fn print(probe: &Probe) -> Outcome {
    for (label, value) in probe.rows() {
        say(format!("{label:<12} {value}"))?;
    }
    if probe.advice.is_empty() {
        return say("advice       nothing to change");
    }
    for (n, line) in probe.advice.iter().enumerate() {
        say(format!("{:<12} {line}", if n == 0 { "advice" } else { "" }))?;
    }
    Ok(())
}
