//! The dialect `frigate`: the topics and keys of Frigate's MQTT interface (its documentation, page "MQTT", version
//! 0.17), so that whoever listens to a Frigate listens to Vedette.
//!
//! Owns: those topics and keys, and what of ours goes into them. Does not know: who sends it. As in Frigate, the node is
//! not in the topics: two nodes at one broker need two prefixes.
//!
//! | topic below the prefix | payload | retained |
//! |---|---|---|
//! | `available` | `online`, `stopped` (the service stops), `offline` (the connection is gone: will) | yes |
//! | `events` | {type: new \| update \| end, before, after, vedette} | no |
//! | `<camera>/status/detect` | `online` (frames come), `offline` | yes |
//! | `<camera>/<rule>` | the rule's count; for a rule that does not count 1 while an incident of it is open, else 0 | yes |
//!
//! What is not as in Frigate:
//! - An event is an incident of a rule, not a tracked object: two rules that report one person are two events. `vedette`
//!   beside `after` says which rule, and holds the key (`node`, `epoch`, `seq`) by which repeated messages are known.
//! - Boxes are pixels of a picture of 1280 × 720, Frigate's default for `detect`, whatever the camera's size: events carry
//!   no size. `box / [1280, 720, 1280, 720]` is right for every camera; `area` and `ratio` are right for pictures of 16:9.
//!   `region` is the whole picture, as the detector always sees all of it.
//! - A momentary incident is one message of type `new` with `end_time` set. Consumers that alert do so on `new`, many on
//!   nothing else: as an `end` alone it would be lost to them. Who shows open events must look at `end_time`.
//! - `before` is not kept from message to message: it is `after` as it was when the incident did not hold yet (`new`: no
//!   zones) or still held (`end`: no `end_time`).
//! - A rule's line stands among the `entered_zones`, never among the `current_zones`. Kinds without an object have their
//!   kind as `label`, the whole picture as `box` and 1 as `score`.
//! - There are no snapshots, clips, thumbnails, sub-labels, attributes and number plates: these keys are there and empty.
//!   Speed is in km/h where the scene is calibrated, else 0.
//! - `<camera>/motion` is not told, as pixel motion is not measured; a rule named `motion` has no count here for that
//!   reason. Health has no event in Frigate: it is in `available` and `status`. Nothing is listened to.
//!
//! Frigate's own integration for Home Assistant also asks Frigate's web server and cannot work with this: there, the
//! dialect `homeassistant` is right.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;
use vedette_core::{BBox, CameraId, Event, Name, Phase, Severity, SpeedUnit};

use super::settings::check_prefix;
use super::vedette::rounded;
use super::{Dialect, Message, Place, Settings, Stamp, Update};

/// As in `dialects = […]`.
pub const NAME: &str = "frigate";
/// One line for people.
pub const ABOUT: &str = "Frigate's topics, for whoever listens to a Frigate already";

/// The picture that boxes are pixels of: width and height.
const PICTURE: [u32; 2] = [1280, 720];

/// The kind of events about the appliance itself.
const HEALTH: &str = "health";

/// Frigate's topic for pixel motion.
const MOTION: &str = "motion";

/// The dialect.
#[derive(Debug)]
pub struct Frigate {
    prefix: String,
}

/// Takes `[broker.NAME.frigate]`.
pub fn build(settings: &Settings) -> Result<Arc<dyn Dialect>, String> {
    let prefix = settings.frigate.prefix.clone();
    check_prefix("prefix", &prefix)?;
    Ok(Arc::new(Frigate { prefix }))
}

impl Dialect for Frigate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn root(&self, _at: &Place) -> String {
        self.prefix.clone()
    }

    fn event(&self, stamp: &Stamp, seq: u64, _latency_ms: Option<u64>, what: &Event) -> Option<Message> {
        let camera = what.camera.as_ref().filter(|_| what.kind != HEALTH)?;
        let message = EventMessage::of(stamp, seq, camera, what);
        match serde_json::to_vec(&message) {
            Ok(payload) => Some(Message::passing("events", payload)),
            // Plain structs with text keys: serde_json has nothing to fail on.
            Err(error) => {
                log::error!("event {seq} could not be written for Frigate's consumers: {error}");
                None
            }
        }
    }

    fn update(&self, _at: &Place, update: &Update) -> Vec<Message> {
        let (topic, text) = match update {
            Update::Node(status) => ("available".to_owned(), available(status.state).to_owned()),
            Update::Camera(status) => {
                (format!("{}/status/detect", status.camera), detect(status.state).to_owned())
            }
            Update::State(state) if state.rule.as_str() != MOTION => {
                (format!("{}/{}", state.camera, state.rule), count(state.active, state.value).to_string())
            }
            Update::State(_) | Update::Inventory(_) | Update::Stats(_) | Update::Scene(_) => {
                return Vec::new();
            }
        };
        vec![Message::retained(topic, text.into_bytes())]
    }

    fn own_connection(&self) -> bool {
        true
    }

    /// What is true of all its payloads: only those of events are JSON, and a connection has one type.
    fn content_type(&self) -> &'static str {
        "text/plain"
    }
}

