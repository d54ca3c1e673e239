//! Whether a camera that has reported nothing wrong still delivers: a stall is silent (facts, section 5). Pure: the
//! caller tells it what came and asks from time to time.

use std::time::Duration;

use vedette_core::Mono;

use crate::FaultClass;

/// Watches packets and decoded frames of one connection.
#[derive(Clone, Debug)]
pub struct Watchdog {
    packet: Mono,
    /// Whether a packet has come at all.
    begun: bool,
    /// When the oldest packet that was given to a decoder and is still without a frame was given.
    owed_since: Option<Mono>,
    keyframe: Option<Mono>,
    /// The longest time between keyframes so far.
    gop: Duration,
}

impl Watchdog {
    /// Without a packet for so long, the stream is stalled.
    pub const SILENCE: Duration = Duration::from_secs(5);
    /// Until the first packet of a connection: logins and set-up over slow links, and sources that wake up at PLAY.
    pub const FIRST: Duration = Duration::from_secs(15);
    /// The shortest time in which packets must give a frame; two GOPs where those are longer.
    pub const BLINDNESS: Duration = Duration::from_secs(10);
    /// A GOP counts as no longer than this: cameras that send a keyframe on request only have endless ones.
    const LONGEST_GOP: Duration = Duration::from_secs(30);

    /// Begins with a connection.
    pub fn new(now: Mono) -> Self {
        Self { packet: now, begun: false, owed_since: None, keyframe: None, gop: Duration::ZERO }
    }

    /// A packet came.
    pub fn packet(&mut self, now: Mono, keyframe: bool) {
        (self.packet, self.begun) = (now, true);
        if keyframe {
            if let Some(before) = self.keyframe {
                self.gop = self.gop.max(now.since(before)).min(Self::LONGEST_GOP);
            }
            self.keyframe = Some(now);
        }
    }

    /// A packet was given to a decoder: it owes a frame now.
    pub fn pushed(&mut self, now: Mono) {
        self.owed_since.get_or_insert(now);
    }

    /// A frame was decoded.
    pub fn frame(&mut self) {
        self.owed_since = None;
    }

    /// [`FaultClass::Stalled`] without a packet for 5 s (15 s before the first one); [`FaultClass::Undecodable`] where a decoder owes a frame
    /// for 10 s or two GOPs, the longer one.
    pub fn check(&self, now: Mono) -> Option<FaultClass> {
        if now.since(self.packet) >= if self.begun { Self::SILENCE } else { Self::FIRST } {
            return Some(FaultClass::Stalled);
        }
        let patience = Self::BLINDNESS.max(self.gop * 2);
        let owed = self.owed_since.filter(|&since| now.since(since) >= patience);
        owed.map(|_| FaultClass::Undecodable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Mono {
        Mono(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn silence_is_a_stall_also_before_the_first_packet_but_later() {
        let mut dog = Watchdog::new(at(100.0));
        assert_eq!(dog.check(at(114.9)), None);
        assert_eq!(dog.check(at(115.0)), Some(FaultClass::Stalled));
        dog.packet(at(115.0), true);
        assert_eq!(dog.check(at(119.9)), None);
        assert_eq!(dog.check(at(120.0)), Some(FaultClass::Stalled));
    }

    #[test]
    fn packets_without_frames_are_undecodable_after_ten_seconds_or_two_gops() {
        struct Case(u32, f64);
        for Case(gop, patience) in [Case(2, 10.0), Case(8, 16.0)] {
            let mut dog = Watchdog::new(at(0.0));
            let limit = 20 + patience as u32;
            for second in 0..limit {
                let now = at(f64::from(second));
                dog.packet(now, second % gop == 0);
                if second < 20 {
                    dog.pushed(now);
                    dog.frame();
                } else {
                    dog.pushed(now);
                }
                assert_eq!(dog.check(now), None, "GOP {gop} s, second {second}");
            }
            dog.packet(at(f64::from(limit)), false);
            assert_eq!(dog.check(at(f64::from(limit))), Some(FaultClass::Undecodable), "GOP {gop} s");
        }
    }

    #[test]
    fn a_quiet_camera_owes_nothing() {
        let mut dog = Watchdog::new(at(0.0));
        (0..100).for_each(|second| dog.packet(at(f64::from(second)), second % 2 == 0));
        assert_eq!(dog.check(at(100.0)), None, "nothing was given to the decoder");
    }
}
