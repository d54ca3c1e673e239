//! Behaviour as data: every `tests/scenarios/*.toml` is played to a scene, frame by frame, at each of its frame rates,
//! and must give exactly the events it lists. A new behaviour test is a new file there and no Rust.
//!
//! A scenario holds `[zone]`, `[line]` and `[rule.x]` as a camera's configuration has them, scripted objects as
//! key-framed boxes, times without frames, and the events to expect.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use vedette_analysis::{Lost, Observation, RuleSetup, Scene, SceneConfig};
use vedette_core::{
    BBox, Class, Detection, Direction, EndedBy, Event, IncidentIds, Moment, Name, Phase, Point, Polygon,
    Polyline, Pts, Severity,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// One line for whoever reads the file.
    about: String,
    /// Wall time of the first frame.
    #[serde(default = "noon")]
    start: jiff::Timestamp,
    #[serde(default = "utc")]
    time_zone: String,
    /// Played once at each of these.
    #[serde(default = "usual_rate")]
    fps: Vec<f64>,
    seconds: f64,
    #[serde(default = "usual_aspect")]
    aspect: f32,
    #[serde(default)]
    zone: BTreeMap<Name, Vec<Point>>,
    #[serde(default)]
    line: BTreeMap<Name, Vec<Point>>,
    rule: BTreeMap<Name, toml::Table>,
    #[serde(default)]
    object: Vec<Object>,
    #[serde(default)]
    silence: Vec<Silence>,
    close: Option<Close>,
    #[serde(default)]
    expect: Vec<Expected>,
    /// Crossings by rule at the end.
    #[serde(default)]
    counts: BTreeMap<Name, ExpectedCounts>,
}

/// A scripted object: seen from its first key frame to its last.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    #[serde(default = "person")]
    class: Class,
    #[serde(default = "usual_score")]
    score: f32,
    /// Its box is moved by at most so many heights, up and down and to the sides.
    #[serde(default)]
    jitter: f32,
    /// Share of frames in which it is not detected.
    #[serde(default)]
    misses: f32,
    #[serde(default)]
    seed: u64,
    /// From, to: not detected at all.
    #[serde(default)]
    hidden: Vec<[f64; 2]>,
    keys: Vec<Key>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    t: f64,
    r#box: BBox,
}

/// No frames between the two times; the scene is told so at once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Silence {
    from: f64,
    to: f64,
    /// Whether the camera was noticed to be silent, or frames only jumped.
    #[serde(default)]
    noticed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Close {
    at: f64,
    by: EndedBy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    phase: Phase,
    kind: String,
    rule: String,
    /// Seconds from the start.
    captured: f64,
    decided: Option<f64>,
    /// Tolerance of both. Default: one frame.
    within: Option<f64>,
    /// Equal labels are one incident, others are others.
    incident: Option<String>,
    direction: Option<Direction>,
    ended_by: Option<EndedBy>,
    severity: Option<Severity>,
    class: Option<Class>,
    value: Option<f64>,
    #[serde(default)]
    suppressed: u32,
    why: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedCounts {
    r#in: u64,
    out: u64,
}

fn noon() -> jiff::Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}
fn utc() -> String {
    "UTC".to_owned()
}
fn usual_rate() -> Vec<f64> {
    vec![5.0]
}
fn usual_aspect() -> f32 {
    16.0 / 9.0
}
fn usual_score() -> f32 {
    0.8
}
fn person() -> Class {
    Class::new("person")
}

/// A small generator with a fixed stream (SplitMix64).
struct Noise(u64);

impl Noise {
    /// 0..1.
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
}

