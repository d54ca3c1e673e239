//! Whose wall clock labels a camera's pictures, and what is wrong with the camera's.
//!
//! Owns: comparing the times of RTCP sender reports with arrival, hysteresis, drift, jumps of either clock. Pure. Does
//! not know: the time line; it is told how late a packet came.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use vedette_core::{ClockSource, Mono};

/// The camera's clock counts where it is no farther from ours (DESIGN 3).
const NEAR: f64 = 2.0;
/// Once refused, it counts again only from here: a clock that drifts past the limit does not flicker.
const NEAR_AGAIN: f64 = 1.5;
/// A step of either clock: far above the jitter of reports (some ms), far below what a wrong clock is off by.
const STEP: f64 = 0.5;
/// Drift is the slope over spans of so many seconds, of each the offset of the packet that came with the least delay …
const SPAN: f64 = 10.0;
/// … no fewer than these: a minute, in which 20 ppm are 1 ms …
const FEWEST: usize = 6;
/// … and no more: ten minutes, so that it follows the temperature.
const MOST: usize = 60;

/// How a camera's clock is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClockReport {
    /// The camera's clock minus ours at the last report, in seconds; absent before the first one.
    pub offset: Option<f64>,
    /// How much faster than ours it runs, in millionths, over the last one to ten minutes; absent before.
    pub drift_ppm: Option<f64>,
    /// How often it stepped by more than 0.5 s against ours, ours standing.
    pub steps: u64,
}

/// Something to tell once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClockNews {
    /// Within 2 s, and so the label from now on; seconds that it is ahead.
    Trusted(f64),
    /// Farther off: arrival here is the label from now on; seconds that it is ahead.
    Refused(f64),
    /// It stepped; by how many seconds.
    Stepped(f64),
    /// This host's clock stepped; by how many seconds.
    HostStepped(f64),
}

/// The clock of one camera, over its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct CameraClock {
    trusted: Option<bool>,
    offset: Option<f64>,
    steps: u64,
    /// Our wall clock when the monotonic one read zero, in seconds since 1970: changes when ours is stepped.
    host_base: Option<f64>,
    /// When the present span of [`SPAN`] began, and the best offset in it: the largest, since a delay makes it less.
    span: Option<(f64, f64)>,
    spans: VecDeque<(f64, f64)>,
    news: VecDeque<ClockNews>,
}

fn seconds(time: SignedDuration) -> f64 {
    time.as_secs_f64()
}

impl CameraClock {
    /// The label of a packet: `reference` is what the camera says of its capture, `wall` our clock at its `arrival`,
    /// and it came `late` after the moment at which it would have come without any delay.
    pub(crate) fn label(
        &mut self,
        reference: Option<Timestamp>,
        wall: Timestamp,
        arrival: Mono,
        late: Duration,
    ) -> (Timestamp, ClockSource) {
        let now = arrival.0.as_secs_f64();
        self.follow_host(wall, now);
        let Some(camera) = reference else { return (wall, ClockSource::Host) };
        // Both of the moment of capture: what a hiccup of the network delays is no fault of the camera's clock.
        let at_arrival = seconds(camera.duration_since(wall));
        let offset = at_arrival + late.as_secs_f64();
        let near = offset.abs() <= if self.trusted == Some(false) { NEAR_AGAIN } else { NEAR };
        // How late something is, is an estimate: where that is much, nothing is concluded of the clock from it.
        if late.as_secs_f64() <= STEP || self.trusted.is_none() {
            self.follow_camera(offset);
            self.follow_drift(at_arrival, now);
            if self.trusted != Some(near) {
                self.trusted = Some(near);
                self.tell(if near { ClockNews::Trusted(offset) } else { ClockNews::Refused(offset) });
            }
        }
        if near { (camera, ClockSource::Camera) } else { (wall, ClockSource::Host) }
    }

    /// A step of our own clock is none of the camera's.
    fn follow_host(&mut self, wall: Timestamp, now: f64) {
        let base = wall.as_duration().as_secs_f64() - now;
        // Slewing moves it by 0.5 ms a second at most: followed, not told.
        let step = self.host_base.replace(base).map_or(0.0, |before| base - before);
        if step.abs() > STEP {
            self.offset = self.offset.map(|before| before - step);
            self.forget_drift();
            self.tell(ClockNews::HostStepped(step));
        }
    }

    fn follow_camera(&mut self, offset: f64) {
        let step = self.offset.replace(offset).map_or(0.0, |before| offset - before);
        if step.abs() > STEP {
            self.steps += 1;
            self.tell(ClockNews::Stepped(step));
            self.forget_drift();
        }
    }

    fn follow_drift(&mut self, at_arrival: f64, now: f64) {
        if let Some(whole) = self.span.take_if(|(began, _)| now - *began >= SPAN) {
            self.spans.push_back(whole);
            if self.spans.len() > MOST {
                self.spans.pop_front();
            }
        }
        let (began, best) = self.span.unwrap_or((now, at_arrival));
        self.span = Some((began, best.max(at_arrival)));
    }

