//! The shipped manifests load, and mistakes in others are named.

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

/// A folder with the 416 manifest, changed by `change`.
fn changed(change: impl Fn(String) -> String) -> (tempfile::TempDir, Result<Manifest, ManifestError>) {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join("nanodet-g-416.toml")).unwrap();
    std::fs::write(folder.path().join("mine.toml"), change(text)).unwrap();
    let loaded = Manifest::load(&[folder.path().to_owned()], "mine");
    (folder, loaded)
}

#[test]
fn every_manifest_loads_and_its_shipped_files_are_the_ones_described() {
    let all = Manifest::list(&[root()]);
    let names: Vec<&str> = all.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["efficientnet-lite0", "movenet-lightning", "nanodet-g-320", "nanodet-g-416"]);
    for (name, _) in &all {
        let manifest = Manifest::load(&[root()], name).unwrap();
        let labels = match manifest.role() {
            Role::Detector => (80, Some("person")),
            Role::Pose => (17, Some("nose")),
            _ => (0, None),
        };
        assert_eq!((manifest.labels().len(), manifest.labels().first().map(Class::as_str)), labels, "{name}");
        let Some((form, file)) = manifest.forms().find(|(form, _)| *form == Form::U8s8) else { continue };
        assert_eq!(manifest.form(Provider::Cpu).unwrap().0, form, "{name}");
        assert!(manifest.bytes(file).unwrap().len() > 500_000);
        assert_eq!(manifest.sha256(), file.sha256);
        if manifest.role() == Role::Detector {
            assert!(manifest.card(form).unwrap().person_ap50.unwrap() > 0.4, "{name}");
        }
    }
}

#[test]
fn a_folder_above_manifests_serves_as_well() {
    let above = root().parent().unwrap().to_owned();
    assert!(Manifest::load(&[PathBuf::from("/nowhere"), above], "nanodet-g-416").is_ok());
}

#[test]
fn an_unknown_name_lists_those_there_are() {
    let error = Manifest::load(&[root()], "yolo").unwrap_err().to_string();
    assert!(
        error.starts_with(
            "no model `yolo`; there are: efficientnet-lite0, movenet-lightning, nanodet-g-320, nanodet-g-416"
        ),
        "{error}"
    );
}

#[test]
fn providers_get_their_form_or_none() {
    let shipped = Manifest::load(&[root()], "nanodet-g-320").unwrap();
    let form = |provider| shipped.form(provider).map(|(form, _)| form);
    assert_eq!((form(Provider::Cpu), form(Provider::Xnnpack)), (Some(Form::U8s8), Some(Form::S8s8)));
    let (_folder, loaded) = changed(|text| {
        let (before, rest) = text.split_once("[form.s8s8]").unwrap();
        let (_, after) = rest.split_once("[upstream]").unwrap();
        format!("{before}[upstream]{after}")
    });
    let manifest = loaded.unwrap();
    assert!(manifest.form(Provider::Xnnpack).is_none());
    let error = manifest.only(Form::S8s8).unwrap_err().to_string();
    assert_eq!(error, "model `mine` has no form s8s8; there are: u8s8");
    let forced = Manifest::load(&[root()], "nanodet-g-416").unwrap().only(Form::U8s8).unwrap();
    assert_eq!(forced.form(Provider::Xnnpack).unwrap().0, Form::U8s8);
}

#[test]
fn mistakes_are_named_with_file_and_key() {
    struct Case(&'static str, &'static str, &'static str);
    let cases = [
        Case("pad = 114", "pads = 114", "unknown field `pads`"),
        Case("\"bicycle\"", "\"person\"", "labels: `person` stands there twice"),
        Case(
            "kind = \"nanodet\"",
            "kind = \"centernet\"",
            "family.kind: no kind `centernet`; there are: nanodet",
        ),
        Case("width = 416", "width = 0", "input: width and height must be 1 to 4096"),
        Case("sha256 = \"0d40", "sha256 = \"0D40", "form.u8s8.sha256: must be 64 lower-case hex digits"),
        Case(
            "file = \"nanodet-g",
            "file = \"../nanodet-g",
            "form.u8s8.file: must be a file name without folders",
        ),
        Case("[form.u8s8]", "[form.int8]", "unknown variant `int8`"),
    ];
    for Case(from, to, message) in cases {
        let (_folder, loaded) = changed(|text| text.replacen(from, to, 1));
        let error = loaded.unwrap_err().to_string();
        assert!(error.contains(message) && error.contains("mine.toml: "), "{error}");
        assert!(!error.ends_with('\n'));
    }
}

#[test]
fn missing_and_changed_files_are_refused_by_name() {
    let (folder, loaded) = changed(|text| text);
    // Where the int8 file is missing another form may stand in: here it alone is asked for.
    let manifest = loaded.unwrap().only(Form::U8s8).unwrap();
    let (_, file) = manifest.form(Provider::Cpu).unwrap();
    let missing = manifest.bytes(file).map(|b| b.len()).unwrap_err().to_string();
    assert!(missing.contains("nanodet-g-416.u8s8.onnx is missing (looked in "), "{missing}");

    std::fs::write(folder.path().join(&file.file), "abc").unwrap();
    let wrong = manifest.bytes(file).map(|b| b.len()).unwrap_err().to_string();
    let found = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for part in
        ["nanodet-g-416.u8s8.onnx is not the file", &format!("expected SHA-256 {}", file.sha256), found]
    {
        assert!(wrong.contains(part), "{wrong}");
    }
}

#[test]
fn a_model_file_beyond_the_limit_is_refused_before_it_is_read_whole() {
    let (folder, manifest) = changed(|text| text);
    let manifest = manifest.unwrap();
    let file = manifest.form(Provider::Cpu).unwrap().1.file.clone();
    // Sparse: it takes no room on the disk.
    std::fs::File::create(folder.path().join(&file)).unwrap().set_len(check::MOST_BYTES + 1).unwrap();
    let error = manifest.bytes(manifest.form(Provider::Cpu).unwrap().1).unwrap_err().to_string();
    assert!(
        error.contains(&file) && error.ends_with("is larger than 256 MiB, the most that is read"),
        "{error}"
    );
}
