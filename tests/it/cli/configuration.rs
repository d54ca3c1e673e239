//! Bad configuration: `check` and `run` refuse it alike, with 78, the place and the remedy.

use super::{folder, vedette, write};

/// A camera with everything right, to which one wrong thing is added.
const CAMERA: &str = "[camera.gate]\nurl = \"rtsp://127.0.0.1:1/main\"\n";
const ZONE: &str = "[camera.gate.zone]\nyard = [[0.1, 0.4], [0.9, 0.4], [0.9, 1.0]]\n";

struct Case {
    name: &'static str,
    text: String,
    says: Vec<&'static str>,
}

fn case(name: &'static str, text: String, says: &[&'static str]) -> Case {
    Case { name, text, says: says.to_vec() }
}

fn cases() -> Vec<Case> {
    let rule = |keys: &str| format!("{CAMERA}{ZONE}[camera.gate.rule.night]\n{keys}\n");
    vec![
        case(
            "unknown key",
            format!("{CAMERA}fsp = 5\n"),
            &[
                "etc/vedette.toml:3:1: unknown key `camera.gate.fsp`",
                "did you mean `fps`?",
                "3 | fsp = 5",
                "^^^",
            ],
        ),
        case(
            "polygon with two points",
            format!("{CAMERA}[camera.gate.zone]\nyard = [[0.1, 0.4], [0.9, 0.4]]\n"),
            &["etc/vedette.toml:4:8: `camera.gate.zone.yard`: has 2 points, needs at least 3"],
        ),
        case(
            "undefined zone",
            rule("kind = \"intrusion\"\nzone = \"yrad\""),
            &["etc/vedette.toml:7:8:", "camera `gate` has no zone `yrad`; did you mean `yard`?"],
        ),
        case(
            "unknown kind",
            rule("kind = \"line-crossing\"\nzone = \"yard\""),
            &["no kind `line-crossing`; did you mean `line_crossing`?"],
        ),
        case(
            "class that the model lacks",
            rule("kind = \"intrusion\"\nzone = \"yard\"\nclasses = [\"persn\"]"),
            &["etc/vedette.toml:8:12:", "model `nanodet-g-416` has no class `persn`; did you mean `person`?"],
        ),
        case(
            "camera of a name twice",
            format!("{CAMERA}{CAMERA}"),
            &[
                "etc/vedette.toml:3:9: duplicate key: this table stands further up already; give it another name",
            ],
        ),
        case(
            "wrong URL",
            "[camera.gate]\nurl = \"http://10.0.0.17/video\"\n".to_owned(),
            &["etc/vedette.toml:2:7:", "http", "rtsp://"],
        ),
        case(
            "wrong type",
            format!("{CAMERA}fps = \"5\"\n"),
            &["etc/vedette.toml:3:7: `camera.gate.fps`", "expected a number"],
        ),
        case("no TOML", "[camera.gate\n".to_owned(), &["etc/vedette.toml:1:"]),
        case(
            "unknown broker scheme",
            "[broker.factory]\nurl = \"amqp://10.0.0.1\"\n".to_owned(),
            &["etc/vedette.toml:2:7:", "mqtt://"],
        ),
    ]
}

#[test]
fn what_is_wrong_is_named_with_its_place_by_check_and_run() {
    for Case { name, text, says } in cases() {
        let folder = folder();
        write(folder.path(), "etc/vedette.toml", &text);
        for verb in ["check", "run"] {
            let ran = vedette(&folder, &format!("{verb} --config etc")).run();
            ran.expect(78, &says).expect(78, &["error: ", "1 error"]);
            assert_eq!(ran.out, "", "{name}: {verb}: errors go to stderr");
        }
    }
}

#[test]
fn reserved_and_impossible_names_are_refused() {
    for name in ["status", "stats", "command", "event", "Gate", "a_b", "x/y"] {
        let folder = folder();
        write(
            folder.path(),
            "etc/conf.d/one.toml",
            format!("[camera.\"{name}\"]\nurl = \"rtsp://127.0.0.1/\"\n"),
        );
        let ran = vedette(&folder, "check --config etc").run();
        ran.expect(78, &["etc/conf.d/one.toml:1:9:", &format!("`{name}`")]);
    }
}

