//! One camera: URL, rates, shapes and rules, and that rules name shapes that there are.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vedette_analysis::rules::{ALL, Common, RuleConfig, RuleSetup};
use vedette_core::geometry::ShapeError;
use vedette_core::{Class, Name, Point, Polygon, Polyline, Secret, Span};
use vedette_ingest::{DecoderChoice, Local, Transport, Trust};

use super::super::layer::{Origin, Part};
use super::super::raw::{RawCamera, RuleTable, Tls};
use super::super::words::hint;
use super::super::{Camera, CameraEvidence, Config};
use super::url::{self, CleanUrl};
use super::{Check, evidence};

const SCHEMES: [&str; 2] = ["rtsp", "rtsps"];
const FPS: RangeInclusive<f32> = 0.2..=30.0;
/// Seconds.
const QUIET_AFTER: RangeInclusive<f64> = 1.0..=3600.0;
/// Seconds: a camera's ring holds ten.
const CATCH_UP_MAX: RangeInclusive<f64> = 1.0..=10.0;

/// Checks a camera; `None` where none could be made of it.
pub(super) fn build(
    check: &mut Check<'_>,
    id: &str,
    raw: RawCamera,
    (every, folder): (&CameraEvidence, &Path),
) -> Option<Camera> {
    let RawCamera { url, main_url, gate_url, user, password, transport, fps, pipeline, .. } = raw;
    let RawCamera { ca, pin, tls, mask, main_mask, gate_mask, zone, line, rule, evidence, .. } = raw;
    let RawCamera { mode, quiet_after, catch_up_max, decoder, loop_filter, .. } = raw;
    let name = check.name(&["camera", id], Name::unreserved);
    ranges(
        check,
        id,
        fps,
        [("quiet_after", quiet_after, QUIET_AFTER), ("catch_up_max", catch_up_max, CATCH_UP_MAX)],
    );
    twice(check, id);
    let masks = shapes(check, id, "mask", mask, Polygon::new);
    let main_masks = shapes(check, id, "main_mask", main_mask, Polygon::new);
    let main_url = MAIN.check(check, id, main_url, !masks.is_empty(), !main_masks.is_empty());
    let gate_masks = shapes(check, id, "gate_mask", gate_mask, Polygon::new);
    let gate_url = GATE.check(check, id, gate_url, !masks.is_empty(), !gate_masks.is_empty());
    let zones = shapes(check, id, "zone", zone, Polygon::new);
    let lines = shapes(check, id, "line", line, Polyline::new);
    let rules = rules(check, id, rule);
    let evidence = evidence::camera(check, id, &evidence, every);
    let Some(url) = url else {
        check.missing(&["camera", id, "url"], "give its stream, such as `rtsp://10.0.0.17/stream2`");
        return None;
    };
    let clean = stream(check, id, &url)?;
    let is_secure = |url: &Option<String>| url.as_deref().is_some_and(|url| url.starts_with("rtsps:"));
    let secure = [clean.scheme == "rtsps", is_secure(&main_url), is_secure(&gate_url)];
    let secure = encrypted(check, id, transport, secure);
    let trust = trust(check, id, secure, (ca.map(|file| folder.join(file)), pin, tls));
    Some(Camera {
        id: name?,
        url: clean.url,
        main_url,
        gate_url,
        user: user.or(clean.user),
        password: password.map(Secret::new).or(clean.password),
        transport,
        trust,
        fps,
        mode,
        quiet_after: quiet_after.0,
        catch_up_max: catch_up_max.0,
        pipeline,
        decoder: DecoderChoice::of(&decoder),
        loop_filter,
        masks,
        main_masks,
        gate_masks,
        zones,
        lines,
        rules,
        evidence,
    })
}

