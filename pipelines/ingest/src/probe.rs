//! A look at a camera: what it sends, how it logs in, and what to change in it so that watching it is cheap.
//!
//! Owns: what is measured and the advice. Does not know: how the answer is printed.

use std::sync::Arc;
use std::time::Duration;

use vedette_core::{Clock, ClockSource, Mono, secret::redacted};

use crate::handshake::{self, Login};
use crate::source::Target;
use crate::{
    Codec, Descriptions, Fault, FaultClass, Fingerprint, Item, Local, Packet, Receiver, SourceConfig,
    Transport,
};

/// The longest a probe looks.
const LONGEST: Duration = Duration::from_secs(10);

/// The longest GOP that keyframes alone are worth looking at (DESIGN 4).
const GOOD_GOP: f64 = 2.05;

/// Lines of a picture above which a substream serves as well.
const SUBSTREAM_LINES: u32 = 720;

/// Coefficient of variation of the mean size of dependent frames per half second. Measured on vtest.avi by x264 in
/// pieces of 8 s: constant rate 0.04-0.23, constant quality 0.09-0.47; so a steadily busy scene looks like a held rate.
const HELD_SPREAD: f64 = 0.12;
const FREE_SPREAD: f64 = 0.25;

/// Dependent frames smaller than this share of a keyframe: a quiet scene on which no bits are spent to hold a rate.
const QUIET_SHARE: f64 = 0.05;

/// What a camera sends.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Probe {
    /// Without secrets.
    pub url: String,
    /// How it is coded.
    pub codec: Codec,
    /// For example `high`.
    pub profile: Option<String>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// What was counted, and the declared rate where fewer than two frames came.
    #[serde(flatten)]
    pub measured: Measured,
    /// Whose clock tells the time of capture: `camera` where RTCP sender reports do.
    pub clock: ClockSource,
    /// The camera's clock minus ours, in seconds; absent without sender reports.
    pub clock_offset: Option<f64>,
    /// What it asks for; absent where the question got no answer.
    pub login: Option<Login>,
    /// The certificate that an `rtsps` camera shows: what `pin` takes.
    pub certificate: Option<Fingerprint>,
    /// How RTP came.
    pub transport: Transport,
    /// What to change in the camera or here, most useful first.
    pub advice: Vec<String>,
}

impl Probe {
    /// Whether it is on this machine: then there is no login, no transport and no clock but ours.
    pub fn is_local(&self) -> bool {
        Local::of(&self.url).is_some()
    }
}

/// What can be counted in some seconds of packets.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Measured {
    /// Seconds that were looked at.
    pub seconds: f64,
    /// Frames a second.
    pub fps: f64,
    /// Seconds between keyframes, the longest seen; absent where fewer than two came.
    pub gop: Option<f64>,
    /// Bits a second.
    pub bit_rate: f64,
    /// Whether the encoder seems to hold the bit rate (then packet sizes say nothing about motion; a scene that is
    /// busy all the time looks the same). Absent where sizes do not tell, and after less than four seconds.
    pub constant_bit_rate: Option<bool>,
    /// Whether pictures come in another order than they are shown in (B-frames): they delay every alert.
    pub reordered: bool,
    /// Whether some pictures may be left out before decoding.
    pub non_reference: bool,
}

