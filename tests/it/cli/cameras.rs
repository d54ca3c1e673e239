//! Cameras and brokers that are wrong, away or refuse: `probe` says which and what to do; `run` says it once and goes
//! on with the others.

use std::time::Duration;

use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;
use rtsp::{gio, glib};
use vedette_core::{Clock, Secret, SystemClock};
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::testcam::{Auth, Options, TestCam};

use super::{folder, vedette, write};

const PASSWORD: &str = "correct-horse-7";
const WRONG: &str = "wrong-horse-8";
/// SIGTERM drains within 5 s; the rest is for a busy machine.
const STOP: Duration = Duration::from_secs(30);

fn camera(login: bool) -> TestCam {
    let clip = small_clip(Kind::H264).expect("ffmpeg makes clips");
    let login = login.then(|| (Auth::Digest, "watch".to_owned(), Secret::new(PASSWORD.to_owned())));
    TestCam::start(Options { login, ..Options::new(clip) }).expect("testcam starts")
}

/// A camera with a codec that is not received: MPEG-4 part 2, as old ones send.
struct OldCamera {
    main: glib::MainLoop,
    thread: Option<std::thread::JoinHandle<()>>,
    url: String,
}

impl OldCamera {
    fn start() -> Self {
        gstreamer::init().expect("GStreamer");
        let context = glib::MainContext::new();
        let main = glib::MainLoop::new(Some(&context), false);
        let server = rtsp::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service("0");
        let factory = rtsp::RTSPMediaFactory::new();
        factory.set_launch(
            "( videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=10/1 ! avenc_mpeg4 \
             ! rtpmp4vpay name=pay0 )",
        );
        server.mount_points().expect("mount points").add_factory("/main", factory);
        let source = server.create_source(gio::Cancellable::NONE).expect("a source");
        source.attach(Some(&context));
        let url = format!("rtsp://127.0.0.1:{}/main", server.bound_port());
        let looped = main.clone();
        let thread = std::thread::spawn(move || {
            let _alive = server;
            looped.run();
        });
        Self { main, thread: Some(thread), url }
    }
}

