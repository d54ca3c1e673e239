//! What may be missing or damaged on a machine, and `doctor`, which says so; models and their accuracy.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use vedette_tests::skipped;

use super::{folder, root, vedette, write};

/// A `--share` folder like the installed one, of links to the repository's files; what a test damages is copied.
fn share(folder: &Path) -> PathBuf {
    let share = folder.join("share");
    let of = [
        ("pipelines/descriptions", "descriptions"),
        ("models/manifests", "manifests"),
        ("models/weights", "weights"),
        ("etc/schemas", "schemas"),
    ];
    for (from, to) in of {
        let to = share.join(to);
        std::fs::create_dir_all(&to).expect("a folder");
        for file in std::fs::read_dir(root().join(from)).expect(from) {
            let file = file.expect("an entry");
            symlink(file.path(), to.join(file.file_name())).expect("a link");
        }
    }
    share
}

fn good_configuration(folder: &Path) {
    write(folder, "etc/vedette.toml", "[camera.gate]\nurl = \"rtsp://127.0.0.1:1/main\"\n");
}

#[test]
fn a_damaged_model_file_is_refused_by_its_checksum() {
    const NAME: &str = "nanodet-g-416.u8s8.onnx";
    let folder = folder();
    good_configuration(folder.path());
    let weights = share(folder.path()).join("weights").join(NAME);
    let mut bytes = std::fs::read(&weights).expect("weights");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::remove_file(&weights).expect("the link");
    std::fs::write(&weights, bytes).expect("damaged weights");
    let manifest: toml::Table = std::fs::read_to_string(root().join("models/manifests/nanodet-g-416.toml"))
        .expect("a manifest")
        .parse()
        .expect("TOML");
    let expected = manifest["form"]["u8s8"]["sha256"].as_str().expect("a checksum").to_owned();
    for verb in ["run", "doctor", "replay x.avi"] {
        let ran = vedette(&folder, &format!("{verb} --config etc --share share")).run();
        ran.expect(69, &["share/weights/nanodet-g-416.u8s8.onnx", "expected SHA-256", &expected, "found"]);
        // Expected and found: two different checksums.
        let all = ran.all();
        let sums: std::collections::BTreeSet<_> =
            all.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 64).collect();
        assert_eq!(sums.len(), 2, "{}:\n{all}", ran.shown);
    }
}

#[test]
fn a_missing_model_names_those_there_are() {
    let folder = folder();
    write(folder.path(), "etc/vedette.toml", "[inference]\nmodel = \"nanodet-g-417\"\n");
    for (verb, exit) in [("check", 78), ("run", 78), ("doctor", 69)] {
        let ran = vedette(&folder, &format!("{verb} --config etc")).run();
        ran.expect(exit, &["no model `nanodet-g-417`", "nanodet-g-416"]);
    }
    vedette(&folder, "model eval --model nanodet --coco a:b")
        .run()
        .expect(1, &["no model `nanodet`", "nanodet-g-416"]);
}

#[test]
fn a_missing_plugin_is_named_with_its_package() {
    struct Case(&'static str, &'static str);
    // None of these can be on a machine: the names are wrong by a letter.
    let cases = [
        Case("avdec_h264x", "apt install gstreamer1.0-libav"),
        Case("v4l2h264decx", "apt install gstreamer1.0-plugins-good"),
        // Stateless: of the plugin v4l2codecs.
        Case("v4l2slh264decx", "apt install gstreamer1.0-plugins-bad"),
        Case("vaapih264decx", "apt install gstreamer1.0-vaapi"),
        Case("vah264decx", "apt install gstreamer1.0-plugins-bad"),
    ];
    let folder = folder();
    good_configuration(folder.path());
    let share = share(folder.path());
    for Case(element, package) in cases {
        let text = format!(
            "about = \"A decoder that is not here\"\nkind = \"decode\"\ncodec = \"h264\"\nrank = 9\n\
             requires = [\"{element}\"]\nlaunch = \"appsrc name=in ! {element} ! appsink name=out\"\n"
        );
        write(&share, &format!("descriptions/decode-{element}.toml"), text);
        let ran = vedette(&folder, "doctor --config etc --share share").run();
        ran.expect(69, &[&format!("element `{element}` of `decode-{element}` is missing"), package]);
    }
}

#[test]
fn a_missing_onnxruntime_lists_the_places_tried() {
    let folder = folder();
    good_configuration(folder.path());
    let nowhere = folder.path().join("nowhere");
    // A library that was named is the only place.
    for verb in ["run", "doctor", "replay x.avi"] {
        let ran = vedette(&folder, &format!("{verb} --config etc"))
            .env("VEDETTE_INFERENCE__LIBRARY", nowhere.join("libonnxruntime.so"))
            .run();
        ran.expect(69, &["ONNX Runtime", "tried:", "nowhere/libonnxruntime.so", "inference.library"]);
    }
    // Without one, every place is listed. The system's loader may have one: then there is nothing to miss.
    let version =
        vedette(&folder, "version --json").env("HOME", &nowhere).without("XDG_CACHE_HOME").run().json();
    if version["onnxruntime"] != "not found" {
        eprintln!("ONNX Runtime is installed system-wide: places are not listed");
        return;
    }
    for verb in ["run", "doctor"] {
        let ran = vedette(&folder, &format!("{verb} --config etc"))
            .env("HOME", &nowhere)
            .without("XDG_CACHE_HOME")
            .run();
        ran.expect(69, &["/usr/lib/vedette", "nowhere/.cache/vedette/onnxruntime", "inference.library"]);
    }
}

