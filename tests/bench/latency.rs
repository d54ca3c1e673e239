//! From the frame that first shows people to the event at a subscriber.
//!
//! Owns: finding the camera's frame in the stream, and pairing it with an event. Does not know: what is quick enough. A
//! receiver beside the daemon's tells when the camera sends that frame: it is known by its bytes.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vedette_core::{Clock, Mono};
use vedette_ingest::{Item, PacketReader, Receiver};
use vedette_tests::composed::first_frames;
use vedette_tests::site::{Plan, Site};
use vedette_tests::subscriber::Subscriber;

use super::part::{Measured, descriptions, open, rss_mib};

/// Bytes of a frame that tell it from all others of a clip with noise in it.
const MARK: usize = 48;
/// The clip's appearances: the first pass teaches the gate, the second counts.
const PASSES: usize = 2;
/// An event that comes later belongs to no appearance.
const LATEST: Duration = Duration::from_secs(6);

/// What a process needs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// As `vedette.toml`
    config: PathBuf,
    /// The clip that the camera plays
    clip: PathBuf,
    /// The stream
    url: String,
    /// The broker's port
    port: u16,
    /// `quiet` or `watch`: how the camera must be when people appear
    state: String,
}

/// An appearance: when its first frame came, and how the camera was.
struct Appearance {
    at: Mono,
    state: &'static str,
}

/// The median over the appearances of the second pass; an error where one was not told, or the camera was not in the
/// state that is measured.
pub(crate) fn measure(arguments: &Arguments) -> Result<Measured, Box<dyn Error>> {
    let marks = marks(arguments)?;
    let subscriber = Subscriber::start("bench-latency", arguments.port, None);
    let clock: Arc<dyn Clock> = subscriber.clock();
    let mut site = Site::start(&Plan::new(std::fs::read_to_string(&arguments.config)?));
    site.wait_live(&["c0"], Duration::from_secs(60));
    let receiver = open(&arguments.url, &clock)?;
    let mut seen = Vec::new();
    while seen.len() < PASSES * marks.len() {
        seen.push(next(&mut site, &receiver, &marks)?);
    }
    site.pause(LATEST);
    let begins: Vec<Mono> = subscriber
        .after(0)
        .into_iter()
        .filter(|(_, m)| m.is_event() && m.get("rule") == "inside" && m.get("phase") == "begin")
        .map(|(came, _)| Mono(came))
        .collect();
    let mut latencies = Vec::new();
    for appearance in &seen[seen.len() - marks.len()..] {
        if appearance.state != arguments.state {
            return Err(format!("the camera is in {}, not {}", appearance.state, arguments.state).into());
        }
        let told = begins.iter().find(|came| **came >= appearance.at).ok_or("an appearance is not told")?;
        let latency = told.since(appearance.at);
        if latency > LATEST {
            return Err(format!("an appearance is not told within {LATEST:?}").into());
        }
        latencies.push(latency.as_secs_f64() * 1e3);
    }
    latencies.sort_by(f64::total_cmp);
    let latency_ms = latencies.get(latencies.len() / 2).copied().unwrap_or(f64::NAN);
    site.stop();
    Ok(Measured { latency_ms, rss_mib: rss_mib(), ..Measured::default() })
}

/// What the frames begin with that first show people.
fn marks(arguments: &Arguments) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let reader = PacketReader::open(&arguments.clip, &descriptions()?, jiff::Timestamp::UNIX_EPOCH)?;
    let mut all = Vec::new();
    for packet in reader {
        let (packet, _) = packet?;
        all.push(mark(&packet.data).unwrap_or_default().to_vec());
    }
    let wanted = first_frames().map(|at| all.get(at).cloned().unwrap_or_default());
    for mark in &wanted {
        if mark.len() < MARK || all.iter().filter(|other| *other == mark).count() != 1 {
            return Err("a frame of the clip cannot be told from the others".into());
        }
    }
    Ok(wanted.to_vec())
}

/// The first bytes of an access unit's first slice (H.264, 7.3.1: types 1 and 5).
fn mark(unit: &[u8]) -> Option<&[u8]> {
    let slice = unit.windows(4).position(|w| w[..3] == [0, 0, 1] && matches!(w[3] & 0x1f, 1 | 5))?;
    unit.get(slice..).map(|rest| &rest[..rest.len().min(MARK)])
}

/// Waits for the next appearance.
fn next(site: &mut Site, receiver: &Receiver, marks: &[Vec<u8>]) -> Result<Appearance, Box<dyn Error>> {
    loop {
        // The node ticks meanwhile.
        site.wait_until("a tick", LATEST, |_| true);
        match receiver.items().recv_timeout(Duration::from_millis(20)) {
            Ok(Item::Packet(packet)) if marks.iter().any(|known| mark(&packet.data) == Some(known)) => {
                let state = site.camera("c0").counters().decode().as_str();
                return Ok(Appearance { at: packet.arrival, state });
            }
            Ok(Item::Packet(_)) => {}
            Ok(Item::Fault(fault)) => return Err(fault.into()),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
