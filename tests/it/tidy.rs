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

/// Each function with the number of its first line, from 1, and how many more it has up to its closing brace, by
/// indentation: rustfmt closes a function at the column of its `fn` line, and a signature of several lines at that too.
fn functions(text: &str) -> Vec<(usize, &str, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, &str, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let (code, indent) = (line.trim(), line.len() - line.trim_start().len());
        match open {
            Some((start, name, at)) if indent == at && code == "}" => {
                found.push((start + 1, name, number - start));
                open = None;
            }
            // One of a trait, without a body.
            Some((_, _, at)) if indent == at && code.starts_with(')') && code.ends_with(';') => open = None,
            Some(_) => {}
            None if code.starts_with("//") || code.ends_with([';', '}']) => {}
            None => {
                let head = code.split_once("fn ").filter(|(before, _)| before.split(' ').all(is_qualifier));
                let name = head.and_then(|(_, rest)| rest.split(['(', '<']).next());
                open = name.map(|name| (number, name, indent));
            }
        }
    }
    found
}

/// What may stand before `fn`.
fn is_qualifier(word: &str) -> bool {
    let qualifiers = ["", "pub", "pub(super)", "pub(crate)", "const", "async", "unsafe", "extern", "\"C\""];
    qualifiers.contains(&word)
}

#[test]
fn functions_are_measured_however_long_their_signature_is() {
    let text = "\
fn one(a: u8) -> u8 {
    a
}

trait T {
    fn none(
        &self,
    );
    fn two(&self) {
        let f = |x| {
            x
        };
    }
}

pub(super) async fn three<'a>(
    check: &mut Check<'a>,
) -> Option<u8> {
    None
}

fn four<T>(t: T) -> u8
where
    T: Copy,
{
    1
}
";
    assert_eq!(functions(text), [(1, "one", 2), (9, "two", 4), (16, "three", 4), (22, "four", 5)]);
}

#[test]
fn functions_fit_a_screen() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        for (line, name, lines) in functions(production(&text)) {
            if lines > 60 {
                faults.push(format!("{}:{line}: `{name}` has {lines} lines, at most 60", path.display()));
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