/// Numbers and spans that have bounds.
fn ranges(check: &mut Check<'_>, id: &str, fps: f32, spans: [(&str, Span, RangeInclusive<f64>); 2]) {
    if !FPS.contains(&fps) {
        check.value_error(&["camera", id, "fps"], format!("{fps} is not within 0.2 to 30"));
    }
    for (key, span, range) in spans {
        let seconds = span.0.as_secs_f64();
        if !range.contains(&seconds) {
            let (from, to) = (range.start(), range.end());
            check.value_error(&["camera", id, key], format!("{seconds} s is not within {from} to {to} s"));
        }
    }
}

/// Rules that can be built, by name.
fn rules(check: &mut Check<'_>, id: &str, tables: BTreeMap<String, RuleTable>) -> BTreeMap<Name, RuleSetup> {
    let built = tables.into_iter().filter_map(|(rule, table)| {
        let name = check.name(&["camera", id, "rule", &rule], Name::unreserved);
        let built = self::rule(check, id, &rule, table);
        name.zip(built)
    });
    built.collect()
}

/// Whether one of the streams `url`, `main_url`, `gate_url` is `rtsps`, which UDP does not serve.
fn encrypted(check: &mut Check<'_>, id: &str, transport: Transport, secure: [bool; 3]) -> bool {
    let key = ["url", "main_url", "gate_url"].into_iter().zip(secure).find(|(_, secure)| *secure);
    if let Some((key, _)) = key.filter(|_| transport == Transport::Udp) {
        let message =
            format!("`camera.{id}`: over UDP pictures are not encrypted, though `{key}` says rtsps");
        check.warning(&["camera", id, "transport"], message);
    }
    key.is_some()
}

/// A stream of a camera beside the one that is analysed.
struct Beside {
    url: &'static str,
    mask: &'static str,
    what: &'static str,
}

/// The stream of evidence.
const MAIN: Beside = Beside { url: "main_url", mask: "main_mask", what: "main stream" };
/// The stream that shows whether something moves.
const GATE: Beside = Beside { url: "gate_url", mask: "gate_mask", what: "gate's stream" };

impl Beside {
    /// Masked where the analysed one is.
    fn check(
        &self,
        check: &mut Check<'_>,
        id: &str,
        given: Option<String>,
        masked: bool,
        own_masks: bool,
    ) -> Option<String> {
        let Self { url, mask, what } = self;
        let keys = ["camera", id, *url];
        let Some(given) = given else {
            if own_masks {
                let message = format!("`camera.{id}.{mask}` masks nothing: the camera has no `{url}`");
                check.key_error(&["camera", id, *mask], message);
            }
            return None;
        };
        if masked && !own_masks && !check.was_reported(&["camera", id, *mask]) {
            let message = format!(
                "`camera.{id}` has masks, but none for its {what}: draw them below `[camera.{id}.{mask}]` (the same \
                 polygons where both streams show the same)"
            );
            check.key_error(&keys, message);
        }
        let clean = url::parse(&given, &SCHEMES).map_err(|message| check.value_error(&keys, message)).ok()?;
        if clean.user.is_some() || clean.password.is_some() {
            let message = format!(
                "holds a login, which is not used: the {what} has the login of `url`, whose place is `vedette.secrets`"
            );
            check.value_error(&keys, message);
        }
        Some(clean.url)
    }
}

/// The address of a stream: of a camera on the network, or of one on this machine.
fn stream(check: &mut Check<'_>, id: &str, url: &str) -> Option<CleanUrl> {
    let keys = ["camera", id, "url"];
    let Some(local) = Local::of(url) else {
        let schemes: Vec<&str> = SCHEMES.into_iter().chain(Local::schemes()).collect();
        let clean = url::parse(url, &schemes).map_err(|message| check.value_error(&keys, message)).ok()?;
        if clean.user.is_some() || clean.password.is_some() {
            check.warning(&keys, url::login_remedy("camera", id));
        }
        return Some(clean);
    };
    let local = local.map_err(|message| check.value_error(&keys, message)).ok()?;
    // No error: it may be there by the time it is opened, and one camera never keeps the others from starting.
    if let Err(fault) = local.look() {
        check.warning(&keys, format!("{}; {}", fault.message, fault.remedy));
    }
    Some(CleanUrl::without_login(url, local.scheme()))
}

