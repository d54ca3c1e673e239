//! The command line as a person uses it: the real binary, its exit codes and the words that decide what to do next.
//! Every run is also searched for panics, colours and secrets by the harness.

mod cameras;
mod configuration;
mod discover;
mod machine;
mod quantize;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use vedette_tests::binary::{Vedette, beside_this};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// An empty folder to work in.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Writes a file and the folders above it.
pub(crate) fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("a file");
}

/// `vedette WORDS` in `folder`.
pub(crate) fn vedette(folder: &TempDir, words: &str) -> Vedette {
    Vedette::new(folder.path(), words.split_whitespace())
}

#[test]
fn wrong_arguments_exit_with_2_and_say_what_would_be_right() {
    struct Case(&'static str, &'static [&'static str]);
    let cases = [
        Case("", &["Usage: vedette", "Commands:"]),
        Case("chekc", &["unrecognized subcommand 'chekc'", "check"]),
        Case("--log loud check", &["--log", "`loud` is no log level", "error, warn, info, debug or trace"]),
        Case("check --log vedette=shout", &["`vedette=shout` is no log level"]),
        Case("check --jsno", &["unexpected argument '--jsno'", "--json"]),
        Case("replay", &["<FILE>"]),
        Case("replay a.avi --start yesterday", &["--start", "yesterday"]),
        Case("probe", &["<URL>"]),
        Case("probe rtsp://127.0.0.1/ --transport sctp", &["sctp", "tcp, udp"]),
        // `ps` shows arguments: there is no way to give a password as one.
        Case("probe rtsp://127.0.0.1/ --password x", &["unexpected argument '--password'", "--password-env"]),
        Case("discover --seconds 0", &["0", "1..=60"]),
        Case("discover --interface eth0 --address 10.0.0.1", &["cannot be used with"]),
        Case("demo --password x", &["unexpected argument '--password'"]),
        Case("run --password x", &["unexpected argument '--password'"]),
        Case("model eval", &["--coco"]),
        Case("model eval --coco pictures", &["`pictures` is no set", "IMAGES_DIR:ANNOTATIONS.json"]),
        Case("model eval --form int4 --coco a:b", &["int4", "fp32, u8s8, s8s8"]),
        Case("model import", &["<FILE.onnx>"]),
        Case("model import a.onnx --size 640", &["`640` is no size", "640x640"]),
        Case("model import a.onnx --mean 1,2", &["`1,2` is neither a number nor three"]),
        Case("model quantize --model m", &["--frames"]),
        Case("model quantize --frames d", &["<FILE.onnx>"]),
        Case("model quantize --model m --from-cameras 30", &["`30` is no length of time", "30m"]),
        Case("model quantize --model m --frames d --range best", &["`best` is none of auto, minmax"]),
        Case("eval events --truth x.csv", &["--clips"]),
    ];
    let folder = folder();
    for Case(words, expected) in cases {
        let ran = vedette(&folder, words).run();
        ran.expect(2, expected);
        assert_eq!(ran.out, "", "{}: errors go to stderr", ran.shown);
    }
}

#[test]
fn every_verb_explains_itself() {
    let folder = folder();
    let verbs = [
        "run",
        "demo",
        "check",
        "probe",
        "discover",
        "replay",
        "doctor",
        "schema",
        "model",
        "model list",
        "model eval",
        "eval",
        "eval events",
        "outbox",
        "outbox status",
        "outbox purge",
        "version",
    ];
    let all = vedette(&folder, "--help").run();
    for verb in verbs {
        let ran = vedette(&folder, &format!("{verb} --help")).run();
        ran.expect(0, &["Usage: vedette", "--config <DIR>", "--log <FILTER>"]);
        assert_eq!(ran.err, "", "{}", ran.shown);
        assert!(ran.out.lines().all(|line| line.chars().count() <= 110), "{}:\n{}", ran.shown, ran.out);
        assert!(all.out.contains(&format!("  {}", verb.split(' ').next().unwrap_or_default())), "{verb}");
    }
    all.expect(0, &["Exit codes", "78", "69"]);
}

#[test]
fn versions_are_those_of_what_is_loaded() {
    let folder = folder();
    let version = vedette(&folder, "version --json").run();
    let value = version.expect(0, &[]).json();
    assert_eq!(value["vedette"], env!("CARGO_PKG_VERSION"));
    for library in ["gstreamer", "onnxruntime"] {
        let text = value[library].as_str().unwrap_or_default();
        assert!(text.starts_with("1."), "{library}: {text}");
    }
    let plain = vedette(&folder, "version").run();
    plain.expect(0, &["vedette", "gstreamer", "onnxruntime"]);
    assert_eq!((plain.err.as_str(), version.err.as_str()), ("", ""), "results alone, nothing else");
}

/// Elsewhere no run prints colours, which the harness asserts.
#[test]
fn a_terminal_gets_colours_unless_they_are_unwanted() {
    let binary = beside_this("vedette").expect("built");
    let on_terminal = |unwanted: &str| {
        let folder = folder();
        let line = format!("{} check --config nowhere", binary.display());
        let out = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .current_dir(folder.path())
            .env("NO_COLOR", unwanted)
            .stdin(Stdio::null())
            .output()
            .expect("script gives a terminal");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let coloured = on_terminal("");
    assert!(coloured.contains("\x1b[1;31merror:\x1b[0m the configuration is refused"), "{coloured}");
    let plain = on_terminal("1");
    assert!(plain.contains("error: the configuration is refused") && !plain.contains('\x1b'), "{plain}");
}

/// A reader that has seen enough (`| head -1`) is no failure.
#[test]
fn a_closed_pipe_ends_a_verb_quietly() {
    let mut child = Command::new(beside_this("vedette").expect("built"))
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    // Closed before the first byte can be written.
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    assert_eq!((child.wait().expect("ends").code(), err.as_str()), (Some(0), ""));
}

#[test]
fn the_schema_accepts_the_examples_and_nothing_misspelt() {
    let folder = folder();
    let schema: serde_json::Value =
        serde_json::from_str(&vedette(&folder, "schema").run().expect(0, &[]).out).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    let json = |text: &str| {
        let table: toml::Table = text.parse().expect("TOML");
        serde_json::to_value(table).expect("JSON")
    };
    for name in ["etc/vedette.toml", "etc/conf.d/gate.toml.example", "tests/truth/vtest/vedette.toml"] {
        let text = std::fs::read_to_string(root().join(name)).expect(name);
        let value = json(&text);
        let wrong: Vec<_> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{name}");
        // The commented defaults are what an integrator takes away the # from.
        let shown: Vec<_> = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with([' ', ':']) => rest,
                _ => line,
            })
            .collect();
        let value = json(&shown.join("\n"));
        let wrong: Vec<_> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{name}, all shown");
    }
    for wrong in
        ["[node]\nidd = \"x\"", "[camera.gate]\nurl = 5", "[camera.gate]\nurl = \"rtsp://a/\"\nfsp = 5"]
    {
        assert!(!schema.is_valid(&json(wrong)), "{wrong}");
    }
}
