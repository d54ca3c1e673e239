//! The state machine quiet / watch / busy: pure, driven by moments of the camera's line.
//!
//! Owns: hysteresis and what holds a camera in `watch`. Does not know: how motion was found.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vedette_core::Pts;

/// Keyframes further apart than this are no gate by themselves.
const GOP_MAX: Duration = Duration::from_secs(2);
/// Cameras round their GOP, and a dropped frame lengthens it.
const GOP_SLACK: Duration = Duration::from_millis(300);

/// Whether keyframes so far apart are a gate by themselves.
pub fn is_short_gop(gop: Duration) -> bool {
    gop <= GOP_MAX + GOP_SLACK
}

/// Whether a camera may rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Never: every frame that the rate needs is decoded and analysed.
    Always,
    /// While nothing moves and the stream lets that be seen cheaply.
    #[default]
    Adaptive,
    /// While nothing moves, also where a short movement could be missed.
    Force,
}

/// What a camera's decoder does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decode {
    /// Keyframes only.
    Quiet,
    /// What the rate needs; nothing is tracked.
    Watch,
    /// As watch, and something that is not parked is tracked.
    Busy,
}

impl Decode {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Quiet, Self::Watch, Self::Busy];

    /// As on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Watch => "watch",
            Self::Busy => "busy",
        }
    }
}

/// Why a camera in which nothing moves is not quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// `mode = "always"`.
    Mode,
    /// The distance of keyframes, or the picture's noise, is not known yet.
    Learning,
    /// Packet sizes say nothing, keyframes are too far apart, and no other stream is looked at.
    Blind,
    /// Only keyframes, or another stream's pictures, show motion, and a rule must not miss what happens
    /// between two of them.
    Rules,
}

/// What does not change while a camera runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionConfig {
    /// Whether it may rest at all.
    pub mode: Mode,
    /// Without motion for so long a camera becomes quiet.
    pub quiet_after: Duration,
    /// Whether the camera has a rule for what may be over between two keyframes.
    pub brief_rules: bool,
}

/// What the gates can see of this stream now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sight {
    /// Packet sizes tell motion.
    pub sizes: bool,
    /// The longest recent distance of keyframes; `None` until it is known.
    pub gop: Option<Duration>,
    /// The picture gate knows the picture's noise.
    pub taught: bool,
    /// Pictures of another stream of the camera are compared, about one a second.
    pub beside: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Attention {
    config: AttentionConfig,
    state: Decode,
    /// The last motion, or the beginning.
    motion: Pts,
    /// Somebody asked for attention until then.
    awake_until: Pts,
    moving: bool,
    hold: Option<Hold>,
    needs_beside: bool,
}

impl Attention {
    /// Begins in `watch`, as though something had just moved.
    pub fn new(config: AttentionConfig, now: Pts) -> Self {
        let hold = (config.mode == Mode::Always).then_some(Hold::Mode);
        Self {
            config,
            state: Decode::Watch,
            motion: now,
            awake_until: now,
            moving: false,
            hold,
            needs_beside: false,
        }
    }

    /// Something moved at `at`; also the stream having begun anew. Earlier than known changes nothing.
    pub fn motion(&mut self, at: Pts) {
        self.motion = self.motion.max(at);
    }

    /// Whether a track is alive that is not parked, as of `at`.
    pub fn tracks(&mut self, at: Pts, moving: bool) {
        self.moving = moving;
        if moving {
            self.motion(at);
        }
    }

    /// Stays awake until then, whatever moves.
    pub fn wake(&mut self, until: Pts) {
        self.awake_until = self.awake_until.max(until);
    }

    /// The state at `now`; true when it is another one than before.
    pub fn update(&mut self, now: Pts, sight: Sight) -> bool {
        self.hold = self.hold_of(sight);
        let blind = !sight.sizes && sight.gop.is_some_and(|gop| !is_short_gop(gop));
        self.needs_beside = blind && self.config.mode == Mode::Adaptive && !self.config.brief_rules;
        let resting = now.since(self.motion) >= self.config.quiet_after && now >= self.awake_until;
        let next = match (self.moving, self.hold, resting) {
            (true, ..) => Decode::Busy,
            (false, None, true) => Decode::Quiet,
            _ => Decode::Watch,
        };
        std::mem::replace(&mut self.state, next) != next
    }

    fn hold_of(&self, sight: Sight) -> Option<Hold> {
        let Some(gop) = sight.gop.filter(|_| sight.taught) else {
            return Some(if self.config.mode == Mode::Always { Hold::Mode } else { Hold::Learning });
        };
        match self.config.mode {
            Mode::Always => Some(Hold::Mode),
            Mode::Force => None,
            Mode::Adaptive if sight.sizes => None,
            Mode::Adaptive if !is_short_gop(gop) && !sight.beside => Some(Hold::Blind),
            Mode::Adaptive => self.config.brief_rules.then_some(Hold::Rules),
        }
    }

    /// The state as of the last update.
    pub fn state(&self) -> Decode {
        self.state
    }

    /// Whether this stream alone never lets it rest, but another stream of the camera would.
    pub fn needs_beside(&self) -> bool {
        self.needs_beside
    }

