//! Power sensors below /sys: which there are, and what one reading means.
//!
//! Owns: the kernel's file names and units (Documentation/power/powercap, Documentation/hwmon/sysfs-interface). Does
//! not know: time, but for the length of a step.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Rails that carry a whole Jetson module: Orin Nano/NX and Xavier NX, then TX1, TX2 and Nano. On the others no rail
/// does, and a sum of parts would be called the whole.
const JETSON_RAILS: [&str; 2] = ["VDD_IN", "POM_5V_IN"];
/// hwmon chips that see a part of the machine that does not run the program: cards, disks, power supplies of phones.
const OTHER_PARTS: [&str; 7] = ["amdgpu", "radeon", "nouveau", "i915", "xe", "nvme", "drivetemp"];

/// A sensor's name for people, and its parts, which are added.
type Found = Result<Option<(String, Vec<Sensor>)>, String>;

/// One sensor.
#[derive(Debug)]
pub(super) enum Sensor {
    /// Counts µJ; begins again behind `range`. Without a range it is wide enough for ever.
    Counter { file: PathBuf, range: Option<u64> },
    /// µW at this moment.
    Power(PathBuf),
    /// mV and mA at this moment.
    Rail { volts: PathBuf, amperes: PathBuf },
}

impl Sensor {
    /// µJ of a counter, µW of all others.
    pub(super) fn read(&self) -> Result<u64, String> {
        match self {
            Self::Counter { file, .. } | Self::Power(file) => number(file),
            // mV · mA = µW
            Self::Rail { volts, amperes } => Ok(number(volts)?.saturating_mul(number(amperes)?)),
        }
    }

    pub(super) fn is_power(&self) -> bool {
        !matches!(self, Self::Counter { .. })
    }

    /// Joules between two readings.
    pub(super) fn joules(&self, before: u64, after: u64, step: Duration) -> Result<f64, String> {
        let Self::Counter { file, range } = self else {
            return Ok((before as f64 + after as f64) / 2.0 * 1e-6 * step.as_secs_f64());
        };
        let counted = match range {
            _ if after >= before => after - before,
            // The counter runs from 0 to the range, both included (the kernel's own arithmetic).
            Some(range) if before <= *range => (range - before).saturating_add(after).saturating_add(1),
            _ => return Err(format!("{} ran backwards", file.display())),
        };
        Ok(counted as f64 * 1e-6)
    }
}

/// RAPL: the packages, each with all its cores, caches and memory controllers. Their parts (`intel-rapl:0:0`), the
/// platform (`psys`, which holds them) and the same again by another way (`intel-rapl-mmio`) are not added.
pub(super) fn rapl(sys: &Path) -> Found {
    let mut packages = Vec::new();
    for zone in folders(&sys.join("class/powercap"), "intel-rapl:") {
        let name = word(&zone.join("name")).unwrap_or_default();
        if is_number_behind(&zone, "intel-rapl:") && name.starts_with("package") {
            let range = number(&zone.join("max_energy_range_uj")).ok();
            packages.push((name, Sensor::Counter { file: zone.join("energy_uj"), range }));
        }
    }
    Ok(all("RAPL", packages))
}

/// The INA3221 of a Jetson: volts times amperes of the rail that feeds the module.
pub(super) fn jetson(sys: &Path) -> Found {
    let mut rails = Vec::new();
    for chip in chips(sys).filter(|(_, name)| name == "ina3221").map(|(chip, _)| chip) {
        for (label, n) in labels(&chip, "in") {
            if JETSON_RAILS.contains(&label.as_str()) {
                let (volts, amperes) =
                    (chip.join(format!("in{n}_input")), chip.join(format!("curr{n}_input")));
                return Ok(Some((format!("INA3221 {label}"), vec![Sensor::Rail { volts, amperes }])));
            }
            rails.push(label);
        }
    }
    match rails.is_empty() {
        true => Ok(None),
        false => Err(format!("none of the INA3221's rails carries the whole board ({})", rails.join(", "))),
    }
}

/// Any other chip: the first with counters of energy, else the first with sensors of power.
pub(super) fn hwmon(sys: &Path) -> Found {
    let chips = || chips(sys).filter(|(_, name)| name != "ina3221" && !OTHER_PARTS.contains(&name.as_str()));
    let mut unclear = None;
    let energies = chips().map(|(chip, name)| (energies(&chip), name));
    let powers = chips().map(|(chip, name)| (powers(&chip), name));
    for (inputs, name) in energies.chain(powers) {
        match whole(inputs) {
            Ok(Some(sensors)) => return Ok(all(&format!("hwmon {name}"), sensors)),
            Ok(None) => {}
            Err(labels) => {
                let reason =
                    format!("hwmon {name} has several sensors, none of them of the whole ({labels})");
                unclear = unclear.or(Some(reason));
            }
        }
    }
    unclear.map_or(Ok(None), Err)
}

