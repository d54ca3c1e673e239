//! `vedette demo`: a camera full of people, the whole daemon, and its alerts as a subscriber sees them.
//!
//! Owns: the demo's configuration, the child that plays the camera, and what is printed. Everything in between is the
//! product: real RTSP with a login, the same node as `run`, a broker, MQTT.

mod camera;
mod screen;
mod subscriber;
mod tally;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{Receiver as Inbox, after, never, select, tick, unbounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vedette_core::Secret;

use super::{Global, note, say};
use crate::config::{self, Config};
use crate::exit::{Failure, Outcome};
use crate::node::{Host, Node};

use camera::DemoCamera;
use screen::Screen;
use subscriber::Message;
use tally::Tally;

/// The demo's zone and line on the clip's scene; the same shapes have been annotated by eye in tests/truth.
const CAMPUS: &str = r#"
[camera.campus.zone]
yard = [[0.111, 0.319], [0.264, 0.330], [0.307, 0.517], [0.111, 0.462]]
[camera.campus.line]
kerb = [[0.875, 0.385], [0.560, 0.774]]
"#;

/// For a camera whose scene nobody knows: the middle third, and a line across it.
const ANY_SCENE: &str = r#"
[camera.campus.zone]
yard = [[0.333, 0.2], [0.667, 0.2], [0.667, 1.0], [0.333, 1.0]]
[camera.campus.line]
kerb = [[0.5, 0.0], [0.5, 1.0]]
"#;

const RULES: &str = r#"
[camera.campus.rule.yard]
kind = "intrusion"
zone = "yard"
classes = ["person"]
cooldown = "5s"
max_per_hour = 1000
[camera.campus.rule.kerb]
kind = "line_crossing"
line = "kerb"
classes = ["person"]
severity = "info"
max_per_hour = 1000
"#;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Stop after so many seconds [default: when interrupted]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Print every MQTT message as one JSON line {"topic", "retained", "payload"}
    #[arg(long)]
    jsonl: bool,
    /// Your own camera instead of the demo's
    #[arg(long, value_name = "URL")]
    camera: Option<String>,
    /// User name of your camera; its password comes from the environment variable VEDETTE_PROBE_PASSWORD
    #[arg(long, requires = "camera")]
    user: Option<String>,
}

/// The demo's state lives and dies with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("vedette-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let scratch = Scratch::new()?;
    let child = match &arguments.camera {
        None => Some(DemoCamera::start()?),
        Some(_) => None,
    };
    let config = configuration(arguments, child.as_ref())?;
    let mut host: Host = global.host()?;
    host.state.clone_from(&scratch.0);
    host.embedded_port = 0;
    let clock = host.clock.clone();
    let node = Node::build(config, host)?;
    let port = node.embedded_port().ok_or_else(|| Failure::failed("the embedded broker did not start"))?;
    let (tx, messages) = unbounded();
    let subscriber = subscriber::start(port, tx)?;
    let screen = Screen::new(arguments.jsonl);
    screen.head(port, &shown_url(arguments, child.as_ref()))?;
    let tally = Tally::new(clock.now());
    let outcome = watch(arguments, node, &*clock, &messages, screen, tally);
    drop(subscriber);
    drop(child);
    outcome
}

fn shown_url(arguments: &Arguments, child: Option<&DemoCamera>) -> String {
    let url = child.map_or_else(|| arguments.camera.clone().unwrap_or_default(), |c| c.url().to_owned());
    vedette_core::secret::redacted(&url)
}

fn configuration(arguments: &Arguments, child: Option<&DemoCamera>) -> Result<Config, Failure> {
    let scene = if child.is_some() { CAMPUS } else { ANY_SCENE };
    let url = child.map_or_else(|| arguments.camera.clone().unwrap_or_default(), |c| c.url().to_owned());
    let url = toml::Value::String(url);
    let text = format!(
        "[node]\nid = \"demo\"\n[broker.local]\nurl = \"embedded\"\n[camera.campus]\nurl = {url}\n{scene}{RULES}"
    );
    let mut config = config::from_text("demo.toml", &text, &config::Options::default())?;
    let login = match child {
        Some(child) => Some((child.user().to_owned(), child.password().clone())),
        None => arguments
            .user
            .clone()
            .map(|user| (user, Secret::new(std::env::var("VEDETTE_PROBE_PASSWORD").unwrap_or_default()))),
    };
    if let (Some((user, password)), Some(camera)) = (login, config.cameras.get_mut("campus")) {
        let camera = Arc::make_mut(camera);
        (camera.user, camera.password) = (Some(user), Some(password));
    }
    Ok(config)
}

fn watch(
    arguments: &Arguments,
    mut node: Node,
    clock: &dyn vedette_core::Clock,
    messages: &Inbox<Message>,
    mut screen: Screen,
    mut tally: Tally,
) -> Outcome {
    let over = arguments.seconds.map_or_else(never, |n| after(Duration::from_secs(n)));
    let (interrupts, ticks) = (interrupts()?, tick(Duration::from_secs(1)));
    let mut outcome = Ok(());
    while outcome.is_ok() {
        select! {
            recv(messages) -> message => if let Ok(message) = message {
                tally.message(&message);
                outcome = screen.message(&message);
            },
            recv(ticks) -> _ => {
                node.tick();
                screen.foot(&tally.line(&node, clock.now()));
            }
            recv(over) -> _ => break,
            recv(interrupts) -> _ => break,
        }
    }
    let summary = tally.summary(&node, clock.now());
    node.stop(Duration::from_secs(5));
    // What the node said while it stopped: open incidents end, statuses change.
    let patience = after(Duration::from_secs(1));
    while outcome.is_ok() {
        select! {
            recv(messages) -> message => match message {
                Ok(message) => outcome = screen.message(&message),
                Err(_) => break,
            },
            recv(patience) -> _ => break,
        }
    }
    screen.finish();
    outcome?;
    if arguments.jsonl {
        let text = summary.iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>().join("; ");
        note(text);
        return Ok(());
    }
    say("")?;
    summary.iter().try_for_each(|(label, value)| say(format!("{label:<22} {value}")))
}

fn interrupts() -> Result<Inbox<()>, Failure> {
    let refused = |e: std::io::Error| Failure::failed(format!("cannot listen for signals: {e}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(refused)?;
    let (tx, rx) = unbounded();
    let forward = move || {
        for _ in signals.forever() {
            let _ = tx.send(());
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(forward).map_err(refused)?;
    Ok(rx)
}
