//! Time as it flows with the packets. Durations are seconds of [`Pts`]; the wall clock only labels.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on one camera's monotone time line: nanoseconds since that line began. The line lives as long as the
/// process; reconnects and jumps re-base it, so that it never runs backwards (DESIGN 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pts(u64);

impl Pts {
    /// The beginning of a line.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds since the line began.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From seconds since the line began; negative and non-finite values become [`Pts::ZERO`].
    pub fn from_secs_f64(seconds: f64) -> Self {
        // A float-to-int cast saturates and maps NaN to 0.
        Self((seconds * 1e9).round() as u64)
    }

    /// Nanoseconds since the line began.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the line began.
    pub fn secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// How long after `earlier` this is; zero where it is not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Seconds from `earlier` to this, negative where this lies before.
    pub fn secs_since(self, earlier: Self) -> f64 {
        (self.0 as f64 - earlier.0 as f64) / 1e9
    }
}

impl Add<Duration> for Pts {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Pts {
    type Output = Self;
    /// Stops at [`Pts::ZERO`].
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Pts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.secs_f64())
    }
}

/// Whose wall clock a [`Moment`] carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockSource {
    /// The camera's own, from RTCP sender reports, where it agrees with arrival within 2 s.
    Camera,
    /// This host's, at arrival.
    Host,
    /// A file's PTS counted from a given start (`replay`).
    File,
}

/// When a frame was captured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// On the camera's monotone line: the only source of durations.
    pub pts: Pts,
    /// In UTC: labels events and decides schedules; may step.
    pub wall: jiff::Timestamp,
    /// Whether the host's clock is synchronised (`clock_synced` of an event).
    pub wall_ok: bool,
    /// Whose clock `wall` is.
    pub clock: ClockSource,
}

impl Moment {
    /// A moment of a file that begins at `start`.
    pub fn of_file(start: jiff::Timestamp, pts: Pts) -> Self {
        let offset =
            jiff::SignedDuration::try_from(pts.since(Pts::ZERO)).unwrap_or(jiff::SignedDuration::MAX);
        let wall = start.checked_add(offset).unwrap_or(jiff::Timestamp::MAX);
        Self { pts, wall, wall_ok: true, clock: ClockSource::File }
    }

    /// The same clock at another point of the same line.
    pub fn shifted_to(self, pts: Pts) -> Self {
        let nanos = i128::from(pts.nanos()) - i128::from(self.pts.nanos());
        let offset = jiff::SignedDuration::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX));
        Self { pts, wall: self.wall.checked_add(offset).unwrap_or(jiff::Timestamp::MAX), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_and_never_panics() {
        assert_eq!(Pts::ZERO - Duration::from_secs(1), Pts::ZERO);
        assert_eq!(Pts::from_nanos(u64::MAX) + Duration::MAX, Pts::from_nanos(u64::MAX));
        assert_eq!(Pts::from_secs_f64(f64::NAN), Pts::ZERO);
        assert_eq!(Pts::from_secs_f64(-3.0), Pts::ZERO);
        assert_eq!(Pts::from_secs_f64(1.5).since(Pts::from_secs_f64(2.0)), Duration::ZERO);
    }

    #[test]
    fn a_file_counts_from_its_start() {
        let m = Moment::of_file(jiff::Timestamp::UNIX_EPOCH, Pts::from_secs_f64(1.25));
        assert_eq!(m.wall.to_string(), "1970-01-01T00:00:01.25Z");
        assert_eq!(m.shifted_to(Pts::from_secs_f64(0.25)).wall.to_string(), "1970-01-01T00:00:00.25Z");
    }
}
