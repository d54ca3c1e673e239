//! Energy from trees of files like the kernel's.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;
use vedette_core::SystemClock;

use super::*;

/// A /sys of these files.
fn sys(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        write(root.path(), name, text);
    }
    root
}

fn write(root: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = root.join("class").join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, text).expect("a file");
}

fn name(root: &TempDir) -> String {
    EnergyMeter::find(root.path()).map_or_else(|e| e.to_string(), |meter| meter.name().to_owned())
}

const RAPL: [(&str, &str); 9] = [
    ("powercap/intel-rapl:0/name", "package-0\n"),
    ("powercap/intel-rapl:0/energy_uj", "262143328000\n"),
    ("powercap/intel-rapl:0/max_energy_range_uj", "262143328850\n"),
    ("powercap/intel-rapl:0:0/name", "core\n"),
    ("powercap/intel-rapl:0:0/energy_uj", "5\n"),
    ("powercap/intel-rapl:1/name", "psys\n"),
    ("powercap/intel-rapl:1/energy_uj", "7\n"),
    ("powercap/intel-rapl-mmio:0/name", "package-0\n"),
    ("powercap/intel-rapl-mmio:0/energy_uj", "9\n"),
];

#[test]
fn rapl_counts_packages_alone_and_over_their_wrap() {
    let root = sys(&RAPL);
    let meter = EnergyMeter::find(root.path()).expect("RAPL");
    assert_eq!(meter.name(), "RAPL package-0");
    let clock = SystemClock::new();
    // 851 µJ to the wrap, then 1,999,149 more.
    let (done, energy) = meter
        .over(&clock, || {
            write(root.path(), "powercap/intel-rapl:0:0/energy_uj", "90000000");
            write(root.path(), "powercap/intel-rapl:0/energy_uj", "1999149\n");
            "done"
        })
        .expect("energy");
    assert_eq!(done, "done");
    assert!((energy.joules - 2.0).abs() < 1e-12, "{energy:?}");
    assert!(energy.seconds > 0.0);
}

#[test]
fn packages_are_added() {
    let root = sys(&RAPL);
    for (file, text) in [("name", "package-1"), ("energy_uj", "0"), ("max_energy_range_uj", "1000")] {
        write(root.path(), &format!("powercap/intel-rapl:2/{file}"), text);
    }
    let meter = EnergyMeter::find(root.path()).expect("RAPL");
    assert_eq!(meter.name(), "RAPL package-0 + package-1");
    let clock = SystemClock::new();
    let work = || {
        write(root.path(), "powercap/intel-rapl:0/energy_uj", "262143328400");
        write(root.path(), "powercap/intel-rapl:2/energy_uj", "100");
    };
    let ((), energy) = meter.over(&clock, work).expect("energy");
    assert!((energy.joules - 500e-6).abs() < 1e-12, "{energy:?}");
}

#[test]
fn a_counter_that_runs_backwards_is_an_error() {
    let root = sys(&[("hwmon/hwmon0/name", "amd_energy"), ("hwmon/hwmon0/energy1_input", "100")]);
    let meter = EnergyMeter::find(root.path()).expect("a counter");
    let over = meter.over(&SystemClock::new(), || write(root.path(), "hwmon/hwmon0/energy1_input", "99"));
    let error = over.expect_err("backwards").to_string();
    assert!(
        error.starts_with("not measurable here: ") && error.ends_with("energy1_input ran backwards"),
        "{error}"
    );
}

/// Constant power is energy over time exactly, however often it was sampled.
#[test]
fn powers_are_integrated() {
    let jetson = [
        ("hwmon/hwmon1/name", "ina3221"),
        ("hwmon/hwmon1/in1_label", "VDD_IN"),
        ("hwmon/hwmon1/in1_input", "5000"),
        ("hwmon/hwmon1/curr1_input", "1200"),
        ("hwmon/hwmon1/in2_label", "VDD_CPU_GPU_CV"),
        ("hwmon/hwmon1/in2_input", "5000"),
        ("hwmon/hwmon1/curr2_input", "400"),
    ];
    let board = [("hwmon/hwmon0/name", "power_meter"), ("hwmon/hwmon0/power1_average", "6000000")];
    for (files, expected) in [(&jetson[..], "INA3221 VDD_IN"), (&board[..], "hwmon power_meter power1")] {
        let root = sys(files);
        let meter = EnergyMeter::find(root.path()).expect(expected);
        assert_eq!(meter.name(), expected);
        let clock = SystemClock::new();
        let work = || clock.pause(3 * SAMPLE_EVERY, &Shutdown::new());
        let (_, energy) = meter.over(&clock, work).expect("energy");
        assert!((energy.joules - 6.0 * energy.seconds).abs() < 1e-9, "{energy:?}");
        assert!(energy.seconds >= 0.03, "{energy:?}");
    }
}

