//! Which decoded frames are analysed: an even rate on the camera's time line, whatever the stream's rate is. Pure.

use std::time::Duration;

use vedette_core::Pts;

/// Picks frames at a target rate by PTS.
#[derive(Debug)]
pub struct Pacer {
    period: Duration,
    due: Pts,
}

impl Pacer {
    /// `fps` > 0 analysed frames a second.
    pub fn new(fps: f32) -> Self {
        Self { period: Duration::from_secs_f64(1.0 / f64::from(fps.max(0.01))), due: Pts::ZERO }
    }

    /// Whether the frame at `pts` is due. The grid is kept, so that 25 frames a second give exactly 5 at 5 and 7.5
    /// give 5 as evenly as they can; after a pause it starts anew.
    pub fn take(&mut self, pts: Pts) -> bool {
        // Half a millisecond: timestamps of 90 kHz are rounded.
        if pts + Duration::from_micros(500) < self.due {
            return false;
        }
        let next = self.due + self.period;
        self.due = if next <= pts { pts + self.period } else { next };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(stream_fps: f64, fps: f32, seconds: f64) -> usize {
        let mut pacer = Pacer::new(fps);
        let frames = (stream_fps * seconds) as u64;
        (0..frames).filter(|i| pacer.take(Pts::from_secs_f64(*i as f64 / stream_fps))).count()
    }

    #[test]
    fn rates_come_out_even() {
        struct Case(f64, f32, usize);
        for Case(stream, fps, expected) in [
            Case(25.0, 5.0, 50),
            Case(10.0, 5.0, 50),
            Case(7.5, 5.0, 50),
            Case(4.0, 5.0, 40),
            Case(30.0, 12.5, 125),
        ] {
            let n = taken(stream, fps, 10.0);
            assert!(n.abs_diff(expected) <= 1, "{stream} fps at {fps}: {n}, expected {expected}");
        }
    }

    #[test]
    fn a_pause_is_not_caught_up() {
        let mut pacer = Pacer::new(5.0);
        assert!(pacer.take(Pts::ZERO));
        assert!(pacer.take(Pts::from_secs_f64(60.0)));
        assert!(!pacer.take(Pts::from_secs_f64(60.1)));
    }
}
