//! Stores that cannot be used: set aside, said, and watched on without.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use super::*;

/// A closed store in which an event waits; its epoch.
fn store(directory: &Path) -> Uuid {
    let outbox = open(directory);
    append(&outbox, Severity::Alarm);
    outbox.close();
    outbox.epoch()
}

fn aside(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut aside: Vec<_> = names.filter(|n| n.contains("corrupt")).collect();
    aside.sort();
    aside
}

#[test]
fn a_store_that_cannot_be_used_is_set_aside() {
    type Harm = fn(&Path);
    fn sql(path: &Path, sql: &str) {
        rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
    }
    let cases: [(&str, Harm); 8] = [
        ("garbage", |path| fs::write(path, vec![0x5a; 10_000]).unwrap()),
        ("a few bytes", |path| fs::write(path, b"SQLite").unwrap()),
        ("truncated", |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(8192).unwrap()),
        ("a page of garbage", |path| {
            let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.seek(SeekFrom::Start(4096)).unwrap();
            file.write_all(&[0xff; 4096]).unwrap();
        }),
        ("another program's", |path| sql(path, "PRAGMA application_id = 7")),
        ("a newer program's", |path| sql(path, "PRAGMA user_version = 99")),
        ("a table less", |path| sql(path, "DROP TABLE sink")),
        ("without a counter", |path| sql(path, "DELETE FROM store")),
    ];
    for (case, harm) in cases {
        let folder = tempfile::tempdir().unwrap();
        let epoch = store(folder.path());
        let path = folder.path().join("outbox.db");
        harm(&path);
        let harmed = fs::read(&path).unwrap();
        let outbox = open(folder.path());
        assert_ne!(outbox.epoch(), epoch, "{case}");
        assert_eq!(outbox.depth(&name("b")), 0, "{case}");
        append(&outbox, Severity::Alarm);
        assert_eq!(waiting(&outbox, "b").len(), 1, "{case}");
        assert!(aside(folder.path()).contains(&"outbox.db.corrupt-0".to_owned()), "{case}");
        assert_eq!(fs::read(folder.path().join("outbox.db.corrupt-0")).unwrap(), harmed, "{case}");
    }
}

#[test]
fn an_empty_file_is_a_store_that_was_never_begun() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("outbox.db"), b"").unwrap();
    assert_eq!(append(&open(folder.path()), Severity::Alarm), 1);
    assert!(aside(folder.path()).is_empty());
}

#[test]
fn the_log_of_a_damaged_store_goes_with_it_and_only_a_few_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    fs::write(&path, vec![0x5a; 10_000]).unwrap();
    fs::write(folder.path().join("outbox.db-wal"), b"log").unwrap();
    drop(open(folder.path()));
    assert!(aside(folder.path()).contains(&"outbox.db.corrupt-0-wal".to_owned()));
    for second in 0..6 {
        fs::write(&path, b"damaged").unwrap();
        let now = Timestamp::from_second(second).unwrap();
        file::set_aside(folder.path(), now).unwrap();
    }
    assert!(folder.path().join("outbox.lock").exists());
    let left: Vec<_> = aside(folder.path()).into_iter().filter(|n| !n.contains("0-")).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn damage_found_while_the_daemon_runs_begins_a_new_epoch_and_numbers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    fill(&outbox, 400);
    let last = outbox.append(event(9, Phase::Begin, Severity::Alarm), None).unwrap();
    outbox.close();
    drop(outbox);
    let outbox = limited(folder.path(), &["a", "b"], Limits::default());
    let (before, sink) = (outbox.epoch(), name("b"));
    let waited = outbox.depth(&sink) as u64;
    // A begin that is open now, and whose end must not be forgotten with the store.
    let begin = outbox.append(event(10, Phase::Begin, Severity::Alarm), None).unwrap();
    assert!(begin > last);
    let mut file = fs::OpenOptions::new().write(true).open(folder.path().join("outbox.db")).unwrap();
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(4096)).unwrap();
    file.write_all(&vec![0x5a; usize::try_from(length).unwrap() - 4096]).unwrap();
    drop(file);

    assert!(outbox.next(&sink, 0).is_none(), "nothing can be read");
    outbox.attach(&name("c"));
    assert_ne!(outbox.epoch(), before);
    assert_eq!(aside(folder.path()).first().map(String::as_str), Some("outbox.db.corrupt-0"));
    assert_eq!((outbox.depth(&sink), outbox.dropped(&sink)), (0, waited + 1));
    let seq = append(&outbox, Severity::Alarm);
    assert!(seq > begin, "sinks that wait for what comes after {begin} must get it");
    let stored = outbox.next(&sink, begin).unwrap();
    assert_eq!(json(&stored)["epoch"], outbox.epoch().to_string());
    drop(outbox);
    let outbox = open(folder.path());
    assert_eq!(outbox.dropped(&sink), waited + 1);
    let ends: Vec<_> =
        waiting(&outbox, "b").iter().map(|s| json(s)).filter(|e| e["phase"] == "end").collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(ends[0]["id"], Uuid::from_u128(10).to_string());
}
