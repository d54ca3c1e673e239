//! The camera with faults, watched by two independent clients: ffprobe and a bare `rtspsrc`.

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use vedette_core::{Clock, Mono, Secret, SystemClock};
use vedette_tests::clips::{Kind, small_clip};
use vedette_tests::testcam::{Auth, HarnessError, Options, TestCam};

/// Everything here happens within this, however busy the machine is.
const DEADLINE: Duration = Duration::from_secs(60);
/// Nothing for this long is silence: 50 pictures would have come.
const SILENCE: Duration = Duration::from_secs(2);
/// The tail of a client that wants RTP packets as they come.
const PACKETS: &str = "appsink name=sink sync=false";

fn clip(kind: Kind) -> PathBuf {
    small_clip(kind).expect("ffmpeg makes clips")
}

fn camera(kind: Kind) -> TestCam {
    TestCam::start(Options::new(clip(kind))).expect("testcam starts")
}

/// What ffprobe says of a stream: `codec,width,height`, or its error.
fn ffprobe(url: &str) -> Result<String, String> {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-rtsp_transport", "tcp", "-tls_verify", "0"])
        .args(["-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0", url])
        .output()
        .expect("ffprobe is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

/// What a client saw.
#[derive(Debug, PartialEq)]
enum Seen {
    Nothing,
    End,
    Error(String),
}

/// A bare receiver of one stream. Its samples carry encoded access units, or pictures with `decode`.
struct Client {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    clock: SystemClock,
}

impl Client {
    fn open(url: &str) -> Self {
        Self::launch(url, "rtph264depay ! h264parse ! appsink name=sink sync=false")
    }

    fn decode(url: &str) -> Self {
        Self::launch(
            url,
            "rtph264depay ! h264parse ! avdec_h264 max-threads=1 ! appsink name=sink sync=false",
        )
    }

    fn launch(url: &str, tail: &str) -> Self {
        gst::init().expect("GStreamer");
        let source = format!(
            "rtspsrc location={url} protocols=tcp latency=200 drop-on-latency=true do-retransmission=false \
             add-reference-timestamp-meta=true"
        );
        let pipeline = gst::parse::launch(&format!("{source} ! {tail}")).expect("a pipeline");
        let pipeline = pipeline.downcast::<gst::Pipeline>().expect("a pipeline");
        let sink = pipeline.by_name("sink").and_downcast::<gst_app::AppSink>().expect("a sink");
        pipeline.set_state(gst::State::Playing).expect("a client starts");
        Self { pipeline, sink, clock: SystemClock::new() }
    }

    /// The next sample, or what came instead of one within `length`.
    fn next(&self, length: Duration) -> Result<gst::Sample, Seen> {
        let bus = self.pipeline.bus().expect("a bus");
        let end = self.clock.now() + length;
        loop {
            if let Some(sample) = self.sink.try_pull_sample(gst::ClockTime::from_mseconds(20)) {
                return Ok(sample);
            }
            match bus.pop_filtered(&[gst::MessageType::Error]).as_ref().map(|m| m.view()) {
                Some(gst::MessageView::Error(error)) => return Err(Seen::Error(error.error().to_string())),
                _ if self.sink.is_eos() => return Err(Seen::End),
                _ if self.clock.now() >= end => return Err(Seen::Nothing),
                _ => {}
            }
        }
    }

    /// Takes `count` samples.
    fn take(&self, count: usize) -> Vec<gst::Sample> {
        (0..count)
            .map(|n| self.next(DEADLINE).unwrap_or_else(|seen| panic!("sample {n}: {seen:?}")))
            .collect()
    }

    /// Takes samples until one is as wished.
    fn until(&self, what: &str, wish: impl Fn(&gst::Sample) -> bool) -> gst::Sample {
        let end = self.clock.now() + DEADLINE;
        loop {
            let sample = self.next(DEADLINE).unwrap_or_else(|seen| panic!("{what}: {seen:?}"));
            if wish(&sample) {
                return sample;
            }
            assert!(self.clock.now() < end, "{what}: not within {DEADLINE:?}");
        }
    }

    /// Takes samples until none comes for [`SILENCE`]; the last of them.
    fn drain(&self) -> Option<gst::Sample> {
        let end = self.clock.now() + DEADLINE;
        let mut last = None;
        while let Ok(sample) = self.next(SILENCE) {
            last = Some(sample);
            assert!(self.clock.now() < end, "the stream does not fall silent");
        }
        last
    }

    /// Takes RTP packets until the step of sequence number and timestamp (RFC 3550, 5.1) to one is as wished.
    fn until_step(&self, what: &str, wish: impl Fn(u16, i32) -> bool) {
        let last = Cell::new(None);
        self.until(what, |packet| {
            let mut head = [0; 8];
            packet.buffer().expect("a packet").copy_to_slice(0, &mut head).expect("an RTP header");
            let sequence = u16::from_be_bytes([head[2], head[3]]);
            let ticks = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            last.replace(Some((sequence, ticks))).is_some_and(|(s, t): (u16, u32)| {
                wish(sequence.wrapping_sub(s), ticks.wrapping_sub(t).cast_signed())
            })
        });
    }

    /// Takes samples until the stream ends, and says how.
    fn ending(&self) -> Seen {
        let end = self.clock.now() + DEADLINE;
        while self.clock.now() < end {
            if let Err(seen @ (Seen::End | Seen::Error(_))) = self.next(DEADLINE) {
                return seen;
            }
        }
        Seen::Nothing
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn pts(sample: &gst::Sample) -> Duration {
    let pts = sample.buffer().and_then(gst::BufferRef::pts).expect("a sample with PTS");
    Duration::from_nanos(pts.nseconds())
}

fn width(sample: &gst::Sample) -> i32 {
    sample.caps().and_then(|c| c.structure(0)?.get("width").ok()).expect("caps with a width")
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    let never = vedette_core::Shutdown::new();
    while !condition() {
        assert!(clock.now() < Mono(DEADLINE), "{what}: not within {DEADLINE:?}");
        clock.pause(Duration::from_millis(20), &never);
    }
}

#[test]
fn every_codec_is_served() {
    struct Case(Kind, &'static str);
    let cases = [
        Case(Kind::H264, "h264,640,360"),
        Case(Kind::H264B, "h264,640,360"),
        Case(Kind::H265, "hevc,640,360"),
        Case(Kind::Mjpeg, "mjpeg,640,360"),
    ];
    for Case(kind, expected) in cases {
        let camera = camera(kind);
        assert_eq!(ffprobe(camera.url()).as_deref(), Ok(expected), "{kind:?}");
    }
}

#[test]
fn loops_keep_an_even_monotone_time_line() {
    let camera = camera(Kind::H264);
    let client = Client::open(camera.url());
    // 8 s a round: this passes the seam.
    let times: Vec<Duration> = client.take(230).iter().map(pts).collect();
    let steps: Vec<Duration> = times.windows(2).map(|w| w[1].checked_sub(w[0]).expect("monotone")).collect();
    // The first steps of a client are uneven: rtspsrc releases what had queued before PLAY.
    let uneven =
        steps.iter().filter(|step| step.abs_diff(Duration::from_millis(40)) > Duration::from_millis(10));
    assert!(uneven.count() <= 5, "{steps:?}");
}

#[test]
fn sender_reports_carry_the_time_of_day() {
    let camera = camera(Kind::H264);
    let client = Client::open(camera.url());
    let ntp = gst::Caps::builder("timestamp/x-ntp").build();
    let stamp = |sample: &gst::Sample| {
        let meta = sample
            .buffer()?
            .iter_meta::<gst::ReferenceTimestampMeta>()
            .find(|m| m.reference().is_subset(&ntp))?;
        Some(meta.timestamp().nseconds() / 1_000_000_000)
    };
    let sample = client.until("a sender report", |s| stamp(s).is_some());
    // NTP counts from 1900 (RFC 5905), Unix from 1970.
    let unix = i64::try_from(stamp(&sample).unwrap()).unwrap() - 2_208_988_800;
    let age = SystemClock::new().wall().as_second() - unix;
    assert!((-2..60).contains(&age), "{age} s old");
}

#[test]
fn logins_are_checked() {
    for auth in [Auth::Digest, Auth::Basic] {
        let login = Some((auth, "op".to_owned(), Secret::new("s3cret")));
        let camera = TestCam::start(Options { login, ..Options::new(clip(Kind::H264)) }).unwrap();
        let with = |login: &str| camera.url().replace("rtsp://", &format!("rtsp://{login}@"));
        assert_eq!(ffprobe(&with("op:s3cret")).as_deref(), Ok("h264,640,360"), "{auth:?}");
        assert!(ffprobe(&with("op:wrong")).unwrap_err().contains("401"), "{auth:?}");
        assert!(ffprobe(camera.url()).unwrap_err().contains("401"), "{auth:?}");
        Client::open(&with("op:s3cret")).take(5);
    }
}

#[test]
fn tls_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let (key, pem) = (folder.path().join("key.pem"), folder.path().join("both.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "1",
        ])
        .args(["-subj", "/CN=127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&pem)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
    let both = std::fs::read_to_string(&pem).unwrap() + &std::fs::read_to_string(&key).unwrap();
    std::fs::write(&pem, both).unwrap();
    let camera = TestCam::start(Options { tls: Some(pem), ..Options::new(clip(Kind::H264)) }).unwrap();
    assert!(camera.url().starts_with("rtsps://"));
    assert_eq!(ffprobe(camera.url()).as_deref(), Ok("h264,640,360"));
}

#[test]
fn a_stall_is_silent_and_moves_the_time_line() {
    let camera = camera(Kind::H264);
    let client = Client::open(camera.url());
    let last = client.take(10).pop();
    camera.command("stall").unwrap();
    let last = client.drain().or(last);
    assert_eq!(client.next(SILENCE).unwrap_err(), Seen::Nothing);
    assert_eq!(camera.stats().unwrap()["clients"], 1);
    camera.command("resume").unwrap();
    let first = &client.take(25)[0];
    let gap = pts(first).saturating_sub(last.as_ref().map(pts).expect("a last sample"));
    assert!(gap >= SILENCE, "PTS went on by {gap:?} only");
}

#[test]
fn a_frozen_process_is_silent() {
    let camera = camera(Kind::H264);
    let client = Client::open(camera.url());
    client.take(10);
    camera.stop_signal().unwrap();
    client.drain();
    assert_eq!(client.next(SILENCE).unwrap_err(), Seen::Nothing);
    camera.continue_signal().unwrap();
    client.take(25);
}

#[test]
fn drop_ends_all_clients_and_welcomes_new_ones() {
    let camera = camera(Kind::H264);
    let (one, two) = (Client::open(camera.url()), Client::open(camera.url()));
    one.take(10);
    two.take(10);
    assert_eq!(camera.stats().unwrap()["clients"], 2);
    camera.command("drop").unwrap();
    assert_eq!((one.ending(), two.ending()), (Seen::End, Seen::End));
    wait_until("the clients are gone", || camera.stats().unwrap()["clients"] == 0);
    Client::open(camera.url()).take(10);
}

#[test]
fn eos_ends_the_stream_and_the_next_client_gets_a_new_one() {
    let camera = camera(Kind::H264);
    let client = Client::open(camera.url());
    client.take(10);
    camera.command("eos").unwrap();
    assert_eq!(client.ending(), Seen::End);
    drop(client);
    wait_until("the client is gone", || camera.stats().unwrap()["clients"] == 0);
    Client::open(camera.url()).take(10);
}

#[test]
fn refuse_closes_the_port_until_it_is_opened_again() {
    let camera = camera(Kind::H264);
    let client = Client::open(camera.url());
    client.take(10);
    camera.command("refuse on").unwrap();
    assert_eq!(client.ending(), Seen::End);
    assert!(ffprobe(camera.url()).unwrap_err().contains("refused"));
    camera.command("refuse off").unwrap();
    assert_eq!(ffprobe(camera.url()).as_deref(), Ok("h264,640,360"));
}

#[test]
fn a_killed_camera_comes_back_on_the_same_port() {
    let mut camera = camera(Kind::H264);
    let url = camera.url().to_owned();
    let client = Client::open(&url);
    client.take(10);
    camera.kill().unwrap();
    assert_eq!(client.ending(), Seen::End);
    assert!(ffprobe(&url).unwrap_err().contains("refused"));
    camera.start_again().unwrap();
    assert_eq!(camera.url(), url);
    Client::open(&url).take(10);
}

#[test]
fn size_switches_in_band_and_back() {
    let options = Options { other: Some(clip(Kind::Size)), ..Options::new(clip(Kind::H264)) };
    let camera = TestCam::start(options).unwrap();
    let client = Client::decode(camera.url());
    client.until("640 wide", |s| width(s) == 640);
    camera.command("size").unwrap();
    client.until("480 wide", |s| width(s) == 480);
    camera.command("size").unwrap();
    client.until("640 wide again", |s| width(s) == 640);
}

#[test]
fn bad_parameter_sets_stop_the_pictures_until_good_ones_come() {
    let camera = camera(Kind::H264);
    let client = Client::decode(camera.url());
    client.take(10);
    camera.command("badsps on").unwrap();
    client.drain();
    camera.command("badsps off").unwrap();
    client.until("a good picture", |s| width(s) == 640);
}

#[test]
fn corrupt_units_and_lost_packets_are_survived() {
    let camera = camera(Kind::H264);
    let (pictures, packets) = (Client::decode(camera.url()), Client::launch(camera.url(), PACKETS));
    pictures.take(10);
    camera.command("corrupt 25").unwrap();
    pictures.take(60);
    camera.command("loss 5").unwrap();
    packets.until_step("a lost packet", |by, _| (2..100).contains(&by));
    pictures.take(60);
    camera.command("loss 0").unwrap();
    pictures.take(60);
}

#[test]
fn jumps_of_rtp_clock_and_sequence_are_survived() {
    let camera = camera(Kind::H264);
    let (units, packets) = (Client::open(camera.url()), Client::launch(camera.url(), PACKETS));
    // Ticks of 90 kHz; the step to the next picture, and what else passes meanwhile, comes on top.
    let seconds = |ticks: i32| f64::from(ticks) / 90_000.0;
    units.take(10);
    packets.take(1);
    camera.command("rtpjump 60").unwrap();
    packets.until_step("a jump forwards", |_, ticks| (59.0..62.0).contains(&seconds(ticks)));
    units.take(50);
    camera.command("rtpjump -10").unwrap();
    packets.until_step("a jump backwards", |_, ticks| (-11.0..-8.0).contains(&seconds(ticks)));
    units.take(50);
    camera.command("seqjump 5000").unwrap();
    packets.until_step("a jump of the sequence", |by, _| (5001..5010).contains(&by));
    units.take(50);
}

#[test]
fn a_burst_arrives_after_a_gap() {
    let camera = camera(Kind::H264);
    let client = Client::open(camera.url());
    client.take(10);
    camera.command("burst 50").unwrap();
    let mut gap = Duration::ZERO;
    let mut last = client.clock.now();
    while gap < Duration::from_secs(1) {
        client.take(1);
        let now = client.clock.now();
        gap = gap.max(now.since(last));
        last = now;
        assert!(now < Mono(DEADLINE), "no gap of the 2 s that 50 pictures take");
    }
    client.take(60);
}

#[test]
fn a_freeze_repeats_one_keyframe_and_corruption_shows_in_it() {
    let camera = camera(Kind::H264);
    let client = Client::open(camera.url());
    let is_key = |s: &gst::Sample| !s.buffer().unwrap().flags().contains(gst::BufferFlags::DELTA_UNIT);
    let bytes = |s: &gst::Sample| s.buffer().unwrap().map_readable().unwrap().to_vec();
    client.take(10);
    camera.command("freeze on").unwrap();
    let before = Cell::new(false);
    client.until("two keyframes in a row", |s| before.replace(is_key(s)) && is_key(s));
    let frozen = client.take(20);
    assert!(frozen.iter().all(|s| is_key(s) && bytes(s) == bytes(&frozen[0])));
    camera.command("corrupt 5").unwrap();
    client.until("a damaged picture", |s| bytes(s) != bytes(&frozen[0]));
    client.until("the picture without damage", |s| bytes(s) == bytes(&frozen[0]));
    camera.command("freeze off").unwrap();
    client.until("motion again", |s| !is_key(s));
}

#[test]
fn several_streams_share_one_process() {
    let options = Options { sub: Some(clip(Kind::Size)), count: 2, ..Options::new(clip(Kind::H264)) };
    let camera = TestCam::start(options).unwrap();
    assert_eq!(camera.urls().len(), 3);
    assert_eq!(ffprobe(&camera.urls()[1]).as_deref(), Ok("h264,640,360"));
    assert_eq!(ffprobe(camera.sub_url().unwrap()).as_deref(), Ok("h264,480,270"));
    assert!(ffprobe(&camera.url().replace("main", "none")).unwrap_err().contains("404"));
}

#[test]
fn wrong_commands_and_clips_are_refused() {
    let camera = camera(Kind::Mjpeg);
    for (line, part) in [("explode", "there are"), ("size", "--other"), ("badsps on", "no parameter sets")] {
        let Err(HarnessError::Refused { answer, .. }) = camera.command(line) else {
            panic!("{line} was taken")
        };
        assert!(answer.contains(part), "{line}: {answer}");
    }
    let absent = Options::new("/nonexistent.mp4");
    let mixed = Options { other: Some(clip(Kind::H265)), ..Options::new(clip(Kind::H264)) };
    for options in [absent, mixed] {
        let started = TestCam::start(options);
        assert!(matches!(started, Err(HarnessError::NotReady(_))), "{started:?}");
    }
}

#[test]
fn a_camera_dies_with_its_parent() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_testcam"))
        .arg("--clip")
        .arg(clip(Kind::H264))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("testcam starts");
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.contains("rtsp_port"), "{ready}");
    assert_eq!(child.try_wait().unwrap(), None, "it runs while somebody holds its stdin");
    // What the kernel does to the pipe when a parent dies.
    drop(child.stdin.take());
    wait_until("testcam ends", || child.try_wait().unwrap().is_some());
}
