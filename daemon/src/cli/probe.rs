//! `vedette probe URL`: what a camera sends, and what to change in it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use vedette_core::secret::redacted;
use vedette_core::{ClockSource, Name, Secret, SystemClock};
use vedette_ingest::probe::{Probe, probe};
use vedette_ingest::{
    Codec, Descriptions, Fault, FaultClass, Fingerprint, Login, SourceConfig, Transport, Trust,
};

use super::{Global, progress, say, say_json};
use crate::exit::{Exit, Failure, Outcome};

/// The whole look takes at most so long.
const BUDGET: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Address of the stream, as `url` in the configuration: rtsp://, rtsps://, file://, v4l2://, test://
    url: String,
    /// User name
    #[arg(long)]
    user: Option<String>,
    /// Name of the environment variable that holds the password (never the password itself: `ps` shows arguments)
    #[arg(long, value_name = "VARIABLE", default_value = "VEDETTE_PROBE_PASSWORD")]
    password_env: String,
    /// How RTP comes; auto: TCP, and UDP where that is refused
    #[arg(long, value_name = "auto|tcp|udp", default_value = "auto", value_parser = ["auto", "tcp", "udp"], hide_possible_values = true)]
    transport: String,
    /// Certificates to trust (PEM) instead of the system's
    #[arg(long, value_name = "FILE", group = "trust")]
    ca: Option<PathBuf>,
    /// The one certificate to trust
    #[arg(long, value_name = "sha256:…", group = "trust")]
    pin: Option<Fingerprint>,
    /// Trust whoever answers
    #[arg(long, group = "trust")]
    insecure: bool,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    vedette_ingest::init().map_err(Failure::unavailable)?;
    let descriptions = Descriptions::load(&[global.share()?.descriptions()]).map_err(Failure::failed)?;
    let config = SourceConfig {
        camera: Name::from_host("probe"),
        url: arguments.url.clone(),
        user: arguments.user.clone(),
        password: std::env::var(&arguments.password_env).ok().map(Secret::new),
        transport: match arguments.transport.as_str() {
            "udp" => Transport::Udp,
            "tcp" => Transport::Tcp,
            _ => Transport::Auto,
        },
        route: Arc::default(),
        trust: trust(arguments),
        pipeline: None,
    };
    if holds_password(&arguments.url) {
        log::warn!(
            "the URL holds a password that `ps` shows: give --user NAME and the environment variable {} instead",
            arguments.password_env
        );
    }
    let spinner = progress::spinner(&format!("looking at {}", redacted(&arguments.url)));
    let result = probe(&config, &descriptions, Arc::new(SystemClock::new()), BUDGET);
    drop(spinner);
    let result = result.map_err(|fault| failure(fault, arguments))?;
    if global.json { say_json(&result) } else { print(&result) }
}

fn trust(arguments: &Arguments) -> Trust {
    match (&arguments.ca, arguments.pin) {
        (Some(file), _) => Trust::Ca(file.clone()),
        (None, Some(pin)) => Trust::Pin(pin),
        (None, None) if arguments.insecure => Trust::Insecure,
        (None, None) => Trust::System,
    }
}

fn holds_password(url: &str) -> bool {
    let authority = url.split_once("://").and_then(|(_, rest)| rest.split('/').next());
    authority.and_then(|a| a.rsplit_once('@')).is_some_and(|(login, _)| login.contains(':'))
}

