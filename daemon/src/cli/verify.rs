//! `vedette verify`: whether received messages are the appliance's own.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{Global, say, say_json};
use crate::exit::{Exit, Failure, Outcome};
use crate::signing::audit::{Audit, Line, Numbers, Report};
use crate::signing::{FILE, PublicKey, Signer};
use crate::words::count;

/// No message of ours is so long; a longer line is judged in pieces, none of which is valid.
const LINE_MAX: u64 = 1 << 20;

/// Gaps told to people; scripts get all.
const GAPS_MAX: usize = 10;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The public key, in base64 or in a file [default: of the signing key in the state folder]
    #[arg(long, value_name = "BASE64|FILE")]
    key: Option<String>,
    /// Messages, one a line, as `mosquitto_sub` prints them, with `-v` or without; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    report: Report,
    /// Every line that is not valid.
    lines: Vec<Line>,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Outcome {
    let key = key(global, arguments.key.as_deref())?;
    let (mut audit, mut lines) = (Audit::new(key), Vec::new());
    let name = arguments.file.display();
    let failed = |error| Failure::usage(format!("{name} cannot be read: {error}"));
    let mut input = open(&arguments.file).map_err(failed)?;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if input.by_ref().take(LINE_MAX).read_until(b'\n', &mut bytes).map_err(failed)? == 0 {
            break;
        }
        let Some(line) = audit.take(&bytes).filter(|line| line.reason.is_some()) else { continue };
        if global.json {
            lines.push(line);
        } else {
            tell(&line)?;
        }
    }
    let report = audit.report();
    let good = report.is_good();
    if global.json {
        say_json(&Answer { report, lines })?;
    } else {
        summarise(&report)?;
    }
    // The lines have said why.
    if good { Ok(()) } else { Err(Failure::new(Exit::Failed, "")) }
}

fn open(file: &Path) -> std::io::Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    Ok(Box::new(BufReader::new(std::fs::File::open(file)?)))
}

/// The key that was named, or the appliance's own.
fn key(global: &Global, named: Option<&str>) -> Result<PublicKey, Failure> {
    let Some(named) = named else {
        let state = global.state();
        let signer = Signer::read(&state).map_err(Failure::usage)?;
        let none = || {
            Failure::usage(format!(
                "no {FILE} in {}: name the public key with --key, or the appliance's folder with --state",
                state.display()
            ))
        };
        return signer.map(|signer| signer.public()).ok_or_else(none);
    };
    named.parse().or_else(|wrong: String| {
        let text = std::fs::read_to_string(named)
            .map_err(|error| Failure::usage(format!("--key: {wrong}; and no file of that name: {error}")))?;
        text.parse().map_err(|wrong| Failure::usage(format!("--key {named}: {wrong}")))
    })
}

fn tell(line: &Line) -> Outcome {
    let Line { line, kind, reason } = line;
    say(format!("line {line}: {}: {}", kind.word(), reason.unwrap_or_default()))
}

fn summarise(report: &Report) -> Outcome {
    let Report { valid, invalid, unsigned, other, epochs } = report;
    for Numbers { node, epoch, first, last, messages, repeats, gaps } in epochs {
        let numbers = format!("{node} {epoch}: {first} to {last}, {}", words(*messages, "message"));
        say(format!("{numbers}, {} repeated, {}", repeats, told(gaps)))?;
    }
    if *other > 0 {
        say(format!("{} of kinds that are never signed", words(*other, "message")))?;
    }
    say(format!("{valid} valid, {invalid} invalid, {unsigned} unsigned"))
}

fn told(gaps: &[(u64, u64)]) -> String {
    let one = |(from, to): &(u64, u64)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    let first: Vec<_> = gaps.iter().take(GAPS_MAX).map(one).collect();
    match gaps.len() {
        0 => "no gap".to_owned(),
        n if n > GAPS_MAX => format!("gaps: {} and {} more", first.join(", "), n - GAPS_MAX),
        _ => format!("gaps: {}", first.join(", ")),
    }
}

fn words(n: u64, word: &str) -> String {
    count(usize::try_from(n).unwrap_or(usize::MAX), word)
}