/// Looks at a camera for at most `budget` (and 10 s).
#[expect(clippy::needless_pass_by_value, reason = "the same parameters as `Receiver::open`")]
pub fn probe(
    config: &SourceConfig,
    descriptions: &Descriptions,
    clock: Arc<dyn Clock>,
    budget: Duration,
) -> Result<Probe, Fault> {
    let target = Target::new(config)?;
    let end = clock.now() + budget.min(LONGEST);
    let ask = || handshake::greeting(&target, handshake::BUDGET.min(budget / 3)).ok();
    let greeting = target.local.is_none().then(ask).flatten();
    let look = || {
        let receiver = Receiver::open(config, descriptions, Arc::clone(&clock))?;
        let seen = collect(&receiver, &*clock, end);
        // Whether it stopped cleanly is counted elsewhere and changes nothing here.
        let _ = receiver.close();
        seen
    };
    let (packets, offset) = match look() {
        // The other transport is next.
        Err(fault) if fault.class == FaultClass::Transport => look()?,
        seen => seen?,
    };
    let Some(last) = packets.last() else {
        let what = format!("{} accepts us but sends no video", target.shown);
        return Err(Fault::new(
            FaultClass::Stalled,
            what,
            "restart the camera, or try `transport = \"udp\"`",
        ));
    };
    let stream = Arc::clone(&last.stream);
    let samples: Vec<Sample> = packets.iter().map(Sample::of).collect();
    let mut probe = Probe {
        url: redacted(&config.url),
        codec: stream.codec,
        profile: stream.profile.clone(),
        width: stream.width,
        height: stream.height,
        measured: measure(&samples, stream.fps),
        clock: offset.map_or(ClockSource::Host, |_| ClockSource::Camera),
        clock_offset: offset,
        login: greeting.and_then(|g| g.login),
        certificate: greeting.and_then(|g| g.certificate),
        transport: config.route.worked().unwrap_or(target.transport),
        advice: Vec::new(),
    };
    probe.advice = advice(&probe);
    Ok(probe)
}

/// Packets until the time is over, and the camera's clock minus ours.
fn collect(receiver: &Receiver, clock: &dyn Clock, end: Mono) -> Result<(Vec<Packet>, Option<f64>), Fault> {
    let (mut packets, mut offset) = (Vec::new(), None);
    loop {
        let left = end.since(clock.now());
        if left.is_zero() {
            return Ok((packets, offset));
        }
        match receiver.items().recv_timeout(left) {
            Ok(Item::Packet(packet)) => {
                let reference = packet.reference;
                offset = reference.map(|r| r.duration_since(clock.wall()).as_secs_f64()).or(offset);
                packets.push(packet);
            }
            Ok(Item::Fault(fault)) => return Err(fault),
            Err(_) => return Ok((packets, offset)),
        }
    }
}

/// What is counted of a packet.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Seconds of arrival and of the stream.
    arrival: f64,
    pts: f64,
    bytes: usize,
    keyframe: bool,
    droppable: bool,
}

impl Sample {
    fn of(packet: &Packet) -> Self {
        let arrival = packet.arrival.0.as_secs_f64();
        Self {
            arrival,
            pts: packet.stream_pts.map_or(arrival, |pts| pts as f64 / 1e9),
            bytes: packet.data.len(),
            keyframe: packet.keyframe,
            droppable: packet.droppable,
        }
    }
}

fn measure(samples: &[Sample], declared_fps: Option<f64>) -> Measured {
    let range = |value: fn(&Sample) -> f64| {
        let (low, high) = samples
            .iter()
            .map(value)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        (high - low).max(0.0)
    };
    let seconds = range(|s| s.pts);
    let bits = 8.0 * samples.iter().map(|s| s.bytes as f64).sum::<f64>();
    // The last frame's own time is not in the range.
    let whole = seconds * samples.len() as f64 / (samples.len().max(2) - 1) as f64;
    let keyframes: Vec<f64> = samples.iter().filter(|s| s.keyframe).map(|s| s.pts).collect();
    let gop = keyframes.windows(2).map(|w| w[1] - w[0]).reduce(f64::max);
    let rate = |count: f64| if whole > 0.0 { count / whole } else { 0.0 };
    let fps = if samples.len() > 1 { rate(samples.len() as f64) } else { declared_fps.unwrap_or(0.0) };
    Measured {
        seconds: range(|s| s.arrival),
        fps,
        gop,
        bit_rate: rate(bits),
        constant_bit_rate: (seconds >= 4.0).then(|| holds_rate(samples)).flatten(),
        reordered: samples.windows(2).any(|w| w[1].pts < w[0].pts),
        non_reference: samples.iter().any(|s| s.droppable),
    }
}

