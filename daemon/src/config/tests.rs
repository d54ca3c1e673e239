//! Loading as users see it: bad configurations with the words they give (`cases/`), layers, secrets, hash.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use vedette_core::Class;

use super::*;

fn options() -> Options {
    Options { host_name: "Box_1.local".to_owned(), ..Options::default() }
}

fn loaded(text: &str) -> Config {
    from_text("t.toml", text, &options()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// A case is a TOML file whose comments `#:file PATH`, `#:mode OCTAL`, `#:env NAME=VALUE` and `#:labels A,B` spread
/// it over several files and the environment. What comes before the first `#:file` is `vedette.toml`.
fn run_case(case: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    let mut options = Options { config_dir: root.path().to_owned(), ..options() };
    let mut files: Vec<(PathBuf, String, u32)> =
        vec![(root.path().join("vedette.toml"), String::new(), 0o644)];
    let mut labels = None;
    for line in case.lines() {
        let current = files.last_mut().unwrap();
        if let Some(path) = line.strip_prefix("#:file ") {
            let mode = if path.ends_with(".secrets") { 0o600 } else { 0o644 };
            files.push((root.path().join(path), String::new(), mode));
        } else if let Some(mode) = line.strip_prefix("#:mode ") {
            current.2 = u32::from_str_radix(mode, 8).unwrap();
        } else if let Some((name, value)) = line.strip_prefix("#:env ").and_then(|l| l.split_once('=')) {
            options.environment.push((name.to_owned(), value.to_owned()));
        } else if let Some(list) = line.strip_prefix("#:labels ") {
            labels = Some(list.split(',').map(Class::new).collect::<Vec<_>>());
        } else {
            writeln!(current.1, "{line}").unwrap();
        }
    }
    for (path, text, mode) in files.iter().filter(|(_, text, _)| !text.is_empty()) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode)).unwrap();
    }
    let existing = |name: &str| Some(root.path().join(name)).filter(|path| path.exists());
    options.state_dir = existing("state");
    options.credentials_dir = existing("credentials");
    let said = match load(&options) {
        Err(diagnostics) => format!("refused\n{diagnostics}\n"),
        Ok(config) => {
            let mut diagnostics = config.warnings.clone();
            diagnostics.0.extend(labels.map(|l| config.check_labels(&l).0).unwrap_or_default());
            format!("accepted\n{diagnostics}\n")
        }
    };
    said.replace(&format!("{}/", root.path().display()), "")
        .replace(&root.path().display().to_string(), "DIR")
}

