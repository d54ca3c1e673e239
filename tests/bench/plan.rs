//! What is measured: the subjects, and the cameras and the broker that they talk to.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use vedette_models::{Form, Manifest};
use vedette_tests::clips::{self, Kind};
use vedette_tests::composed::{self, Rate};
use vedette_tests::mosquitto::{self, Mosquitto};
use vedette_tests::testcam::{Options, TestCam};

use super::part::Measured;

/// What everything here runs.
pub(crate) const MODEL: &str = "nanodet-g-416";
/// Seconds before a live subject counts. A quiet camera has become quiet by then.
const SETTLE: u32 = 5;
const SETTLE_QUIET: u32 = 30;
/// Cameras at once that are measured.
const MANY: [usize; 4] = [1, 4, 8, 16];
/// Inferences of one turn.
const INFERENCES: u32 = 100;

/// How a camera decodes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// Every frame.
    Always,
    /// What may matter.
    Adaptive,
}

/// Whether a camera rests before people appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It is in `watch`.
    Never,
    /// It is in `quiet`.
    Always,
}

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Receiving alone.
    Receive(Kind),
    /// A decoder alone.
    Decode(Kind, &'static str),
    /// One inference.
    Infer,
    /// The whole node with so many cameras, at so many frames a second.
    Node { clip: Kind, mode: Mode, cameras: usize, fps: f64, settle: u32 },
    /// From a person's appearance to the event at a subscriber, of a camera that never rests or of one that does.
    Latency(Rate, Rest),
    /// The hand-written script.
    Script(Kind, PathBuf),
}

/// One row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Its key.
    pub(crate) name: String,
    /// In words.
    pub(crate) about: &'static str,
    /// What runs.
    pub(crate) what: What,
}

/// All of them, the script only with a Python.
pub(crate) fn subjects(python: Option<&Path>) -> Vec<Subject> {
    let node = |clip, mode, settle| What::Node { clip, mode, cameras: 1, fps: 5.0, settle };
    let mut all: Vec<(&str, &str, What)> = vec![
        ("receive", "1080p25: receiving", What::Receive(Kind::Demo)),
        ("decode_floor", "1080p25: bare avdec (GStreamer)", What::Decode(Kind::Demo, "gst")),
        ("decode_libav", "1080p25: bare libavcodec, loop filter skipped", What::Decode(Kind::Demo, "libav")),
        ("decode_libav_full", "1080p25: bare libavcodec", What::Decode(Kind::Demo, "libav-full")),
        ("infer_floor", "one inference of the detector, in core seconds", What::Infer),
        ("busy", "1080p25 busy, the whole daemon", node(Kind::Demo, Mode::Adaptive, SETTLE)),
        ("busy_cbr", "1080p25 busy, CBR, the whole daemon", node(Kind::DemoCbr, Mode::Adaptive, SETTLE)),
        ("always", "1080p25 empty scene, every frame decoded", node(Kind::Still, Mode::Always, SETTLE)),
        ("always_cbr", "the same, CBR", node(Kind::StillCbr, Mode::Always, SETTLE)),
        ("quiet", "1080p25 empty scene, VBR", node(Kind::Still, Mode::Adaptive, SETTLE_QUIET)),
        ("quiet_cbr", "1080p25 empty scene, CBR", node(Kind::StillCbr, Mode::Adaptive, SETTLE_QUIET)),
        ("busy_360", "360p25 busy, the whole daemon", node(Kind::Demo360, Mode::Adaptive, SETTLE)),
    ];
    all.extend([
        ("latency_watch", "person to subscriber, from watch", What::Latency(Rate::Variable, Rest::Never)),
        ("latency_quiet", "the same from quiet, VBR", What::Latency(Rate::Variable, Rest::Always)),
        ("latency_quiet_cbr", "the same from quiet, CBR", What::Latency(Rate::Constant, Rest::Always)),
    ]);
    if let Some(python) = python {
        all.push(("script", "1080p25 busy, the tuned script", What::Script(Kind::Demo, python.to_owned())));
        all.push((
            "script_360",
            "360p25 busy, the tuned script",
            What::Script(Kind::Demo360, python.to_owned()),
        ));
    }
    let mut all: Vec<Subject> =
        all.into_iter().map(|(name, about, what)| Subject { name: name.to_owned(), about, what }).collect();
    all.extend(MANY.map(|cameras| Subject {
        name: format!("cameras_{cameras}"),
        about: "360p25 busy, 2 analysed a second, by camera",
        what: What::Node { clip: Kind::Demo360, mode: Mode::Adaptive, cameras, fps: 2.0, settle: SETTLE },
    }));
    all
}

/// A broker, and a camera for each clip.
pub(crate) struct Peers {
    broker: Mosquitto,
    cameras: BTreeMap<String, TestCam>,
    folder: TempDir,
    /// What the script needs to know of the model, as JSON.
    model: PathBuf,
}

