//! The command line: one file a verb.
//!
//! Owns: arguments, output for people and for scripts. Does not know: how anything is done; each verb calls one room.

mod check;
mod demo;
mod discover;
mod doctor;
mod eval;
mod model;
mod outbox;
mod probe;
mod progress;
mod replay;
mod run;
mod schema;
mod verify;
mod version;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use vedette_core::{Clock, SystemClock};

use crate::config::{self, Config};
use crate::exit::{Exit, Failure, Outcome};
use crate::logging;
use crate::node::Host;
use crate::process_env::{Setting, ThreadsRunning};
use crate::share::Share;
use crate::wire;

/// Options of every verb stand below a verb's own.
const COMMON: &str = "Common options";

const EXITS: &str = "\
Exit codes:
  0   done
  1   it did not work
  2   wrong arguments
  69  a library, model, plugin or service that it needs is missing
  78  the configuration is wrong";

/// Camera surveillance on an edge box: RTSP in, behaviour alerts over MQTT out.
#[derive(Parser, Debug)]
#[command(name = "vedette", version, disable_help_subcommand = true, max_term_width = 110, after_help = EXITS)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Where the package puts the configuration.
const DEFAULT_CONFIG: &str = "/etc/vedette";

/// Options of every verb.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Folder with vedette.toml and conf.d/
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_CONFIG, help_heading = COMMON)]
    config: PathBuf,
    /// Folder for state [default: $STATE_DIRECTORY, else ./vedette-state]
    #[arg(long, global = true, value_name = "DIR", help_heading = COMMON)]
    state: Option<PathBuf>,
    /// Folder with pipeline descriptions and models [default: found beside the program]
    #[arg(long, global = true, value_name = "DIR", help_heading = COMMON)]
    share: Option<PathBuf>,
    /// What to log: a level, or `level,target=level,…` [default: `run` info, others warn]
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "VEDETTE_LOG",
        hide_env_values = true,
        help_heading = COMMON
    )]
    log: Option<logging::Filter>,
    /// Print results as JSON
    #[arg(long, global = true, help_heading = COMMON)]
    json: bool,
}

#[derive(Subcommand, Debug)]
#[expect(clippy::large_enum_variant, reason = "one a process")]
enum Verb {
    /// Run the service
    Run,
    /// Watch a camera full of people, here and now, without any configuration
    Demo(demo::Arguments),
    /// Check the configuration: all errors at once, with file, line and column
    Check,
    /// Look at a camera: codec, rate, GOP, clock, login, and what to change in it
    Probe(probe::Arguments),
    /// Find the ONVIF cameras on the network
    Discover(discover::Arguments),
    /// Run the whole pipeline over files, as fast as it can, and print the events as JSON lines
    Replay(replay::Arguments),
    /// Check this machine: libraries, plugins, models, providers, clock
    Doctor,
    /// Print the JSON Schema of the configuration
    Schema,
    /// Models: list, inspect, import, quantise them; measure accuracy and cost
    #[command(subcommand)]
    Model(model::Verb),
    /// Measure: events against truth
    #[command(subcommand)]
    Eval(eval::Verb),
    /// Events that wait for brokers: what there is, and dropping it
    #[command(subcommand)]
    Outbox(outbox::Verb),
    /// Check the signatures of received messages, and what is missing among them
    Verify(verify::Arguments),
    /// Print versions: program, GStreamer, ONNX Runtime
    Version,
}

/// Parses the arguments, runs the verb, prints its failure; the whole program but the environment.
pub fn main(environment: Result<Vec<Setting>, ThreadsRunning>) -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` come as errors too; clap knows where to print which.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    if let Err(error) = logging::install(cli.filter(), Arc::new(SystemClock::new())) {
        say_error(&error.to_string());
        return Exit::Failed;
    }
    match environment {
        Ok(settings) => settings.iter().filter_map(|s| s.notice).for_each(|notice| log::info!("{notice}")),
        Err(error) => log::warn!("{error}"),
    }
    let outcome = dispatch(&cli);
    logging::flush(std::time::Duration::from_secs(1));
    match outcome {
        Ok(()) => Exit::Done,
        Err(failure) => {
            if !failure.message.is_empty() {
                say_error(&failure.message);
            }
            failure.exit
        }
    }
}

impl Cli {
    /// What is logged. A service tells its story; who asks one question wants its answer and what is wrong.
    fn filter(&self) -> logging::Filter {
        let level = match self.verb {
            Verb::Run => log::LevelFilter::Info,
            _ => log::LevelFilter::Warn,
        };
        self.global.log.clone().unwrap_or_else(|| logging::Filter::new(level))
    }
}

fn dispatch(cli: &Cli) -> Outcome {
    let global = &cli.global;
    match &cli.verb {
        Verb::Run => run::run(global),
        Verb::Demo(arguments) => demo::run(global, arguments),
        Verb::Check => check::run(global),
        Verb::Probe(arguments) => probe::run(global, arguments),
        Verb::Discover(arguments) => discover::run(global, arguments),
        Verb::Replay(arguments) => replay::run(global, arguments),
        Verb::Doctor => doctor::run(global),
        Verb::Schema => schema::run(),
        Verb::Model(verb) => model::run(global, verb),
        Verb::Eval(verb) => eval::run(global, verb),
        Verb::Outbox(verb) => outbox::run(global, verb),
        Verb::Verify(arguments) => verify::run(global, arguments),
        Verb::Version => version::run(global),
    }
}

/// Whether colours are wanted there (no-color.org).
fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn say_error(message: &str) {
    let mark = if colours(&std::io::stderr()) { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    // Where even stderr is gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{mark} {message}");
}

/// Writes a line to stdout. A reader that went away (`| head`) ends the verb quietly.
fn say(line: impl std::fmt::Display) -> Outcome {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::new(Exit::Done, ""),
        _ => Failure::failed(format!("cannot write to standard output: {error}")),
    })
}

/// Writes a line beside the results: to stderr, so that stdout stays what scripts read.
fn note(line: impl std::fmt::Display) {
    // Where stderr is gone nobody misses it.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn say_json(value: &impl serde::Serialize) -> Outcome {
    say(serde_json::to_string(value).map_err(Failure::failed)?)
}

impl Global {
    fn state(&self) -> PathBuf {
        let from_service = || std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
        self.state.clone().or_else(from_service).unwrap_or_else(|| PathBuf::from("vedette-state"))
    }

    fn share(&self) -> Result<Share, Failure> {
        Share::locate(self.share.as_deref()).map_err(Failure::unavailable)
    }

    fn host(&self) -> Result<Host, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        Ok(Host { share: self.share()?, state: self.state(), clock, embedded_port: 1883 })
    }

    fn options(&self) -> config::Options {
        let dialects = wire::DIALECTS.iter().map(|d| d.name.to_owned()).collect();
        config::Options {
            dialects,
            ..config::Options::of_process(Some(self.config.clone()), Some(self.state()))
        }
    }

    /// The configuration; its warnings go to the log.
    fn load(&self) -> Result<Config, Failure> {
        let config = config::load(&self.options())?;
        for warning in config.warnings.iter() {
            log::warn!("{warning}");
        }
        Ok(config)
    }
}