/// `UPDATE_GOLDEN=1` rewrites the expected words.
#[test]
fn every_case_says_what_stands_beside_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/cases");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 25, "only {} cases in {}", cases.len(), folder.display());
    let mut wrong = Vec::new();
    for path in cases {
        let said = run_case(&std::fs::read_to_string(&path).unwrap());
        assert!(!said.contains("hunter2"), "{} shows a password:\n{said}", path.display());
        let golden = path.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if said != expected {
            wrong.push(format!("== {}\n-- expected\n{expected}-- said\n{said}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_a_configuration_with_defaults() {
    let config = loaded("");
    assert_eq!(config.node.id.as_str(), "box-1-local");
    assert_eq!(config.inference.providers, ["cpu"]);
    assert_eq!(config.inference.model, "nanodet-g-416");
    assert!(config.cameras.is_empty() && config.brokers.is_empty() && config.warnings.is_empty());
}

#[test]
fn every_key_arrives() {
    let config = loaded(
        r#"
        [node]
        id = "plant7"
        time_zone = "Europe/Berlin"
        [inference]
        providers = ["xnnpack", "cpu"]
        threads = 2
        strict = true
        [outbox]
        max_events = 5000
        max_mib = 64
        [broker.factory]
        url = "mqtt://broker:1884"
        prefix = "site/vedette"
        keep_alive = "60s"
        version = "3.1.1"
        [broker.local]
        url = "embedded"
        [camera.gate]
        url = "rtsp://10.0.0.17/stream2"
        transport = "udp"
        fps = 2
        mask.car-park = [[0.0, 0.0], [0.4, 0.0], [0.4, 0.3]]
        zone.yard = [[0.1, 0.4], [0.9, 0.4], [0.9, 1.0], [0.1, 1.0]]
        line.kerb = [[0.1, 0.7], [0.9, 0.7]]
        [camera.gate.rule.night]
        kind = "intrusion"
        zone = "yard"
        classes = ["person"]
        cooldown = "60s"
        enter_after = "2s"
        [camera.gate.rule.count]
        kind = "line_crossing"
        line = "kerb"
        "#,
    );
    assert_eq!((config.node.id.as_str(), config.node.time_zone_name.as_str()), ("plant7", "Europe/Berlin"));
    assert!(config.inference.strict && config.inference.threads == 2);
    assert_eq!((config.outbox.max_events, config.outbox.max_mib), (5000, 64));
    let factory = &config.brokers["factory"];
    assert_eq!((factory.client_id.as_str(), factory.keep_alive), ("vedette-plant7", Span::secs(60)));
    assert_eq!(
        (factory.version, config.brokers["local"].version),
        (Some(MqttVersion::V311), Some(MqttVersion::V311))
    );
    let gate = &config.cameras["gate"];
    assert_eq!((gate.fps, gate.transport), (2.0, Transport::Udp));
    assert_eq!((gate.masks.len(), gate.zones.len(), gate.lines.len()), (1, 1, 1));
    let night = &gate.rules["night"];
    assert_eq!(night.common.cooldown, Span::secs(60));
    assert_eq!(night.common.max_per_hour, 20);
    assert_eq!(night.config.zone().map(Name::as_str), Some("yard"));
    assert!(format!("{night:?}").contains("2s"));
}

#[test]
fn whom_a_camera_trusts_arrives() {
    let print = format!("sha256:{}", "0a".repeat(32));
    let config = loaded(&format!(
        "[camera.a]\nurl = \"rtsps://cam/a\"\npin = \"{print}\"\n\
         [camera.b]\nurl = \"rtsps://cam/b\"\ntls = \"insecure\"\n\
         [camera.c]\nurl = \"rtsps://cam/c\"\n"
    ));
    let trust = |name: &str| config.cameras[name].trust.clone();
    assert_eq!(trust("a"), Trust::Pin(print.parse().unwrap()));
    assert_eq!((trust("b"), trust("c")), (Trust::Insecure, Trust::System));
    assert_eq!(config.cameras["a"].transport, Transport::Auto);
}

#[test]
fn later_layers_win_key_by_key() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "vedette.toml",
        "[camera.gate]\nurl = \"rtsp://a/1\"\nfps = 1\n[camera.yard]\nurl = \"rtsp://b/1\"\n",
    );
    write("conf.d/20.toml", "[camera.gate]\nfps = 3\ntransport = \"udp\"\n");
    write("conf.d/10.toml", "[camera.gate]\nfps = 2\n");
    write("conf.d/30.toml.example", "nonsense");
    write("state/conf.d/gate.toml", "[camera.gate]\nzone.yard = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]\n");
    write("ca.pem", "");
    write("conf.d/broker.toml", "[broker.factory]\nurl = \"mqtts://broker\"\nca = \"ca.pem\"\n");
    write("credentials/vedette.secrets", "[camera.gate]\nuser = \"me\"\npassword = \"hunter2\"\n");
    let config = load(&Options {
        config_dir: root.path().to_owned(),
        state_dir: Some(root.path().join("state")),
        credentials_dir: Some(root.path().join("credentials")),
        environment: vec![("VEDETTE_CAMERA__YARD__FPS".to_owned(), "7.5".to_owned())],
        ..options()
    })
    .unwrap();
    let gate = &config.cameras["gate"];
    assert_eq!((gate.fps, gate.transport, gate.zones.len()), (3.0, Transport::Udp, 1));
    assert_eq!(gate.password.as_ref().map(Secret::reveal), Some("hunter2"));
    assert_eq!(config.cameras["yard"].fps, 7.5);
    assert_eq!(
        config.brokers["factory"].ca,
        Some(root.path().join("ca.pem")),
        "paths begin at the directory"
    );
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_login_in_the_url_works_and_leaves_it() {
    let config = loaded("[camera.gate]\nurl = \"rtsp://me:hunter2@10.0.0.17/a\"\n");
    let gate = &config.cameras["gate"];
    assert_eq!(gate.url, "rtsp://10.0.0.17/a");
    assert_eq!(gate.user.as_deref(), Some("me"));
    assert_eq!(gate.password.as_ref().map(Secret::reveal), Some("hunter2"));
    assert_eq!(config.warnings.0.len(), 1);
    assert!(!config.warnings.to_string().contains("hunter2"));
}

#[test]
fn the_hash_sees_settings_and_nothing_else() {
    let base = "[camera.gate]\nurl = \"rtsp://a/1\"\nfps = 3\n";
    let hash = loaded(base).hash;
    assert_eq!(hash.len(), 8);
    let same = [
        "# comment\n[camera.gate]\nfps = 3\nurl = 'rtsp://a/1'\n",
        "[camera.gate]\nurl = \"rtsp://a/1\"\nfps = 3\nuser = \"me\"\npassword = \"hunter2\"\n",
        "[camera.gate]\nurl = \"rtsp://me:hunter2@a/1\"\nfps = 3\n",
    ];
    for text in same {
        assert_eq!(loaded(text).hash, hash, "{text}");
    }
    let password_zone = format!("{base}zone.password = [[0, 0], [1, 0], [1, 1]]\n");
    for text in ["[camera.gate]\nurl = \"rtsp://a/2\"\nfps = 3\n", &password_zone] {
        assert_ne!(loaded(text).hash, hash, "{text}");
    }
}

#[test]
fn diagnostics_serialise_for_programs() {
    let errors = from_text("t.toml", "nodes = 1", &options()).unwrap_err();
    let json = serde_json::to_value(&errors).unwrap();
    assert_eq!(json[0]["level"], "error");
    assert_eq!((json[0]["line"].as_u64(), json[0]["column"].as_u64()), (Some(1), Some(1)));
    assert_eq!(json[0]["snippet"]["text"], "nodes = 1");
}

/// The installed examples load, the commented keys of `vedette.toml` included.
#[test]
fn the_installed_examples_load() {
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc");
    let main = std::fs::read_to_string(etc.join("vedette.toml")).unwrap();
    assert!(loaded(&main).cameras.is_empty());
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("conf.d")).unwrap();
    std::fs::write(root.path().join("vedette.toml"), &main).unwrap();
    for entry in std::fs::read_dir(etc.join("conf.d")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let name = name.strip_suffix(".example").expect("examples should not be active configuration");
        std::fs::copy(&path, root.path().join("conf.d").join(name)).unwrap();
    }
    let config = load(&Options { config_dir: root.path().to_owned(), ..options() })
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    let gate = &config.cameras["gate"];
    assert!(
        !gate.rules.is_empty() && !gate.zones.is_empty() && !gate.lines.is_empty() && !gate.masks.is_empty()
    );
    // A line that is a comment's `# ` and a key or a table becomes configuration when its user takes the `# ` away.
    let uncommented: Vec<&str> = main.lines().map(|line| line.strip_prefix("#").unwrap_or(line)).collect();
    let uncommented: Vec<&str> =
        uncommented.into_iter().filter(|l| l.starts_with('[') || l.contains(" = ")).collect();
    let config = loaded(&uncommented.join("\n"));
    assert_eq!(config.brokers.len(), 1);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let _ = from_text("t.toml", &text, &options()).map_err(|e| e.to_string());
    }

    /// Texts that come close: pieces of configuration in any order.
    #[test]
    fn no_shuffled_configuration_makes_it_panic(pieces in proptest::collection::vec(prop_oneof![
        Just("[camera.gate]\n"), Just("[camera.gate.rule.night]\n"), Just("kind = \"intrusion\"\n"), Just("zone = "),
        Just("\"yard\"\n"), Just("[camera]\n"), Just("gate = 5\n"), Just("url = \"rtsp://a:b@c/\"\n"), Just("["), Just("]"),
        Just("[0.1, 0.2]"), Just(", "), Just("\n"), Just("fps = nan\n"), Just("[camera.gate.zone]\n"), Just("yard = "),
        Just("[broker.\"\"]\n"), Just("password = \"\"\"\n"), Just("hunter2"), Just("é🦀"), Just("threads = -1\n"), Just("[inference]\n"),
        Just("1979-05-27\n"), Just("99999999999999999999\n"), Just("[[camera]]\n"),
    ], 0..14), variable in "[A-Z_]{0,20}", value in ".{0,12}") {
        let environment = vec![(format!("VEDETTE_{variable}"), value)];
        let said = from_text("t.toml", &pieces.concat(), &Options { environment, ..options() }).map_err(|e| e.to_string());
        // A password is only known as one behind its key.
        let before = |at: usize| at.checked_sub(1).map_or("", |at| pieces[at]);
        let mut at_key = pieces.iter().enumerate().filter(|(_, piece)| **piece == "hunter2").map(|(at, _)| before(at));
        if let Err(said) = said && at_key.all(|piece| piece.starts_with("password")) {
            prop_assert!(!said.contains("hunter2"), "{}", said);
        }
    }
}