#[test]
fn data_that_is_not_found_names_the_option() {
    let folder = folder();
    good_configuration(folder.path());
    for verb in ["run --config etc", "doctor", "model list", "probe rtsp://127.0.0.1:1/"] {
        vedette(&folder, &format!("{verb} --share empty"))
            .run()
            .expect(69, &["not found in empty", "--share DIR"]);
    }
}

#[test]
fn doctor_finds_this_machine_well_and_leaves_nothing_behind() {
    let folder = folder();
    write(
        folder.path(),
        "etc/vedette.toml",
        "[broker.factory]\nurl = \"mqtt://127.0.0.1:1\"\n[broker.local]\nurl = \"embedded\"\n",
    );
    let ran = vedette(&folder, "doctor --config etc").run();
    // A broker that is away is no reason not to start: events wait for it.
    ran.expect(0, &["warning  broker", "factory: 127.0.0.1:1", "ok       broker", "local: embedded"]);
    let value = vedette(&folder, "doctor --config etc --json").run().expect(0, &[]).json();
    let findings = value.as_array().expect("a list");
    for check in
        ["configuration", "gstreamer", "plugins", "onnxruntime", "model", "golden pair", "provider", "state"]
    {
        let of: Vec<_> = findings.iter().filter(|f| f["check"] == check).collect();
        assert!(!of.is_empty() && of.iter().all(|f| f["verdict"] == "ok"), "{check}: {of:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "only etc is here");
}

#[test]
fn doctor_says_which_checks_fail_and_with_the_exit_code_of_the_cause() {
    let folder = folder();
    write(folder.path(), "etc/vedette.toml", "[node]\nid = \"Box\"\n");
    write(folder.path(), "file", "");
    let words =
        ["FAILED   configuration  refused: 1 error", "etc/vedette.toml:2:6", "cannot start: configuration"];
    vedette(&folder, "doctor --config etc").run().expect(78, &words);
    let ran = vedette(&folder, "doctor --config etc --state file/below").run();
    ran.expect(
        69,
        &["FAILED   state", "file/below cannot be written", "--state DIR", "configuration, state"],
    );
    let json = vedette(&folder, "doctor --config etc --json").run();
    assert_eq!(json.expect(78, &[]).json()[0]["verdict"], "failed");
}

#[test]
fn models_are_listed_for_people_and_scripts() {
    let folder = folder();
    vedette(&folder, "model list")
        .run()
        .expect(0, &["model               input    forms ", "nanodet-g-416       416x416  u8s8 s8s8"]);
    let value = vedette(&folder, "model list --json").run().expect(0, &[]).json();
    let default = value.as_array().and_then(|all| all.iter().find(|m| m["name"] == "nanodet-g-416"));
    assert!(default.is_some_and(|m| m["forms"].as_array().is_some_and(|f| f.contains(&"u8s8".into()))));
}

#[test]
fn one_bad_manifest_does_not_hide_the_good_ones() {
    let folder = folder();
    let own = folder.path().join("state/models");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("broken.toml"), "labels = 3").unwrap();
    let ran = vedette(&folder, "model list --state state").run();
    ran.expect(1, &["broken.toml: ", "manifests that cannot be used: 1"]);
    assert!(ran.out.contains("nanodet-g-416"), "{}", ran.shown);
}

/// The accuracy that the product promises, through its own pre-processing.
#[test]
fn the_default_detector_finds_people() {
    let data = std::env::var_os("VEDETTE_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    let set = data.join("coco-mini/unseen");
    if !set.join("persons.json").is_file() {
        skipped(format_args!("no test data at {}; set VEDETTE_DATA", data.display()));
        return;
    }
    let folder = folder();
    let coco = format!("{}:{}", set.join("images").display(), set.join("persons.json").display());
    let ran = vedette(&folder, &format!("model eval --model nanodet-g-416 --json --coco {coco}")).run();
    let value = ran.expect(0, &[]).json();
    let person = value["ap50_by_class"]["person"].as_f64().expect("a figure");
    eprintln!("person AP50 {person:.4} on {} images, {}", value["images"], value["form"]);
    assert!(person >= 0.585, "person AP50 {person:.4}, promised are 0.585");
    assert_eq!((value["images"].as_u64(), value["form"].as_str()), (Some(62), Some("u8s8")));
}