impl Object {
    fn at(&self, t: f64, aspect: f32, noise: &mut Noise) -> Option<Detection> {
        let (missed, dx, dy) = (noise.unit() < self.misses, noise.unit(), noise.unit());
        let hidden = self.hidden.iter().any(|[from, to]| (*from..*to).contains(&t));
        let next = self.keys.iter().position(|k| k.t >= t)?;
        if missed || hidden || (next == 0 && self.keys[0].t > t) {
            return None;
        }
        let (a, b) = (&self.keys[next.saturating_sub(1)], &self.keys[next]);
        let share = if b.t > a.t { ((t - a.t) / (b.t - a.t)) as f32 } else { 1.0 };
        let (from, to) = (<[f32; 4]>::from(a.r#box), <[f32; 4]>::from(b.r#box));
        let mut bbox = BBox::from(std::array::from_fn(|i| from[i] + share * (to[i] - from[i])));
        let reach = 2.0 * self.jitter * bbox.height();
        let (dx, dy) = ((dx - 0.5) * reach / aspect, (dy - 0.5) * reach);
        bbox = BBox { x0: bbox.x0 + dx, y0: bbox.y0 + dy, x1: bbox.x1 + dx, y1: bbox.y1 + dy };
        Some(Detection { class: self.class.clone(), score: self.score, bbox })
    }
}

impl Scenario {
    fn scene(&self) -> Scene {
        let polygon = |points: &Vec<Point>| Polygon::new(points.clone()).unwrap();
        let polyline = |points: &Vec<Point>| Polyline::new(points.clone()).unwrap();
        let setup = |table: &toml::Table| RuleSetup::read(toml::Value::from(table.clone())).unwrap();
        let config = SceneConfig {
            camera: Name::new("gate").unwrap(),
            zones: self.zone.iter().map(|(n, z)| (n.clone(), polygon(z))).collect(),
            lines: self.line.iter().map(|(n, l)| (n.clone(), polyline(l))).collect(),
            rules: self.rule.iter().map(|(n, r)| (n.clone(), setup(r))).collect(),
            time_zone: jiff::tz::TimeZone::get(&self.time_zone).unwrap(),
        };
        Scene::build(config, IncidentIds::seeded([1; 32])).unwrap()
    }

    /// Plays everything at one frame rate: steps, a tick each second, silences, the close.
    fn play(&self, fps: f64) -> (Scene, Vec<Event>) {
        let (mut scene, mut events) = (self.scene(), Vec::new());
        let mut noises: Vec<Noise> = self.object.iter().map(|o| Noise(o.seed)).collect();
        let at = |t: f64| Moment::of_file(self.start, Pts::from_secs_f64(t));
        let (mut second, mut silent) = (0.0, false);
        for frame in 0..=(self.seconds * fps).round() as u64 {
            let t = frame as f64 / fps;
            while second <= t {
                events.extend(scene.tick(at(second)).events);
                second += 1.0;
            }
            if let Some(close) = self.close.as_ref().filter(|c| c.at <= t) {
                events.extend(scene.close(at(t), close.by).events);
                break;
            }
            let detections: Vec<Detection> = self
                .object
                .iter()
                .zip(&mut noises)
                .filter_map(|(object, noise)| object.at(t, self.aspect, noise))
                .collect();
            let silence = self.silence.iter().find(|s| (s.from..s.to).contains(&t));
            if let Some(silence) = silence {
                if !silent && silence.noticed {
                    events.extend(scene.lost(at(t), Lost::NoFrames).events);
                }
                silent = true;
                continue;
            }
            if silent {
                events.extend(scene.lost(at(t), Lost::Gap).events);
                silent = false;
            }
            let observation =
                Observation { frame: None, aspect: self.aspect, detections: Some(&detections), answers: &[] };
            events.extend(scene.step(at(t), &observation).events);
        }
        (scene, events)
    }

    /// What is wrong with the events of one play; empty where nothing is.
    fn faults(&self, fps: f64) -> Vec<String> {
        let (scene, events) = self.play(fps);
        let mut faults = Vec::new();
        let mut labels: BTreeMap<&str, uuid::Uuid> = BTreeMap::new();
        for (index, expected) in self.expect.iter().enumerate() {
            let Some(event) = events.get(index) else {
                faults.push(format!("event {index} did not come: {expected:?}"));
                continue;
            };
            faults.extend(
                self.differences(expected, event, fps).into_iter().map(|d| format!("event {index}: {d}")),
            );
            if let Some(label) = &expected.incident
                && *labels.entry(label).or_insert(event.id) != event.id
            {
                faults.push(format!("event {index}: another incident than `{label}`"));
            }
        }
        let mut ids: Vec<_> = labels.values().collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != labels.len() {
            faults.push("two labels are one incident".to_owned());
        }
        for event in events.iter().skip(self.expect.len()) {
            faults.push(format!("not expected: {}", shown(event)));
        }
        for (rule, expected) in &self.counts {
            let states = scene.states();
            let counts = states.iter().find(|s| s.rule == *rule).and_then(|s| s.counts);
            if counts.is_none_or(|c| (c.r#in, c.out) != (expected.r#in, expected.out)) {
                faults.push(format!("{rule} counted {counts:?}, expected {expected:?}"));
            }
        }
        faults
    }

    fn differences(&self, expected: &Expected, event: &Event, fps: f64) -> Vec<String> {
        let within = expected.within.unwrap_or(1.0 / fps + 0.011);
        let near = |t: f64, m: Moment| (m.pts.secs_f64() - t).abs() <= within;
        let checks = [
            ("phase", expected.phase == event.phase),
            ("kind", expected.kind == event.kind),
            ("rule", expected.rule == event.rule.as_str()),
            ("captured", near(expected.captured, event.captured)),
            ("decided", expected.decided.is_none_or(|t| near(t, event.decided))),
            ("direction", expected.direction == event.direction),
            ("ended_by", expected.ended_by == event.ended_by),
            ("severity", expected.severity.is_none_or(|s| s == event.severity)),
            (
                "class",
                expected.class.is_none() || expected.class == event.object.as_ref().map(|o| o.class.clone()),
            ),
            ("value", expected.value.is_none() || expected.value == event.value),
            ("suppressed", expected.suppressed == event.suppressed),
            ("why", expected.why.as_ref().is_none_or(|w| event.why.contains(w))),
        ];
        let wrong: Vec<&str> = checks.iter().filter(|c| !c.1).map(|c| c.0).collect();
        if wrong.is_empty() {
            return Vec::new();
        }
        vec![format!("{} differ: expected {expected:?}, came {}", wrong.join(", "), shown(event))]
    }
}

fn shown(event: &Event) -> String {
    format!(
        "{:?} {} {} {:?} captured {:?} decided {:?} ended_by {:?} value {:?} suppressed {} \"{}\"",
        event.phase,
        event.kind,
        event.rule,
        event.direction,
        event.captured.pts,
        event.decided.pts,
        event.ended_by,
        event.value,
        event.suppressed,
        event.why
    )
}

#[test]
fn every_scenario_gives_its_events() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 14, "{} scenarios in {}", files.len(), folder.display());
    let mut faults = Vec::new();
    for path in files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let scenario: Scenario = toml::from_str(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        for fps in &scenario.fps {
            let found = scenario.faults(*fps);
            faults
                .extend(found.into_iter().map(|f| format!("{name} ({}) at {fps} fps: {f}", scenario.about)));
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}