#[test]
fn where_quotes_of_a_password_do_not_match_nothing_of_it_is_taken_for_a_key() {
    let text = "password = \"\"\"\npassword = \"\"\"\nhunter2password = \"\"\"\n";
    let wrong = from_text("a.toml", text, &Options::default()).unwrap_err().to_string();
    assert!(wrong.starts_with("a.toml:") && !wrong.contains("hunter2"), "{wrong}");
}

#[test]
fn a_fault_at_the_end_of_a_line_of_windows_is_told_and_not_a_panic() {
    let wrong = from_text("a.toml", "[camera.a]\r\nurl = \"rtsp://h/a\r\nfps = 5\r\n", &Options::default());
    assert!(wrong.unwrap_err().to_string().starts_with("a.toml:2:"));
}

#[test]
fn a_password_in_a_url_is_not_shown_whatever_it_holds() {
    for login in ["me:it's hidden", "me:hid\\\"den", "me:p@hidden"] {
        let text = format!("[camera.a]\nurl = \"rtsp://{login}@10.0.0.1/a\"\nfsp = 1\n");
        let wrong = from_text("a.toml", &text, &Options::default()).unwrap_err().to_string();
        assert!(!wrong.contains("hidden") && !wrong.contains("den@"), "{wrong}");
    }
    let text = "[camera.a]\nurl = \"rtsp://h/a\"\nuser-pw = \"hunter2\"\npw = \"hunter3\"\n";
    let wrong = from_text("a.toml", text, &Options::default()).unwrap_err().to_string();
    assert!(!wrong.contains("hunter"), "{wrong}");
}