/// A fault with the remedy at hand here: options, not the configuration's keys.
fn failure(mut fault: Fault, arguments: &Arguments) -> Failure {
    let variable = &arguments.password_env;
    match fault.class {
        FaultClass::Auth if std::env::var_os(variable).is_none() => {
            fault.remedy =
                format!("give --user NAME, and the password in the environment variable {variable}");
        }
        FaultClass::Auth => {
            fault.remedy = format!(
                "correct --user and the password in {variable}; too many attempts lock some cameras for minutes"
            );
        }
        FaultClass::Codec => {
            for way in ["udp", "tcp"] {
                fault.remedy =
                    fault.remedy.replace(&format!("`transport = \"{way}\"`"), &format!("--transport {way}"));
            }
            fault.remedy = fault.remedy.replace("`transport`", "--transport");
        }
        FaultClass::Tls => {
            fault.remedy =
                fault.remedy.replace("`pin = \"", "`--pin ").replace("\"`", "`").replace("`ca`", "--ca");
        }
        _ => {}
    }
    let exit = if fault.class == FaultClass::MissingElement { Exit::Unavailable } else { Exit::Failed };
    Failure::new(exit, fault)
}

fn print(probe: &Probe) -> Outcome {
    for (label, value) in rows(probe) {
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

fn login_text(login: Login) -> &'static str {
    match login {
        Login::None => "none: anybody on the network can watch",
        Login::Basic => "basic: the password goes over the network in the clear",
        Login::Digest => "digest",
    }
}

/// How the camera will be seen to move while nothing else of it is decoded. A daemon that has run for a while knows
/// better: it says so in the camera's status.
fn gate(probe: &Probe) -> &'static str {
    let near = probe.measured.gop.is_some_and(|gop| gop <= 2.3);
    match (probe.measured.constant_bit_rate, near) {
        _ if probe.codec == Codec::Mjpeg => {
            "one picture a second is compared; a shorter movement can be missed"
        }
        (Some(false), _) => "packet sizes tell motion, and keyframes are compared",
        (_, true) => "keyframes are compared; what begins and ends between two of them is missed",
        (None, false) => "not known: no motion can be told apart yet",
        (Some(true), false) => {
            "never: neither packet sizes nor keyframes tell motion, all of it will be decoded unless `gate_url` is given"
        }
    }
}

/// What was seen, one line a fact.
fn rows(probe: &Probe) -> Vec<(&'static str, String)> {
    let m = &probe.measured;
    let profile = probe.profile.as_deref().map_or_else(String::new, |p| format!(" {p}"));
    let rate = match m.constant_bit_rate {
        Some(true) => ", even: constant, or the scene is busy all the time",
        Some(false) => ", variable",
        None => "",
    };
    let clock = match (probe.clock, probe.clock_offset) {
        (ClockSource::Camera, Some(offset)) if offset.abs() < 0.1 => {
            "the camera's (RTCP), the same as this host's".to_owned()
        }
        (ClockSource::Camera, Some(offset)) => {
            format!("the camera's (RTCP), {offset:+.1} s from this host's")
        }
        _ => "this host's: the camera sends no RTCP reports".to_owned(),
    };
    let order = match (m.reordered, m.non_reference) {
        (true, _) => "B-frames",
        (false, true) => "no B-frames, some pictures may be left out",
        (false, false) => "no B-frames",
    };
    let mut rows = vec![
        ("camera", probe.url.clone()),
        ("video", format!("{}{profile}, {}x{}, {:.1} fps", probe.codec, probe.width, probe.height, m.fps)),
        (
            "keyframes",
            m.gop.map_or_else(|| "fewer than two seen".to_owned(), |gop| format!("every {gop:.1} s")),
        ),
        ("bit rate", format!("{:.0} kbit/s{rate}", m.bit_rate / 1e3)),
        ("pictures", order.to_owned()),
        ("at rest", gate(probe).to_owned()),
        ("clock", clock),
        ("login", probe.login.map_or_else(|| "not told".to_owned(), |login| login_text(login).to_owned())),
        ("transport", probe.transport.as_str().to_uppercase()),
        ("looked for", format!("{:.1} s", m.seconds)),
    ];
    rows.retain(|(what, _)| !(probe.is_local() && matches!(*what, "clock" | "login" | "transport")));
    if let Some(certificate) = probe.certificate {
        rows.insert(rows.len() - 1, ("certificate", certificate.to_string()));
    }
    rows
}
