//! The table of faults (`pipelines/README.md`), row by row, at one node with a camera for each: what the fault is
//! called, what the camera's state becomes, which ladder of waits that means, and that it comes back by itself.
//!
//! What `faults.rs` does to a camera (killed, frozen, stalled, dropped, refused, ended, corrupt, undecodable, another
//! size, a burst) is not repeated here. How long it takes to come back is printed, not judged.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what is not as expected ends the test")]
#![expect(clippy::print_stdout, reason = "measured figures, kept in the report of the run")]

use std::time::Duration;

use vedette::camera::CameraState;
use vedette_core::{Mono, Secret};
use vedette_tests::certificates::{Authority, NOW};
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::need_detector;
use vedette_tests::site::{Plan, Site};
use vedette_tests::testcam::{Auth, Options, TestCam};

/// All of it happens within this, however busy the machine is. Faults of the configuration wait 30 s by design.
const DEADLINE: Duration = Duration::from_secs(150);
/// How often the rows are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Frames after which a camera that was told to misbehave, and may, has shown that it goes on.
const GOES_ON: u64 = 100;

/// What is done to a camera.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    /// It is so from the first attempt on.
    Always,
    /// A command before the node starts.
    Before(&'static str),
    /// A command while it is live.
    Command(&'static str),
    /// The process dies while it is live.
    Killed,
}

/// What repairs it.
enum Mend {
    Nothing,
    Command(&'static str),
    StartAgain,
    /// Somebody changes the camera's settings.
    Replace(Box<Options>),
}

/// A row of the table.
struct Row {
    name: &'static str,
    camera: Options,
    /// What the configuration says beside the address.
    config: String,
    /// The path that the configuration asks for.
    path: &'static str,
    /// User and password that the daemon has.
    login: Option<(&'static str, &'static str)>,
    wrong: Wrong,
    /// What the reason begins with; none where it is no fault.
    class: Option<&'static str>,
    state: CameraState,
    mend: Mend,
}

fn clip(kind: Kind) -> Options {
    Options::new(small_clip(kind).unwrap())
}

fn row(name: &'static str, wrong: Wrong, class: &'static str, state: CameraState, mend: Mend) -> Row {
    let (config, path) = (String::new(), "/main");
    Row { name, camera: clip(Kind::H264), config, path, login: None, wrong, class: Some(class), state, mend }
}

/// A fault of the link, by command; another command ends it.
fn link(name: &'static str, wrong: Wrong, class: &'static str, mend: Mend) -> Row {
    row(name, wrong, class, CameraState::Lost, mend)
}

/// A fault of the configuration: the camera is `camera` until somebody makes it the usual one.
fn configuration(name: &'static str, camera: Options, class: &'static str) -> Row {
    let mend = Mend::Replace(Box::new(clip(Kind::H264)));
    Row { camera, ..row(name, Wrong::Always, class, CameraState::Misconfigured, mend) }
}

/// What is no fault: it stays live.
fn harmless(name: &'static str, command: &'static str) -> Row {
    Row { class: None, ..row(name, Wrong::Command(command), "", CameraState::Live, Mend::Nothing) }
}

fn with_login(password: &str) -> Options {
    Options { login: Some((Auth::Digest, "viewer".to_owned(), Secret::new(password))), ..clip(Kind::H264) }
}

fn link_rows() -> Vec<Row> {
    let udp = |row: Row| Row { config: "transport = \"udp\"\n".to_owned(), ..row };
    vec![
        udp(link("killed-udp", Wrong::Killed, "refused", Mend::StartAgain)),
        udp(link("stall-udp", Wrong::Command("stall"), "stalled", Mend::Command("resume"))),
        link("unreachable", Wrong::Before("unreachable on"), "timeout", Mend::Command("unreachable off")),
        link("mute", Wrong::Before("mute on"), "read", Mend::Command("mute off")),
        // A decoder that opens, and fails at every keyframe.
        Row {
            camera: clip(Kind::H264Chroma),
            config: "decoder = \"libav\"\n".to_owned(),
            ..link("chroma", Wrong::Always, "undecodable", Mend::Replace(Box::new(clip(Kind::H264))))
        },
        // What the depayloader makes of it is no picture.
        Row {
            camera: Options { announce: Some("H265".to_owned()), ..clip(Kind::H264) },
            ..link("lying-sdp", Wrong::Always, "undecodable", Mend::Replace(Box::new(clip(Kind::H264))))
        },
    ]
}

fn configuration_rows() -> Vec<Row> {
    let wrong_password = Row {
        login: Some(("viewer", "falsch")),
        mend: Mend::Replace(Box::new(with_login("falsch"))),
        ..configuration("wrong-login", with_login("geheim"), "auth")
    };
    let other = Options { path: Some("/other".to_owned()), ..clip(Kind::H264) };
    vec![
        configuration("no-login", with_login("geheim"), "auth"),
        wrong_password,
        Row {
            path: "/other",
            mend: Mend::Replace(Box::new(other)),
            ..configuration("no-such-path", clip(Kind::H264), "not-found")
        },
        Row {
            config: "pipeline = \"rtsp-h264\"\n".to_owned(),
            ..configuration("other-codec", clip(Kind::H265), "codec")
        },
        configuration(
            "unknown-codec",
            Options { announce: Some("VP8".to_owned()), ..clip(Kind::H264) },
            "codec",
        ),
        Row {
            config: "transport = \"tcp\"\n".to_owned(),
            ..configuration("no-tcp", Options { udp_only: true, ..clip(Kind::H264) }, "codec")
        },
    ]
}

/// A camera whose certificate another authority has signed than the one that the configuration trusts.
fn strange_certificate(ours: &Authority, other: &Authority) -> Row {
    let with = |authority: &Authority| Options {
        tls: Some(authority.sign("IP:127.0.0.1", NOW).both()),
        ..clip(Kind::H264)
    };
    Row {
        config: format!("ca = \"{}\"\n", ours.ca().display()),
        mend: Mend::Replace(Box::new(with(ours))),
        ..configuration("strange-certificate", with(other), "tls")
    }
}

/// A certificate that nobody knows, at a camera of which any is taken.
fn unchecked_certificate(other: &Authority) -> Row {
    let tls = Some(other.sign("DNS:elsewhere", NOW).both());
    Row {
        camera: Options { tls, ..clip(Kind::H264) },
        config: "tls = \"insecure\"\n".to_owned(),
        ..harmless("unchecked", "loss 0")
    }
}

/// What the daemon gets round by itself, after one fault of the link: nothing is to be changed.
fn fallen_back() -> Row {
    let udp_only = Options { udp_only: true, ..clip(Kind::H264) };
    Row { camera: udp_only, wrong: Wrong::Always, ..harmless("no-tcp-auto", "") }
}

fn harmless_rows() -> Vec<Row> {
    vec![
        harmless("loss", "loss 5"),
        harmless("clock-forward", "rtpjump 60"),
        harmless("clock-back", "rtpjump -10"),
        harmless("sequence-jump", "seqjump 5000"),
    ]
}

/// Where a row stands.
#[derive(Debug, PartialEq)]
enum Stage {
    /// Until it is live, where the fault comes then.
    Starting,
    /// The fault is there; not yet seen.
    Wrong {
        frames: u64,
    },
    /// Seen and mended.
    Mended {
        at: Mono,
        frames: u64,
    },
    Done,
}

struct Running {
    row: Row,
    camera: TestCam,
    stage: Stage,
}

impl Running {
    fn start(row: Row) -> Self {
        let camera = TestCam::start(row.camera.clone()).unwrap();
        if let Wrong::Before(command) = row.wrong {
            camera.command(command).unwrap();
        }
        let begun = matches!(row.wrong, Wrong::Always | Wrong::Before(_));
        let stage = if begun { Stage::Wrong { frames: 0 } } else { Stage::Starting };
        Self { row, camera, stage }
    }

    fn config(&self) -> String {
        let url = self.camera.url().replace("/main", self.row.path);
        format!("[camera.{}]\nurl = \"{url}\"\nfps = 1\n{}", self.row.name, self.row.config)
    }

    /// Goes on as far as the node shows that it may.
    fn step(&mut self, site: &Site) {
        let (name, frames) = (self.row.name, site.decoded(self.row.name));
        let now = site.camera(name).snapshot();
        match self.stage {
            Stage::Starting if now.state == CameraState::Live => {
                match self.row.wrong {
                    Wrong::Killed => self.camera.kill().unwrap(),
                    Wrong::Command(command) => drop(self.camera.command(command).unwrap()),
                    Wrong::Always | Wrong::Before(_) => {}
                }
                self.stage = Stage::Wrong { frames };
            }
            Stage::Wrong { frames: before } if self.row.class.is_none() && frames >= before + GOES_ON => {
                let counters = site.camera(name).counters();
                let faults = (counters.link_faults.get(), counters.configuration_faults.get());
                let as_expected = if self.row.wrong == Wrong::Always { faults.0 > 0 } else { faults.0 == 0 };
                assert!(
                    as_expected && faults.1 == 0 && now.state == CameraState::Live,
                    "{name}: {faults:?}, {now:?}"
                );
                self.stage = Stage::Done;
            }
            Stage::Wrong { .. } if now.state == self.row.state => {
                let (reason, class) = (now.reason.unwrap_or_default(), self.row.class.unwrap_or_default());
                if self.row.class.is_some() && reason.starts_with(&format!("{class}: ")) {
                    self.check_ladder(site);
                    println!("{name}: {reason}");
                    self.mend();
                    self.stage = Stage::Mended { at: site.clock().now(), frames };
                }
            }
            Stage::Mended { at, frames: before } if now.state == CameraState::Live && frames > before => {
                let took = site.clock().now().since(at);
                println!("{name}: frames again {:.1} s after it was mended", took.as_secs_f64());
                self.stage = Stage::Done;
            }
            _ => {}
        }
    }

    /// Faults of the other kind would wait otherwise.
    fn check_ladder(&self, site: &Site) {
        let counters = site.camera(self.row.name).counters();
        let (link, configuration) = (counters.link_faults.get(), counters.configuration_faults.get());
        let of_configuration = self.row.state == CameraState::Misconfigured;
        let expected =
            if of_configuration { link == 0 && configuration > 0 } else { configuration == 0 && link > 0 };
        assert!(expected, "{}: {link} of the link, {configuration} of the configuration", self.row.name);
    }

    fn mend(&mut self) {
        match &self.row.mend {
            Mend::Nothing => {}
            Mend::Command(command) => drop(self.camera.command(command).unwrap()),
            Mend::StartAgain => self.camera.start_again().unwrap(),
            Mend::Replace(options) => self.camera.replace((**options).clone()).unwrap(),
        }
    }
}

#[test]
fn every_fault_is_called_by_its_name_and_passes() {
    need_detector!();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let rows = link_rows().into_iter().chain(configuration_rows()).chain(harmless_rows());
    let rows = rows.chain([strange_certificate(&ours, &other), unchecked_certificate(&other), fallen_back()]);
    let mut rows: Vec<Running> = rows.map(Running::start).collect();
    let text = rows.iter().map(Running::config).collect::<String>();
    let mut plan = Plan::new(format!("[node]\nid = \"box\"\n[broker.main]\nurl = \"embedded\"\n{text}"));
    for running in &rows {
        if let Some((user, password)) = running.row.login {
            plan = plan.camera_login(running.row.name, user, password);
        }
    }
    let mut site = Site::start(&plan);
    let end = site.clock().now() + DEADLINE;
    while rows.iter().any(|row| row.stage != Stage::Done) {
        rows.iter_mut().for_each(|row| row.step(&site));
        let waiting: Vec<_> = rows.iter().filter(|row| row.stage != Stage::Done).collect();
        let tell = |row: &&Running| {
            format!("{}: {:?}, {:?}", row.row.name, row.stage, site.camera(row.row.name).snapshot())
        };
        let late = site.clock().now() >= end;
        assert!(!late, "not within {DEADLINE:?}: {:#?}", waiting.iter().map(tell).collect::<Vec<_>>());
        site.pause(LOOK);
    }
    let remarks = [
        ("no-tcp-auto", "received over UDP, since TCP is refused"),
        ("unchecked", "certificate is not checked"),
    ];
    for (name, remark) in remarks {
        site.wait_until(remark, DEADLINE, |site| {
            site.camera(name).snapshot().reason.is_some_and(|reason| reason.contains(remark))
        });
    }
    assert!(site.stop());
}
