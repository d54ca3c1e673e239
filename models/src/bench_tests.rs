//! Order, medians and energy of measuring, on a clock that only the subject moves.

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;

use proptest::prelude::*;
use vedette_core::SimulatedClock;

use super::*;

/// What happened, and the two clocks.
struct World {
    clock: SimulatedClock,
    cpu: RefCell<Duration>,
    done: RefCell<Vec<char>>,
}

impl Stopwatch for Rc<World> {
    fn cpu(&self) -> Duration {
        *self.cpu.borrow()
    }

    fn clock(&self) -> &dyn Clock {
        &self.clock
    }
}

fn world() -> Rc<World> {
    let clock = SimulatedClock::new(jiff::Timestamp::UNIX_EPOCH);
    Rc::new(World { clock, cpu: RefCell::default(), done: RefCell::default() })
}

/// A network that takes these milliseconds, one after the other and again.
struct Fake {
    name: char,
    world: Rc<World>,
    cpu_ms: Vec<u64>,
    next: usize,
    counter: Option<std::path::PathBuf>,
}

impl Fake {
    fn new(name: char, world: &Rc<World>, cpu_ms: &[u64]) -> Self {
        Self { name, world: Rc::clone(world), cpu_ms: cpu_ms.to_vec(), next: 0, counter: None }
    }
}

impl Subject for Fake {
    fn infer(&mut self) -> Result<(), ModelError> {
        let cost = Duration::from_millis(self.cpu_ms[self.next % self.cpu_ms.len()]);
        self.next += 1;
        self.world.done.borrow_mut().push(self.name);
        *self.world.cpu.borrow_mut() += cost;
        self.world.clock.advance(2 * cost);
        if let Some(file) = &self.counter {
            // 3 J each.
            let before: u64 = fs::read_to_string(file).expect("a counter").trim().parse().expect("a number");
            fs::write(file, (before + 3_000_000).to_string()).expect("a counter");
        }
        Ok(())
    }
}

fn no_meter() -> Result<EnergyMeter, NoEnergy> {
    Err(NoEnergy::because("no sensor"))
}

#[test]
fn networks_take_turns_and_the_first_of_a_turn_is_not_measured() {
    let world = world();
    // A's inferences: warm-up 2, then turns of 1 + 5 and 1 + 2. The unmeasured ones are the dear ones.
    let mut a = Fake::new('a', &world, &[900, 900, 900, 10, 11, 12, 13, 14, 900, 15, 16]);
    let mut b = Fake::new('b', &world, &[20]);
    let options = BenchOptions { runs: 7, warm_up: 2 };
    let mut told = Vec::new();
    let mut progress = |done, of| told.push((done, of));
    let measured =
        turns(&world, &mut [&mut a, &mut b], options, &no_meter(), &mut progress).expect("measured");
    let order: String = world.done.borrow().iter().collect();
    assert_eq!(order, "aabbaaaaaabbbbbbaaabbb");
    assert_eq!(told, [(10, 14), (14, 14)]);
    let Measurement { runs, cpu_ms_median, cpu_ms_best, wall_ms_median, wall_ms_best, energy } =
        measured[0].clone();
    assert_eq!((runs, cpu_ms_median, cpu_ms_best), (7, 13.0, 10.0));
    assert_eq!((wall_ms_median, wall_ms_best), (26.0, 20.0));
    assert_eq!(energy.expect_err("no sensor").to_string(), "not measurable here: no sensor");
    assert_eq!((measured[1].cpu_ms_median, measured[1].cpu_ms_best), (20.0, 20.0));
}

#[test]
fn at_least_one_inference_is_measured() {
    let world = world();
    let mut a = Fake::new('a', &world, &[10]);
    let options = BenchOptions { runs: 0, warm_up: 0 };
    let measured = turns(&world, &mut [&mut a], options, &no_meter(), &mut |_, _| ()).expect("measured");
    assert_eq!((measured[0].runs, measured[0].cpu_ms_median), (1, 10.0));
}