/// Samples of a rising power: the trapezoids under it.
#[test]
fn a_rising_power_is_the_area_below_it() {
    let sensors = [Sensor::Power("nowhere".into())];
    let at =
        |ms: u64, watts: u64| Sample { at: Mono(Duration::from_millis(ms)), values: vec![watts * 1_000_000] };
    let mut integral = Integral::new(at(0, 0));
    integral.add(at(500, 10), &sensors).expect("energy");
    integral.add(at(1500, 30), &sensors).expect("energy");
    assert!((integral.joules - (2.5 + 20.0)).abs() < 1e-9, "{}", integral.joules);
    assert_eq!(integral.length, Duration::from_millis(1500));
}

#[test]
fn the_sensor_of_the_whole_is_chosen() {
    struct Case(&'static [(&'static str, &'static str)], &'static str);
    let cases = [
        Case(&[], NO_SENSOR),
        // The module's rail, wherever it stands; older boards call it otherwise.
        Case(
            &[
                ("hwmon/hwmon4/name", "ina3221"),
                ("hwmon/hwmon4/in1_label", "POM_5V_GPU"),
                ("hwmon/hwmon4/in2_label", "POM_5V_IN"),
                ("hwmon/hwmon4/in2_input", "5000"),
                ("hwmon/hwmon4/curr2_input", "100"),
            ],
            "INA3221 POM_5V_IN",
        ),
        Case(
            &[("hwmon/hwmon4/name", "ina3221"), ("hwmon/hwmon4/in1_label", "VDD_CPU_CV")],
            "not measurable here: none of the INA3221's rails carries the whole board (VDD_CPU_CV)",
        ),
        // Sockets hold their cores.
        Case(
            &[
                ("hwmon/hwmon0/name", "amd_energy"),
                ("hwmon/hwmon0/energy1_label", "Ecore000"),
                ("hwmon/hwmon0/energy1_input", "1"),
                ("hwmon/hwmon0/energy2_label", "Esocket0"),
                ("hwmon/hwmon0/energy2_input", "2"),
            ],
            "hwmon amd_energy Esocket0",
        ),
        // A counter before a power, a power at this moment before an average; a graphics card is another part.
        Case(
            &[
                ("hwmon/hwmon0/name", "amdgpu"),
                ("hwmon/hwmon0/power1_average", "1"),
                ("hwmon/hwmon2/name", "board"),
                ("hwmon/hwmon2/power1_average", "1"),
                ("hwmon/hwmon2/power1_input", "1"),
                ("hwmon/hwmon10/name", "counter"),
                ("hwmon/hwmon10/energy1_input", "1"),
            ],
            "hwmon counter energy1",
        ),
        Case(
            &[
                ("hwmon/hwmon2/name", "pmic"),
                ("hwmon/hwmon2/power1_label", "core"),
                ("hwmon/hwmon2/power1_input", "1"),
                ("hwmon/hwmon2/power2_label", "ddr"),
                ("hwmon/hwmon2/power2_input", "1"),
            ],
            "not measurable here: hwmon pmic has several sensors, none of them of the whole (core, ddr)",
        ),
        Case(&[("hwmon/hwmon0/name", "amdgpu"), ("hwmon/hwmon0/power1_average", "1")], NO_SENSOR),
    ];
    for Case(files, expected) in cases {
        assert_eq!(name(&sys(files)), expected, "{files:?}");
    }
}

const NO_SENSOR: &str = "not measurable here: no power sensor (RAPL, INA3221, hwmon) in /sys";

/// What cannot be read is named, and the next kind tried.
#[test]
fn a_counter_that_cannot_be_read_says_why() {
    let root =
        sys(&[("powercap/intel-rapl:0/name", "package-0"), ("powercap/intel-rapl:0/energy_uj", "nonsense")]);
    let error = name(&root);
    assert!(error.ends_with("intel-rapl:0/energy_uj holds no number: `nonsense`"), "{error}");
    write(root.path(), "hwmon/hwmon0/name", "power_meter");
    write(root.path(), "hwmon/hwmon0/power1_input", "5");
    assert_eq!(name(&root), "hwmon power_meter power1");
    let missing = sys(&[("powercap/intel-rapl:0/name", "package-0")]);
    assert!(name(&missing).contains("energy_uj"), "{}", name(&missing));
}

#[test]
fn net_is_gross_without_what_rest_costs() {
    let energy = |joules, seconds| Energy { joules, seconds };
    assert_eq!(energy(30.0, 2.0).above(energy(5.0, 1.0)), Some(20.0));
    // Busier at rest than at work: no figure rather than a negative one.
    assert_eq!(energy(30.0, 2.0).above(energy(15.0, 1.0)), None);
}

proptest! {
    /// However a counter stands, what was added comes out: once around at most.
    #[test]
    fn a_wrap_loses_nothing(range in 1..u64::MAX / 2, before: u64, added: u64) {
        let (before, added) = (before % (range + 1), added % range);
        let after = (before + added) % (range + 1);
        let counter = Sensor::Counter { file: "c".into(), range: Some(range) };
        let joules = counter.joules(before, after, Duration::ZERO).expect("within its range");
        prop_assert_eq!(joules, added as f64 * 1e-6);
    }
}