    /// What keeps it out of `quiet`, whether or not something moves.
    pub fn hold(&self) -> Option<Hold> {
        self.hold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUIET_AFTER: Duration = Duration::from_secs(10);

    fn at(seconds: f64) -> Pts {
        Pts::from_secs_f64(seconds)
    }

    fn config(mode: Mode, brief_rules: bool) -> AttentionConfig {
        AttentionConfig { mode, quiet_after: QUIET_AFTER, brief_rules }
    }

    fn sight(sizes: bool, gop: f64) -> Sight {
        Sight { sizes, gop: Some(Duration::from_secs_f64(gop)), taught: true, beside: false }
    }

    #[test]
    fn which_streams_let_a_camera_rest() {
        use Mode::{Adaptive, Always, Force};
        struct Case(Mode, bool, Sight, Option<Hold>);
        let unknown = Sight { gop: None, ..sight(true, 1.0) };
        let beside = Sight { beside: true, ..sight(false, 8.0) };
        let untaught = Sight { taught: false, ..sight(true, 1.0) };
        let cases = [
            Case(Adaptive, false, sight(true, 2.0), None),
            Case(Adaptive, true, sight(true, 10.0), None),
            Case(Adaptive, false, sight(false, 2.04), None),
            Case(Adaptive, false, sight(false, 4.0), Some(Hold::Blind)),
            Case(Adaptive, true, sight(false, 1.0), Some(Hold::Rules)),
            Case(Adaptive, true, sight(false, 4.0), Some(Hold::Blind)),
            Case(Adaptive, false, beside, None),
            Case(Adaptive, true, beside, Some(Hold::Rules)),
            Case(Adaptive, false, Sight { taught: false, ..beside }, Some(Hold::Learning)),
            Case(Always, false, beside, Some(Hold::Mode)),
            Case(Adaptive, false, unknown, Some(Hold::Learning)),
            Case(Force, true, untaught, Some(Hold::Learning)),
            Case(Force, true, sight(false, 8.0), None),
            Case(Always, false, sight(true, 1.0), Some(Hold::Mode)),
            Case(Always, false, unknown, Some(Hold::Mode)),
        ];
        for Case(mode, brief, sight, hold) in cases {
            let mut attention = Attention::new(config(mode, brief), at(0.0));
            attention.update(at(60.0), sight);
            let expected = if hold.is_none() { Decode::Quiet } else { Decode::Watch };
            assert_eq!((attention.state(), attention.hold()), (expected, hold), "{mode:?} {brief} {sight:?}");
            let blind = !sight.sizes && sight.gop.is_some_and(|gop| gop.as_secs() >= 3);
            assert_eq!(
                attention.needs_beside(),
                blind && mode == Adaptive && !brief,
                "{mode:?} {brief} {sight:?}"
            );
        }
    }

    #[test]
    fn a_day_in_a_yard() {
        let mut attention = Attention::new(config(Mode::Adaptive, false), at(0.0));
        let sight = sight(true, 2.0);
        assert!(!attention.update(at(9.9), sight) && attention.state() == Decode::Watch);
        assert!(attention.update(at(10.0), sight) && attention.state() == Decode::Quiet);
        attention.motion(at(20.0));
        assert!(attention.update(at(20.0), sight) && attention.state() == Decode::Watch);
        attention.tracks(at(21.0), true);
        assert!(attention.update(at(21.0), sight) && attention.state() == Decode::Busy);
        attention.tracks(at(30.0), true);
        attention.tracks(at(30.2), false);
        assert!(attention.update(at(30.2), sight) && attention.state() == Decode::Watch);
        assert!(!attention.update(at(39.9), sight));
        assert!(attention.update(at(40.0), sight) && attention.state() == Decode::Quiet);
        attention.wake(at(100.0));
        assert!(attention.update(at(41.0), sight) && attention.state() == Decode::Watch);
        assert!(!attention.update(at(99.9), sight));
        assert!(attention.update(at(100.0), sight) && attention.state() == Decode::Quiet);
    }

    proptest! {
        #[test]
        fn quiet_means_rest_and_busy_means_tracks(
            inputs in proptest::collection::vec((0_u64..4_000, 0_u8..5, any::<bool>(), 0_u64..6_000), 1..120),
        ) {
            let mut attention = Attention::new(config(Mode::Adaptive, false), Pts::ZERO);
            let (mut now, mut motion, mut awake, mut moving) = (Pts::ZERO, Pts::ZERO, Pts::ZERO, false);
            for (step, input, flag, gop) in inputs {
                now = now + Duration::from_millis(step);
                match input {
                    0 => { attention.motion(now); motion = now; }
                    1 => {
                        attention.tracks(now, flag);
                        moving = flag;
                        if flag { motion = now; }
                    }
                    2 => {
                        let until = now + Duration::from_millis(gop);
                        attention.wake(until);
                        awake = awake.max(until);
                    }
                    _ => {}
                }
                let sight = Sight { sizes: flag, gop: Some(Duration::from_millis(gop)), taught: true, beside: false };
                let before = attention.state();
                let changed = attention.update(now, sight);
                let state = attention.state();
                prop_assert_eq!(changed, before != state);
                prop_assert_eq!(state == Decode::Busy, moving);
                let rest = now.since(motion) >= QUIET_AFTER && now >= awake && (flag || gop <= 2_300);
                prop_assert_eq!(state == Decode::Quiet, rest && !moving);
            }
        }
    }
}