fn available(state: &str) -> &'static str {
    match state {
        "online" => "online",
        "stopping" => "stopped",
        _ => "offline",
    }
}

/// A camera that looks the wrong way still gives frames.
fn detect(state: &str) -> &'static str {
    if matches!(state, "live" | "tampered") { "online" } else { "offline" }
}

fn count(active: bool, value: Option<f64>) -> u64 {
    // `as` takes what is too large or negative to the nearest that fits.
    value.filter(|v| v.is_finite()).map_or(u64::from(active), |v| v.round() as u64)
}

#[derive(Serialize)]
struct EventMessage<'a> {
    r#type: &'static str,
    before: Side<'a>,
    after: Side<'a>,
    vedette: Origin<'a>,
}

impl<'a> EventMessage<'a> {
    fn of(stamp: &'a Stamp, seq: u64, camera: &'a CameraId, event: &'a Event) -> Self {
        use Presence::{Before, Inside, Momentary, Over};
        let (r#type, before, after) = match event.phase {
            Phase::Begin => ("new", Before, Inside),
            Phase::Update => ("update", Inside, Inside),
            Phase::End => ("end", Inside, Over),
            Phase::Once => ("new", Before, Momentary),
        };
        let side = |presence| Side::of(camera, event, presence);
        Self { r#type, before: side(before), after: side(after), vedette: Origin::of(stamp, seq, event) }
    }
}

/// How an incident stands as one side of a message tells it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// It does not hold yet.
    Before,
    /// It holds.
    Inside,
    /// It held for no time.
    Momentary,
    /// It holds no more.
    Over,
}

impl Presence {
    fn has_entered(self) -> bool {
        self != Self::Before
    }

    fn is_there(self) -> bool {
        matches!(self, Self::Inside | Self::Momentary)
    }

    fn has_ended(self) -> bool {
        matches!(self, Self::Momentary | Self::Over)
    }
}

/// `before` and `after`: every key of Frigate's documentation in its order, then what its code adds to them.
#[derive(Serialize)]
struct Side<'a> {
    id: String,
    camera: &'a Name,
    frame_time: f64,
    snapshot: Snapshot,
    label: &'a str,
    sub_label: Option<(&'a str, f64)>,
    top_score: f64,
    false_positive: bool,
    start_time: f64,
    end_time: Option<f64>,
    score: f64,
    r#box: [u32; 4],
    area: u32,
    ratio: f64,
    region: [u32; 4],
    current_zones: Vec<&'a Name>,
    entered_zones: Vec<&'a Name>,
    thumbnail: Option<&'a str>,
    has_snapshot: bool,
    has_clip: bool,
    active: bool,
    stationary: bool,
    motionless_count: u32,
    position_changes: u32,
    attributes: Attributes,
    current_attributes: [(); 0],
    current_estimated_speed: f64,
    average_estimated_speed: f64,
    velocity_angle: f64,
    recognized_license_plate: Option<&'a str>,
    recognized_license_plate_score: Option<f64>,
    pending_loitering: bool,
    max_severity: &'static str,
    path_data: [(); 0],
}

#[derive(Serialize)]
struct Attributes {}

#[derive(Serialize)]
struct Snapshot {
    frame_time: f64,
    r#box: [u32; 4],
    area: u32,
    region: [u32; 4],
    score: f64,
    attributes: [(); 0],
}

