//! `vedette eval events`: the rules against truth annotated by people.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use vedette_analysis::gate::Mode;
use vedette_core::{Direction, Event};

use super::replay::{Bench, parse_mode};
use super::{Global, progress, say, say_json};
use crate::events_eval::{Figures, Found, compare, read_truth};
use crate::exit::{Failure, Outcome};
use crate::replay::Watch;

#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Replays each clip of a truth table under the configuration and compares the events
    Events(Arguments),
}

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Table `clip,kind,rule,start_s,end_s,direction,count`
    #[arg(long, value_name = "CSV")]
    truth: PathBuf,
    /// Folder with the clips
    #[arg(long, value_name = "DIR")]
    clips: PathBuf,
    /// Whose zones and rules apply
    #[arg(long, value_name = "ID")]
    camera: Option<String>,
    /// What is decoded of each clip: everything, or what a camera in this mode would decode
    #[arg(long, value_name = "always|adaptive|force", default_value = "always", value_parser = parse_mode)]
    mode: Mode,
}

struct Collector<'a> {
    clip: &'a str,
    events: &'a mut Vec<Found>,
    bar: &'a ProgressBar,
}

impl Watch for Collector<'_> {
    fn event(&mut self, event: Event) {
        self.events.extend(Found::of(self.clip, &event));
    }

    fn progress(&mut self, done: f64, of: Option<f64>) {
        self.bar.set_length((of.unwrap_or(done) * 1000.0) as u64);
        self.bar.set_position((done * 1000.0) as u64);
    }
}

pub(super) fn run(global: &Global, Verb::Events(arguments): &Verb) -> Outcome {
    let truth = read_truth(&arguments.truth).map_err(Failure::failed)?;
    let mut clips: Vec<_> = truth.iter().map(|t| t.clip.clone()).collect();
    clips.sort();
    clips.dedup();
    let (camera, start) = (arguments.camera.as_deref(), jiff::Timestamp::UNIX_EPOCH);
    let mut bench = Bench::open(global, camera, start, arguments.mode)?;
    let (mut events, mut seconds) = (Vec::new(), 0.0);
    for clip in &clips {
        let bar = progress::bar(1, clip);
        let mut collector = Collector { clip, events: &mut events, bar: &bar };
        seconds += bench.run(&arguments.clips.join(clip), &mut collector)?.seconds;
        bar.finish_and_clear();
    }
    let figures = compare(&truth, &events, seconds);
    print(&figures)?;
    if global.json { say_json(&figures) } else { Ok(()) }
}

fn print(figures: &Figures) -> Outcome {
    say(format!("{:<16} {:<12} {:<4} {:>6} {:>7} {:>6}", "kind", "rule", "way", "truth", "events", "found"))?;
    for g in &figures.groups {
        let way = match g.direction {
            Some(Direction::In) => "in",
            Some(Direction::Out) => "out",
            None => "",
        };
        say(format!("{:<16} {:<12} {way:<4} {:>6} {:>7} {:>6}", g.kind, g.rule, g.truth, g.events, g.found))?;
    }
    say(format!(
        "precision {:.3}   recall {:.3}   F1 {:.3}   false per hour {:.1}",
        figures.precision, figures.recall, figures.f1, figures.false_per_hour
    ))?;
    figures.disagreements.iter().try_for_each(say)
}