#[test]
fn two_files_that_define_one_camera_are_told_apart() {
    let folder = folder();
    write(folder.path(), "etc/conf.d/10-gate.toml", "[camera.gate]\nurl = \"rtsp://10.0.0.17/a\"\n");
    write(folder.path(), "etc/conf.d/20-gate.toml", "[camera.gate]\nurl = \"rtsp://10.0.0.18/a\"\n");
    let words = ["etc/conf.d/20-gate.toml:2:1: camera `gate`", "etc/conf.d/10-gate.toml:2:1", "two names"];
    vedette(&folder, "check --config etc").run().expect(78, &words);
}

#[test]
fn an_absent_configuration_names_the_option() {
    let folder = folder();
    for verb in ["check", "run", "replay x.avi"] {
        vedette(&folder, &format!("{verb} --config nowhere")).run().expect(78, &["nowhere", "--config DIR"]);
    }
}

#[test]
fn all_errors_come_at_once_as_text_and_as_json() {
    let folder = folder();
    let text = format!("[node]\nid = \"Box 1\"\n{CAMERA}fsp = 5\n[camera.gate.zone]\nyard = [[0.1, 0.4]]\n");
    write(folder.path(), "etc/vedette.toml", text);
    let places = ["vedette.toml:2:6", "vedette.toml:5:1", "vedette.toml:7:8"];
    vedette(&folder, "check --config etc").run().expect(78, &places).expect(78, &["3 errors"]);
    let ran = vedette(&folder, "check --config etc --json").run();
    let value = ran.expect(78, &[]).json();
    assert_eq!((value["ok"].as_bool(), ran.err.as_str()), (Some(false), ""));
    let errors = value["errors"].as_array().expect("a list");
    let found: Vec<_> = errors
        .iter()
        .map(|e| format!("{}:{}:{}", e["file"].as_str().unwrap_or_default(), e["line"], e["column"]))
        .collect();
    assert_eq!(found, places.map(|place| format!("etc/{place}")));
    assert!(errors.iter().all(|e| e["message"].as_str().is_some_and(|m| !m.is_empty())), "{errors:?}");
}

#[test]
fn a_good_configuration_is_summed_up() {
    let folder = folder();
    write(
        folder.path(),
        "etc/vedette.toml",
        format!("{CAMERA}{ZONE}[broker.b]\nurl = \"mqtt://127.0.0.1\"\n"),
    );
    let ran = vedette(&folder, "check --config etc").run();
    ran.expect(0, &["etc: ok: 1 camera, 1 broker, configuration "]);
    let value = vedette(&folder, "check --config etc --json").run().expect(0, &[]).json();
    assert_eq!((value["ok"].as_bool(), value["cameras"].as_u64()), (Some(true), Some(1)));
    assert_eq!(value["errors"], serde_json::json!([]));
}

/// Passwords stand in a file of their own; wherever one turns up, no output shows it.
#[test]
fn secrets_are_never_shown() {
    const SECRET: &str = "hunter2-zq9";
    let camera = |rest: &str| format!("[camera.gate]\nurl = \"rtsp://127.0.0.1:1/main\"\n{rest}");
    let cases = [
        (
            "etc/vedette.toml",
            format!("[camera.gate]\nurl = \"rtsp://me:{SECRET}@127.0.0.1:1/main\"\nfsp = 5\n"),
        ),
        ("etc/vedette.toml", camera(&format!("password = \"{SECRET}\"\n"))),
        ("etc/vedette.toml", camera(&format!("pasword = \"{SECRET}\"\n"))),
        ("etc/vedette.toml", camera(&format!("password = \"{SECRET}\n"))),
        ("etc/vedette.toml", camera(&format!("[broker.b]\nurl = \"mqtt://me:{SECRET}@127.0.0.1\"\n"))),
    ];
    for (file, text) in cases {
        let folder = folder();
        write(folder.path(), file, &text);
        for words in ["check --config etc", "check --config etc --json", "doctor --config etc --log trace"] {
            let ran = vedette(&folder, words).secret(SECRET).run();
            assert!(ran.all().contains("vedette.secrets") || ran.code == Some(78) || ran.code == Some(69));
        }
    }
}
