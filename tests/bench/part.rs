//! One subject in a process of its own: settles, measures itself, prints one line of JSON.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use vedette_core::{Clock, Moment, Pts, SystemClock};
use vedette_ingest::{
    Decoder, DecoderChoice, DecoderConfig, Descriptions, Item, LoopFilter, Masks, Packet, Receiver,
    SourceConfig, Transport, Trust,
};
use vedette_models::{Form, Manifest, Network, NetworkOptions, Runtime};
use vedette_tests::site::{Plan, Site};

/// What one turn of one subject gave.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Processor seconds (user and system) per second, of a camera where there are several.
    pub(crate) cores: f64,
    /// Frames analysed per second, of a camera where there are several.
    #[serde(default)]
    pub(crate) analysed: f64,
    /// Frames decoded per second, of a camera where there are several.
    #[serde(default)]
    pub(crate) decoded: f64,
    /// The least analysed camera against the most analysed one, 0..1.
    #[serde(default)]
    pub(crate) fairness: f64,
    /// Milliseconds from a person's appearance to the event at a subscriber, the median.
    #[serde(default)]
    pub(crate) latency_ms: f64,
    /// Resident memory of the process at the end, in MiB.
    #[serde(default)]
    pub(crate) rss_mib: f64,
}

/// A subject.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Part {
    /// The product's receiver alone
    #[command(hide = true)]
    Receive {
        /// The stream
        url: String,
        /// Before it counts
        settle: u32,
        /// How long it counts
        seconds: u32,
    },
    /// A decoder alone, on packets received before
    #[command(hide = true)]
    Decode {
        /// The stream
        url: String,
        /// `gst`: `avdec` of GStreamer; `libav`: libavcodec without the loop filter; `libav-full`: with it
        decoder: String,
        /// How many seconds of stream
        seconds: u32,
    },
    /// Inferences alone; `cores` are processor seconds of one
    #[command(hide = true)]
    Infer {
        /// How many
        count: u32,
    },
    /// A whole node
    #[command(hide = true)]
    Node {
        /// As `vedette.toml`
        config: PathBuf,
        /// Before it counts, once all cameras are live
        settle: u32,
        /// How long it counts
        seconds: u32,
    },
    /// How soon a whole node tells that people have appeared
    #[command(hide = true)]
    Latency(super::latency::Arguments),
}

/// Runs it and prints what it found.
pub(crate) fn run(part: &Part) -> Result<(), Box<dyn Error>> {
    vedette_ingest::init()?;
    let measured = match part {
        Part::Receive { url, settle, seconds } => receive(url, *settle, *seconds)?,
        Part::Decode { url, decoder, seconds } => decode(url, decoder, *seconds)?,
        Part::Infer { count } => infer(*count)?,
        Part::Node { config, settle, seconds } => node(config, *settle, *seconds)?,
        Part::Latency(arguments) => super::latency::measure(arguments)?,
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// Processor time of this process, in seconds.
fn processor() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

pub(crate) fn rss_mib() -> f64 {
    vedette::usage::resident_bytes() as f64 / f64::from(1 << 20)
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

pub(crate) fn descriptions() -> Result<Descriptions, Box<dyn Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    Ok(Descriptions::load(&[root.join("pipelines/descriptions")])?)
}

pub(crate) fn open(url: &str, clock: &Arc<dyn Clock>) -> Result<Receiver, Box<dyn Error>> {
    let config = SourceConfig {
        camera: "bench".parse()?,
        url: url.to_owned(),
        user: None,
        password: None,
        transport: Transport::Tcp,
        route: Arc::default(),
        trust: Trust::System,
        pipeline: None,
    };
    Ok(Receiver::open(&config, &descriptions()?, Arc::clone(clock))?)
}

/// Packets until `until`; each is given to `keep`.
fn take(
    receiver: &Receiver,
    clock: &Arc<dyn Clock>,
    length: Duration,
    mut keep: impl FnMut(Packet),
) -> Result<(), Box<dyn Error>> {
    let began = clock.now();
    while clock.now().since(began) < length {
        match receiver.items().recv_timeout(Duration::from_secs(20))? {
            Item::Packet(packet) => keep(packet),
            Item::Fault(fault) => return Err(fault.into()),
        }
    }
    Ok(())
}

fn receive(url: &str, settle: u32, length: u32) -> Result<Measured, Box<dyn Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let receiver = open(url, &clock)?;
    take(&receiver, &clock, seconds(settle), drop)?;
    let (began, before) = (clock.now(), processor());
    take(&receiver, &clock, seconds(length), drop)?;
    let cores = (processor() - before) / clock.now().since(began).as_secs_f64();
    Ok(Measured { cores, rss_mib: rss_mib(), ..Measured::default() })
}

/// Frames that a stream of 25 frames a second has in a second.
const RATE: f64 = 25.0;

fn decode(url: &str, decoder: &str, length: u32) -> Result<Measured, Box<dyn Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let receiver = open(url, &clock)?;
    let mut packets = Vec::new();
    take(&receiver, &clock, seconds(length), |packet| packets.push(packet))?;
    receiver.close();
    let first = packets.iter().position(|p| p.keyframe).ok_or("no keyframe came")?;
    let packets = &packets[first..];
    let mut decoder = opened(decoder, &packets[0])?;
    let (mut frames, mut index) = (0_u64, 0_u64);
    let mut pass = |packets: &[Packet]| -> Result<u64, Box<dyn Error>> {
        for packet in packets {
            index += 1;
            let moment =
                Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::from_secs_f64(index as f64 / RATE));
            decoder.push(packet, moment)?;
            frames += decoder.frames().try_iter().count() as u64;
        }
        Ok(frames)
    };
    // The first GOP fills pools and caches; with the second keyframe begins what counts.
    let second = packets.iter().skip(1).position(|p| p.keyframe).map_or(0, |n| n + 1);
    let warm = pass(&packets[..second])?;
    let before = processor();
    let decoded = pass(&packets[second..])? - warm;
    let of_stream = (packets.len() - second) as f64 / RATE;
    let cores = (processor() - before) / of_stream;
    Ok(Measured { cores, decoded: decoded as f64 / of_stream, rss_mib: rss_mib(), ..Measured::default() })
}