impl Peers {
    /// Starts them; makes clips that are not there yet.
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        let mut cameras = BTreeMap::new();
        for kind in [Kind::Demo, Kind::DemoCbr, Kind::Demo360, Kind::Still, Kind::StillCbr] {
            let clip = clips::cached(kind)?;
            let count = if kind == Kind::Demo360 { MANY.into_iter().max().unwrap_or(1) } else { 1 };
            cameras.insert(format!("{kind:?}"), TestCam::start(Options { count, ..Options::new(clip) })?);
        }
        for rate in Rate::ALL {
            let camera = TestCam::start(Options::new(composed::appearances(rate)?))?;
            cameras.insert(rate.as_str().to_owned(), camera);
        }
        let folder = tempfile::tempdir()?;
        let model = folder.path().join("model.json");
        std::fs::write(&model, described()?.to_string())?;
        Ok(Self { broker: Mosquitto::start(mosquitto::Options::default()), cameras, folder, model })
    }

    fn urls(&self, clip: Kind) -> &[String] {
        self.cameras.get(&format!("{clip:?}")).map_or(&[], TestCam::urls)
    }

    fn url(&self, clip: Kind) -> &str {
        self.urls(clip).first().map_or("", String::as_str)
    }

    /// A rule on the whole picture, as the script has a threshold.
    fn configuration(&self, urls: &[String], mode: &str, fps: f64) -> std::io::Result<PathBuf> {
        let mut text = format!(
            "[node]\nid = \"bench\"\n[inference]\nmodel = \"{MODEL}\"\n[broker.b]\nurl = \"mqtt://127.0.0.1:{}\"\n",
            self.broker.port()
        );
        for (index, url) in urls.iter().enumerate() {
            text += &format!(
                "[camera.c{index}]\nurl = \"{url}\"\nfps = {fps:.1}\n{mode}\n\
                 [camera.c{index}.zone]\nall = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]\n\
                 [camera.c{index}.rule.inside]\nkind = \"intrusion\"\nzone = \"all\"\nclasses = [\"person\"]\n\
                 cooldown = \"1s\"\nmax_per_hour = 1000\n"
            );
        }
        let path = self.folder.path().join("vedette.toml");
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

/// The detector's file, input and look-up table: what the manifest says about the form that the daemon runs.
fn described() -> Result<serde_json::Value, Box<dyn Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join("models/manifests").join(format!("{MODEL}.toml"));
    let manifest: toml::Table = toml::from_str(&std::fs::read_to_string(path)?)?;
    // Its checksum is the daemon's business.
    Manifest::load(&[root.join("models/manifests")], MODEL)?.only(Form::U8s8)?;
    let form = manifest["form"]["u8s8"].clone();
    let number = |value: &toml::Value| {
        value.as_float().or_else(|| value.as_integer().map(|n| n as f64)).unwrap_or(0.0)
    };
    let input = &form["input"];
    let (scale, zero) = (number(&input["scale"]), number(&input["zero_point"]));
    let table: Vec<Vec<u8>> = (0..3)
        .map(|channel| {
            let (mean, std) = (number(&input["mean"][channel]), number(&input["std"][channel]));
            (0..=255)
                .map(|value| ((f64::from(value) - mean) / std / scale + zero).round().clamp(0.0, 255.0) as u8)
                .collect()
        })
        .collect();
    Ok(serde_json::json!({
        "file": root.join("models/weights").join(form["file"].as_str().unwrap_or_default()),
        "width": manifest["input"]["width"].as_integer(),
        "height": manifest["input"]["height"].as_integer(),
        "pad": manifest["input"]["pad"].as_integer(),
        "table": table,
        "min_score": 0.4,
    }))
}

impl Subject {
    /// One turn.
    pub(crate) fn measure(&self, peers: &Peers, seconds: u32) -> Result<Measured, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        let text = |value: &dyn ToString| value.to_string();
        let line: Vec<String> = match &self.what {
            What::Receive(clip) => {
                ["receive".into(), peers.url(*clip).into(), text(&SETTLE), text(&seconds)].into()
            }
            What::Decode(clip, decoder) => {
                ["decode".into(), peers.url(*clip).into(), text(decoder), text(&seconds)].into()
            }
            What::Infer => ["infer".into(), text(&INFERENCES)].into(),
            What::Node { clip, mode, cameras, fps, settle } => {
                let urls = peers.urls(*clip).get(..*cameras).ok_or("too few cameras")?;
                let mode = match mode {
                    Mode::Always => "mode = \"always\"",
                    Mode::Adaptive => "mode = \"adaptive\"",
                };
                let config = peers.configuration(urls, mode, *fps)?;
                ["node".into(), config.display().to_string(), text(settle), text(&seconds)].into()
            }
            What::Latency(rate, rest) => {
                let camera = peers.cameras.get(rate.as_str()).ok_or("no such camera")?;
                let quiet_after = match rest {
                    Rest::Never => "quiet_after = \"1h\"",
                    Rest::Always => "quiet_after = \"2s\"",
                };
                let config = peers.configuration(camera.urls(), quiet_after, 5.0)?;
                let clip = composed::appearances(*rate)?.display().to_string();
                let (port, url) = (text(&peers.broker.port()), camera.url().to_owned());
                let state = if *rest == Rest::Always { "quiet" } else { "watch" };
                ["latency".into(), config.display().to_string(), clip, url, port, state.to_owned()].into()
            }
            What::Script(clip, python) => {
                command = Command::new(python);
                let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bench/script.py");
                let port = peers.broker.port();
                [script.display().to_string(), peers.url(*clip).into(), peers.model.display().to_string()]
                    .into_iter()
                    .chain([text(&port), text(&SETTLE), text(&seconds)])
                    .collect()
            }
        };
        let output = command.args(line).stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
        let last = String::from_utf8_lossy(&output.stdout);
        let measured = last.lines().last().and_then(|line| serde_json::from_str(line).ok());
        measured.filter(|_| output.status.success()).ok_or_else(|| {
            format!("{}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim()).into()
        })
    }
}