fn holds_rate(samples: &[Sample]) -> Option<bool> {
    let mean_size = |keyframe: bool| {
        let sizes = samples.iter().filter(|s| s.keyframe == keyframe).map(|s| s.bytes as f64);
        let (sum, count) = sizes.fold((0.0, 0.0), |(sum, count), size| (sum + size, count + 1.0));
        if count > 0.0 { sum / count } else { 0.0 }
    };
    let spread = spread(samples);
    let quiet = samples.iter().any(|s| !s.keyframe) && mean_size(false) < QUIET_SHARE * mean_size(true);
    if quiet || spread >= FREE_SPREAD { Some(false) } else { (spread < HELD_SPREAD).then_some(true) }
}

/// Coefficient of variation of the mean size of dependent frames (of all, where all are keyframes) per half second.
fn spread(samples: &[Sample]) -> f64 {
    let intra_only = samples.iter().all(|s| s.keyframe);
    let begin = samples.first().map_or(0.0, |s| s.pts);
    let mut windows: Vec<(f64, f64)> = Vec::new();
    for sample in samples.iter().filter(|s| intra_only || !s.keyframe) {
        let at = ((sample.pts - begin).max(0.0) * 2.0) as usize;
        if at >= windows.len() {
            windows.resize(at + 1, (0.0, 0.0));
        }
        windows[at].0 += sample.bytes as f64;
        windows[at].1 += 1.0;
    }
    let means: Vec<f64> = windows.iter().filter(|w| w.1 > 0.0).map(|w| w.0 / w.1).collect();
    let count = means.len().max(1) as f64;
    let mean = means.iter().sum::<f64>() / count;
    let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / count;
    if mean > 0.0 { variance.sqrt() / mean } else { 0.0 }
}

