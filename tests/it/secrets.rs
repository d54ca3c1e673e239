//! No secret leaves the daemon: everything that it says, sends to others than their owners, or keeps is searched for each
//! of them, in plain, percent-encoded and base64.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use vedette_core::Secret;
use vedette_tests::binary::Vedette;
use vedette_tests::certificates::{Authority, Identity, NOW};
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::daemon::{Daemon, Home};
use vedette_tests::mosquitto::{self, Mosquitto};
use vedette_tests::receiver::Receiver;
use vedette_tests::site::{self, camera_text};
use vedette_tests::subscriber::Subscriber;
use vedette_tests::testcam::{Auth, Options, TestCam};

const USER: &str = "viewer";
const CAMERA: &str = "cam/Geheim+7";
const WRONG: &str = "cam/Falsch+8";
const IN_URL: &str = "url-Geheim-9";
const BROKER: &str = "mq/Geheim+10";
const WRONG_BROKER: &str = "mq/Falsch+11";
const TOKEN: &str = "hook/Geheim+12";
const IN_PATH: &str = "pfad-Geheim-13";

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let all =
            chunk.iter().enumerate().fold(0_u32, |sum, (at, byte)| sum | u32::from(*byte) << (16 - 8 * at));
        let digit = move |at: usize| char::from(DIGITS[(all >> (18 - 6 * at)) as usize & 63]);
        (0..=chunk.len()).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn percent(text: &str) -> String {
    let byte =
        |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}

/// What must not be found, each with a word for messages.
struct Hidden(Vec<(String, String)>);

impl Hidden {
    fn new(key: &Path) -> Self {
        let mut all = Vec::new();
        let plain = [CAMERA, WRONG, IN_URL, BROKER, WRONG_BROKER, TOKEN, IN_PATH];
        for (at, secret) in plain.into_iter().enumerate() {
            all.push((format!("secret {at}"), secret.to_owned()));
            all.push((format!("secret {at}, percent-encoded"), percent(secret)));
            all.push((format!("secret {at}, base64"), base64(secret.as_bytes())));
            for user in [USER, "box"] {
                let login = format!("{user}:{secret}");
                all.push((format!("login {at}, base64"), base64(login.as_bytes())));
            }
        }
        let pem = fs::read_to_string(key).unwrap();
        all.push(("the client's key".to_owned(), pem.lines().nth(1).unwrap().to_owned()));
        Self(all)
    }

    fn assert_not_in(&self, place: &str, bytes: &[u8]) {
        for (what, secret) in &self.0 {
            let told = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            // Not the text itself: it would stand in the test's log.
            assert!(!told, "{place} tells {what}");
        }
    }

    fn assert_not_below(&self, folder: &Path) -> usize {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let look = |path: PathBuf| {
            if path.is_dir() {
                return self.assert_not_below(&path);
            }
            self.assert_not_in(&path.display().to_string(), &fs::read(&path).unwrap_or_default());
            1
        };
        entries.map(look).sum()
    }
}

#[test]
fn the_search_finds_what_it_is_for() {
    assert_eq!(
        (base64(b"viewer:x"), base64(b"ab"), percent("a/b")),
        ("dmlld2VyOng".into(), "YWI".into(), "a%2Fb".into())
    );
    let key = tempfile::NamedTempFile::new().unwrap();
    fs::write(key.path(), "-----BEGIN\nMIGHAgEA\n-----END\n").unwrap();
    let hidden = Hidden::new(key.path());
    for told in [CAMERA, "MIGHAgEA", &percent(TOKEN), &base64(format!("{USER}:{CAMERA}").as_bytes())] {
        let text = format!("a log line with {told} within");
        let found = std::panic::catch_unwind(|| hidden.assert_not_in("here", text.as_bytes()));
        assert!(found.is_err(), "{told}");
    }
}

struct Peers {
    camera: TestCam,
    broker: Mosquitto,
    receiver: Receiver,
    ours: Authority,
    identity: Identity,
}

fn peers() -> Peers {
    let login = Some((Auth::Digest, USER.to_owned(), Secret::new(CAMERA)));
    let ours = Authority::new("ours");
    let server = Some(ours.sign("DNS:localhost", NOW));
    let (login_of_broker, client_ca) = (Some(("box", BROKER)), Some(ours.ca()));
    let options = mosquitto::Options {
        login: login_of_broker,
        tls: true,
        identity: server,
        client_ca,
        ..Default::default()
    };
    Peers {
        camera: TestCam::start(Options { login, ..Options::new(small_clip(Kind::H264).unwrap()) }).unwrap(),
        broker: Mosquitto::start(options),
        receiver: Receiver::start(),
        identity: ours.sign("DNS:box", NOW),
        ours,
    }
}

