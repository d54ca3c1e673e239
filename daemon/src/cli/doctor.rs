//! `vedette doctor`: is everything here that the daemon needs, and which provider really runs the model.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use vedette_core::Name;
use vedette_ingest::Descriptions;
use vedette_models::{Detector, Form, Runtime, U8S8_SLOW, u8s8_saturates};

use super::{DEFAULT_CONFIG, Global, colours, say, say_json};
use crate::config::{self, Config};
use crate::exit::{Exit, Failure, Outcome};
use crate::node::{Host, open_detector, runtime_folders};
use crate::sinks::Address;
use crate::sinks::webhook::Hook;
use crate::time_sync::TimeSync;
use crate::words::count;

const CONFIGURATION: &str = "configuration";

#[derive(Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

#[derive(Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    text: String,
}

type Findings = Vec<Finding>;

fn ok(check: &'static str, text: impl std::fmt::Display) -> Finding {
    Finding { check, verdict: Verdict::Ok, text: format!("{text}") }
}

fn warning(check: &'static str, text: impl std::fmt::Display) -> Finding {
    Finding { check, verdict: Verdict::Warning, text: format!("{text}") }
}

fn failed(check: &'static str, text: impl std::fmt::Display) -> Finding {
    Finding { check, verdict: Verdict::Failed, text: format!("{text}") }
}

pub(super) fn run(global: &Global) -> Outcome {
    let host = global.host()?;
    let mut findings = Findings::new();
    let config = configuration(global, &mut findings);
    gstreamer(&host, &mut findings);
    inference(config.as_ref(), &host, &mut findings);
    state(&host, &mut findings);
    clock(&mut findings);
    for broker in config.iter().flat_map(|c| c.brokers.values()) {
        findings.push(reach(broker));
    }
    for webhook in config.iter().flat_map(|c| c.webhooks.values()) {
        findings.push(match Hook::parse(&webhook.url) {
            Ok(hook) => connects("webhook", &webhook.id, hook.address()),
            Err(error) => warning("webhook", error),
        });
    }
    report(global, &findings)
}

fn report(global: &Global, findings: &[Finding]) -> Outcome {
    if global.json {
        say_json(&findings)?;
    } else {
        findings.iter().try_for_each(|f| say(line(f, colours(&std::io::stdout()))))?;
    }
    let failed: Vec<_> = findings.iter().filter(|f| f.verdict == Verdict::Failed).map(|f| f.check).collect();
    if failed.is_empty() {
        return Ok(());
    }
    // A configuration that is refused is nothing to install.
    let exit = if failed == [CONFIGURATION] { Exit::Config } else { Exit::Unavailable };
    let message = format!("the daemon cannot start: {}", failed.join(", "));
    Err(Failure::new(exit, if global.json { "" } else { &message }))
}

/// One finding; further lines of its text stand below its first one.
fn line(finding: &Finding, colour: bool) -> String {
    let (mark, sgr) = match finding.verdict {
        Verdict::Ok => ("ok", "32"),
        Verdict::Warning => ("warning", "33"),
        Verdict::Failed => ("FAILED", "1;31"),
    };
    let mark = format!("{mark:<7}");
    let mark = if colour { format!("\x1b[{sgr}m{mark}\x1b[0m") } else { mark };
    format!("{mark}  {:<13}  {}", finding.check, finding.text.replace('\n', "\n                        "))
}

fn configuration(global: &Global, findings: &mut Findings) -> Option<Config> {
    let shown = global.config.display();
    if !global.config.exists() {
        // On a machine where it is not installed yet there is none; one that was named must be there.
        let installed = global.config == Path::new(DEFAULT_CONFIG);
        findings.push(if installed {
            warning(CONFIGURATION, format!("{shown} does not exist; defaults are used"))
        } else {
            failed(CONFIGURATION, format!("{shown} does not exist; name the folder with --config DIR"))
        });
        return None;
    }
    match config::load(&global.options()) {
        Ok(config) => {
            let text = [count(config.cameras.len(), "camera"), count(config.brokers.len(), "broker")];
            findings.push(ok(CONFIGURATION, text.join(", ")));
            findings.extend(config.warnings.iter().map(|w| warning(CONFIGURATION, w)));
            Some(config)
        }
        Err(errors) => {
            findings.push(failed(CONFIGURATION, format!("refused: {}\n{errors}", errors.summary())));
            None
        }
    }
}