/// Which certificate is good: one word at most says so, and only where there is TLS.
fn trust(
    check: &mut Check<'_>,
    id: &str,
    secure: bool,
    (ca, pin, tls): (Option<PathBuf>, Option<String>, Tls),
) -> Trust {
    let insecure = tls == Tls::Insecure;
    let given = [("ca", ca.is_some()), ("pin", pin.is_some()), ("tls", insecure)];
    let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    if let Some(key) = given.first().filter(|_| !secure) {
        let message =
            "is of no use, since `rtsp` is not encrypted: write the address as `rtsps://…`, or leave it out";
        check.value_error(&["camera", id, key], message);
        return Trust::System;
    }
    if let [first, .., last] = given[..] {
        check.value_error(
            &["camera", id, last],
            format!("contradicts `{first}`: give one of `ca`, `pin`, `tls`"),
        );
    }
    if let Some(file) = &ca
        && let Err(error) = std::fs::File::open(file)
    {
        check.value_error(&["camera", id, "ca"], format!("{} cannot be opened: {error}", file.display()));
    }
    let pin = pin.and_then(|pin| pin.parse().map_err(|e| check.value_error(&["camera", id, "pin"], e)).ok());
    if insecure {
        let message = format!(
            "`camera.{id}`: its certificate is not checked, so that who is between can watch: `vedette probe` prints \
             what `pin` takes"
        );
        check.warning(&["camera", id, "tls"], message);
    }
    match (ca, pin) {
        _ if insecure => Trust::Insecure,
        (Some(file), _) => Trust::Ca(file),
        (None, Some(pin)) => Trust::Pin(pin),
        (None, None) => Trust::System,
    }
}

/// Two files of one `conf.d` that both give a camera its URL are two cameras with one name.
fn twice(check: &mut Check<'_>, id: &str) {
    let path = Check::path(&["camera", id, "url"]);
    let layers: Vec<_> =
        check.sources.0.iter().filter(|l| l.origin == Origin::ConfD && l.has(&path)).collect();
    let Some((last, earlier)) = layers.split_last() else { return };
    for first in earlier {
        let message = format!(
            "camera `{id}` has a `url` here and at {}: two cameras need two names",
            first.place(&path)
        );
        check.diagnostics.push(last.error(&path, Part::Key, message));
    }
}

fn shapes<T>(
    check: &mut Check<'_>,
    id: &str,
    what: &str,
    raw: BTreeMap<String, Vec<Point>>,
    make: fn(Vec<Point>) -> Result<T, ShapeError>,
) -> BTreeMap<Name, T> {
    let mut shapes = BTreeMap::new();
    for (key, points) in raw {
        let keys = ["camera", id, what, key.as_str()];
        let name = check.name(&keys, Name::new);
        let shape = make(points).map_err(|error| match &error {
            ShapeError::Outside { index } => {
                let index = index.saturating_sub(1).to_string();
                check.item_error(&["camera", id, what, &key, &index], error);
            }
            _ => check.value_error(&keys, error),
        });
        if let (Some(name), Ok(shape)) = (name, shape) {
            shapes.insert(name, shape);
        }
    }
    shapes
}