    fn forget_drift(&mut self) {
        self.spans.clear();
        self.span = None;
    }

    fn tell(&mut self, news: ClockNews) {
        // Whoever never asks shall not make it grow; the newest say how things are.
        if self.news.len() >= 4 {
            self.news.pop_front();
        }
        self.news.push_back(news);
    }

    pub(crate) fn news(&mut self) -> Option<ClockNews> {
        self.news.pop_front()
    }

    pub(crate) fn report(&self) -> ClockReport {
        let drift_ppm = (self.spans.len() >= FEWEST).then(|| slope(&self.spans) * 1e6);
        ClockReport { offset: self.offset, drift_ppm, steps: self.steps }
    }

    /// Whether its reports come and are refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.trusted == Some(false)
    }
}

/// Least squares; 0 where all lie at one point.
fn slope(points: &VecDeque<(f64, f64)>) -> f64 {
    let count = points.len().max(1) as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / count, y + p.1 / count));
    let over: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let under: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    if under > 0.0 { over / under } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(seconds: f64) -> Timestamp {
        Timestamp::from_second(1_790_000_000).unwrap() + SignedDuration::from_secs_f64(seconds)
    }

    /// Five packets a second from `from` to `to`, the camera's clock off by `offset(t)`, ours by `host(t)`.
    fn run(
        clock: &mut CameraClock,
        (from, to): (u32, u32),
        offset: impl Fn(f64) -> f64,
        host: impl Fn(f64) -> f64,
    ) -> Vec<ClockSource> {
        let times = (from * 5..to * 5).map(|n| f64::from(n) / 5.0);
        times
            .map(|t| {
                let reference = Some(wall(t + offset(t)));
                let arrival = Mono(Duration::from_secs_f64(t));
                clock.label(reference, wall(t + host(t)), arrival, Duration::ZERO).1
            })
            .collect()
    }

    fn all_news(clock: &mut CameraClock) -> Vec<ClockNews> {
        std::iter::from_fn(|| clock.news()).collect()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-3
    }

    #[test]
    fn a_clock_that_drifts_is_measured_and_changes_hands_once() {
        let mut clock = CameraClock::default();
        let drifts = |t: f64| 1.9 + t * 100e-6;
        assert!(run(&mut clock, (0, 60), drifts, |_| 0.0).iter().all(|&c| c == ClockSource::Camera));
        assert_eq!(clock.report().drift_ppm, None, "not after less than a minute");
        // It crosses 2 s after 1000 s and jitters there by 1 ms.
        let jitters = |t: f64| drifts(t) + if ((t * 5.0) as u64).is_multiple_of(2) { 1e-3 } else { 0.0 };
        run(&mut clock, (60, 2_000), jitters, |_| 0.0);
        let report = clock.report();
        assert!(report.drift_ppm.is_some_and(|ppm| (ppm - 100.0).abs() < 2.0), "{report:?}");
        assert!(clock.is_refused() && report.steps == 0);
        let news = all_news(&mut clock);
        assert!(
            matches!(news[..], [ClockNews::Trusted(a), ClockNews::Refused(b)] if close(a, 1.9) && (b - 2.0).abs() < 0.01),
            "{news:?}"
        );
    }

    #[test]
    fn steps_of_the_camera_and_of_this_host_are_told_apart() {
        let mut clock = CameraClock::default();
        run(&mut clock, (0, 100), |_| 0.1, |_| 0.0);
        run(&mut clock, (100, 200), |_| 3600.1, |_| 0.0);
        run(&mut clock, (200, 300), |_| 0.1, |_| 0.0);
        let news = all_news(&mut clock);
        let [ClockNews::Stepped(a), ClockNews::Refused(b), ClockNews::Stepped(c), ClockNews::Trusted(d)] =
            news[..]
        else {
            panic!("{news:?}")
        };
        assert!(close(a, 3600.0) && close(b, 3600.1) && close(c, -3600.0) && close(d, 0.1), "{news:?}");
        run(&mut clock, (300, 400), |_| 0.1, |_| 10.0);
        let news = all_news(&mut clock);
        assert!(
            matches!(news[..], [ClockNews::HostStepped(by), ClockNews::Refused(off)] if close(by, 10.0) && close(off, -9.9)),
            "{news:?}"
        );
        assert_eq!((clock.report().steps, clock.report().drift_ppm.map(f64::round)), (2, Some(0.0)));
    }

    #[test]
    fn a_delay_of_the_network_is_no_fault_of_the_clock() {
        let mut clock = CameraClock::default();
        let late = Duration::from_secs(4);
        let (label, source) = clock.label(Some(wall(6.0)), wall(10.0), Mono(Duration::from_secs(10)), late);
        assert_eq!((label, source), (wall(6.0), ClockSource::Camera));
        assert_eq!(
            clock.label(None, wall(11.0), Mono(Duration::from_secs(11)), late),
            (wall(11.0), ClockSource::Host)
        );
        assert!(clock.report().offset.is_some_and(|offset| offset.abs() < 1e-6));
    }
}
