//! The dialect `custom`: topic and payload of an event from a broker's own templates (Jinja), for consumers that speak
//! no other dialect.
//!
//! Owns: compiling and rendering them. Does not know: who sends what comes out. A template sees what an event of the
//! dialect `vedette` holds: `{{ camera }}`, `{{ object.class }}`, `{{ captured }}`; `{{ object | tojson }}` quotes. What
//! is `null` there is `none` here; what does not exist is an error, not an empty text.
//!
//! A template that fails for an event, or gives a topic that MQTT does not know, sends nothing for this event: it has
//! no bytes that could be sent later. That is counted, and said at the 1st, 10th, 100th … time. A template cannot hang
//! or eat memory: what each may cost is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use vedette_core::Event;

use super::{CustomSettings, Dialect, Message, NodeStatus, Place, Settings, Stamp, Update, vedette};

/// As in `dialects = […]`.
pub const NAME: &str = "custom";
/// One line for people.
pub const ABOUT: &str = "topic and payload of events from your own templates";

/// What one template may cost: an instruction, or 64 bytes. A payload is at most 1.25 MiB by it.
pub(crate) const FUEL: u64 = 20_000;

/// Macros that call each other, at most so deep.
const DEPTH: usize = 64;

/// The longest topic of MQTT, bytes.
const LONGEST_TOPIC: usize = 65_535;

/// What a template may name: an event of the dialect `vedette` with nothing missing. Each is tried on it.
const SAMPLE: &str = r#"{"v":1,"id":"01920000-0000-7000-8000-000000000001","epoch":"7be20000-0000-4000-8000-000000000001","seq":1042,
"phase":"begin","kind":"intrusion","rule":"night","severity":"alarm","node":"box","camera":"gate","zone":"yard","line":"kerb",
"direction":"in","captured":"2026-11-24T02:35:42.120Z","clock":"camera","clock_synced":true,"decided":"2026-11-24T02:35:42.640Z",
"latency_ms":548,"object":{"track":17,"class":"person","score":0.83,"box":[0.41,0.52,0.47,0.78],"speed":1.2,"speed_unit":"heights/s"},
"value":1.0,"unit":"persons","why":"person inside yard for 0.4 s","ended_by":"rule","evidence":{"snapshot":"a.jpg","clip":"a.mp4"},
"suppressed":0,"model":{"name":"nanodet-g-416","sha256":"5f1c2a90","provider":"cpu"},"config":"b64a11d0"}"#;

/// The templates' names: the keys in the configuration.
const TOPIC: &str = "topic";
const PAYLOAD: &str = "payload";

/// The dialect, with one broker's templates.
struct Custom {
    key: String,
    content_type: String,
    environment: Environment<'static>,
    /// Whether there is a template for the payload.
    writes_payload: bool,
    failed: AtomicU64,
}

/// With the templates of one broker.
///
/// # Errors
/// No template for the topic; one that is no template, names what no event has, or does not end: key, line and what is
/// wrong.
pub fn build(settings: &Settings) -> Result<Arc<dyn Dialect>, String> {
    let CustomSettings { topic, payload, content_type } = &settings.custom;
    if topic.is_empty() {
        return Err(
            "`custom.topic` is needed for the dialect `custom`: write a template of the whole topic, \
                    such as `alarms/{{ camera }}/{{ kind }}`"
                .to_owned(),
        );
    }
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    // Prints the whole context: of no use in a message.
    environment.remove_global("debug");
    compile(&mut environment, TOPIC, topic)?;
    if !payload.is_empty() {
        compile(&mut environment, PAYLOAD, payload)?;
    }
    let broker = settings.broker.as_ref().map(ToString::to_string).unwrap_or_default();
    let content_type = if content_type.is_empty() { "application/json" } else { content_type };
    Ok(Arc::new(Custom {
        // Two brokers' bytes differ.
        key: format!("{NAME}:{broker}"),
        content_type: content_type.to_owned(),
        environment,
        writes_payload: !payload.is_empty(),
        failed: AtomicU64::new(0),
    }))
}

fn compile(environment: &mut Environment<'static>, name: &'static str, text: &str) -> Result<(), String> {
    let wrong =
        |error: &Error| format!("{}; templates are Jinja, such as `{{{{ camera }}}}`", told(name, error));
    environment.add_template_owned(name, text.to_owned()).map_err(|e| wrong(&e))?;
    let template = environment.get_template(name).map_err(|e| wrong(&e))?;
    let sample: serde_json::Value = serde_json::from_str(SAMPLE).map_err(|e| e.to_string())?;
    let mut words: Vec<_> = template.undeclared_variables(true).into_iter().collect();
    words.sort();
    let is_global = |word: &str| environment.globals().any(|(global, _)| global == word);
    if let Some(word) = words.iter().filter(|word| !is_global(word)).find_map(|word| strange(word, &sample)) {
        return Err(format!("`custom.{name}`, {}", word.located(text)));
    }
    // What depends on the event may fail with this one and not with others; the rest fails with all.
    match template.render(Value::from(Serde(&sample))) {
        Err(error) if fails_always(error.kind()) => Err(wrong(&error)),
        _ => Ok(()),
    }
}

