//! The shape of the source: who may depend on whom, how long files and functions may be, what may not stand in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every Rust file of the workspace, relative to its root.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = ["daemon", "pipelines", "models", "tests"].map(|d| root().join(d)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if entry.file_name() != "target" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file should be readable");
                found.push((path.strip_prefix(root()).expect("below the root").to_owned(), text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 30, "the sources were not found");
    found
}

/// A file up to its unit tests.
fn production(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// Files that are compiled for tests only: the tests' own crate and folders, and modules that are declared behind
/// `#[cfg(test)]`.
fn test_files(all: &[(PathBuf, String)]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for (path, text) in all {
        let folder = path.parent().unwrap_or(Path::new(""));
        let stem = path.file_stem().unwrap_or_default();
        let children = if stem == "lib" || stem == "main" { folder.to_owned() } else { folder.join(stem) };
        let behind = text
            .split("#[cfg(test)]\n")
            .skip(1)
            .filter_map(|rest| rest.lines().find(|l| !l.starts_with('#')));
        for name in behind.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')) {
            found.insert(children.join(format!("{name}.rs")));
            found.insert(folder.join(format!("{name}.rs")));
        }
        let own = path.components().any(|c| ["tests", "examples"].iter().any(|f| c.as_os_str() == *f));
        if own || stem.to_string_lossy().ends_with("_tests") {
            found.insert(path.clone());
        }
    }
    found
}

#[test]
fn crates_depend_in_one_direction() {
    // Who may name whom (DESIGN 2); dev-dependencies included.
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("pipelines/core", &[][..]),
        ("pipelines/ingest", &["vedette-core"][..]),
        ("pipelines/analysis", &["vedette-core"][..]),
        ("models", &["vedette-core"][..]),
        ("daemon", &["vedette-core", "vedette-ingest", "vedette-analysis", "vedette-models"][..]),
        ("tests", &["vedette", "vedette-core", "vedette-ingest", "vedette-analysis", "vedette-models"][..]),
    ]);
    // Libraries that belong to one room (and to the test camera).
    let owners: [(&str, &[&str]); 3] = [
        ("gstreamer", &["pipelines/ingest", "tests"]),
        ("ort", &["models"]),
        ("rumqttc", &["daemon", "tests"]),
    ];
    for (folder, may) in allowed {
        let text = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let manifest: toml::Table = text.parse().expect("a valid manifest");
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(toml::Value::Table(dependencies)) = manifest.get(section) else { continue };
            for name in dependencies.keys() {
                if name.starts_with("vedette") {
                    assert!(may.contains(&name.as_str()), "{folder} must not depend on {name}");
                }
                for (library, rooms) in owners {
                    let is = name == library || name.starts_with(&format!("{library}-"));
                    assert!(!is || rooms.contains(&folder), "{folder} must not depend on {name}");
                }
                let pure = folder == "pipelines/analysis" && section == "dependencies";
                assert!(!pure || name != "serde_json", "analysis reads and writes no JSON");
            }
        }
    }
}

#[test]
fn files_say_what_they_own_and_stay_short() {
    let mut faults = Vec::new();
    let all = sources();
    let tests = test_files(&all);
    for (path, text) in &all {
        let shown = path.display();
        if !text.starts_with("//!") {
            faults.push(format!("{shown}: begins without `//!`"));
        }
        let lines = production(text).lines().count();
        if lines > 450 && !tests.contains(path) {
            faults.push(format!("{shown}: {lines} production lines, at most 450"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Functions by their indentation: rustfmt closes a function at the column of its `fn` line.
#[test]
fn functions_fit_a_screen() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let mut open: Option<(usize, String, usize)> = None;
        for (number, line) in production(&text).lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            if let Some((start, name, at)) = &open {
                if indent == *at && line.trim_end() == format!("{}}}", " ".repeat(*at)) {
                    if number - start > 60 {
                        faults.push(format!(
                            "{}:{}: `{name}` has {} lines, at most 60",
                            path.display(),
                            start + 1,
                            number - start
                        ));
                    }
                    open = None;
                }
            } else if let Some(rest) = line
                .split("fn ")
                .nth(1)
                .filter(|_| !line.trim_start().starts_with("//") && line.ends_with('{'))
            {
                open = Some((number, rest.split(['(', '<']).next().unwrap_or_default().to_owned(), indent));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_unwrap_and_few_expects_outside_tests() {
    let (mut lines, mut expects, mut faults) = (0, 0, Vec::new());
    let all = sources();
    let tests = test_files(&all);
    for (path, text) in all.iter().filter(|(path, _)| !tests.contains(path)) {
        for (number, line) in production(text).lines().enumerate() {
            lines += 1;
            let code = line.split("//").next().unwrap_or_default();
            if code.contains(".unwrap()") {
                faults.push(format!("{}:{}: unwrap", path.display(), number + 1));
            }
            expects += usize::from(code.contains(".expect("));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(expects * 1000 <= lines, "{expects} expects in {lines} production lines; at most 1 in 1,000");
}

#[test]
fn unsafe_stands_only_in_the_announced_files() {
    let announced = ["daemon/src/process_env.rs", "pipelines/ingest/src/libav.rs", "models/src/native.rs"];
    for (path, text) in sources() {
        let uses = text.lines().any(|l| {
            let code = l.split("//").next().unwrap_or_default();
            code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
        });
        let shown = path.display().to_string();
        assert!(
            !uses || announced.contains(&shown.as_str()) || shown == "tests/it/tidy.rs",
            "{shown} uses unsafe"
        );
    }
}
