//! Cameras that stand on no network, and what is said of cameras' clocks, watched by a whole node.

use std::time::Duration;

use vedette::camera::CameraState;
use vedette_tests::audit::text;
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::need_detector;
use vedette_tests::site::{Plan, Site, camera_text};
use vedette_tests::subscriber::{Message, Subscriber};
use vedette_tests::testcam::{Options, TestCam};

/// Everything here happens within this, however busy the machine is.
const SOON: Duration = Duration::from_secs(90);

/// A node with these cameras, and a subscriber of its embedded broker.
fn node(cameras: &[String]) -> (Site, Subscriber) {
    let text = "[node]\nid = \"box\"\n[broker.main]\nurl = \"embedded\"\n".to_owned() + &cameras.concat();
    let site = Site::start(&Plan::new(text));
    let watcher = Subscriber::start("watcher", site.embedded_port(), None);
    (site, watcher)
}

fn events(watcher: &Subscriber, camera: &str) -> Vec<Message> {
    watcher.messages().into_iter().filter(|m| m.is_event() && text(m, "camera") == camera).collect()
}

#[test]
fn a_file_is_a_camera_with_people_and_the_test_picture_one_without() {
    need_detector!();
    let clip = small_clip(Kind::H264).unwrap();
    let (mut site, watcher) = node(&[
        camera_text("film", &format!("file://{}", clip.display()), 5.0),
        camera_text("trial", "test://", 5.0),
    ]);
    site.wait_live(&["film", "trial"], SOON);
    let began = site.clock().now();
    let received = site.received("film");
    site.wait_until("an event of the film", SOON, |_| !events(&watcher, "film").is_empty());
    // Longer than the film: it goes on from its beginning, and never counts as lost.
    site.wait_until("a second turn", SOON, |site| site.received("film") > received + 300);
    let (units, took) = (site.received("film") - received, site.clock().now().since(began).as_secs_f64());
    assert!(units as f64 <= 25.0 * took + 30.0, "{units} pictures in {took} s: that is no live pace");
    assert_eq!(site.camera("film").counters().reconnects.get(), 0);
    let event = events(&watcher, "film").remove(0);
    assert_eq!(text(&event, "clock"), "host", "a file has no clock of its own");
    assert!(events(&watcher, "trial").is_empty(), "nothing in it to detect");
    assert!(site.decoded("trial") > 20);
    assert!(site.stop());
}

#[test]
fn a_device_that_is_not_there_is_looked_for_again_and_again() {
    need_detector!();
    let (mut site, _watcher) = node(&[camera_text("usb", "v4l2:///dev/video97", 5.0)]);
    site.wait_until("the third look", SOON, |site| site.camera("usb").counters().reconnects.get() >= 2);
    let seen = site.camera("usb").snapshot();
    assert_eq!(seen.state, CameraState::Lost);
    let reason = seen.reason.unwrap_or_default();
    assert!(reason.contains("/dev/video97 is not there") && reason.contains("v4l2.conf"), "{reason}");
}

#[test]
fn a_camera_s_clock_is_believed_while_it_is_right() {
    need_detector!();
    let [camera, mute] =
        [(); 2].map(|()| TestCam::start(Options::new(small_clip(Kind::H264).unwrap())).unwrap());
    mute.command("reports off").unwrap();
    let (mut site, watcher) =
        node(&[camera_text("gate", camera.url(), 5.0), camera_text("mute", mute.url(), 5.0)]);
    site.wait_live(&["gate", "mute"], SOON);
    let offset_of = |site: &Site, camera: &str| site.camera(camera).counters().clock().offset;
    let offset = |site: &Site| offset_of(site, "gate");
    site.wait_until("a report", SOON, |site| offset(site).is_some_and(|off| off.abs() < 1.5));
    let clocks = |clock: &str| {
        let all = events(&watcher, "gate");
        all.iter().filter(|e| text(e, "clock") == clock).count()
    };
    site.wait_until("an event by its clock", SOON, |_| clocks("camera") > 0);
    assert_eq!(site.camera("gate").snapshot().reason, None);

    camera.command("ntp 7200").unwrap();
    let host = clocks("host");
    site.wait_until("a clock two hours ahead", SOON, |site| offset(site).is_some_and(|off| off > 7_000.0));
    site.wait_until("word of it", SOON, |site| {
        site.camera("gate").snapshot().reason.is_some_and(|why| why.contains("7200 s ahead of this host's"))
    });
    assert_eq!(site.state("gate"), CameraState::Live, "the pictures are good");
    site.wait_until("an event by arrival", SOON, |_| clocks("host") > host);

    // Its RTP clock jumps: the line goes on, and so does what the reports say.
    camera.command("ntp 0").unwrap();
    camera.command("rtpjump 600").unwrap();
    site.wait_until("a right clock again", SOON, |site| offset(site).is_some_and(|off| off.abs() < 1.5));
    site.wait_until("no word of it", SOON, |site| site.camera("gate").snapshot().reason.is_none());
    assert!(site.camera("gate").counters().clock().steps >= 2);
    assert_eq!(site.camera("gate").counters().reconnects.get(), 0);

    // One that tells no time at all.
    let of_mute = events(&watcher, "mute");
    assert!(!of_mute.is_empty() && of_mute.iter().all(|e| text(e, "clock") == "host"), "{}", of_mute.len());
    assert_eq!(offset_of(&site, "mute"), None);
}
