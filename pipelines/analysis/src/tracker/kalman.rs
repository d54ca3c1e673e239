//! A constant-velocity Kalman filter on a box's centre and sides, driven by seconds of PTS.
//!
//! Owns: four independent axes (cx, cy, w, h), in picture heights. Does not know: tracks, scores, association.
//! Noise grows with the box: what is uncertain about an object is a share of its height (as in SORT and its heirs).

/// Spread of one measured coordinate, in box heights: 3 % of detector jitter and some for the swing of a gait.
const MEASURED: f64 = 0.05;
/// How fast velocity may change, in box heights per second and square root of a second: a walker starts, stops or
/// turns within a second.
const ACCELERATION: f64 = 0.8;
/// The same for the sides of the box.
const SIDE_ACCELERATION: f64 = 0.3;
/// Spread of the unknown velocity at birth, in box heights per second: up to a runner's.
const BIRTH_VELOCITY: f64 = 1.0;
/// A box is never filtered to less than this, in picture heights.
const SMALLEST: f64 = 1e-4;

/// One coordinate: position, velocity and their covariance.
#[derive(Debug, Clone, Copy)]
struct Axis {
    position: f64,
    velocity: f64,
    pp: f64,
    pv: f64,
    vv: f64,
}

impl Axis {
    fn born(position: f64, height: f64) -> Self {
        let (p, v) = (MEASURED * height, BIRTH_VELOCITY * height);
        Self { position, velocity: 0.0, pp: p * p, pv: 0.0, vv: v * v }
    }

    /// White noise on the acceleration: Q = q [dt³/3, dt²/2; dt²/2, dt].
    fn predict(&mut self, dt: f64, spread: f64) {
        let q = spread * spread;
        self.position += self.velocity * dt;
        self.pp += dt * (2.0 * self.pv + dt * self.vv) + q * dt * dt * dt / 3.0;
        self.pv += dt * self.vv + q * dt * dt / 2.0;
        self.vv += q * dt;
    }

    fn update(&mut self, measured: f64, spread: f64) {
        let s = self.pp + spread * spread;
        let (kp, kv) = (self.pp / s, self.pv / s);
        let error = measured - self.position;
        self.position += kp * error;
        self.velocity += kv * error;
        self.vv -= kv * self.pv;
        self.pv *= 1.0 - kp;
        self.pp *= 1.0 - kp;
    }
}

/// The filtered box of one object: [cx, cy, w, h] in picture heights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter {
    axes: [Axis; 4],
}

impl Filter {
    /// A box seen for the first time, at rest until told otherwise.
    pub(crate) fn born(measured: [f64; 4]) -> Self {
        Self { axes: measured.map(|m| Axis::born(m, measured[3].max(SMALLEST))) }
    }

    /// Moves on by `dt` seconds.
    pub(crate) fn predict(&mut self, dt: f64) {
        let height = self.height();
        for (index, axis) in self.axes.iter_mut().enumerate() {
            axis.predict(dt, height * if index < 2 { ACCELERATION } else { SIDE_ACCELERATION });
        }
        for side in &mut self.axes[2..] {
            side.position = side.position.max(SMALLEST);
        }
    }

    /// Takes in a detection.
    pub(crate) fn update(&mut self, measured: [f64; 4]) {
        let spread = MEASURED * self.height().max(measured[3]);
        for (axis, m) in self.axes.iter_mut().zip(measured) {
            axis.update(m, spread);
        }
        for side in &mut self.axes[2..] {
            side.position = side.position.max(SMALLEST);
        }
    }

    /// Keeps the sides as they are: an object out of sight should not shrink to a point.
    pub(crate) fn freeze_sides(&mut self) {
        for side in &mut self.axes[2..] {
            side.velocity = 0.0;
        }
    }

    /// Forgets the velocity: after a gap nobody knows it.
    pub(crate) fn rest(&mut self) {
        let unknown = BIRTH_VELOCITY * self.height();
        for axis in &mut self.axes {
            (axis.velocity, axis.pv, axis.vv) = (0.0, 0.0, unknown * unknown);
        }
    }

    /// [cx, cy, w, h].
    pub(crate) fn measures(&self) -> [f64; 4] {
        self.axes.map(|a| a.position)
    }

    /// Velocity of the bottom centre, picture heights per second.
    pub(crate) fn ground_velocity(&self) -> [f64; 2] {
        [self.axes[0].velocity, self.axes[1].velocity + self.axes[3].velocity / 2.0]
    }

    fn height(&self) -> f64 {
        self.axes[3].position.max(SMALLEST)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walked(fps: f64, seconds: f64) -> Filter {
        let at = |t: f64| [0.2 + 0.1 * t, 0.5, 0.1, 0.3];
        let mut filter = Filter::born(at(0.0));
        for step in 1..=(seconds * fps) as usize {
            filter.predict(1.0 / fps);
            filter.update(at(step as f64 / fps));
        }
        filter
    }

    #[test]
    fn a_steady_walk_is_learnt_at_any_rate() {
        for fps in [2.5, 5.0, 25.0] {
            let mut filter = walked(fps, 2.0);
            assert!(
                (filter.ground_velocity()[0] - 0.1).abs() < 0.01,
                "{fps}: {:?}",
                filter.ground_velocity()
            );
            filter.predict(1.0);
            assert!((filter.measures()[0] - 0.5).abs() < 0.02, "{fps}: {:?}", filter.measures());
        }
    }

    proptest! {
        #[test]
        fn never_leaves_the_finite(steps in proptest::collection::vec(
            (0f64..5.0, proptest::array::uniform4(0.001f64..3.0)), 0..60)) {
            let mut filter = Filter::born([0.5, 0.5, 0.1, 0.2]);
            for (dt, measured) in steps {
                filter.predict(dt);
                filter.update(measured);
                prop_assert!(filter.measures().iter().all(|m| m.is_finite()));
                prop_assert!(filter.axes.iter().all(|a| a.pp >= 0.0 && a.vv >= -1e-12));
            }
        }
    }
}