impl<'a> Side<'a> {
    fn of(camera: &'a CameraId, event: &'a Event, presence: Presence) -> Self {
        // The object is as the rule saw it when it spoke; at the end, as it was last seen.
        let frame = if event.phase == Phase::End { &event.captured } else { &event.decided };
        let (start, last, frame_time) = (start(event.id), seconds(event.captured.wall), seconds(frame.wall));
        let (label, score, bbox) = match &event.object {
            Some(object) => (object.class.as_str(), rounded(f64::from(object.score), 3), object.bbox),
            None => (event.kind, 1.0, BBox { x0: 0.0, y0: 0.0, x1: 1.0, y1: 1.0 }),
        };
        let bbox = pixels(bbox);
        let [width, height] = [bbox[2] - bbox[0], bbox[3] - bbox[1]];
        let (area, region) = (width * height, [0, 0, PICTURE[0], PICTURE[1]]);
        let place = event.zone.as_ref().or(event.line.as_ref());
        let speed = speed(event);
        Self {
            id: id(event.id),
            camera,
            frame_time,
            snapshot: Snapshot { frame_time, r#box: bbox, area, region, score, attributes: [] },
            label,
            sub_label: None,
            top_score: score,
            false_positive: false,
            start_time: start,
            end_time: presence.has_ended().then(|| last.max(start)),
            score,
            r#box: bbox,
            area,
            ratio: rounded(f64::from(width) / f64::from(height.max(1)), 6),
            region,
            current_zones: event.zone.as_ref().filter(|_| presence.is_there()).into_iter().collect(),
            entered_zones: place.filter(|_| presence.has_entered()).into_iter().collect(),
            thumbnail: None,
            has_snapshot: false,
            has_clip: false,
            active: true,
            stationary: false,
            motionless_count: 0,
            position_changes: 0,
            attributes: Attributes {},
            current_attributes: [],
            current_estimated_speed: speed,
            average_estimated_speed: speed,
            velocity_angle: 0.0,
            recognized_license_plate: None,
            recognized_license_plate_score: None,
            pending_loitering: false,
            max_severity: if event.severity == Severity::Alarm { "alert" } else { "detection" },
            path_data: [],
        }
    }
}

/// What Frigate has no key for.
#[derive(Serialize)]
struct Origin<'a> {
    node: &'a Name,
    epoch: Uuid,
    seq: u64,
    id: Uuid,
    kind: &'a str,
    rule: &'a Name,
    severity: Severity,
    why: &'a str,
}

impl<'a> Origin<'a> {
    fn of(stamp: &'a Stamp, seq: u64, event: &'a Event) -> Self {
        let Event { id, kind, rule, severity, why, .. } = event;
        Self { node: &stamp.node, epoch: stamp.epoch, seq, id: *id, kind, rule, severity: *severity, why }
    }
}

/// In pixels of [`PICTURE`].
fn pixels(bbox: BBox) -> [u32; 4] {
    let [width, height] = PICTURE.map(f64::from);
    let pixel = |edge: f32, of: f64| (f64::from(edge).clamp(0.0, 1.0) * of).round() as u32;
    let [x0, x1] = [bbox.x0, bbox.x1].map(|x| pixel(x, width));
    let [y0, y1] = [bbox.y0, bbox.y1].map(|y| pixel(y, height));
    [x0.min(x1), y0.min(y1), x1.max(x0), y1.max(y0)]
}

/// Seconds since 1970, to the microsecond.
fn seconds(time: Timestamp) -> f64 {
    time.as_microsecond() as f64 / 1e6
}

/// When the incident began: a UUIDv7 begins with the milliseconds. The only start that all of its messages know.
fn start(incident: Uuid) -> f64 {
    milliseconds(incident) as f64 / 1e3
}

fn milliseconds(incident: Uuid) -> u64 {
    incident.as_u64_pair().0 >> 16
}

/// `<seconds>.<microseconds>-<six of a-z, 0-9>`, as Frigate's are: consumers take the time from it.
fn id(incident: Uuid) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let ms = milliseconds(incident);
    // What is not time: 80 bits.
    let mut rest = incident.as_u128() & ((1 << 80) - 1);
    let mut tail = String::new();
    for _ in 0..6 {
        tail.push(char::from(DIGITS[(rest % 36) as usize]));
        rest /= 36;
    }
    format!("{}.{:03}000-{tail}", ms / 1000, ms % 1000)
}

/// Kilometres an hour; 0 where the scene is not calibrated.
fn speed(event: &Event) -> f64 {
    let metres = event.object.as_ref().filter(|o| o.speed_unit == SpeedUnit::MetresPerSecond);
    metres.map_or(0.0, |o| rounded(f64::from(o.speed) * 3.6, 2))
}

#[cfg(test)]
mod tests;
