//! The short form of the fuzz targets, and what they begin with.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::wire::sparkplug::{Metric, Payload, REBIRTH};

fn seeds(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds").join(target)
}

/// A message of an edge node's script.
fn step(what: u8, payload: &[u8]) -> Vec<u8> {
    [&[what, u8::try_from(payload.len()).unwrap()], payload].concat()
}

fn rebirth() -> Vec<u8> {
    let metrics = vec![Metric::flag(REBIRTH, Some(true)).at(jiff::Timestamp::UNIX_EPOCH)];
    Payload { timestamp: Some(1), metrics, seq: None }.encode_to_vec()
}

fn state(online: bool, timestamp: u64) -> Vec<u8> {
    serde_json::json!({"online": online, "timestamp": timestamp}).to_string().into_bytes()
}

/// Target, name and bytes of every seed.
fn every_seed() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let born = [step(1, &state(true, 5)), vec![4, 5, 5, 5]].concat();
    let again = [born.clone(), step(0, &rebirth()), step(2, &rebirth()), vec![4, 5]].concat();
    let left = [born.clone(), step(1, &state(false, 4)), step(1, &state(false, 6)), step(3, b"x")].concat();
    vec![
        (
            "command",
            "arm",
            text("arm\nreply/1\n{\"camera\":\"gate\",\"rule\":\"night\",\"armed\":true,\"correlation\":7}"),
        ),
        ("command", "disarm", text("disarm\nreply/1\n{\"camera\":\"gate\",\"rule\":\"night\"}")),
        ("command", "status", text("status\nreply/1\n{}")),
        ("command", "test_alarm", text("test_alarm\nvedette/box/status\n{\"camera\":\"gate\"}")),
        ("birth", "online", text("homeassistant/status\n\nonline")),
        ("birth", "offline", text("homeassistant/status\n\noffline")),
        ("sparkplug_ncmd", "born", born),
        ("sparkplug_ncmd", "rebirth", again),
        ("sparkplug_ncmd", "host_left", left),
        (
            "template",
            "event",
            text("alarms/{{ camera }}/{{ kind }}\n{\"who\": {{ object.class | tojson }}, \"n\": {{ seq }}}"),
        ),
        (
            "template",
            "loop",
            text(
                "a\n{% for x in object.box %}{{ x * 100 | round(1) }}{% if not loop.last %},{% endif %}{% endfor %}",
            ),
        ),
        (
            "template",
            "macro",
            text(
                "a\n{% macro m(x) %}{{ x ~ '!' }}{% endmacro %}{% set t = namespace(n=0) %}{{ m(why|upper) }}{{ range(9)|list }}",
            ),
        ),
        ("retry_after", "seconds", text("120")),
        ("retry_after", "date", text("Tue, 24 Nov 2026 02:35:30 GMT")),
    ]
}

fn run(target: &str, folder: &Path, bytes: &[u8]) {
    match target {
        "command" => command(folder, bytes),
        "birth" => message(folder, bytes),
        "sparkplug_ncmd" => edge_node(bytes),
        "template" => template(&String::from_utf8_lossy(bytes)),
        "retry_after" => retry_after(bytes),
        other => panic!("no target {other}"),
    }
}

/// `UPDATE_GOLDEN=1` writes them.
#[test]
fn seeds_are_what_our_own_encoders_make() {
    let folder = tempfile::tempdir().unwrap();
    for (target, name, bytes) in every_seed() {
        let path = seeds(target).join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(seeds(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let kept = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(kept, bytes, "{target}/{name}: UPDATE_GOLDEN=1 rewrites it");
        run(target, folder.path(), &bytes);
    }
}

/// Everything that a fuzz target found once, kept beside the seeds as `found-…`.
#[test]
fn what_was_found_once_is_not_found_again() {
    let folder = tempfile::tempdir().unwrap();
    for target in ["command", "birth", "sparkplug_ncmd", "template", "retry_after"] {
        for entry in fs::read_dir(seeds(target)).unwrap() {
            run(target, folder.path(), &fs::read(entry.unwrap().path()).unwrap());
        }
    }
}

/// A seed with pieces cut out, doubled and overwritten.
fn mutated(target: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let of_target: Vec<_> = every_seed().into_iter().filter(|s| s.0 == target).map(|s| s.2).collect();
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 0..12);
    (prop::sample::select(of_target), edits).prop_map(|(mut bytes, edits)| {
        for (at, what, byte) in edits {
            let at = at.index(bytes.len() + 1);
            match what {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => _ = bytes.remove(at),
                2 if at < bytes.len() => bytes[at] = byte,
                _ => bytes.extend_from_within(at..),
            }
            bytes.truncate(2000);
        }
        bytes
    })
}

fn any_bytes(target: &'static str) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => mutated(target), 1 => proptest::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_for_is_answered(bytes in any_bytes("command")) {
        command(tempfile::tempdir().unwrap().path(), &bytes);
    }

    #[test]
    fn whatever_is_published_to_us_no_session_breaks(bytes in any_bytes("birth")) {
        message(tempfile::tempdir().unwrap().path(), &bytes);
    }

    #[test]
    fn whatever_hosts_say_births_come_first_and_numbers_in_order(bytes in any_bytes("sparkplug_ncmd")) {
        edge_node(&bytes);
    }

    #[test]
    fn whatever_a_template_says_it_ends(bytes in any_bytes("template")) {
        template(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn whatever_a_receiver_answers_is_read(bytes in any_bytes("retry_after")) {
        retry_after(&bytes);
    }
}
