//! Providers other than ONNX Runtime's own. TensorRT: what is said where there is none. XNNPACK: run for real, from the library that
//! Debian 13 ships, by that distribution's own loader (`./dev` fetches both; `VEDETTE_XNNPACK` names the folder).

mod mobilenet;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use vedette_tests::{binary, skipped};

/// The library with XNNPACK and all it is linked with, the C library and its loader included.
struct Debian13 {
    folder: PathBuf,
    loader: PathBuf,
}

impl Debian13 {
    fn find() -> Option<Self> {
        let Some(folder) = std::env::var_os("VEDETTE_XNNPACK").map(PathBuf::from) else {
            skipped("VEDETTE_XNNPACK names no folder with Debian 13's ONNX Runtime");
            return None;
        };
        let entries = std::fs::read_dir(&folder).expect("VEDETTE_XNNPACK should be a folder");
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let is_loader =
            |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("ld-linux"));
        let loader = paths.find(is_loader).expect("VEDETTE_XNNPACK should hold Debian 13's loader");
        Some(Self { folder, loader })
    }

    /// Runs `program` with Debian 13's libraries, and with this system's where it has none of that name.
    fn run<A: AsRef<OsStr>>(&self, program: &Path, arguments: impl IntoIterator<Item = A>) -> Output {
        let arch = std::env::consts::ARCH;
        let path = format!("{}:/lib/{arch}-linux-gnu:/usr/lib/{arch}-linux-gnu", self.folder.display());
        Command::new(&self.loader)
            .arg("--library-path")
            .arg(path)
            .arg(program)
            .args(arguments)
            .env("VEDETTE_ONNXRUNTIME", &self.folder)
            .output()
            .expect("the loader should start")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What `model` of the folder `models` costs under XNNPACK in its S8S8 form, beside fp32 on the CPU provider.
fn measured(debian: &Debian13, models: &Path, model: &str) -> Value {
    let program = binary::beside_this("provider-cost").unwrap_or_else(|e| panic!("{e}"));
    let arguments: [&OsStr; 6] = [
        debian.folder.as_ref(),
        models.as_ref(),
        model.as_ref(),
        "xnnpack".as_ref(),
        "s8s8".as_ref(),
        "fp32".as_ref(),
    ];
    let Output { status, stdout, stderr } = debian.run(&program, arguments);
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    assert_quiet(&stderr);
    serde_json::from_slice(&stdout).expect("provider-cost should print JSON")
}

/// CPU milliseconds of what was measured and of what stood beside it.
fn costs(found: &Value) -> (f64, f64) {
    let figure = |key: &str| found[key].as_f64().expect("a number");
    (figure("cpu_ms"), figure("base_cpu_ms"))
}

/// `measured` in words.
fn told(what: &str, found: &Value) -> String {
    let (own, base) = costs(found);
    format!(
        "{what}, S8S8: {:.1} % of the multiplying nodes under XNNPACK; {own:.2} ms, fp32 on the CPU provider {base:.2} \
         ms: {:.3} x",
        100.0 * share_of(&found["report"], "xnnpack"),
        own / base
    )
}

/// Debian's build registers its schemas twice and says so 567 times.
fn assert_quiet(stderr: &[u8]) {
    let text = String::from_utf8_lossy(stderr);
    assert!(!text.contains("Schema error"), "{} lines of noise on stderr", text.lines().count());
}

#[test]
fn xnnpack_runs_nanodet_in_int8_and_it_pays() {
    let Some(debian) = Debian13::find() else { return };
    if std::env::var_os("VEDETTE_DATA").is_none() {
        skipped("the fp32 file is in VEDETTE_DATA, which is not set");
        return;
    }
    let found = measured(&debian, &root().join("models"), "nanodet-g-416");
    let (own, base) = costs(&found);
    let share = share_of(&found["report"], "xnnpack");
    println!("{}", told("NanoDet-g 416", &found));
    assert!(share >= 0.9, "{found}");
    assert!(own <= 0.7 * base, "{own:.2} ms against {base:.2} ms: {found}");
}

fn share_of(report: &Value, provider: &str) -> f64 {
    let shares = report["shares"].as_array().expect("shares");
    shares
        .iter()
        .find(|s| s["provider"] == provider)
        .map_or(0.0, |s| s["mac_share"].as_f64().expect("a number"))
}

/// A folder with a configuration that wishes for TensorRT, and what `vedette doctor` says of it here.
fn doctor_with_tensorrt(strict: bool) -> Option<binary::Ran> {
    let Some(library) = std::env::var_os("VEDETTE_ONNXRUNTIME") else {
        skipped("VEDETTE_ONNXRUNTIME is not set; ./dev sets it");
        return None;
    };
    if Path::new("/proc/driver/nvidia").exists() || Path::new("/proc/device-tree/model").exists() {
        skipped("this machine may have a GPU of NVIDIA");
        return None;
    }
    let home = tempfile::tempdir().expect("a folder");
    let config = home.path().join("config");
    std::fs::create_dir(&config).expect("a folder");
    let text = format!("[inference]\nproviders = ['tensorrt', 'cpu']\nstrict = {strict}\n");
    std::fs::write(config.join("vedette.toml"), text).expect("a file");
    let words = ["--config", "config", "--state", "state", "--share"].map(OsString::from);
    let last = [root().into_os_string(), OsString::from("doctor")];
    let ran = binary::Vedette::new(home.path(), words.into_iter().chain(last))
        .env("VEDETTE_ONNXRUNTIME", library)
        .run();
    assert!(!home.path().join("state/tensorrt").exists(), "nothing was built");
    Some(ran)
}

#[test]
fn without_tensorrt_one_line_says_so_and_the_next_provider_runs() {
    let Some(ran) = doctor_with_tensorrt(false) else { return };
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let lines: Vec<_> = ran.out.lines().filter(|line| line.contains("tensorrt")).collect();
    assert!(matches!(lines[..], [line] if line.contains("tensorrt is not used: ")), "{}", ran.out);
    assert!(ran.out.contains("cpu ran 100 %"), "{}", ran.out);
}

#[test]
fn strict_refuses_to_start_without_tensorrt() {
    let Some(ran) = doctor_with_tensorrt(true) else { return };
    assert_eq!(ran.code, Some(69), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("provider tensorrt cannot be used: "), "{}", ran.out);
}

#[test]
fn doctor_under_debian_13_says_what_runs_and_nothing_of_its_librarys_noise() {
    let Some(debian) = Debian13::find() else { return };
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config");
    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join("vedette.toml"), "[inference]\nproviders = ['xnnpack']\n").unwrap();
    let program = binary::beside_this("vedette").unwrap_or_else(|e| panic!("{e}"));
    let (state, share) = (home.path().join("state"), root());
    let words: [(&str, &Path); 3] = [("--config", &config), ("--state", &state), ("--share", &share)];
    let options = words.iter().flat_map(|(option, path)| [OsString::from(option), path.into()]);
    let Output { stdout, stderr, .. } = debian.run(&program, options.chain([OsString::from("doctor")]));
    let out = String::from_utf8_lossy(&stdout);
    assert!(out.contains("1.21"), "{out}\n{}", String::from_utf8_lossy(&stderr));
    assert!(out.contains("xnnpack ran"), "{out}\n{}", String::from_utf8_lossy(&stderr));
    assert_quiet(&stderr);
}