/// Cameras and brokers with right and wrong logins, a login in a URL, a client's key, a webhook with token and key.
fn write_files(home: &Home, peers: &Peers) {
    let Peers { camera, broker, receiver, ours, identity } = peers;
    let tls = format!(
        "url = \"mqtts://localhost:{}\"\nca = \"{}\"\nclient_certificate = \"{}\"\nclient_key = \"{}\"\n",
        broker.tls_port(),
        ours.ca().display(),
        identity.certificate.display(),
        identity.key.display()
    );
    let other = camera.url().replacen("rtsp://", &format!("rtsp://{USER}:{IN_URL}@"), 1);
    let text = format!(
        "secrets_file = \"vedette.secrets\"\n[node]\nid = \"box\"\n\
         [broker.main]\n{tls}commands = [\"status\", \"arm\"]\n[broker.second]\n{tls}client_id = \"second\"\n\
         [webhook.office]\nurl = \"{}\"\nca = \"{}\"\n",
        receiver.url("localhost", &format!("/hook?key={IN_PATH}")),
        receiver.ca().display()
    );
    let cameras = [("gate", camera.url()), ("yard", camera.url()), ("door", other.as_str())];
    let cameras: String = cameras.iter().map(|(name, url)| camera_text(name, url, 5.0)).collect();
    home.write("vedette.toml", &(text + &cameras));
    let secrets = format!(
        "[camera.gate]\nuser = \"{USER}\"\npassword = \"{CAMERA}\"\n[camera.yard]\nuser = \"{USER}\"\npassword = \
         \"{WRONG}\"\n[broker.main]\nuser = \"box\"\npassword = \"{BROKER}\"\n[broker.second]\nuser = \"box\"\npassword \
         = \"{WRONG_BROKER}\"\n[webhook.office]\ntoken = \"{TOKEN}\"\n"
    );
    home.write("vedette.secrets", &secrets);
}

fn ask(broker: &Mosquitto, verb: &str, payload: &str) {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-p", &broker.port().to_string(), "-u", "box", "-P", BROKER, "-q", "1"]);
    command.args(["-t", &format!("vedette/box/command/{verb}"), "-m", payload]);
    assert!(command.status().unwrap().success());
}

fn verbs_tell_nothing(home: &Home, hidden: &Hidden) {
    for verb in [&["check"][..], &["outbox", "status"], &["doctor"], &["version"]] {
        for json in [&[][..], &["--json"]] {
            let folders = [Path::new("--config"), &home.config(), Path::new("--state"), &home.state()]
                .map(Path::to_owned);
            let arguments = verb.iter().chain(json).map(PathBuf::from).chain(folders);
            let vedette = Vedette::new(&home.config(), arguments)
                .env("VEDETTE_LOG", "trace")
                .env("VEDETTE_SHARE", share());
            let ran = vedette.run();
            hidden.assert_not_in(&ran.shown, ran.all().as_bytes());
        }
    }
}

fn share() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn no_secret_stands_in_a_log_a_message_a_file_or_the_process_table() {
    if let Some(reason) = site::lacks() {
        println!("skipped: {reason}");
        return;
    }
    let (peers, home) = (peers(), Home::new());
    write_files(&home, &peers);
    let hidden = Hidden::new(&peers.identity.key);
    let watcher = Subscriber::start("watcher", peers.broker.port(), Some(("box", BROKER)));
    let mut daemon = Daemon::start_with(&home, &[("VEDETTE_LOG", "trace"), ("RUST_BACKTRACE", "1")]);
    daemon.wait_for_log("a live camera", |log| log.contains("live, 640x360"));
    daemon.wait_for_log("a wrong login of a camera", |log| {
        log.contains("yard") && log.contains("misconfigured")
    });
    daemon.wait_for_log("a wrong login of a broker", |log| log.contains("[broker.second]"));
    watcher.events(3);
    peers.receiver.posts(3);
    ask(&peers.broker, "status", "{}");
    ask(&peers.broker, "arm", "not json");

    let process = PathBuf::from(format!("/proc/{}", daemon.pid()));
    for of in ["cmdline", "environ"] {
        match fs::read(process.join(of)) {
            Ok(bytes) => hidden.assert_not_in(of, &bytes),
            // Not dumpable: nobody but root reads it.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{of}: {error}"),
        }
    }
    let limits = fs::read_to_string(process.join("limits")).unwrap();
    let core: Vec<_> = limits.lines().filter(|line| line.starts_with("Max core file size")).collect();
    let words: Vec<_> = core[0].split_whitespace().skip(4).take(2).collect();
    assert_eq!(words, ["0", "0"], "{limits}");
    verbs_tell_nothing(&home, &hidden);
    daemon.signal("TERM");
    assert!(daemon.wait_end(Duration::from_secs(60)).0.success());

    hidden.assert_not_in("the log", daemon.log().as_bytes());
    for message in watcher.messages() {
        hidden.assert_not_in(&message.topic, &message.payload);
    }
    for post in peers.receiver.posts(3) {
        assert_eq!(
            post.header("authorization"),
            Some(format!("Bearer {TOKEN}").as_str()),
            "its owner gets it"
        );
        hidden.assert_not_in("an event", post.body().as_bytes());
    }
    assert!(hidden.assert_not_below(&home.state()) > 0, "there is an outbox");
}