fn advice(probe: &Probe) -> Vec<String> {
    let mut advice = Vec::new();
    // A film is as it is, and a device as its description asks for.
    if probe.is_local() {
        return advice;
    }
    let mut say = |text: String| advice.push(text);
    let measured = &probe.measured;
    if probe.height > SUBSTREAM_LINES {
        say(format!(
            "give the camera's substream (640x360 or so) as `url` instead of this one: {}x{} costs about ten times \
             as much to decode",
            probe.width, probe.height
        ));
    }
    match measured.gop {
        _ if probe.codec == Codec::Mjpeg => {
            say("choose H.264 if the camera has it: MJPEG costs the network ten times as much".to_owned());
        }
        Some(gop) if gop > GOOD_GOP => {
            let instead = match measured.constant_bit_rate {
                Some(false) => "",
                _ => ", or give a small stream of the camera with such an interval as `gate_url`",
            };
            say(format!("set the keyframe interval (GOP) to 1-2 s: it is {gop:.1} s{instead}"));
        }
        None => say("set the keyframe interval (GOP) to 1-2 s: no two keyframes came".to_owned()),
        Some(_) => {}
    }
    if measured.constant_bit_rate == Some(true) && probe.codec != Codec::Mjpeg {
        say("if the bit rate is set to constant, set it to variable (VBR): packet sizes hardly vary, and then say \
             nothing about motion"
            .to_owned());
    }
    if measured.reordered {
        say("switch B-frames off: they delay every alert".to_owned());
    }
    match probe.clock_offset {
        None => say("no RTCP sender report came: times are those of arrival here".to_owned()),
        Some(offset) if offset.abs() > 2.0 => {
            say(format!("set the camera's clock by NTP: it is off by {offset:.1} s, so arrival counts"));
        }
        Some(_) => {}
    }
    match probe.login {
        Some(Login::None) => say("set a password: anybody on this network can watch".to_owned()),
        Some(Login::Basic) if !probe.url.starts_with("rtsps") => {
            say("choose digest login or rtsps: basic login shows the password to the network".to_owned());
        }
        _ => {}
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten seconds at 25 fps, GOP 2 s; the size of a dependent frame by its number.
    fn samples(size: impl Fn(usize) -> usize) -> Vec<Sample> {
        (0..250)
            .map(|n| Sample {
                arrival: n as f64 * 0.04,
                pts: n as f64 * 0.04,
                bytes: if n % 50 == 0 { 50_000 } else { size(n) },
                keyframe: n % 50 == 0,
                droppable: false,
            })
            .collect()
    }

    #[test]
    fn a_camera_is_probed_within_its_budget() {
        use crate::testing::{self, TestCamera, TestCameraOptions, with_login};
        let options = TestCameraOptions { digest: true, ..Default::default() };
        let camera = TestCamera::start(Codec::H264, &options);
        let (config, clock) = (with_login(camera.config(), "viewer", "geheim"), testing::clock());
        let probe = probe(&config, &testing::descriptions(), clock, Duration::from_secs(8)).unwrap();
        assert_eq!((probe.codec, probe.width, probe.height), (Codec::H264, 320, 240));
        assert_eq!((probe.login, probe.clock), (Some(Login::Digest), ClockSource::Camera));
        assert!(probe.clock_offset.is_some_and(|offset| offset.abs() < 2.0), "{probe:?}");
        assert!((probe.measured.gop.unwrap() - 1.0).abs() < 0.1, "{probe:?}");
        assert!((20.0..30.0).contains(&probe.measured.fps), "{probe:?}");
        let json = serde_json::to_value(&probe).unwrap();
        assert_eq!((&json["codec"], &json["login"]), (&"h264".into(), &"digest".into()));
    }

    #[test]
    fn rates_and_gop_are_counted() {
        let measured = measure(&samples(|_| 5_000), None);
        assert!((measured.fps - 25.0).abs() < 0.01 && (measured.gop.unwrap() - 2.0).abs() < 1e-9);
        assert!((measured.bit_rate / 1e6 - 1.18).abs() < 0.01, "{measured:?}");
        assert!(!measured.reordered && !measured.non_reference);
        assert_eq!(measured.constant_bit_rate, Some(true));
    }

    #[test]
    fn sizes_that_follow_the_scene_are_variable() {
        let measured = measure(&samples(|n| if n < 100 { 800 } else { 4_000 }), None);
        assert_eq!(measured.constant_bit_rate, Some(false));
        assert_eq!(measure(&samples(|_| 900), None).constant_bit_rate, Some(false), "a quiet scene");
        assert_eq!(measure(&samples(|_| 1)[..50], None).constant_bit_rate, None, "two seconds say nothing");
    }

    #[test]
    fn nothing_and_one_packet_do_not_divide_by_zero() {
        for samples in [&[][..], &samples(|_| 1)[..1]] {
            let measured = measure(samples, Some(12.0));
            assert_eq!((measured.fps, measured.bit_rate, measured.gop), (12.0, 0.0, None));
        }
    }

    #[test]
    fn advice_names_what_to_change() {
        let mut probe = Probe {
            url: "rtsp://cam/1".into(),
            codec: Codec::H264,
            profile: None,
            width: 1920,
            height: 1080,
            measured: Measured { gop: Some(8.0), reordered: true, ..measure(&samples(|_| 5_000), None) },
            clock: ClockSource::Camera,
            clock_offset: Some(-90.0),
            login: Some(Login::Basic),
            certificate: None,
            transport: Transport::Tcp,
            advice: Vec::new(),
        };
        let all = advice(&probe).join("\n");
        for word in ["substream", "8.0 s", "`gate_url`", "VBR", "B-frames", "NTP", "digest"] {
            assert!(all.contains(word), "{word} in {all}");
        }
        probe.measured = measure(&samples(|n| 800 + n * 20), None);
        (probe.height, probe.clock_offset, probe.login) = (360, Some(0.1), Some(Login::Digest));
        assert_eq!(advice(&probe), Vec::<String>::new());
    }
}