fn opened(decoder: &str, packet: &Packet) -> Result<Box<dyn Decoder>, Box<dyn Error>> {
    let (name, loop_filter) = match decoder {
        "gst" => ("decode-h264", LoopFilter::Full),
        "libav" => ("libav", LoopFilter::Skip),
        "libav-full" => ("libav", LoopFilter::Full),
        other => return Err(format!("no decoder `{other}`").into()),
    };
    let config = DecoderConfig { camera: None, decoder: DecoderChoice::of(name), loop_filter };
    Ok(config.open(&descriptions()?, &packet.stream, &Masks::none())?)
}

fn infer(count: u32) -> Result<Measured, Box<dyn Error>> {
    let runtime = Runtime::load(None, &vedette::node::runtime_folders())?;
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = Manifest::load(&[root.join("models/manifests")], super::plan::MODEL)?.only(Form::U8s8)?;
    let mut network = Network::open(runtime, &manifest, &NetworkOptions::default())?;
    // What it looks at makes no difference: no kernel's work depends on the values.
    network.write(&vec![114; network.input().len()]);
    for _ in 0..10 {
        network.infer()?;
    }
    let before = processor();
    for _ in 0..count {
        network.infer()?;
    }
    let cores = (processor() - before) / f64::from(count);
    Ok(Measured { cores, rss_mib: rss_mib(), ..Measured::default() })
}

/// Counters of all cameras, and the processor time, at one moment.
struct Mark {
    at: vedette_core::Mono,
    processor: f64,
    cameras: Vec<(u64, u64)>,
}

fn mark(site: &Site, cameras: &[String]) -> Mark {
    let cameras = cameras.iter().map(|c| (site.analysed(c), site.decoded(c))).collect();
    Mark { at: site.clock().now(), processor: processor(), cameras }
}

fn node(config: &PathBuf, settle: u32, length: u32) -> Result<Measured, Box<dyn Error>> {
    let text = std::fs::read_to_string(config)?;
    let mut site = Site::start(&Plan::new(text));
    let cameras = site.cameras();
    let names: Vec<&str> = cameras.iter().map(String::as_str).collect();
    site.wait_live(&names, Duration::from_secs(60));
    site.pause(seconds(settle));
    let before = mark(&site, &cameras);
    site.pause(seconds(length));
    let after = mark(&site, &cameras);
    let wall = after.at.since(before.at).as_secs_f64();
    let per_camera = cameras.len() as f64 * wall;
    let analysed: Vec<u64> = before.cameras.iter().zip(&after.cameras).map(|(b, a)| a.0 - b.0).collect();
    let decoded: u64 = before.cameras.iter().zip(&after.cameras).map(|(b, a)| a.1 - b.1).sum();
    let most = analysed.iter().max().copied().unwrap_or(0);
    let least = analysed.iter().min().copied().unwrap_or(0);
    let measured = Measured {
        cores: (after.processor - before.processor) / per_camera,
        analysed: analysed.iter().sum::<u64>() as f64 / per_camera,
        decoded: decoded as f64 / per_camera,
        fairness: if most == 0 { 1.0 } else { least as f64 / most as f64 },
        latency_ms: 0.0,
        rss_mib: rss_mib(),
    };
    site.stop();
    Ok(measured)
}