fn gstreamer(host: &Host, findings: &mut Findings) {
    if let Err(fault) = vedette_ingest::init() {
        findings.push(failed("gstreamer", fault));
        return;
    }
    findings.push(ok("gstreamer", vedette_ingest::version()));
    match Descriptions::load(&[host.share.descriptions()]) {
        Ok(descriptions) => {
            let absent = descriptions.missing_elements();
            if absent.is_empty() {
                findings.push(ok("plugins", "every element of every description is here"));
            }
            let line = |m: &vedette_ingest::MissingElement| {
                format!(
                    "element `{}` of `{}` is missing: apt install {}",
                    m.element,
                    m.description,
                    m.package.unwrap_or("the package that has it")
                )
            };
            findings.extend(absent.iter().map(|m| failed("plugins", line(m))));
        }
        Err(error) => findings.push(failed("descriptions", error)),
    }
}

fn inference(config: Option<&Config>, host: &Host, findings: &mut Findings) {
    let default = config::from_text("defaults", "", &config::Options::default());
    let Some(config) = config.or(default.as_ref().ok()) else { return };
    match Runtime::load(config.inference.library.as_deref(), &runtime_folders()) {
        Ok(runtime) => {
            findings.push(ok(
                "onnxruntime",
                format!("{} from {}", runtime.version(), runtime.library().display()),
            ));
        }
        Err(error) => {
            findings.push(failed("onnxruntime", error));
            return;
        }
    }
    match open_detector(config, host) {
        Ok(mut detector) => {
            let text = format!("{} ({}), checksum right", detector.name(), detector.report().form);
            findings.push(ok("model", text));
            findings.push(match detector.check_golden() {
                Ok(()) => ok("golden pair", "the model answers as its manifest says"),
                Err(error) => warning("golden pair", error),
            });
            providers(&detector, findings);
        }
        Err(error) => findings.push(failed("model", error)),
    }
}

/// What each provider said and ran, and whether the model still gives the answer its manifest holds.
fn providers(detector: &Detector, findings: &mut Findings) {
    let report = detector.report();
    for r in report.registrations.iter().filter(|r| r.refused.is_some()) {
        let why = r.refused.as_deref().unwrap_or_default();
        findings.push(warning("provider", format!("{} is not used: {why}", r.provider)));
    }
    if report.form == Form::U8s8 && u8s8_saturates() {
        findings.push(ok("provider", U8S8_SLOW));
    }
    for s in &report.shares {
        let text = format!(
            "{} ran {:.0} % of the convolutions and the like, {:.0} % of the time ({} nodes)",
            s.provider,
            s.mac_share * 100.0,
            s.time_share * 100.0,
            s.nodes
        );
        findings.push(ok("provider", text));
    }
}

fn state(host: &Host, findings: &mut Findings) {
    let shown = host.state.display();
    let probe = host.state.join(".doctor");
    let was_there = host.state.exists();
    let wrote = std::fs::create_dir_all(&host.state)
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe));
    if !was_there {
        // A look leaves nothing behind. Where it cannot be taken away, it has been in use since.
        let _ = std::fs::remove_dir(&host.state);
    }
    findings.push(match wrote {
        Ok(()) => ok("state", format!("{shown} can be written")),
        Err(error) => failed("state", format!("{shown} cannot be written: {error}; give --state DIR")),
    });
}

fn clock(findings: &mut Findings) {
    findings.push(match TimeSync::look() {
        TimeSync::Synchronised(by) => ok("clock", format!("synchronised by {by}")),
        TimeSync::Not(by) => warning(
            "clock",
            format!("not synchronised, {by} says: events say clock_synced = false; look at its servers"),
        ),
        TimeSync::Unknown => warning(
            "clock",
            "not known to be synchronised: events say clock_synced = false; enable systemd-timesyncd, or chrony or ntpd, \
             which must answer on 127.0.0.1",
        ),
    });
}

/// Whether something listens where the broker should be; no login is tried.
fn reach(broker: &config::Broker) -> Finding {
    if broker.url == config::EMBEDDED {
        return ok("broker", format!("{}: embedded", broker.id));
    }
    let Address { host, port, .. } = match Address::parse(&broker.url) {
        Ok(address) => address,
        Err(error) => return warning("broker", error),
    };
    connects("broker", &broker.id, (&host, port))
}

fn connects(what: &'static str, id: &Name, (host, port): (&str, u16)) -> Finding {
    let addresses = (host, port).to_socket_addrs();
    let connected = addresses.and_then(|mut all| {
        let address = all.next().ok_or_else(|| std::io::Error::other("the name has no address"))?;
        TcpStream::connect_timeout(&address, Duration::from_secs(3))
    });
    match connected {
        Ok(_) => ok(what, format!("{id}: {host}:{port} answers")),
        Err(error) => warning(what, format!("{id}: {host}:{port}: {error}")),
    }
}
