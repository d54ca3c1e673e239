//! The contract of a scene as the daemon sees it: what it refuses to build, the pairing of begin and end whatever
//! comes in, and the way of a want from a rule to a model and back.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use vedette_analysis::rules::{Absent, Common, Context, Place, Rule, RuleConfig};
use vedette_analysis::{Finding, Lost, Observation, RuleSetup, Scene, SceneConfig, Subject};
use vedette_core::{
    Answer, AnswerValue, BBox, Class, Detection, EndedBy, Event, IncidentIds, Moment, Name, Phase, Point,
    Polygon, Polyline, Pts, Role, View, WantId,
};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn at(seconds: f64) -> Moment {
    Moment::of_file("2026-11-24T12:00:00Z".parse().unwrap(), Pts::from_secs_f64(seconds))
}

fn points(list: &[[f32; 2]]) -> Vec<Point> {
    list.iter().copied().map(Point::from).collect()
}

fn person(x: f32, y: f32) -> Detection {
    Detection {
        class: Class::new("person"),
        score: 0.8,
        bbox: BBox { x0: x - 0.04, y0: y - 0.3, x1: x + 0.04, y1: y },
    }
}

fn seen(detections: &[Detection]) -> Observation<'_> {
    Observation { frame: None, aspect: 16.0 / 9.0, detections: Some(detections), answers: &[] }
}

/// A scene with a zone `yard`, a line `kerb`, and rules as in a configuration file.
fn config(rules: &str) -> SceneConfig {
    let rules: BTreeMap<Name, toml::Table> = toml::from_str(rules).unwrap();
    let setup = |table: toml::Table| RuleSetup::read(toml::Value::from(table)).unwrap();
    let yard = Polygon::new(points(&[[0.3, 0.5], [0.7, 0.5], [0.7, 0.95], [0.3, 0.95]])).unwrap();
    let kerb = Polyline::new(points(&[[0.1, 0.7], [0.9, 0.7]])).unwrap();
    SceneConfig {
        camera: name("gate"),
        zones: [(name("yard"), yard)].into(),
        lines: [(name("kerb"), kerb)].into(),
        rules: rules.into_iter().map(|(n, table)| (n, setup(table))).collect(),
        time_zone: jiff::tz::TimeZone::UTC,
    }
}

fn build(config: SceneConfig) -> Scene {
    Scene::build(config, IncidentIds::seeded([3; 32])).unwrap()
}

const BOTH: &str = r#"
[night]
kind = "intrusion"
zone = "yard"
cooldown = "0s"
[count]
kind = "line_crossing"
line = "kerb"
"#;

