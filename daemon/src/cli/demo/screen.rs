//! What the demo prints: one line an alert, in colour on a terminal, a line of figures below.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::subscriber::Message;
use crate::cli::say;
use crate::exit::Outcome;

pub(super) struct Screen {
    jsonl: bool,
    colour: bool,
    foot: ProgressBar,
}

impl Screen {
    pub(super) fn new(jsonl: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let shown = terminal && !jsonl;
        let target = if shown { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::hidden() };
        let foot = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            foot.set_style(style);
        }
        Self { jsonl, colour, foot }
    }

    pub(super) fn head(&self, port: u16, url: &str) -> Outcome {
        if self.jsonl {
            return Ok(());
        }
        say(format!("camera   {url}"))?;
        say(format!("watch    mosquitto_sub -p {port} -t 'vedette/demo/#' -v"))?;
        say("")
    }

    /// Prints a message; without `--jsonl` only events and changes of the camera's state.
    pub(super) fn message(&self, message: &Message) -> Outcome {
        let line = if self.jsonl {
            let topic = Value::String(message.topic.clone());
            let payload = String::from_utf8_lossy(&message.payload);
            Some(format!("{{\"topic\":{topic},\"retained\":{},\"payload\":{payload}}}", message.retained))
        } else if message.topic.ends_with("/event") {
            Some(self.event(&message.json()))
        } else if message.topic.ends_with("/campus/status") {
            Self::status(&message.json())
        } else {
            None
        };
        line.map_or(Ok(()), |line| self.foot.suspend(|| say(line)))
    }

    fn status(status: &Value) -> Option<String> {
        let state = status["state"].as_str()?;
        let reason = status["reason"].as_str().unwrap_or_default();
        // The rate is in the foot already; only what is new to a reader is a line.
        (state != "live" || status["fps"].as_f64() == Some(0.0))
            .then(|| format!("camera {state} {reason}").trim_end().to_owned())
    }

    fn event(&self, event: &Value) -> String {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let clock = text("captured").get(11..23).unwrap_or_default().to_owned();
        let (severity, phase) = (text("severity"), text("phase"));
        let place = event["zone"].as_str().or(event["line"].as_str()).unwrap_or_default();
        let track = event["object"]["track"].as_u64().map_or_else(String::new, |t| format!("#{t}"));
        let latency = event["latency_ms"].as_u64().map_or_else(String::new, |l| format!("+{l} ms"));
        let line = format!(
            "{clock}  {:<7} {:<14} {phase:<6} {place:<6} {track:<5} {} ",
            severity.to_uppercase(),
            text("kind"),
            text("why"),
        );
        let paint = match (severity.as_str(), phase.as_str()) {
            _ if !self.colour => return format!("{line} {latency}"),
            ("alarm", "begin") => "1;31",
            ("alarm", "end") => "32",
            ("alarm", _) => "31",
            ("warning" | "fault", _) => "33",
            _ => "36",
        };
        format!("\x1b[{paint}m{line}\x1b[0m \x1b[2m{latency}\x1b[0m")
    }

    /// The line of figures at the bottom; nothing where stdout is no terminal.
    pub(super) fn foot(&mut self, line: &str) {
        self.foot.set_message(line.to_owned());
    }

    pub(super) fn finish(&self) {
        self.foot.finish_and_clear();
    }
}
