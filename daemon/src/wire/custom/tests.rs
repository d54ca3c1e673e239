//! Templates that work, that are refused, that fail, and that were never meant to end.

use proptest::prelude::*;

use super::*;
use crate::fixtures::{event, name, stamp};

fn settings(topic: &str, payload: &str) -> Settings {
    let custom =
        CustomSettings { topic: topic.to_owned(), payload: payload.to_owned(), content_type: String::new() };
    Settings { broker: Some(name("factory")), custom, ..Settings::default() }
}

fn sent(topic: &str, payload: &str) -> Option<Message> {
    build(&settings(topic, payload)).unwrap().event(&stamp(), 7, Some(5), &event())
}

#[test]
fn a_template_sees_the_event() {
    let payload = r#"{"who": {{ object.class | tojson }}, "why": {{ why | tojson }}, "n": {{ seq }}}"#;
    let message = sent("alarms/{{ camera }}/{{ kind }}", payload).unwrap();
    assert_eq!(message.topic, "alarms/gate/intrusion");
    assert_eq!(
        String::from_utf8(message.payload).unwrap(),
        r#"{"who": "person", "why": "person \"inside\" yard", "n": 7}"#
    );
    assert!(!message.retained);
}

#[test]
fn ordinary_templates_are_no_strangers() {
    struct Case(&'static str, &'static str);
    let cases = [
        Case(
            "{% for edge in object.box %}{{ loop.index }}:{{ edge }} {% endfor %}",
            "1:0.4 2:0.5 3:0.5 4:0.8 ",
        ),
        Case(
            "{% set who = object.class %}{{ who | upper }} at {{ zone or 'the ' ~ camera }}",
            "PERSON at the gate",
        ),
        Case(
            "{% for key, value in model | items %}{{ key }}={{ value }};{% endfor %}",
            "name=m;sha256=01234567;provider=cpu;",
        ),
        Case("{% if ended_by is none %}{{ {'gate': 'G1'}[camera] }}{% endif %}", "G1"),
        Case(
            "{{ object | tojson }}",
            r#"{"track": 17, "class": "person", "score": 0.83, "box": [0.4, 0.5, 0.5, 0.8], "speed": 1.2, "speed_unit": "heights/s"}"#,
        ),
    ];
    for Case(template, expected) in cases {
        assert_eq!(String::from_utf8(sent("a", template).unwrap().payload).unwrap(), expected);
    }
}

#[test]
fn without_a_payload_it_is_the_event() {
    let message = sent("a", "").unwrap();
    assert_eq!(message.payload, vedette::event(&stamp(), 7, Some(5), &event()));
}

#[test]
fn the_sample_has_the_keys_of_an_event() {
    let keys =
        |value: &serde_json::Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let sample: serde_json::Value = serde_json::from_str(SAMPLE).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&vedette::event(&stamp(), 7, None, &event())).unwrap();
    assert_eq!(keys(&sample), keys(&json));
    for inner in ["object", "evidence", "model"] {
        assert_eq!(keys(&sample[inner]), keys(&json[inner]));
    }
    assert!(sample.as_object().unwrap().values().all(|value| !value.is_null()));
}

#[test]
fn whole_topics_under_a_key_of_the_brokers_own() {
    let mut settings = settings("a", "");
    settings.custom.content_type = "text/plain".to_owned();
    let custom = build(&settings).unwrap();
    let place = Place { prefix: "vedette".to_owned(), node: name("box") };
    assert_eq!(
        (custom.root(&place).as_str(), custom.key(), custom.content_type()),
        ("", "custom:factory", "text/plain")
    );
    settings.broker = Some(name("other"));
    assert_ne!(build(&settings).unwrap().key(), custom.key());
}

#[test]
fn what_is_wrong_is_said_when_it_is_built() {
    struct Case(&'static str, &'static str, &'static str);
    let cases = [
        Case("", "", "`custom.topic` is needed"),
        Case("a/{{ camera", "", "`custom.topic`, line 1: syntax error"),
        Case("a", "{\n  \"a\": {{ camera }},\n  {% if %}\n}", "`custom.payload`, line 3: syntax error"),
        Case(
            "a",
            "one\n{{ kamera }}",
            "`custom.payload`, line 2: an event has no `kamera`; there are: v, id",
        ),
        Case("a", "{{ camera | shout }}", "`custom.payload`, line 1: unknown filter"),
        Case("a", "{% include 'x' %}", "`custom.payload`, line 1: syntax error"),
        Case("a", "{{ debug() }}", "an event has no `debug`"),
        Case(
            "a",
            "a\n\n{{ object.klass }}",
            "`custom.payload`, line 3: `object` has no `klass`; there are: track",
        ),
        Case(
            "a",
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
            "ran out of fuel",
        ),
    ];
    for Case(topic, payload, expected) in cases {
        let error = build(&settings(topic, payload)).unwrap_err();
        assert!(error.contains(expected), "{topic} {payload}: {error}");
    }
}

#[test]
fn a_topic_that_mqtt_does_not_know_is_not_sent() {
    let long = "{{ 'x' * 65536 }}";
    for topic in ["{{ zone or '' }}", "a/#", "+/a", "$SYS/{{ camera }}", "a{{ '\\x00' }}", long] {
        assert!(sent(topic, "").is_none(), "{topic}");
    }
    assert!(sent("{{ 'x' * 65535 }}", "").is_some());
}

#[test]
fn a_template_that_fails_sends_nothing() {
    for payload in
        ["{{ zone.name }}", "{{ object['klass'] }}", "{{ camera + 1 }}", "{{ {'yard': 1}[camera] }}"]
    {
        assert!(sent("a", payload).is_none(), "{payload}");
    }
}

#[test]
fn no_template_hangs_or_eats_memory() {
    let endless = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    let nested = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
    let doubling =
        "{% set n = namespace(t='xxxxxxxx') %}{% for a in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}";
    let large = ["{{ ('x' * 9000000)|length }}", "{{ range(100000)|list|tojson }}"];
    for payload in [endless, nested, doubling].into_iter().chain(large) {
        // Also where only some events come to it.
        let sometimes = format!("{{% if phase == 'begin' and seq == 7 %}}{payload}{{% endif %}}");
        assert!(sent("a", &sometimes).is_none(), "{payload}");
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{{ "),
        Just(" }}"),
        Just("{% "),
        Just(" %}"),
        Just("{#"),
        Just("#}"),
        Just("for x in "),
        Just("endfor"),
        Just("if "),
        Just("endif"),
        Just("set x = "),
        Just("camera"),
        Just("object"),
        Just(".class"),
        Just("[0]"),
        Just(" | "),
        Just("tojson"),
        Just("upper"),
        Just("range(9)"),
        Just("'a'"),
        Just(" * "),
        Just(" ** "),
        Just("99999999"),
        Just("-1"),
        Just("("),
        Just(")"),
        Just("macro m()"),
        Just("endmacro"),
        Just("m()"),
        Just("\n"),
        Just("é"),
        Just("/"),
        Just("x"),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_template_says_nothing_breaks(text in prop_oneof![pieces(), ".{0,80}"]) {
        for (topic, payload) in [(text.as_str(), ""), ("a", text.as_str())] {
            let built = build(&settings(topic, payload));
            if let Some(message) = built.ok().and_then(|d| d.event(&stamp(), 7, None, &event())) {
                prop_assert!(fault_of_topic(&message.topic).is_none());
                prop_assert!(message.payload.len() <= 64 * FUEL as usize);
            }
        }
    }
}