/// Of one chip's inputs those that make the whole: the sockets, or one that is called the total, or the only one.
/// The error lists what there is instead.
fn whole(mut inputs: Vec<(String, Sensor)>) -> Result<Option<Vec<(String, Sensor)>>, String> {
    // AMD's `amd_energy`: sockets beside the cores that are in them.
    if inputs.iter().any(|(label, _)| is_socket(label)) {
        inputs.retain(|(label, _)| is_socket(label));
        return Ok(Some(inputs));
    }
    if let Some(at) = inputs.iter().position(|(label, _)| label.to_lowercase().contains("total")) {
        return Ok(Some(vec![inputs.swap_remove(at)]));
    }
    match inputs.len() {
        0 => Ok(None),
        1 => Ok(Some(inputs)),
        _ => Err(inputs.into_iter().map(|(label, _)| label).collect::<Vec<_>>().join(", ")),
    }
}

fn is_socket(label: &str) -> bool {
    label.starts_with("Esocket")
}

/// `energyN_input`.
fn energies(chip: &Path) -> Vec<(String, Sensor)> {
    let sensor = |n: u32| Sensor::Counter { file: chip.join(format!("energy{n}_input")), range: None };
    inputs(chip, "energy", "_input").map(|n| (label(chip, "energy", n), sensor(n))).collect()
}

/// `powerN_input`, or `powerN_average` where the chip averages itself.
fn powers(chip: &Path) -> Vec<(String, Sensor)> {
    let named = |ending: &'static str| {
        let sensor = move |n: u32| Sensor::Power(chip.join(format!("power{n}{ending}")));
        inputs(chip, "power", ending).map(move |n| (n, (label(chip, "power", n), sensor(n))))
    };
    let mut found: Vec<_> = named("_input").chain(named("_average")).collect();
    found.sort_by_key(|(n, _)| *n);
    // Sorting is stable: of two for one number `_input` stays.
    found.dedup_by_key(|(n, _)| *n);
    found.into_iter().map(|(_, sensor)| sensor).collect()
}

fn label(chip: &Path, kind: &str, n: u32) -> String {
    word(&chip.join(format!("{kind}{n}_label"))).unwrap_or_else(|| format!("{kind}{n}"))
}

/// Labels of a kind with their numbers.
fn labels(chip: &Path, kind: &str) -> Vec<(String, u32)> {
    inputs(chip, kind, "_label").map(|n| (label(chip, kind, n), n)).collect()
}

/// The numbers N for which there is a file `{kind}N{ending}`, in order.
fn inputs(chip: &Path, kind: &str, ending: &str) -> impl Iterator<Item = u32> + use<> {
    let names = fs::read_dir(chip).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let number =
        |name: std::ffi::OsString| name.to_str()?.strip_prefix(kind)?.strip_suffix(ending)?.parse().ok();
    let mut found: Vec<u32> = names.filter_map(number).collect();
    found.sort_unstable();
    found.into_iter()
}

/// hwmon chips with their drivers' names.
fn chips(sys: &Path) -> impl Iterator<Item = (PathBuf, String)> + use<> {
    let chips = folders(&sys.join("class/hwmon"), "hwmon").into_iter();
    chips.filter_map(|chip| word(&chip.join("name")).map(|name| (chip, name)))
}

/// Folders whose names begin so, in the order of the numbers behind it.
fn folders(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = entries.filter(|path| file_name(path).starts_with(prefix)).collect();
    found.sort_by_key(|path| (file_name(path).len(), file_name(path).to_owned()));
    found
}

fn is_number_behind(path: &Path, prefix: &str) -> bool {
    file_name(path).strip_prefix(prefix).is_some_and(|n| n.parse::<u32>().is_ok())
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn word(file: &Path) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.trim().to_owned())
}

fn number(file: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(file).map_err(|error| match error.kind() {
        // RAPL's since CVE-2020-8694.
        std::io::ErrorKind::PermissionDenied => format!("{} may be read by root only", file.display()),
        _ => format!("{}: {error}", file.display()),
    })?;
    text.trim().parse().map_err(|_| format!("{} holds no number: `{}`", file.display(), text.trim()))
}

fn all(kind: &str, parts: Vec<(String, Sensor)>) -> Option<(String, Vec<Sensor>)> {
    let (names, sensors): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    (!sensors.is_empty()).then(|| (format!("{kind} {}", names.join(" + ")), sensors))
}
