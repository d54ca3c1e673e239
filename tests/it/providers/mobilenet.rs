//! MobileNetV2 as a user's own network: imported, quantised and measured by the product's commands.
//!
//! Its weights are random, made anew each time by the example `mobilenet_v2`: full width, so that bytes and layers are
//! those of the real one, and a small picture, so that a test build needs seconds.

use std::path::{Path, PathBuf};
use std::process::Command;

use image::{Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;
use vedette_tests::binary::{Ran, Vedette, beside_this};

use super::{Debian13, assert_quiet, measured, root, share_of, told};

const SIDE: u32 = 96;
const PICTURES: u32 = 10;

/// A user's folder with the network in it, imported under the name `mobilenet_v2`, and pictures to calibrate with.
struct User(TempDir);

impl User {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = beside_this("examples/mobilenet_v2").unwrap_or_else(|e| panic!("{e}"));
        let file = folder.path().join("mobilenet_v2.onnx");
        let status = Command::new(program).arg(&file).args(["1.0", &SIDE.to_string()]).output();
        assert!(status.is_ok_and(|ran| ran.status.success()), "{} should be written", file.display());
        let labels: String = (0..1000).map(|class| format!("class-{class}\n")).collect();
        std::fs::write(folder.path().join("labels.txt"), labels).expect("a file");
        std::fs::create_dir(folder.path().join("garden")).expect("a folder");
        for number in 0..PICTURES {
            let file = folder.path().join(format!("garden/{number}.png"));
            picture(number).save(file).expect("a picture");
        }
        let user = Self(folder);
        let ran = user.vedette("model import mobilenet_v2.onnx --labels labels.txt").run();
        ran.expect(
            0,
            &["family: classifier", "opened and run once", "written: state/models/mobilenet_v2.toml"],
        );
        user
    }

    fn words(&self, words: &str) -> Vec<String> {
        let share = root().to_string_lossy().into_owned();
        let options = ["--state", "state", "--share", &share];
        options.into_iter().chain(words.split_whitespace()).map(str::to_owned).collect()
    }

    fn vedette(&self, words: &str) -> Vedette {
        Vedette::new(self.0.path(), self.words(words))
    }

    fn models(&self) -> PathBuf {
        self.0.path().join("state/models")
    }

    fn manifest(&self, model: &str) -> toml::Table {
        let text = std::fs::read_to_string(self.models().join(format!("{model}.toml"))).expect("a manifest");
        text.parse().expect("TOML")
    }
}

/// Waves of several lengths, directions and colours.
fn picture(seed: u32) -> RgbImage {
    let wave = |x: u32, y: u32, channel: u32| {
        let sum: f32 = (1..6u32)
            .map(|wave| {
                let turn = (seed * 7 + wave * 3) as f32;
                let phase = (x as f32 * turn.cos() + y as f32 * turn.sin()) * wave as f32 / 12.0;
                (phase + turn + channel as f32 * turn.sin()).sin()
            })
            .sum();
        (128.0 + 40.0 * sum).clamp(0.0, 255.0) as u8
    };
    RgbImage::from_fn(SIDE, SIDE, |x, y| Rgb([0, 1, 2].map(|channel| wave(x, y, channel))))
}

/// The row of `form` that `model quantize --json` printed.
fn row(ran: &Ran, form: &str) -> Value {
    let page = ran.expect(0, &[]).json();
    let rows = page["forms"].as_array().expect("forms");
    rows.iter().find(|row| row["form"] == form).unwrap_or_else(|| panic!("no {form}: {page}")).clone()
}

#[test]
fn mobilenet_v2_becomes_int8_in_both_forms_and_int4_weights_halve_it() {
    let user = User::new();
    let quantize = |weights: &str| {
        let words = format!(
            "model quantize --json --model mobilenet_v2 --name {weights} --frames garden --weights {weights} --min-snr 5 --range minmax"
        );
        user.vedette(&words).run()
    };
    let (int8, int4) = (quantize("int8"), quantize("int4"));
    for form in ["u8s8", "s8s8"] {
        let (int8, int4) = (row(&int8, form), row(&int4, form));
        let figure = |row: &Value, key: &str| row[key].as_f64().unwrap_or_else(|| panic!("no {key}: {row}"));
        let ratio = figure(&int4, "bytes") / figure(&int8, "bytes");
        println!("MobileNetV2 {form}: int4 has {ratio:.3} x the bytes of int8; {int8} {int4}");
        assert!(ratio <= 0.6, "{int4} {int8}");
        assert!(figure(&int8, "snr_db") >= 10.0 && figure(&int4, "snr_db") >= 5.0, "{int8} {int4}");
        assert!(figure(&int8, "cpu_ms") > 0.0);
    }
    // U8S8 may be dropped where a machine runs it no faster than fp32.
    for model in ["int8", "int4"] {
        let manifest = user.manifest(model);
        let form = &manifest["form"]["s8s8"];
        assert!(user.models().join(form["file"].as_str().expect("a file")).is_file());
        assert!(form["made"].as_str().is_some_and(|made| made.contains("53 of 53 layers int8")), "{form}");
        let card = &manifest["card"]["s8s8"];
        assert_eq!(card["set"].as_str(), Some("10 frames of garden"), "{card}");
        assert!(card["snr_db"].as_float().is_some_and(|db| db >= 5.0), "{card}");
        user.vedette(&format!("model bench --json --model {model} --form s8s8 --provider cpu --runs 1"))
            .run()
            .expect(0, &[]);
    }
}

#[test]
fn xnnpack_runs_the_convolutions_of_mobilenet_v2_in_int8() {
    let Some(debian) = Debian13::find() else { return };
    let user = User::new();
    // The same commands with Debian's library: nothing of its noise is seen.
    let words = "model quantize --model mobilenet_v2 --name int8 --frames garden --forms s8s8 --range minmax";
    let program = beside_this("vedette").unwrap_or_else(|e| panic!("{e}"));
    let state = user.0.path().join("state").to_string_lossy().into_owned();
    let garden = user.0.path().join("garden").to_string_lossy().into_owned();
    let place = |word: String| match word.as_str() {
        "state" => state.clone(),
        "garden" => garden.clone(),
        _ => word,
    };
    let ran = debian.run(Path::new(&program), user.words(words).into_iter().map(place));
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_quiet(&ran.stderr);
    let found = measured(&debian, &user.models(), "int8");
    println!("{}", told("MobileNetV2 96", &found));
    let share = share_of(&found["report"], "xnnpack");
    assert!(share >= 0.9, "{found}");
    // What is left to the CPU provider: a node for each of the 35 ReLUs, 10 additions, the classifier, the seams.
    let shares = found["report"]["shares"].as_array().expect("shares");
    let left = shares.iter().find(|s| s["provider"] == "cpu").and_then(|s| s["nodes"].as_u64());
    assert!(left.is_some_and(|nodes| nodes < 70), "{found}");
}
