//! The time line of a simulated camera over hours of trouble: reconnects, jumps and overflows of its RTP clock, reports
//! that stop or lie, clocks that step. What happened is known exactly here, so is what the line may say.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use vedette_core::{ClockSource, Pts};

use crate::{Packet, Placed, TimeLine, testing};

/// 32 bits of a 90 kHz clock.
const OVERFLOW: f64 = 4_294_967_296.0 / 90_000.0;

#[derive(Clone, Copy, Debug)]
enum Happening {
    /// So many pictures at 25 fps, each delayed by up to so many ms.
    Pictures(u16, u16),
    /// The connection breaks and stands again after so many ms.
    Reconnect(u16),
    /// The camera sends nothing for so many ms.
    Silence(u16),
    /// The RTP clock jumps by so many seconds.
    Jump(i16),
    /// The RTP clock starts again at zero.
    Overflow,
    /// Sender reports come, or not.
    Reports(bool),
    /// The camera's clock is so many seconds from the true time.
    Camera(i32),
    /// This host's clock is so many seconds from the true time.
    Host(i32),
}

/// A world in which all true times are known. Seconds.
struct World {
    line: TimeLine,
    now: f64,
    /// When the first picture was taken: zero on the line.
    began: f64,
    rtp: f64,
    reports: bool,
    camera: f64,
    host: f64,
    arrived: f64,
    newest: Option<Pts>,
    /// How far the line may have moved against the true time: what re-basing by delayed packets can add.
    slack: f64,
    must_tell: bool,
}

fn wall(seconds: f64) -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap() + SignedDuration::from_secs_f64(seconds)
}

impl World {
    fn new() -> Self {
        Self {
            line: TimeLine::new(),
            now: 10.0,
            began: 10.0,
            rtp: 100.0,
            reports: true,
            camera: 0.0,
            host: 0.0,
            arrived: 0.0,
            newest: None,
            slack: 0.3,
            must_tell: false,
        }
    }

    fn picture(&mut self, delay: f64) -> Result<Placed, TestCaseError> {
        self.now += 0.04;
        self.arrived = self.arrived.max(self.now + delay);
        let arrival = Duration::from_secs_f64(self.arrived);
        let packet = Packet {
            reference: self.reports.then(|| wall(self.now + self.camera)),
            ..testing::packet(Duration::from_secs_f64(self.rtp + self.now), arrival, false, 1)
        };
        let ours = wall(self.arrived + self.host);
        let placed = self.line.place(&packet, ours, true);
        let moment = placed.moment;
        if let Some(newest) = self.newest {
            prop_assert!(moment.pts > newest, "the line ran back: {:?} after {newest:?}", moment.pts);
            let hole = moment.pts.secs_since(newest) > 2.0;
            prop_assert!(placed.gap || !(hole || self.must_tell), "a gap was not told at {:?}", moment.pts);
        }
        self.must_tell = false;
        if self.newest.is_none() {
            self.began = self.now;
        }
        let ahead = moment.pts.secs_f64() - (self.now - self.began);
        prop_assert!(ahead < self.slack, "{ahead} s ahead of the true time");
        let (expected, off) = (packet.reference, (self.camera - self.host).abs());
        match moment.clock {
            ClockSource::Camera => prop_assert_eq!(Some(moment.wall), expected),
            _ => prop_assert_eq!(moment.wall, ours),
        }
        // Whatever the network does, it never makes a difference of half a minute.
        prop_assert!(off < 30.0 || moment.clock == ClockSource::Host, "believed a clock {off} s off");
        self.newest = Some(moment.pts);
        Ok(placed)
    }

    fn happen(&mut self, what: Happening) -> Result<(), TestCaseError> {
        use Happening as H;
        match what {
            H::Pictures(count, most) => {
                for n in 0..count {
                    self.picture(f64::from(n % 7) / 6.0 * f64::from(most) / 1e3)?;
                }
            }
            H::Reconnect(ms) => {
                self.now += f64::from(ms) / 1e3;
                self.rtp = f64::from(ms);
                self.line.reconnected();
                self.must_tell = self.newest.is_some();
                self.slack += 0.31;
            }
            H::Silence(ms) => self.now += f64::from(ms) / 1e3,
            // Far enough to be told from a hiccup of the network, whatever else happens at the time.
            H::Jump(by) => {
                self.rtp = (self.rtp + f64::from(by) + 10.0_f64.copysign(f64::from(by))).abs();
                self.slack += 0.31;
            }
            H::Overflow => {
                self.rtp = (self.rtp - OVERFLOW).abs();
                self.slack += 0.31;
            }
            H::Reports(on) => self.reports = on,
            H::Camera(by) => self.camera = f64::from(by),
            H::Host(by) => self.host = f64::from(by),
        }
        Ok(())
    }

    /// Two and a half quiet minutes: the longest that any trouble may be remembered.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..3_750 {
            self.picture(0.0)?;
        }
        let before = self.newest.unwrap_or_default();
        for n in 1..=50 {
            let placed = self.picture(0.0)?;
            prop_assert!(!placed.gap);
            let spacing = placed.moment.pts.secs_since(before);
            prop_assert!((spacing - f64::from(n) * 0.04).abs() < 1e-3, "{spacing} s for {n} pictures");
        }
        // A jump that hid behind a silence may leave up to 2 s: arrival alone does not contradict it.
        let off = self.newest.unwrap_or_default().secs_f64() - (self.now - self.began);
        prop_assert!(off > -2.1 && off < self.slack, "{off} s from the true time");
        Ok(())
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening as H;
    prop_oneof![
        4 => (1_u16..200, 0_u16..300).prop_map(|(count, delay)| H::Pictures(count, delay)),
        1 => (0_u16..20_000).prop_map(H::Reconnect),
        1 => (0_u16..20_000).prop_map(H::Silence),
        1 => (-7_200_i16..7_200).prop_map(H::Jump),
        1 => Just(H::Overflow),
        1 => any::<bool>().prop_map(H::Reports),
        1 => prop_oneof![Just(0), Just(1), -90_000_i32..90_000].prop_map(H::Camera),
        1 => prop_oneof![Just(0), Just(1), -90_000_i32..90_000].prop_map(H::Host),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_line_runs_on_and_the_label_is_honest(
        happenings in proptest::collection::vec(happening(), 0..40),
    ) {
        let mut world = World::new();
        for what in happenings {
            world.happen(what)?;
        }
        world.settle()?;
        let off = (world.camera - world.host).abs();
        let clock = world.picture(0.0)?.moment.clock;
        let expected = if world.reports && off < 1.4 { ClockSource::Camera } else { ClockSource::Host };
        prop_assert_eq!(clock, expected, "the camera's clock is {} s off", off);
        let report = world.line.clock();
        if world.reports {
            let told = report.offset.unwrap_or(f64::NAN);
            prop_assert!((told - (world.camera - world.host)).abs() < 0.05, "told {} s", told);
            prop_assert!(report.drift_ppm.is_some_and(|ppm| ppm.abs() < 500.0), "{report:?}");
        }
    }
}
