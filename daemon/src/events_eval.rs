//! `eval events`: events found by the rules against truth annotated by people.
//!
//! Owns: the truth table, the matching and its figures. Does not know: how events come about. An event matches a
//! truth of the same clip, kind, rule and direction when its `captured` lies within [`TOLERANCE`] of the truth's
//! start; every event and every truth matches at most once, nearest pairs first.

use std::path::Path;

use serde::{Deserialize, Serialize};
use vedette_core::{Direction, Event, Phase};

/// Seconds between an event and its truth, at most. A person takes about as long to step over a line with both feet
/// and be clearly past it; i-LIDS allows 10 s, which would match any event of a busy scene to any truth.
pub const TOLERANCE: f64 = 2.0;

/// One line of the truth: `clip,kind,rule,start_s,end_s,direction,count`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Truth {
    /// File name of the clip.
    pub clip: String,
    /// The rule's kind.
    pub kind: String,
    /// The rule's name.
    pub rule: String,
    /// Seconds of PTS at which the condition first holds.
    pub start_s: f64,
    /// Seconds of PTS at which it last holds.
    pub end_s: f64,
    /// For kinds that have one.
    pub direction: Option<Direction>,
    /// How many such events at once.
    pub count: u32,
}

/// An event as the evaluation sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// File name of the clip.
    pub clip: String,
    /// The rule's kind.
    pub kind: String,
    /// The rule's name.
    pub rule: String,
    /// Seconds of PTS.
    pub at_s: f64,
    /// For kinds that have one.
    pub direction: Option<Direction>,
}

impl Found {
    /// Of a `begin` or `once` event; other phases are no new incident.
    pub fn of(clip: &str, event: &Event) -> Option<Self> {
        matches!(event.phase, Phase::Begin | Phase::Once).then(|| Self {
            clip: clip.to_owned(),
            kind: event.kind.to_owned(),
            rule: event.rule.to_string(),
            at_s: event.captured.pts.secs_f64(),
            direction: event.direction,
        })
    }
}

/// Counts of one kind, rule and direction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// The rule's kind.
    pub kind: String,
    /// The rule's name.
    pub rule: String,
    /// For kinds that have one.
    pub direction: Option<Direction>,
    /// How many there are.
    pub truth: usize,
    /// How many events there were.
    pub events: usize,
    /// How many of them match.
    pub found: usize,
}

/// The figures. `found` counts matched truths, `false` unmatched events.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// True events.
    pub truth: usize,
    /// True events that were found.
    pub found: usize,
    /// Events that match no truth.
    #[serde(rename = "false")]
    pub false_events: usize,
    /// found / (found + false); 1 where there were no events.
    pub precision: f64,
    /// found / truth; 1 where there is no truth.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// False events an hour of footage.
    pub false_per_hour: f64,
    /// By kind, rule and direction.
    pub groups: Vec<Group>,
    /// One line for each truth not found and each false event.
    pub disagreements: Vec<String>,
}

/// Reads a truth table.
///
/// # Errors
/// The file, line and what is wrong with it.
pub fn read_truth(path: &Path) -> Result<Vec<Truth>, String> {
    let named = |e: csv::Error| format!("{}: {e}", path.display());
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(named)?;
    let rows: Result<Vec<Truth>, _> = reader.deserialize().collect();
    let rows = rows.map_err(named)?;
    Ok(rows.into_iter().flat_map(|t| std::iter::repeat_n(t.clone(), t.count as usize)).collect())
}

