//! Damaged models that pass the check and reach ONNX Runtime: it must answer, not end the process or take its memory.
//! In a child, since an abort cannot be caught; the parent reads which file it was from the last line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use ort::session::Session;
use ort::value::Tensor;

use crate::import::{ImportError, ImportOptions, import};
use crate::onnx::mutations::{Mutations, branched, grown, small};
use crate::runtime::Runtime;

const CHILD: &str = "VEDETTE_HOSTILE_SEEDS";
const ALL: u64 = 10_000;
/// Address space of a child, in KiB: what asks for more gets an error instead of the machine.
const ADDRESS_SPACE: u64 = 4 << 20;
/// What a child may have resident.
const MOST_RESIDENT: u64 = 1 << 20;

fn runtime() -> Option<&'static Runtime> {
    let place = std::env::var_os("VEDETTE_ONNXRUNTIME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        Some(std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home)?.join("vedette/onnxruntime"))
    })?;
    Runtime::load(Some(&place), &[]).inspect_err(|error| eprintln!("skipped: {error}")).ok()
}

/// `VEDETTE_HOSTILE=FIRST..LAST` names other seeds than the first ten thousand.
#[test]
fn onnx_runtime_answers_ten_thousand_damaged_models() {
    if let Ok(seeds) = std::env::var(CHILD) {
        return child(&seeds);
    }
    if runtime().is_none() {
        return;
    }
    let seeds = std::env::var("VEDETTE_HOSTILE").unwrap_or_else(|_| format!("0..{ALL}"));
    let (status, counts, output) = run(&seeds);
    assert!(status.success(), "{status}; {}", output.lines().last().unwrap_or("no output"));
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    eprintln!("{counts:?}");
    assert!(count("resident") > 0 && count("resident") <= MOST_RESIDENT, "{counts:?}");
    let reached = count("opened") + count("refused_by_runtime");
    assert!(reached > count("seeds") / 10 && count("refused_by_check") > count("seeds") / 10, "{counts:?}");
    assert!(count("ran") > count("opened") / 2, "{counts:?}");
}

/// The child's end, the counts it prints and everything it said.
fn run(seeds: &str) -> (ExitStatus, BTreeMap<String, u64>, String) {
    let exe = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -c 0; ulimit -v {ADDRESS_SPACE} && exec \"$0\" \"$@\""))
        .arg(exe)
        .args(["--exact", "hostile::onnx_runtime_answers_ten_thousand_damaged_models", "--nocapture"])
        .env(CHILD, seeds)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let counts = said.lines().filter_map(|line| {
        let (name, number) = line.strip_prefix("count ")?.split_once(' ')?;
        Some((name.to_owned(), number.parse().ok()?))
    });
    (output.status, counts.collect(), said.clone() + &String::from_utf8_lossy(&output.stderr))
}

fn child(seeds: &str) {
    let runtime = runtime().expect("the parent has loaded it too");
    let (first, last) = seeds.split_once("..").unwrap();
    let seeds = first.parse::<u64>().unwrap()..last.parse().unwrap();
    let mut counts = BTreeMap::from([("seeds", seeds.end - seeds.start)]);
    for seed in seeds {
        // Last words, should this be the one.
        eprintln!("seed {seed}");
        let model = [small, branched, grown][seed as usize % 3]();
        let bytes = Mutations::new(seed).damage(model);
        let outcome = match import(runtime, "m.onnx", &bytes, &ImportOptions::default()) {
            Err(error @ ImportError::File(_)) => ("refused_by_check", Some(error)),
            Err(error @ ImportError::Load { .. }) => ("refused_by_runtime", Some(error)),
            // No picture, no family: but it did open.
            Err(error) => ("opened", Some(error)),
            Ok(_) => ("opened", None),
        };
        if let Some(error) = outcome.1 {
            let said = error.to_string();
            assert!(said.strip_prefix("m.onnx: ").is_some_and(|fault| fault.len() > 10), "{said}");
        }
        *counts.entry(outcome.0).or_default() += 1;
        if outcome.0 == "opened" && infer(runtime, &bytes) {
            *counts.entry("ran").or_default() += 1;
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    counts.insert("resident", resident.unwrap().trim().parse().unwrap());
    counts.iter().for_each(|(name, n)| println!("count {name} {n}"));
}

/// One inference on zeros, of any result; not where the input is open or large.
fn infer(runtime: &'static Runtime, bytes: &[u8]) -> bool {
    let run = || -> ort::Result<Option<()>> {
        let mut session =
            Session::builder(runtime.environment())?.with_intra_threads(1)?.commit_from_memory(bytes)?;
        let [only] = session.inputs() else { return Ok(None) };
        let (name, shape) = (only.name().to_owned(), only.dtype().tensor_shape().map(|s| s.to_vec()));
        let sides = shape.into_iter().flatten().map(|n| usize::try_from(n).ok());
        let Some(sides) = sides.collect::<Option<Vec<_>>>() else { return Ok(None) };
        let count: usize = sides.iter().product();
        if count > 1 << 20 {
            return Ok(None);
        }
        let zeros = Tensor::from_array((sides, vec![0f32; count]))?;
        session.run(ort::inputs![name.as_str() => zeros]).map(|_| Some(()))
    };
    matches!(run(), Ok(Some(())))
}