fn rule(check: &mut Check<'_>, id: &str, name: &str, RuleTable(table): RuleTable) -> Option<RuleSetup> {
    let base = ["camera", id, "rule", name];
    let keys = |key: &'static str| ["camera", id, "rule", name, key];
    let Some(kind) = table.get("kind").and_then(toml::Value::as_str) else {
        let kinds: Vec<&str> = ALL.iter().map(|k| k.name).collect();
        check.missing(&keys("kind"), format!("there are: {}", kinds.join(", ")));
        return None;
    };
    let Some(kind) = ALL.iter().find(|k| k.name == kind) else {
        let hint = hint(kind, ALL.iter().map(|k| k.name));
        check.value_error(&keys("kind"), format!("no kind `{kind}`{hint}"));
        return None;
    };
    // The layers were read strictly before: only what came together in merging could fail here.
    let both = read(kind, table).map_err(|error| check.key_error(&base, error)).ok()?;
    let rule = RuleSetup { common: both.0, config: Arc::from(both.1) };
    if !(0.0..=1.0).contains(&rule.common.min_score) {
        check.value_error(&keys("min_score"), format!("{} is not within 0 to 1", rule.common.min_score));
    }
    if rule.common.classes.as_ref().is_some_and(Vec::is_empty) {
        check.value_error(&keys("classes"), "is empty: the rule would never fire");
    }
    names(check, id, name, &rule);
    Some(rule)
}

fn read(
    kind: &'static vedette_core::Kind<dyn RuleConfig>,
    table: toml::Table,
) -> Result<(Common, Box<dyn RuleConfig>), String> {
    let value = toml::Value::Table(table);
    let common = serde::Deserialize::deserialize(value.clone()).map_err(|e| e.to_string())?;
    let own = (kind.parse)(&mut <dyn erased_serde::Deserializer<'_>>::erase(value));
    Ok((common, own.map_err(|e| e.to_string())?))
}

/// The zone and the line that a rule names must be there, and what its kind needs must be named.
fn names(check: &mut Check<'_>, id: &str, name: &str, rule: &RuleSetup) {
    let named = [("zone", rule.config.zone()), ("line", rule.config.line())];
    for (what, shape) in named {
        let Some(shape) = shape else { continue };
        if check.has(&["camera", id, what, shape.as_str()]) || check.was_reported(&["camera", id, what]) {
            continue;
        }
        let known = check.defined(id, what);
        let hint = hint(shape.as_str(), known.iter().map(String::as_str));
        let none = format!(" (it has none: draw one below `[camera.{id}.{what}]`)");
        let hint = if known.is_empty() { none } else { hint };
        let keys = ["camera", id, "rule", name, what];
        check.value_error(&keys, format!("camera `{id}` has no {what} `{shape}`{hint}"));
    }
    for (key, remedy) in rule.config.missing() {
        let known = check.defined(id, key);
        let list =
            if known.is_empty() { String::new() } else { format!(" (there are: {})", known.join(", ")) };
        check.missing(&["camera", id, "rule", name, key], format!("{remedy}{list}"));
    }
}

impl Check<'_> {
    /// The names below `[camera.<id>.<what>]`, over all layers.
    fn defined(&self, id: &str, what: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .sources
            .0
            .iter()
            .filter_map(|l| l.table.get("camera")?.get(id)?.get(what)?.as_table())
            .flat_map(|table| table.keys().cloned())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Checks the classes that rules name against those the model has; blames the class in its list.
pub(in super::super) fn classes(check: &mut Check<'_>, config: &Config, labels: &[Class]) {
    let known: Vec<&str> = labels.iter().map(Class::as_str).collect();
    let model = &config.inference.model;
    for camera in config.cameras.values() {
        for (name, rule) in &camera.rules {
            let base = ["camera", camera.id.as_str(), "rule", name.as_str()];
            let Some(classes) = &rule.common.classes else {
                let defaults = rule.config.default_classes();
                if !defaults.is_empty() && !defaults.iter().any(|c| known.contains(c)) {
                    let wanted = defaults.join(", ");
                    check.key_error(&base, format!("model `{model}` knows none of {wanted}: name `classes`"));
                }
                continue;
            };
            for (index, class) in classes.iter().enumerate().filter(|(_, c)| !known.contains(&c.as_str())) {
                let index = index.to_string();
                let keys = [base[0], base[1], base[2], base[3], "classes", &index];
                let hint = hint(class.as_str(), known.iter().copied());
                check.item_error(&keys, format!("model `{model}` has no class `{class}`{hint}"));
            }
        }
    }
}