/// Compares events with the truth over `seconds` of footage.
pub fn compare(truth: &[Truth], events: &[Found], seconds: f64) -> Figures {
    let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
    for (t, a) in truth.iter().enumerate() {
        for (e, b) in events.iter().enumerate() {
            let apart = (b.at_s - a.start_s).abs();
            let same = a.clip == b.clip && a.kind == b.kind && a.rule == b.rule && a.direction == b.direction;
            if same && apart <= TOLERANCE {
                pairs.push((apart, t, e));
            }
        }
    }
    pairs.sort_by(|x, y| x.0.total_cmp(&y.0).then((x.1, x.2).cmp(&(y.1, y.2))));
    let (mut truth_hit, mut event_hit) = (vec![false; truth.len()], vec![false; events.len()]);
    for (_, t, e) in pairs {
        if !truth_hit[t] && !event_hit[e] {
            (truth_hit[t], event_hit[e]) = (true, true);
        }
    }
    figures(truth, events, &truth_hit, &event_hit, seconds)
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

fn figures(
    truth: &[Truth],
    events: &[Found],
    truth_hit: &[bool],
    event_hit: &[bool],
    seconds: f64,
) -> Figures {
    let found = truth_hit.iter().filter(|h| **h).count();
    let false_events = event_hit.iter().filter(|h| !**h).count();
    let (precision, recall) = (ratio(found, found + false_events), ratio(found, truth.len()));
    let sum = precision + recall;
    let mut disagreements: Vec<(f64, String)> = Vec::new();
    for (t, _) in truth.iter().zip(truth_hit).filter(|(_, hit)| !**hit) {
        disagreements.push((t.start_s, line("missed", &t.clip, t.start_s, &t.kind, &t.rule, t.direction)));
    }
    for (e, _) in events.iter().zip(event_hit).filter(|(_, hit)| !**hit) {
        disagreements.push((e.at_s, line("false", &e.clip, e.at_s, &e.kind, &e.rule, e.direction)));
    }
    disagreements.sort_by(|a, b| a.0.total_cmp(&b.0));
    Figures {
        truth: truth.len(),
        found,
        false_events,
        precision,
        recall,
        f1: if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 },
        false_per_hour: if seconds > 0.0 { false_events as f64 * 3600.0 / seconds } else { 0.0 },
        groups: groups(truth, events, truth_hit),
        disagreements: disagreements.into_iter().map(|d| d.1).collect(),
    }
}

fn line(what: &str, clip: &str, at: f64, kind: &str, rule: &str, direction: Option<Direction>) -> String {
    let way = match direction {
        Some(Direction::In) => " in",
        Some(Direction::Out) => " out",
        None => "",
    };
    format!("{what}: {clip} {at:.1} s {kind} `{rule}`{way}")
}

fn groups(truth: &[Truth], events: &[Found], truth_hit: &[bool]) -> Vec<Group> {
    let of_truth = truth.iter().map(|t| (&t.kind, &t.rule, t.direction));
    let mut keys: Vec<_> = of_truth.chain(events.iter().map(|e| (&e.kind, &e.rule, e.direction))).collect();
    keys.sort();
    keys.dedup();
    let group = |(kind, rule, direction): (&String, &String, Option<Direction>)| Group {
        kind: kind.clone(),
        rule: rule.clone(),
        direction,
        truth: truth.iter().filter(|t| (&t.kind, &t.rule, t.direction) == (kind, rule, direction)).count(),
        events: events.iter().filter(|e| (&e.kind, &e.rule, e.direction) == (kind, rule, direction)).count(),
        found: truth
            .iter()
            .zip(truth_hit)
            .filter(|(t, hit)| **hit && (&t.kind, &t.rule, t.direction) == (kind, rule, direction))
            .count(),
    };
    keys.into_iter().map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(at: f64, direction: Direction) -> Truth {
        Truth {
            clip: "a".into(),
            kind: "line_crossing".into(),
            rule: "kerb".into(),
            start_s: at,
            end_s: at,
            direction: Some(direction),
            count: 1,
        }
    }

    fn found(at: f64, direction: Direction) -> Found {
        Found {
            clip: "a".into(),
            kind: "line_crossing".into(),
            rule: "kerb".into(),
            at_s: at,
            direction: Some(direction),
        }
    }

    #[test]
    fn each_event_matches_once_nearest_first() {
        let truths = [truth(10.0, Direction::In), truth(11.0, Direction::In), truth(20.0, Direction::Out)];
        let events = [found(10.9, Direction::In), found(20.0, Direction::In)];
        let figures = compare(&truths, &events, 3600.0);
        assert_eq!((figures.truth, figures.found, figures.false_events), (3, 1, 1));
        assert_eq!(figures.false_per_hour, 1.0);
        assert_eq!(
            figures.disagreements,
            [
                "missed: a 10.0 s line_crossing `kerb` in",
                "missed: a 20.0 s line_crossing `kerb` out",
                "false: a 20.0 s line_crossing `kerb` in",
            ]
        );
        assert_eq!(figures.groups[0].found, 1);
    }

    #[test]
    fn nothing_to_find_and_nothing_found_is_perfect() {
        let figures = compare(&[], &[], 0.0);
        assert_eq!((figures.precision, figures.recall, figures.f1), (1.0, 1.0, 1.0));
    }
}
