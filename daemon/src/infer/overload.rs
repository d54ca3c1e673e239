//! Whether inference keeps up with a camera, told once when it changes. Pure.
//!
//! Owns: the window and its two thresholds. Does not know: queues, logs.

use std::time::Duration;

use vedette_core::Mono;

/// Rates are of windows this long.
const WINDOW: Duration = Duration::from_secs(10);
/// Served below this part of what was handed over: overload.
const ENTER: f64 = 0.8;
/// Served from this part on: over.
const LEAVE: f64 = 0.95;

/// The window of one camera.
#[derive(Debug)]
pub(super) struct Overload {
    since: Mono,
    offered: u64,
    served: u64,
    reason: Option<String>,
}

impl Overload {
    pub(super) fn new(now: Mono) -> Self {
        Self { since: now, offered: 0, served: 0, reason: None }
    }

    /// One frame was looked at.
    pub(super) fn served(&mut self) {
        self.served += 1;
    }

    /// One frame was handed over; true when overload has begun or ended by what the window shows.
    pub(super) fn offered(&mut self, now: Mono) -> bool {
        let span = now.since(self.since);
        let mut changed = false;
        if span >= WINDOW {
            let share = self.served as f64 / self.offered.max(1) as f64;
            let (served, offered) =
                (self.served as f64 / span.as_secs_f64(), self.offered as f64 / span.as_secs_f64());
            if self.reason.is_none() && share < ENTER {
                self.reason = Some(format!("inference serves {served:.1} of {offered:.1} fps"));
                changed = true;
            } else if self.reason.is_some() && share >= LEAVE {
                self.reason = None;
                changed = true;
            }
            (self.since, self.offered, self.served) = (now, 0, 0);
        }
        self.offered += 1;
        changed
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_and_holds_between_the_thresholds() {
        let mut overload = Overload::new(Mono(Duration::ZERO));
        let mut told = Vec::new();
        // 5 fps for 4 minutes; of every ten frames so many are served.
        for frame in 0..1200_u64 {
            let now = Mono(Duration::from_millis(200 * frame));
            let of_ten = match frame {
                0..300 => 4,
                300..600 => 9,
                _ => 10,
            };
            if overload.offered(now) {
                told.push((frame, overload.reason().map(str::to_owned)));
            }
            if frame % 10 < of_ten {
                overload.served();
            }
        }
        assert_eq!(told, [(50, Some("inference serves 2.0 of 5.0 fps".to_owned())), (650, None)]);
    }
}