/// A counter that inferences alone move: 3 J each, and rest takes nothing.
#[test]
fn energy_is_told_for_one_inference() {
    let root = tempfile::tempdir().expect("a folder");
    let zone = root.path().join("class/powercap/intel-rapl:0");
    fs::create_dir_all(&zone).expect("a zone");
    fs::write(zone.join("name"), "package-0").expect("a name");
    fs::write(zone.join("energy_uj"), "0").expect("a counter");
    let meter = EnergyMeter::find(root.path());
    let world = world();
    let mut a = Fake { counter: Some(zone.join("energy_uj")), ..Fake::new('a', &world, &[50]) };
    let options = BenchOptions { runs: 1, warm_up: 0 };
    let mut told = Vec::new();
    let measured = turns(&world, &mut [&mut a], options, &meter, &mut |done, of| told.push((done, of)));
    let measured = measured.expect("measured");
    assert_eq!(told, [(1, 4), (2, 4), (3, 4), (4, 4)]);
    let joules = measured[0].energy.clone().expect("energy");
    assert!((joules.net - 3.0).abs() < 1e-9 && (joules.gross - 3.0).abs() < 1e-9, "{joules:?}");
    assert_eq!(joules.sensor, "RAPL package-0");
}

#[test]
fn rest_is_taken_off_and_one_bad_turn_spoils_the_figure() {
    let (work, rest) = (Energy { joules: 60.0, seconds: 2.0 }, Energy { joules: 10.0, seconds: 1.0 });
    assert_eq!(per_inference(work, rest, 10), (Some(4.0), 6.0));
    let root = tempfile::tempdir().expect("a folder");
    let chip = root.path().join("class/hwmon/hwmon0");
    fs::create_dir_all(&chip).expect("a chip");
    fs::write(chip.join("name"), "board").expect("a name");
    fs::write(chip.join("energy1_input"), "0").expect("a counter");
    let meter = EnergyMeter::find(root.path()).expect("a counter");
    let good = |net| Ok((Some(net), 6.0));
    assert_eq!(middle(&meter, vec![good(5.0), good(1.0), good(2.0)]).map(|j| j.net), Ok(2.0));
    let error = middle(&meter, vec![good(5.0), Ok((None, 6.0))]).expect_err("rest was busier");
    assert!(error.to_string().contains("more power at rest"), "{error}");
}

#[test]
fn the_median_is_in_the_middle() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    assert!(median(&[]).is_nan());
}

#[test]
fn this_process_is_resident() {
    assert!(resident_mib() > 1.0);
}

proptest! {
    #[test]
    fn half_is_not_above_the_median_and_half_not_below(values in prop::collection::vec(0.0..1e6_f64, 1..40)) {
        let middle = median(&values);
        let below = values.iter().filter(|v| **v <= middle).count();
        let above = values.iter().filter(|v| **v >= middle).count();
        prop_assert!(2 * below >= values.len() && 2 * above >= values.len());
    }

    /// Every network is measured equally often, whatever the numbers.
    #[test]
    fn everybody_gets_as_many_runs(runs in 1_usize..40, networks in 1_usize..4, warm_up in 0_usize..3) {
        let world = world();
        let mut fakes: Vec<Fake> = ('a'..).take(networks).map(|name| Fake::new(name, &world, &[1])).collect();
        let mut subjects: Vec<&mut Fake> = fakes.iter_mut().collect();
        let options = BenchOptions { runs, warm_up };
        let measured = turns(&world, &mut subjects, options, &no_meter(), &mut |_, _| ()).expect("measured");
        prop_assert!(measured.len() == networks && measured.iter().all(|m| m.runs == runs));
        let turns = runs.div_ceil(TURN);
        prop_assert!(fakes.iter().all(|fake| fake.next == warm_up + turns + runs));
    }
}
