//! `replay` and `eval events` over the footage that was annotated by eye: the same bytes each time, and what a person
//! saw.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use vedette_tests::binary::Vedette;
use vedette_tests::clips::{ClipMakerError, Kind, footage_in, small_clip};
use vedette_tests::{schemas, skipped};

use crate::cli::{folder, root};

/// A folder with `vtest.avi`; none where Debian's `opencv-doc` is not installed.
fn with_footage() -> Option<TempDir> {
    let folder = folder();
    match footage_in(folder.path()) {
        Ok(_) => Some(folder),
        Err(error @ ClipMakerError::NoFootage) => {
            skipped(error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn vedette(folder: &TempDir, words: &str) -> Vedette {
    let scene = root().join("tests/truth/vtest");
    let config = ["--config".into(), scene.into_os_string()];
    Vedette::new(folder.path(), config.into_iter().chain(words.split_whitespace().map(Into::into)))
}

fn text<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key].as_str().unwrap_or_default()
}

#[test]
fn a_replay_is_byte_equal_valid_and_complete() {
    let Some(folder) = with_footage() else { return };
    let first = vedette(&folder, "replay vtest.avi").run();
    let second = vedette(&folder, "replay vtest.avi").run();
    first.expect(0, &["vtest.avi: 79.4 s, 398 of 795 frames analysed"]);
    assert!(first.out == second.out, "two replays differ:\n{}\n{}", first.out, second.out);
    let (mut open, mut known) = (BTreeMap::new(), BTreeSet::new());
    let mut phases = BTreeSet::new();
    for (index, line) in first.out.lines().enumerate() {
        schemas::validate("vedette/node/vtest/event", line.as_bytes())
            .unwrap_or_else(|e| panic!("{e}\n{line}"));
        let event: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(event["seq"].as_u64(), Some(index as u64 + 1), "{line}");
        assert_eq!((text(&event, "clock"), &event["latency_ms"]), ("file", &Value::Null), "{line}");
        assert_eq!(text(&event, "camera"), "vtest", "{line}");
        assert!(text(&event, "captured").starts_with("1970-01-01T00:0"), "{line}");
        assert!(text(&event, "captured") <= text(&event, "decided"), "{line}");
        let id = text(&event, "id").to_owned();
        phases.insert(text(&event, "phase").to_owned());
        // An incident begins once, ends once, and belongs to one rule all the time.
        match text(&event, "phase") {
            "once" => assert!(known.insert(id), "{line}"),
            "begin" => {
                assert!(known.insert(id.clone()), "{line}");
                open.insert(id, text(&event, "rule").to_owned());
            }
            "update" => assert_eq!(open.get(&id).map(String::as_str), Some(text(&event, "rule")), "{line}"),
            "end" => {
                assert_eq!(open.remove(&id).as_deref(), Some(text(&event, "rule")), "{line}");
                assert!(matches!(text(&event, "ended_by"), "rule" | "camera-lost"), "{line}");
            }
            other => panic!("phase {other}: {line}"),
        }
    }
    assert!(open.is_empty(), "never ended: {open:?}");
    assert!(["begin", "end", "once"].iter().all(|p| phases.contains(*p)), "{phases:?}");
}

/// What cameras send is replayed packet by packet in every mode: pictures that no other needs are decoded where the rate
/// needs them, and those at the end are not lost.
#[test]
fn a_cameras_codecs_are_replayed_as_a_camera_would_decode_them() {
    let Some(folder) = with_footage() else { return };
    struct Case(Kind, &'static str);
    let cases = [
        Case(Kind::H264, "40 of 200 frames analysed"),
        Case(Kind::H264B, "40 of"),
        Case(Kind::H265, "40 of 200 frames analysed"),
        Case(Kind::Mjpeg, "40 of 40 frames analysed"),
    ];
    for Case(kind, expected) in cases {
        let clip = small_clip(kind).unwrap_or_else(|error| panic!("{error}"));
        let words = format!("replay {}", clip.display());
        let (first, second) = (vedette(&folder, &words).run(), vedette(&folder, &words).run());
        first.expect(0, &[expected]);
        assert!(first.out == second.out, "{kind:?}: two replays differ");
    }
}

#[test]
fn the_start_moves_every_time_and_nothing_else() {
    let Some(folder) = with_footage() else { return };
    // The first crossings are enough here.
    let cut = Command::new("ffmpeg")
        .args(["-v", "error", "-i", "vtest.avi", "-t", "20", "-c", "copy", "short.avi"])
        .current_dir(folder.path())
        .status();
    assert!(cut.is_ok_and(|status| status.success()), "ffmpeg cuts the footage");
    let at_epoch = vedette(&folder, "replay short.avi").run();
    let later = vedette(&folder, "replay short.avi --start 2026-11-24T02:00:00Z --camera vtest").run();
    let kinds = |out: &str| -> Vec<(String, String, Value, Value)> {
        let event = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
        let of = |e: Value| {
            (text(&e, "phase").into(), text(&e, "rule").into(), e["direction"].clone(), e["object"].clone())
        };
        out.lines().map(|line| of(event(line))).collect()
    };
    assert_eq!(kinds(&at_epoch.expect(0, &[]).out), kinds(&later.expect(0, &[]).out));
    let times_move = |line: &str| line.contains("\"captured\":\"2026-11-24T02:0");
    assert!(later.out.lines().count() > 5 && later.out.lines().all(times_move), "{}", later.out);
}

#[test]
fn the_rules_see_what_a_person_saw() {
    let Some(folder) = with_footage() else { return };
    let truth = root().join("tests/truth/vtest.csv");
    let words = format!("eval events --truth {} --clips . --camera vtest --json", truth.display());
    let ran = vedette(&folder, &words).run();
    let figures = ran.expect(0, &["precision", "recall", "F1"]).json();
    eprintln!("{}", ran.out);
    let groups = figures["groups"].as_array().expect("groups");
    assert_eq!(groups.len(), 3, "the zone, and both directions of the line: {groups:?}");
    for group in groups {
        let of = |key: &str| group[key].as_i64().unwrap_or(i64::MAX / 2);
        assert!((of("truth") - of("events")).abs() <= 1, "counts within one: {group}");
    }
    assert!(figures["f1"].as_f64().is_some_and(|f1| f1 >= 0.9), "{figures}");
    for key in ["truth", "found", "false", "precision", "recall", "f1", "false_per_hour"] {
        assert!(figures[key].is_number(), "{key}: {figures}");
    }
    let disagreements = figures["disagreements"].as_array().map_or(0, Vec::len) as u64;
    let missed = figures["truth"].as_u64().zip(figures["found"].as_u64()).map(|(t, f)| t - f);
    assert_eq!(Some(disagreements), missed.zip(figures["false"].as_u64()).map(|(m, f)| m + f), "{figures}");
}

#[test]
fn files_that_are_no_footage_and_unknown_cameras_are_named() {
    struct Case(&'static str, i32, &'static [&'static str]);
    let folder = folder();
    std::fs::write(folder.path().join("notes.txt"), "no film\n".repeat(100)).expect("a file");
    std::fs::write(folder.path().join("truth.csv"), "clip,kind\nx\n").expect("a file");
    let cases = [
        Case("replay nothing.avi", 1, &["nothing.avi", "No such file"]),
        Case("replay notes.txt", 1, &["notes.txt", "cannot be decoded"]),
        Case("replay . ", 1, &["error: .: "]),
        Case("replay notes.txt --camera gate", 2, &["no camera `gate`", "vtest"]),
        Case("eval events --truth none.csv --clips .", 1, &["none.csv", "No such file"]),
        Case("eval events --truth truth.csv --clips .", 1, &["truth.csv", "line: 2"]),
    ];
    for Case(words, code, says) in cases {
        let ran = vedette(&folder, words).run();
        ran.expect(code, says);
        assert_eq!(ran.out, "", "{}", ran.shown);
    }
}