#[test]
fn what_cannot_be_built_names_rule_and_remedy() {
    struct Case(&'static str, &'static str);
    let cases = [
        Case(
            "[night]\nkind = \"intrusion\"\nzone = \"garden\"",
            "rule `night`: no zone `garden`; there are: yard",
        ),
        Case("[c]\nkind = \"line_crossing\"\nline = \"yard\"", "rule `c`: no line `yard`; there are: kerb"),
        Case("[night]\nkind = \"intrusion\"", "rule `night` has no `zone`: name one of the camera's zones"),
        Case(
            "[night]\nkind = \"intrusion\"\nzone = \"yard\"\nmin_score = 40.0",
            "rule `night`: min_score is 40, it must lie between 0 and 1",
        ),
    ];
    for Case(rules, expected) in cases {
        let error = Scene::build(config(rules), IncidentIds::seeded([3; 32])).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let none = SceneConfig { zones: BTreeMap::new(), ..config("[n]\nkind = \"intrusion\"\nzone = \"yard\"") };
    let error = Scene::build(none, IncidentIds::seeded([3; 32])).unwrap_err();
    assert_eq!(error.to_string(), "rule `n`: no zone `yard`; the camera has no zones");
}

#[test]
fn a_table_that_is_no_rule_says_why() {
    let read = |text: &str| RuleSetup::read(toml::Value::from(toml::from_str::<toml::Table>(text).unwrap()));
    let error = read("kind = \"loitering-about\"").unwrap_err();
    assert!(error.contains("no kind `loitering-about`; there are: intrusion, line_crossing"), "{error}");
    let error = read("kind = \"intrusion\"\nschedule = \"mon-fry 20:00-06:00\"").unwrap_err();
    assert!(error.contains("`fry` is not a day"), "{error}");
    for kind in vedette_analysis::rules::ALL {
        let setup = read(&format!("kind = \"{}\"", kind.name)).unwrap();
        assert_eq!(setup.config.kind(), kind.name, "a kind is called as the registry calls it");
    }
}

#[test]
fn states_follow_the_incident() {
    let mut scene = build(config(BOTH));
    for frame in 0..30 {
        let t = f64::from(frame) / 5.0;
        scene.step(at(t), &seen(&[person(0.5, 0.4 + 0.09 * t as f32)]));
    }
    let [count, night] = &scene.states()[..] else { panic!("two rules") };
    assert_eq!(
        (count.kind, count.active, count.value, count.unit),
        ("line_crossing", false, Some(1.0), Some("crossings"))
    );
    assert_eq!(count.counts.map(|c| (c.r#in, c.out)), Some((1, 0)));
    assert!(night.active && night.armed && night.since.is_some() && night.value.is_none());
    scene.close(at(6.0), EndedBy::Config);
    assert!(!scene.states()[1].active && scene.tracks().is_empty());
}

/// Asks a classifier about every confirmed track and holds while the answer is above one half.
#[derive(Debug)]
struct Helmet;

#[derive(Debug, Default)]
struct HelmetRule {
    asked: BTreeMap<WantId, Subject>,
    bare: BTreeMap<Subject, Moment>,
    unavailable: usize,
}

impl RuleConfig for Helmet {
    fn kind(&self) -> &'static str {
        "helmet"
    }
    fn build(&self, _: &Place) -> Result<Box<dyn Rule>, Absent> {
        Ok(Box::new(HelmetRule::default()))
    }
    fn default_classes(&self) -> &'static [&'static str] {
        &["person"]
    }
}

impl Rule for HelmetRule {
    fn step(&mut self, context: &mut Context<'_>) {
        for answer in context.answers {
            let Some(subject) = self.asked.remove(&answer.id) else { panic!("not my answer: {answer:?}") };
            match &answer.value {
                AnswerValue::Vector(scores) if scores[0] > 0.5 => {
                    self.bare.entry(subject).or_insert(context.now);
                }
                AnswerValue::Unavailable => self.unavailable += 1,
                _ => {
                    self.bare.remove(&subject);
                }
            }
        }
        for track in context.tracks.iter().filter(|t| t.confirmed) {
            let subject = Subject::track(track.id);
            if !self.asked.values().any(|s| *s == subject) {
                let view = View { region: track.bbox.clipped(), ..View::WHOLE };
                let by = context.now.pts + std::time::Duration::from_secs(1);
                if let Some(id) = context.want(Role::Classifier, view, by) {
                    self.asked.insert(id, subject);
                }
            }
        }
        for (subject, since) in self.bare.clone() {
            let why = format!("bare head ({} unavailable)", self.unavailable);
            let last = context.now;
            context.hold(Finding { subject, since, last, value: None, severity: None, why });
        }
    }
}

#[test]
fn a_want_comes_back_to_the_rule_that_asked() {
    let rule = || RuleSetup { common: Common::default(), config: Arc::new(Helmet) };
    let mut rules = config(BOTH);
    rules.rules.extend([(name("a-helmet"), rule()), (name("z-helmet"), rule())]);
    let mut scene = build(rules);
    let mut wants = Vec::new();
    for frame in 0..3 {
        wants.extend(scene.step(at(0.2 * f64::from(frame)), &seen(&[person(0.1, 0.4)])).wants);
    }
    assert_eq!(wants.len(), 2, "one of each rule while its answer is out: {wants:?}");
    assert!(wants[0].id != wants[1].id && wants.iter().all(|w| w.role == Role::Classifier));

    // The second rule hears of a bare head; the first hears nothing until its time is over.
    let answer = Answer { id: wants[1].id, pts: at(0.4).pts, value: AnswerValue::Vector(vec![0.9]) };
    let stray = Answer { id: WantId(999), ..answer.clone() };
    let answers = [answer.clone(), stray, answer];
    let outcome = scene.step(at(0.6), &Observation { answers: &answers, ..seen(&[person(0.1, 0.4)]) });
    let begun: Vec<(&str, Phase)> = outcome.events.iter().map(|e| (e.rule.as_str(), e.phase)).collect();
    assert_eq!(begun, [("z-helmet", Phase::Begin)]);
    assert_eq!(outcome.wants.len(), 1, "the second asks again, the first still waits");
    let outcome = scene.step(at(1.6), &seen(&[person(0.1, 0.4)]));
    assert_eq!(outcome.wants.len(), 1, "not answered in time is unavailable: the first asks again");
    assert_eq!(outcome.wants[0].id, WantId(4));
}

/// What may happen to a scene.
#[derive(Debug, Clone)]
enum Act {
    Step(Option<Vec<(usize, [f32; 4], f32)>>, f32),
    Tick,
    NoFrames,
    Gap,
    Close,
}

fn act() -> impl Strategy<Value = Act> {
    let wild = prop_oneof![4 => 0f32..1.0, 1 => proptest::num::f32::ANY];
    let wild_box = proptest::array::uniform4(wild.clone());
    let walker = (0f32..1.0, 0.3f32..1.0).prop_map(|(x, y)| <[f32; 4]>::from(person(x, y).bbox));
    let detection = (0usize..4, prop_oneof![3 => walker, 1 => wild_box], wild.clone());
    let detections = proptest::option::weighted(0.9, proptest::collection::vec(detection, 0..6));
    prop_oneof![
        20 => (detections, wild).prop_map(|(d, aspect)| Act::Step(d, aspect)),
        3 => Just(Act::Tick),
        1 => Just(Act::NoFrames),
        1 => Just(Act::Gap),
        1 => Just(Act::Close),
    ]
}

/// Slow walks in and out, which do begin incidents, with anything in between.
fn play(acts: &[(Act, f64)], backwards: bool) -> Vec<Event> {
    const CLASSES: [&str; 4] = ["person", "car", "truck", "dog"];
    let (mut scene, mut events, mut t) = (build(config(BOTH)), Vec::new(), 0.0);
    for (index, (act, dt)) in acts.iter().enumerate() {
        t += if backwards && index % 7 == 3 { -dt } else { *dt };
        let outcome = match act {
            Act::Step(detections, aspect) => {
                let phase = index as f32 / 30.0;
                let mut all = vec![person(0.5, 0.7 + 0.25 * phase.sin())];
                all.extend(detections.iter().flatten().map(|(class, bbox, score)| Detection {
                    class: Class::new(CLASSES[*class]),
                    score: *score,
                    bbox: BBox::from(*bbox),
                }));
                let detections = detections.is_some().then_some(&all[..]);
                scene.step(at(t), &Observation { frame: None, aspect: *aspect, detections, answers: &[] })
            }
            Act::Tick => scene.tick(at(t)),
            Act::NoFrames => scene.lost(at(t), Lost::NoFrames),
            Act::Gap => scene.lost(at(t), Lost::Gap),
            Act::Close => scene.close(at(t), EndedBy::Config),
        };
        assert!(scene.tracks().len() <= 256);
        assert!(scene.tracks().windows(2).all(|w| w[0].id < w[1].id));
        events.extend(outcome.events);
    }
    events.extend(scene.close(at(t), EndedBy::Restart).events);
    events
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn begin_and_end_pair_up_whatever_comes(
        acts in proptest::collection::vec((act(), prop_oneof![8 => Just(0.2), 1 => 0f64..0.1, 1 => 0f64..30.0]), 0..160),
        backwards in any::<bool>(),
    ) {
        let events = play(&acts, backwards);
        let (mut open, mut known) = (BTreeSet::new(), BTreeSet::new());
        for event in &events {
            prop_assert_eq!(event.ended_by.is_some(), event.phase == Phase::End);
            prop_assert!(event.captured.pts <= event.decided.pts, "{:?}", event);
            match event.phase {
                Phase::Begin => prop_assert!(known.insert(event.id) && open.insert(event.id)),
                Phase::Update => prop_assert!(open.contains(&event.id)),
                Phase::End => prop_assert!(open.remove(&event.id)),
                Phase::Once => prop_assert!(known.insert(event.id)),
            }
        }
        prop_assert!(open.is_empty(), "begun and never ended: {:?}", open);
        prop_assert_eq!(events, play(&acts, backwards), "the same in, the same out");
    }
}

#[test]
fn the_property_has_something_to_bite_on() {
    let acts: Vec<(Act, f64)> = (0..600).map(|_| (Act::Step(Some(Vec::new()), 1.8), 0.2)).collect();
    let events = play(&acts, false);
    for phase in [Phase::Begin, Phase::Update, Phase::End, Phase::Once] {
        assert!(events.iter().any(|e| e.phase == phase), "{phase:?} among {}", events.len());
    }
}
