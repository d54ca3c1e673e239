//! An independent RTSP server: VLC, which sends over UDP alone and answers a wish for TCP with 461 (RFC 2326, 11.3.11).

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use vedette_core::{CameraId, Clock, ClockSource, Moment, Pts, Shutdown, SystemClock};
use vedette_ingest::{
    Decoder, Descriptions, FaultClass, Item, Masks, Packet, Receiver, Route, SourceConfig, Transport, Trust,
    open_decoder,
};
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::ports::{free_port, listens};
use vedette_tests::skipped;

use crate::cli::{folder, root};

/// Everything here happens within this, however busy the machine is.
const DEADLINE: Duration = Duration::from_secs(90);

/// VLC at work; dropping it kills it.
struct Vlc {
    child: Child,
    url: String,
    route: Arc<Route>,
    _home: Arc<tempfile::TempDir>,
}

impl Vlc {
    /// Serves the small H.264 clip for ever; none where VLC is not installed.
    fn start() -> Option<Self> {
        let installed = |name: &str| Path::new("/usr/bin").join(name).is_file();
        if !installed("cvlc") || !installed("setpriv") {
            skipped("no VLC: apt-get install vlc-bin vlc-plugin-base util-linux");
            return None;
        }
        let clip = small_clip(Kind::H264).expect("ffmpeg makes clips");
        let home = folder();
        // VLC refuses to run as root, and the clip may lie where nobody else can read.
        std::fs::copy(clip, home.path().join("clip.mp4")).expect("a copy");
        open_to_all(home.path(), 0o777);
        open_to_all(&home.path().join("clip.mp4"), 0o644);
        let home = Arc::new(home);
        let started = (0..10).find_map(|_| Self::start_at(free_port(), &home));
        Some(started.expect("one of ten ports should stay free until VLC has it"))
    }

    /// None when it ended at once, as it does when somebody was faster at that port.
    fn start_at(port: u16, home: &Arc<tempfile::TempDir>) -> Option<Self> {
        let url = format!("rtsp://127.0.0.1:{port}/main");
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "cvlc"]);
            command
        } else {
            Command::new("cvlc")
        };
        // A group of its own: `cvlc` is a script, and what it starts is to end with it.
        let child = command
            .args(["-q", "clip.mp4", "--loop", "--no-sout-audio", "--sout"])
            .arg(format!("#rtp{{sdp={url}}}"))
            .current_dir(home.path())
            .env("HOME", home.path())
            .env("XDG_RUNTIME_DIR", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("VLC starts");
        let mut vlc = Self { child, url, route: Arc::default(), _home: Arc::clone(home) };
        vlc.comes_to_listen(port).then_some(vlc)
    }

    fn comes_to_listen(&mut self, port: u16) -> bool {
        let (clock, never) = (SystemClock::new(), Shutdown::new());
        while !listens(self.child.id(), port) {
            if self.child.try_wait().expect("a child").is_some() {
                return false;
            }
            assert!(clock.now().0 < DEADLINE, "VLC does not listen");
            clock.pause(Duration::from_millis(20), &never);
        }
        true
    }

    fn open(&self, transport: Transport) -> Receiver {
        vedette_ingest::init().expect("GStreamer");
        let config = SourceConfig {
            camera: CameraId::new("vlc").expect("a name"),
            url: self.url.clone(),
            user: None,
            password: None,
            transport,
            route: Arc::clone(&self.route),
            trust: Trust::System,
            pipeline: None,
        };
        Receiver::open(&config, &descriptions(), Arc::new(SystemClock::new())).expect("a receiver")
    }
}

impl Drop for Vlc {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

fn open_to_all(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("a mode");
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("procfs")) == 0
}

fn descriptions() -> Descriptions {
    Descriptions::load(&[root().join("pipelines/descriptions")]).expect("descriptions")
}

/// The next packet, or the fault that came instead.
fn next(receiver: &Receiver, clock: &SystemClock) -> Item {
    let left = DEADLINE.saturating_sub(clock.now().0);
    receiver.items().recv_timeout(left).unwrap_or_else(|e| panic!("nothing came within {DEADLINE:?}: {e}"))
}

fn moment(packet: &Packet) -> Moment {
    let pts = Pts::from_nanos(packet.stream_pts.expect("a packet with a time"));
    Moment { clock: ClockSource::Host, ..Moment::of_file(jiff::Timestamp::UNIX_EPOCH, pts) }
}

#[test]
fn frames_come_over_udp() {
    let Some(vlc) = Vlc::start() else { return };
    let (mut receiver, clock) = (vlc.open(Transport::Udp), SystemClock::new());
    let mut decoder: Option<Box<dyn Decoder>> = None;
    let (mut frames, mut size) = (0, (0, 0));
    while frames < 50 {
        let packet = match next(&receiver, &clock) {
            Item::Packet(packet) => packet,
            // VLC listens before it has opened its clip.
            Item::Fault(fault) if frames == 0 && fault.message.contains("(500)") => {
                receiver = vlc.open(Transport::Udp);
                continue;
            }
            Item::Fault(fault) => panic!("{fault}, after {frames} frames"),
        };
        if decoder.is_none() && packet.keyframe {
            decoder = Some(open_decoder(&descriptions(), &packet.stream, &Masks::none()).expect("a decoder"));
        }
        let Some(decoder) = &mut decoder else { continue };
        decoder.push(&packet, moment(&packet)).unwrap_or_else(|fault| panic!("{fault}"));
        for frame in decoder.frames().try_iter() {
            frames += 1;
            size = (frame.width(), frame.height());
        }
    }
    assert_eq!(size, (640, 360));
    assert!(receiver.close(), "the pipeline stops");
}

#[test]
fn a_refused_transport_is_a_fault_of_the_configuration_and_names_the_other() {
    let Some(vlc) = Vlc::start() else { return };
    let clock = SystemClock::new();
    let refusal = || match next(&vlc.open(Transport::Tcp), &clock) {
        Item::Fault(fault) => fault,
        Item::Packet(packet) => panic!("came over TCP: {packet:?}"),
    };
    let mut fault = refusal();
    // VLC listens before it has opened its clip, and answers 500 until then.
    while fault.message.contains("(500)") {
        assert!(clock.now().0 < DEADLINE, "{fault}");
        fault = refusal();
    }
    assert!(fault.is_configuration(), "{fault}");
    assert_eq!(
        (fault.class, fault.remedy.as_str()),
        (FaultClass::Codec, "set `transport = \"udp\"`, or leave `transport` out")
    );
    assert!(fault.message.contains(&vlc.url) && fault.message.contains("TCP"), "{fault}");
}

#[test]
fn where_tcp_is_refused_the_next_connection_takes_udp() {
    let Some(vlc) = Vlc::start() else { return };
    let clock = SystemClock::new();
    let mut refused = false;
    // VLC answers 500 until it has opened its clip.
    while vlc.route.worked().is_none() {
        assert!(clock.now().0 < DEADLINE, "no packet came");
        match next(&vlc.open(Transport::Auto), &clock) {
            Item::Packet(_) => break,
            Item::Fault(fault) => {
                assert!(!fault.is_configuration(), "{fault}");
                refused |= fault.class == FaultClass::Transport && fault.remedy == "trying UDP";
            }
        }
    }
    assert_eq!((refused, vlc.route.worked()), (true, Some(Transport::Udp)));
}
