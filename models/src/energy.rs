//! What the machine's own power sensors say: joules of a stretch of work.
//!
//! A sensor sees a whole package or board, never one process. So the energy of work is told twice: **gross**, all that
//! the sensor counted meanwhile, and **net**, gross minus what the same sensor counted at rest just before, scaled to
//! the same length. Net is the cost of the work only as far as nothing else ran during both.
//!
//! Owns: finding sensors below /sys, counters that wrap, powers that must be integrated. Does not know: networks.

mod sensors;

use std::path::Path;
use std::time::Duration;

use vedette_core::{Clock, Mono, Shutdown};

use self::sensors::Sensor;

/// How often a sensor of power is read. Those on a board average over some milliseconds themselves.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);

/// Why there are no joules; the text begins with what people are to be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not measurable here: {0}")]
pub struct NoEnergy(String);

impl NoEnergy {
    pub(crate) fn because(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

/// Energy of a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Energy {
    /// All that the sensor counted.
    pub joules: f64,
    /// For how long, in seconds.
    pub seconds: f64,
}

impl Energy {
    /// What is left without the power at `rest`. None where nothing is: then something else ran while the machine
    /// should have rested.
    pub fn above(self, rest: Self) -> Option<f64> {
        let net = self.joules - rest.joules / rest.seconds * self.seconds;
        (net > 0.0).then_some(net)
    }
}

/// The best power sensor of this machine.
#[derive(Debug)]
pub struct EnergyMeter {
    name: String,
    sensors: Vec<Sensor>,
}

impl EnergyMeter {
    /// Looks below `sys` (`/sys`, but for tests) for, in this order: RAPL's package counters
    /// (`class/powercap/intel-rapl:N`, AMD's too), a Jetson's INA3221 rail of the whole module, any other hwmon
    /// counter of energy, any other hwmon sensor of power. Every sensor is read once: what cannot be read is not there.
    ///
    /// # Errors
    /// There is none, or none that may be read; with the reason for each that was tried.
    pub fn find(sys: &Path) -> Result<Self, NoEnergy> {
        let mut reasons = Vec::new();
        for find in [sensors::rapl, sensors::jetson, sensors::hwmon] {
            let found = match find(sys) {
                Ok(Some((name, sensors))) => Self { name, sensors },
                Ok(None) => continue,
                Err(reason) => {
                    reasons.push(reason);
                    continue;
                }
            };
            match found.sensors.iter().try_for_each(|sensor| sensor.read().map(drop)) {
                Ok(()) => return Ok(found),
                Err(reason) => reasons.push(reason),
            }
        }
        if reasons.is_empty() {
            reasons.push("no power sensor (RAPL, INA3221, hwmon) in /sys".to_owned());
        }
        Err(NoEnergy(reasons.join("; ")))
    }

    /// The sensor, for people: `RAPL package-0`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Energy while `work` runs. Counters are read before and after; powers are sampled by a thread meanwhile and
    /// integrated by trapezoids. Shorter than a counter's wrap, which is minutes at least.
    ///
    /// # Errors
    /// A sensor fails meanwhile, or no time passed; `work` is then lost too.
    pub fn over<T>(&self, clock: &dyn Clock, work: impl FnOnce() -> T) -> Result<(T, Energy), NoEnergy> {
        let begin = self.sample(clock)?;
        let (done, mut integral) = if self.sensors.iter().any(Sensor::is_power) {
            let stop = Shutdown::new();
            std::thread::scope(|scope| {
                let sampler = scope.spawn(|| self.follow(clock, begin, &stop));
                let done = {
                    let _ended = Ended(&stop);
                    work()
                };
                let followed =
                    sampler.join().unwrap_or_else(|_| Err(NoEnergy("the sampler ended".to_owned())));
                followed.map(|integral| (done, integral))
            })?
        } else {
            (work(), Integral::new(begin))
        };
        integral.add(self.sample(clock)?, &self.sensors)?;
        let seconds = integral.length.as_secs_f64();
        if seconds <= 0.0 {
            return Err(NoEnergy("no time passed".to_owned()));
        }
        Ok((done, Energy { joules: integral.joules, seconds }))
    }

    fn follow(&self, clock: &dyn Clock, begin: Sample, stop: &Shutdown) -> Result<Integral, NoEnergy> {
        let mut integral = Integral::new(begin);
        while !clock.pause(SAMPLE_EVERY, stop) {
            integral.add(self.sample(clock)?, &self.sensors)?;
        }
        Ok(integral)
    }

    fn sample(&self, clock: &dyn Clock) -> Result<Sample, NoEnergy> {
        let values: Result<Vec<_>, _> = self.sensors.iter().map(Sensor::read).collect();
        Ok(Sample { at: clock.now(), values: values.map_err(NoEnergy)? })
    }
}

/// Ends the sampling, also where the work panics: the scope would wait for it.
struct Ended<'a>(&'a Shutdown);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.request();
    }
}

/// All sensors at one moment: counters in µJ, powers in µW.
struct Sample {
    at: Mono,
    values: Vec<u64>,
}

/// Energy from the first sample to the last.
struct Integral {
    last: Sample,
    joules: f64,
    length: Duration,
}

impl Integral {
    fn new(first: Sample) -> Self {
        Self { last: first, joules: 0.0, length: Duration::ZERO }
    }

    fn add(&mut self, next: Sample, sensors: &[Sensor]) -> Result<(), NoEnergy> {
        let step = next.at.since(self.last.at);
        for ((sensor, &before), &after) in sensors.iter().zip(&self.last.values).zip(&next.values) {
            self.joules += sensor.joules(before, after, step).map_err(NoEnergy)?;
        }
        self.length += step;
        self.last = next;
        Ok(())
    }
}

#[cfg(test)]
#[path = "energy_tests.rs"]
mod tests;