impl Drop for OldCamera {
    fn drop(&mut self) {
        self.main.quit();
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn the_test_picture_is_looked_at_without_any_camera() {
    let ran = vedette(&folder(), "probe test://").run();
    ran.expect(0, &["test://", "H.264", "640x360", "every 2.0 s"]);
    for word in ["login", "transport", "clock", "VBR"] {
        assert!(!ran.out.contains(word), "{word}: {}", ran.out);
    }
    let ran = vedette(&folder(), "probe v4l2:///dev/video97").run();
    ran.expect(1, &["refused:", "v4l2:///dev/video97 is not there", "plug the camera in"]);
}

#[test]
fn probe_tells_what_a_camera_sends() {
    let camera = camera(true);
    let folder = folder();
    let words = format!("probe {} --user watch --json", camera.url());
    let clock = SystemClock::new();
    let ran = vedette(&folder, &words).env("VEDETTE_PROBE_PASSWORD", PASSWORD).secret(PASSWORD).run();
    let value = ran.expect(0, &[]).json();
    // The look itself is bounded; starting a debug build on a busy machine comes on top.
    assert!(clock.now().0 < Duration::from_secs(30), "took {:?}", clock.now().0);
    assert!(value["seconds"].as_f64().is_some_and(|s| s > 1.0 && s <= 10.0), "{value}");
    assert_eq!(value["codec"], "h264");
    assert_eq!((value["width"].as_u64(), value["height"].as_u64()), (Some(640), Some(360)));
    assert_eq!((value["login"].as_str(), value["transport"].as_str()), (Some("digest"), Some("tcp")));
    assert_eq!(value["profile"], "high");
    let near = |key: &str, expected: f64, by: f64| {
        let found = value[key].as_f64().unwrap_or(f64::NAN);
        assert!((found - expected).abs() <= by, "{key}: {found}, expected {expected}");
    };
    near("fps", 25.0, 1.0);
    near("gop", 2.0, 0.1);
    assert_eq!(value["reordered"], false);

    let named = vedette(&folder, &format!("probe {} --user watch --password-env GATE", camera.url()))
        .env("GATE", PASSWORD)
        .secret(PASSWORD)
        .run();
    named.expect(0, &["H.264 high, 640x360, 25.", "every 2.0 s", "no B-frames", "digest", "TCP"]);
    assert_eq!(named.err, "", "results alone, nothing else");
}

#[test]
fn probe_says_what_is_wrong_and_what_to_do() {
    struct Case(String, &'static str, &'static [&'static str]);
    let (camera, old) = (camera(true), OldCamera::start());
    let url = camera.url().to_owned();
    let with_login = url.replace("rtsp://", &format!("rtsp://watch:{WRONG}@"));
    let cases = [
        Case(url.clone(), PASSWORD, &["auth:", "asks for a login", "--user"]),
        Case(
            format!("{url} --user watch"),
            WRONG,
            &["auth:", "refuses user and password", "VEDETTE_PROBE_PASSWORD"],
        ),
        Case(with_login, "", &["auth:", "refuses user and password", "`ps` shows"]),
        Case(url.replace("/main", "/nothing") + " --user watch", PASSWORD, &["not-found:", "no such stream"]),
        Case("rtsp://127.0.0.1:1/main".to_owned(), "", &["refused:", "127.0.0.1:1", "address and port"]),
        Case("rtsp://camera.invalid/main".to_owned(), "", &["`camera.invalid`", "name", "address"]),
        Case("http://127.0.0.1/video".to_owned(), "", &["bad-url:", "rtsp://, rtsps://, file://"]),
        Case("127.0.0.1/video".to_owned(), "", &["bad-url:", "rtsp://HOST[:PORT]/PATH"]),
        Case(
            "file:///etc/passwd".to_owned(),
            "",
            &["codec:", "holds no H.264, H.265 or MJPEG", "vedette replay FILE"],
        ),
        Case(old.url.clone(), "", &["codec:", "MP4V-ES", "H.264, H.265 or MJPEG"]),
    ];
    let folder = folder();
    for Case(words, password, says) in cases {
        let vedette = vedette(&folder, &format!("probe {words}")).secret(PASSWORD).secret(WRONG);
        let ran = match password {
            "" => vedette.run(),
            _ => vedette.env("VEDETTE_PROBE_PASSWORD", password).run(),
        };
        ran.expect(1, says).expect(1, &["error: "]);
        assert_eq!(ran.out, "", "{}", ran.shown);
    }
}

/// Every camera that is wrong is named with its remedy, while the one that is right is watched; a broker that is
/// away does not matter; the end is clean.
#[test]
fn a_bad_camera_or_broker_never_stops_the_others() {
    let (good, locked, old) = (camera(false), camera(true), OldCamera::start());
    let folder = folder();
    let text = format!(
        "secrets_file = \"vedette.secrets\"\n\
         [broker.away]\nurl = \"mqtt://127.0.0.1:1\"\n\
         [camera.good]\nurl = \"{good}\"\n\
         [camera.locked]\nurl = \"{locked}\"\n\
         [camera.old]\nurl = \"{old}\"\n\
         [camera.off]\nurl = \"rtsp://127.0.0.1:1/main\"\n\
         [camera.misled]\nurl = \"{good}\"\npipeline = \"rtsp-h265\"\n",
        good = good.url(),
        locked = locked.url(),
        old = old.url,
    );
    write(folder.path(), "etc/vedette.toml", text);
    write(
        folder.path(),
        "etc/vedette.secrets",
        format!("[camera.locked]\nuser = \"watch\"\npassword = \"{WRONG}\"\n"),
    );
    let secrets = folder.path().join("etc/vedette.secrets");
    std::fs::set_permissions(&secrets, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("mode 0600");
    let running = vedette(&folder, "run --config etc --state state").secret(WRONG).start();
    let lines: [&[&str]; 6] = [
        &["INFO", "good", "live, 640x360"],
        &["WARN", "away", "127.0.0.1:1", "events are kept, trying again"],
        &["WARN", "locked", "auth:", "refuses user and password", "vedette.secrets", "next attempt in"],
        &["WARN", "old", "codec:", "MP4V-ES", "next attempt in"],
        &["WARN", "off", "refused:", "127.0.0.1:1", "next attempt in"],
        &["WARN", "misled", "codec:", "next attempt in"],
    ];
    for line in lines {
        running.wait_for(line);
    }
    running.signal("TERM");
    running.end(STOP).expect(0, &["stopped"]);
}
