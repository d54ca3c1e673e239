//! No secret leaves the daemon: everything that it says, sends to others than their owners, or keeps is searched for each
//! of them: passwords in plain, percent-encoded and base64, keys as bytes and in the encodings of bytes.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER, HEXUPPER};
use url::Url;
use vedette::signing;
use vedette_core::Secret;
use vedette_tests::binary::Vedette;
use vedette_tests::certificates::{Authority, Identity, NOW};
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::daemon::{Daemon, Home};
use vedette_tests::mosquitto::{self, Mosquitto};
use vedette_tests::need_detector;
use vedette_tests::receiver::Receiver;
use vedette_tests::site::camera_text;
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

/// Without the padding, so that it is found in longer ones too.
fn base64(bytes: &[u8]) -> String {
    BASE64_NOPAD.encode(bytes)
}

/// Every character but letters and digits.
fn percent(text: &str) -> String {
    let byte =
        |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}

/// As it stands in a URL that the `url` crate has made or read, which leaves more characters as they are.
fn in_userinfo(text: &str) -> String {
    let mut url = Url::parse("rtsp://host").unwrap();
    url.set_password(Some(text)).unwrap();
    url.password().unwrap().to_owned()
}

/// The secret half of an Ed25519 key in PEM: the 32 bytes behind what RFC 8410 begins every such key with.
fn seed(pem: &str) -> [u8; 32] {
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = BASE64.decode(lines.as_bytes()).unwrap();
    assert_eq!(der[12..16], [0x04, 0x22, 0x04, 0x20], "an octet string of 34 bytes with one of 32");
    der[16..48].try_into().unwrap()
}

/// What must not be found, each with a word for messages.
struct Hidden(Vec<(String, Vec<u8>)>);

impl Hidden {
    /// The constants of this file, and both keys, which are in PEM.
    fn new(client: &Path, signing: &Path) -> Self {
        let mut hidden = Self(Vec::new());
        let plain = [CAMERA, WRONG, IN_URL, BROKER, WRONG_BROKER, TOKEN, IN_PATH];
        for (at, secret) in plain.into_iter().enumerate() {
            hidden.add(format!("secret {at}"), secret);
            hidden.add(format!("secret {at}, percent-encoded"), percent(secret));
            hidden.add(format!("secret {at}, as in a URL"), in_userinfo(secret));
            hidden.add(format!("secret {at}, base64"), base64(secret.as_bytes()));
            for user in [USER, "box"] {
                let login = format!("{user}:{secret}");
                hidden.add(format!("login {at}, base64"), base64(login.as_bytes()));
            }
        }
        let pem = fs::read_to_string(client).unwrap();
        hidden.add("the client's key".to_owned(), pem.lines().nth(1).unwrap());
        hidden.add_signing_key(&fs::read_to_string(signing).unwrap());
        hidden
    }

    fn add(&mut self, what: String, secret: impl Into<Vec<u8>>) {
        self.0.push((what, secret.into()));
    }

    fn add_signing_key(&mut self, pem: &str) {
        let seed = seed(pem);
        self.add("the signing key, PEM".to_owned(), pem.lines().nth(1).unwrap());
        self.add("the signing key, base64".to_owned(), base64(&seed));
        self.add("the signing key, hexadecimal".to_owned(), HEXLOWER.encode(&seed));
        self.add("the signing key, HEXADECIMAL".to_owned(), HEXUPPER.encode(&seed));
        // As `{:?}` writes bytes, without the brackets.
        let listed = format!("{seed:?}");
        self.add("the signing key, a list".to_owned(), &listed[1..listed.len() - 1]);
        self.add("the signing key's bytes".to_owned(), seed);
    }

    fn assert_not_in(&self, place: &str, bytes: &[u8]) {
        for (what, secret) in &self.0 {
            let told = bytes.windows(secret.len()).any(|window| window == secret);
            // Not the text itself: it would stand in the test's log.
            assert!(!told, "{place} tells {what}");
        }
    }

    /// In no file below `folder` but the signing key's own; how many files that were.
    fn assert_not_below(&self, folder: &Path) -> usize {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let look = |path: PathBuf| {
            if path.is_dir() {
                return self.assert_not_below(&path);
            }
            if path.ends_with(signing::FILE) {
                return 0;
            }
            self.assert_not_in(&path.display().to_string(), &fs::read(&path).unwrap_or_default());
            1
        };
        entries.map(look).sum()
    }
}

#[test]
fn the_search_finds_what_it_is_for() {
    assert_eq!((base64(b"ab"), percent("a/b+c")), ("YWI".into(), "a%2Fb%2Bc".into()));
    assert_eq!(in_userinfo("a/b+c"), "a%2Fb+c");
    let folder = tempfile::tempdir().unwrap();
    let (client, signing) = (folder.path().join("client.key"), folder.path().join(signing::FILE));
    fs::write(&client, "-----BEGIN\nMIGHAgEA\n-----END\n").unwrap();
    // The first key of RFC 8032, 7.1.
    let key = "9D61B19DEFFD5A60BA844AF492EC2CC44449C5697B326919703BAC031CAE7F60";
    let der = HEXUPPER.decode(format!("302E020100300506032B657004220420{key}").as_bytes()).unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(&der));
    fs::write(&signing, pem).unwrap();
    let (hidden, seed) = (Hidden::new(&client, &signing), HEXUPPER.decode(key.as_bytes()).unwrap());
    let texts = [
        CAMERA,
        "MIGHAgEA",
        &percent(TOKEN),
        &in_userinfo(CAMERA),
        &base64(format!("{USER}:{CAMERA}").as_bytes()),
        key,
        &key.to_lowercase(),
        &BASE64.encode(&seed),
        &BASE64.encode(&der),
        &format!("{seed:?}"),
        &format!("{der:02x?}").replace(", ", ""),
    ];
    for told in texts.map(str::as_bytes).into_iter().chain([&der[..]]) {
        let text = [b"a log line with ", told, b" within"].concat();
        let found = std::panic::catch_unwind(|| hidden.assert_not_in("here", &text));
        assert!(found.is_err(), "{}", String::from_utf8_lossy(told));
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
        "secrets_file = \"vedette.secrets\"\n[node]\nid = \"box\"\nsign = true\n\
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
    need_detector!();
    let (peers, home) = (peers(), Home::new());
    write_files(&home, &peers);
    let watcher = Subscriber::start("watcher", peers.broker.port(), Some(("box", BROKER)));
    let mut daemon = Daemon::start_with(&home, &[("VEDETTE_LOG", "trace"), ("RUST_BACKTRACE", "1")]);
    daemon.wait_for_log("a live camera", |log| log.contains("live, 640x360"));
    daemon.wait_for_log("a wrong login of a camera", |log| {
        log.contains("yard") && log.contains("misconfigured")
    });
    daemon.wait_for_log("a wrong login of a broker", |log| log.contains("[broker.second]"));
    watcher.events(3);
    let hidden = Hidden::new(&peers.identity.key, &home.state().join(signing::FILE));
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
    let messages = watcher.messages();
    assert!(messages.iter().any(|message| !message.get("signature").is_null()), "events are signed");
    for message in messages {
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
