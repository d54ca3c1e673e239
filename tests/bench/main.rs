//! `./dev bench`: what the daemon costs beside its own parts and beside the script that a careful user would write.
//!
//! Every subject is a process of its own, measured in a settled state for some seconds; all take turns, several rounds,
//! so that whatever else the machine does meets each of them. What counts are the medians' ratios. Owns: the plan, the
//! turns, the table. Does not know: what may cost how much.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "prints its measurement")]

mod latency;
mod part;
mod plan;
mod report;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use plan::{Peers, Subject};

/// What a camera costs: the daemon, its parts, and a hand-written script, in turns.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seconds that each subject is measured in each round
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Only subjects whose names begin so
    #[arg(long)]
    only: Vec<String>,
    /// A Python with OpenCV, ONNX Runtime and paho-mqtt; absent: the script is left out
    #[arg(long)]
    python: Option<PathBuf>,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    part: Option<part::Part>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.part {
        Some(part) => part::run(part),
        None => bench(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let wanted = |subject: &Subject| {
        let name = subject.name.as_str();
        arguments.only.is_empty() || arguments.only.iter().any(|prefix| name.starts_with(prefix.as_str()))
    };
    let subjects: Vec<Subject> =
        plan::subjects(arguments.python.as_deref()).into_iter().filter(wanted).collect();
    if subjects.is_empty() {
        return Err(format!("no subject begins with any of {:?}", arguments.only).into());
    }
    let peers = Peers::start()?;
    let turns = u64::from(arguments.rounds) * subjects.len() as u64;
    let bar = indicatif::ProgressBar::new(turns).with_style(
        indicatif::ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left")?
            .progress_chars("=> "),
    );
    let mut measured: BTreeMap<String, Vec<part::Measured>> = BTreeMap::new();
    for _ in 0..arguments.rounds {
        for subject in &subjects {
            bar.set_message(subject.name.clone());
            let one = subject.measure(&peers, arguments.seconds)?;
            measured.entry(subject.name.clone()).or_default().push(one);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let medians: Vec<(&Subject, part::Measured)> =
        subjects.iter().map(|s| (s, report::median(&measured[&s.name]))).collect();
    print!("{}", report::table(&medians));
    if arguments.json {
        println!("{}", report::json(&medians));
    }
    Ok(())
}