/// A word that no event has.
struct Strange<'a> {
    word: &'a str,
    of: String,
    known: Vec<&'a str>,
}

impl Strange<'_> {
    fn located(&self, text: &str) -> String {
        let line = text.lines().position(|line| line.contains(self.word)).map_or(1, |at| at + 1);
        format!("line {line}: {} has no `{}`; there are: {}", self.of, self.word, self.known.join(", "))
    }
}

/// What is wrong with `camera` or `object.class`, if anything.
fn strange<'a>(path: &'a str, sample: &'a serde_json::Value) -> Option<Strange<'a>> {
    let event = sample.as_object()?;
    let mut parts = path.split('.');
    let first = parts.next()?;
    let keys = |of: &'a serde_json::Map<_, _>| of.keys().map(String::as_str).collect();
    let Some(value) = event.get(first) else {
        return Some(Strange { word: first, of: "an event".to_owned(), known: keys(event) });
    };
    let (inner, second) = value.as_object().zip(parts.next())?;
    (!inner.contains_key(second)).then(|| Strange {
        word: second,
        of: format!("`{first}`"),
        known: keys(inner),
    })
}

fn fails_always(kind: ErrorKind) -> bool {
    use ErrorKind::{OutOfFuel, SyntaxError, UnknownFilter, UnknownFunction, UnknownTest};
    matches!(kind, OutOfFuel | SyntaxError | UnknownFilter | UnknownFunction | UnknownTest)
}

/// `custom.payload`, line 3: what is wrong.
fn told(name: &str, error: &Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!(", line {line}"));
    let detail = error.detail().map_or(String::new(), |detail| format!(": {detail}"));
    format!("`custom.{name}`{line}: {}{detail}", error.kind())
}

impl Custom {
    fn render(&self, name: &str, context: &Value) -> Result<String, String> {
        let template = self.environment.get_template(name).map_err(|e| told(name, &e))?;
        template.render(context).map_err(|e| told(name, &e))
    }

    fn message(&self, event: Vec<u8>) -> Result<Message, String> {
        let parsed: serde_json::Value = serde_json::from_slice(&event).map_err(|e| e.to_string())?;
        let context = Value::from(Serde(&parsed));
        let topic = self.render(TOPIC, &context)?;
        if let Some(fault) = fault_of_topic(&topic) {
            return Err(format!("`custom.{TOPIC}` {fault}"));
        }
        let payload = if self.writes_payload { self.render(PAYLOAD, &context)?.into_bytes() } else { event };
        Ok(Message::passing(topic, payload))
    }
}

/// Why MQTT knows no such topic.
pub(crate) fn fault_of_topic(topic: &str) -> Option<&'static str> {
    match topic {
        "" => Some("gives an empty topic"),
        _ if topic.contains(['+', '#', '\0']) => Some("gives a topic with +, # or NUL"),
        _ if topic.starts_with('$') => {
            Some("gives a topic that begins with $: such topics are the broker's own")
        }
        _ if topic.len() > LONGEST_TOPIC => Some("gives a topic of more than 65,535 bytes"),
        _ => None,
    }
}

impl Dialect for Custom {
    fn name(&self) -> &'static str {
        NAME
    }

    fn key(&self) -> &str {
        &self.key
    }

    fn root(&self, _at: &Place) -> String {
        String::new()
    }

    fn content_type(&self) -> &str {
        &self.content_type
    }

    fn event(&self, stamp: &Stamp, seq: u64, latency_ms: Option<u64>, event: &Event) -> Option<Message> {
        let fault = match self.message(vedette::event(stamp, seq, latency_ms, event)) {
            Ok(message) => return Some(message),
            Err(fault) => fault,
        };
        let times = self.failed.fetch_add(1, Relaxed) + 1;
        if 10_u64.pow(times.ilog10()) == times {
            let key = &self.key;
            log::error!(seq; "dialect {key}: {fault}: event {seq} is not sent so; {times} so far");
        }
        None
    }

    fn update(&self, _at: &Place, _update: &Update) -> Vec<Message> {
        Vec::new()
    }

    fn will(&self, _at: &Place, _offline: &NodeStatus) -> Option<Message> {
        None
    }
}

#[cfg(test)]
mod tests;
