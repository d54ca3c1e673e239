//! The demo's figures: frames, tracks, cores in use and latency.

use std::collections::BTreeMap;
use std::time::Duration;

use vedette_core::Mono;

use super::subscriber::Message;
use crate::node::Node;
use crate::usage::{CpuTime, cpu_time, resident_bytes};

pub(super) struct Tally {
    events: BTreeMap<(String, String), u64>,
    latencies: Vec<u64>,
    start: Mono,
    base: CpuTime,
    last: (Mono, Duration),
    cores: f64,
}

/// What a thread of this process does for a camera, by its name.
fn part_of(thread: &str) -> &'static str {
    match thread {
        t if t.starts_with("infer-") => "inference",
        t if t.starts_with("in:") || t.starts_with("decode") => "decode",
        t if t.starts_with("cam-") => "camera thread",
        t if t.starts_with("rtp")
            || t.starts_with("rtsp")
            || t.starts_with("udp")
            || t.starts_with("task") =>
        {
            "receive"
        }
        t if t.starts_with("pool") || t.starts_with("tcp") || t.starts_with("gst") => "receive",
        t if t.starts_with("sockets") || t.contains("broker") || t.starts_with("subscriber") => "mqtt",
        _ => "rest",
    }
}

impl Tally {
    pub(super) fn new(now: Mono) -> Self {
        let base = cpu_time();
        let last = (now, base.total);
        Self { events: BTreeMap::new(), latencies: Vec::new(), start: now, base, last, cores: 0.0 }
    }

    pub(super) fn message(&mut self, message: &Message) {
        if !message.topic.ends_with("/event") {
            return;
        }
        let event = message.json();
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        *self.events.entry((text("kind"), text("phase"))).or_default() += 1;
        if matches!(event["phase"].as_str(), Some("begin" | "once")) {
            self.latencies.extend(event["latency_ms"].as_u64());
        }
    }

    fn median_latency(&self) -> Option<u64> {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// One line for the bottom of the screen.
    pub(super) fn line(&mut self, node: &Node, now: Mono) -> String {
        let cpu = cpu_time().total;
        let elapsed = now.since(self.last.0).as_secs_f64();
        if elapsed > 0.5 {
            let cores = cpu.saturating_sub(self.last.1).as_secs_f64() / elapsed;
            // Smoothed: the kernel counts in hundredths of a second.
            self.cores = if self.cores == 0.0 { cores } else { 0.7 * self.cores + 0.3 * cores };
            self.last = (now, cpu);
        }
        let counters = node.cameras().iter().map(crate::camera::RunningCamera::counters);
        let (decoded, analysed, tracks) = counters.fold((0, 0, 0), |sum, c| {
            (sum.0 + c.decoded.get(), sum.1 + c.analysed.get(), sum.2 + c.tracks())
        });
        let latency = self.median_latency().map_or_else(|| "–".to_owned(), |l| format!("{l} ms"));
        format!(
            "{decoded} frames, {analysed} analysed, {tracks} tracks, {:.2} cores, {} MiB, median latency {latency}",
            self.cores,
            resident_bytes() >> 20
        )
    }

    /// Rows for the end.
    pub(super) fn summary(&self, node: &Node, now: Mono) -> Vec<(String, String)> {
        let seconds = now.since(self.start).as_secs_f64().max(1e-3);
        let cpu = cpu_time();
        let mut parts: BTreeMap<&str, Duration> = BTreeMap::new();
        for (name, time) in &cpu.by_thread {
            let before = self.base.by_thread.get(name).copied().unwrap_or_default();
            *parts.entry(part_of(name)).or_default() += time.saturating_sub(before);
        }
        let total = cpu.total.saturating_sub(self.base.total);
        let mut rows = vec![("ran for".to_owned(), format!("{seconds:.1} s"))];
        for camera in node.cameras() {
            let c = camera.counters();
            let (infer, delay) = c.means();
            rows.push((format!("camera {}", camera.config().id), format!(
                "{} received, {} decoded, {} analysed, {} dropped; inference {:.1} ms, frame to result {:.0} ms",
                c.received.get(), c.decoded.get(), c.analysed.get(), c.dropped_busy.get(), infer * 1e3, delay * 1e3,
            )));
        }
        for ((kind, phase), n) in &self.events {
            rows.push((format!("{kind} {phase}"), n.to_string()));
        }
        let latency = self
            .median_latency()
            .map_or_else(|| "–".to_owned(), |l| format!("{l} ms from capture to stored, median"));
        rows.push(("latency".to_owned(), latency));
        let split: Vec<_> =
            parts.iter().map(|(part, t)| format!("{part} {:.3}", t.as_secs_f64() / seconds)).collect();
        rows.push((
            "cores".to_owned(),
            format!("{:.3} ({})", total.as_secs_f64() / seconds, split.join(", ")),
        ));
        rows.push(("memory".to_owned(), format!("{} MiB", resident_bytes() >> 20)));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_parts() {
        assert_eq!(part_of("infer-nanodet-g"), "inference");
        assert_eq!(part_of("cam-gate"), "camera thread");
        assert_eq!(part_of("sockets"), "mqtt");
    }
}
