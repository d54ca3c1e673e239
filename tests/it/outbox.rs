//! The outbox in a process that is killed, or whose disk takes nothing: what it said it has produced is there.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use vedette::outbox::{Outbox, SqliteOutbox, Stored};
use vedette::random::Random;
use vedette::wire::{ModelStamp, Stamp};
use vedette_core::{Clock, Name, SystemClock};
use vedette_tests::binary::beside_this;
use vedette_tests::child::Child;

use crate::cli::{folder, vedette};

const CAMERAS: usize = 8;

/// Events that the outbox keeps for a sink where the bound is not what is tested.
const UNBOUNDED: usize = 100_000;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn open(directory: &Path) -> SqliteOutbox {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let model = ModelStamp { name: "m".into(), sha256: "0123456789".into(), provider: "cpu".into() };
    let stamp = Stamp::new(name("box"), "0123456789", model);
    SqliteOutbox::open(directory, stamp, &[name("live"), name("dead")], &clock).expect("the store")
}

/// Everything that waits for `sink`.
fn waiting(outbox: &SqliteOutbox, sink: &str) -> Vec<Arc<Stored>> {
    let (sink, mut after) = (name(sink), 0);
    let mut next = || {
        let stored = outbox.next(&sink, after)?;
        after = stored.seq;
        Some(stored)
    };
    std::iter::from_fn(&mut next).collect()
}

/// A process that appends until it is killed.
struct Writer(Child);

impl Writer {
    /// Files that may not grow as large as they want end a process that does not ignore the signal for that; a disk
    /// that is full sends none.
    fn start(directory: &Path, first: u64, bound: usize) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(beside_this("outbox-writer").unwrap_or_else(|e| panic!("{e}")))
            .arg(directory)
            .args([CAMERAS.to_string(), first.to_string(), bound.to_string()]);
        Self(Child::start(command.stdin(Stdio::null())))
    }

    /// The size that its files may have from here on, in bytes.
    fn limit_files(&self, bytes: &str) {
        let limit = format!("--fsize={bytes}:unlimited");
        let status = Command::new("prlimit").args(["--pid", &self.0.id().to_string(), &limit]).status();
        assert!(status.is_ok_and(|s| s.success()), "prlimit {limit}");
    }

    fn line(&self) -> Option<String> {
        self.0.line()
    }

    /// kill -9, and what it still had said.
    fn kill(self, told: &mut Told) {
        let status = self.0.kill(|line| told.take(line));
        assert_eq!(status.code(), None, "it ended by itself: {status}");
    }
}

/// What writers have said, over all of them.
#[derive(Default)]
struct Told {
    /// Camera and count by number.
    produced: BTreeMap<u64, (String, u64)>,
    lost: BTreeSet<(String, u64)>,
    /// Whether an outbox said that the disk is full.
    strained: bool,
    /// Hash by number, of what was handed to the sink `live`.
    sent: BTreeMap<u64, String>,
    repeated: usize,
}

impl Told {
    fn take(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        match words[0] {
            "produced" => {
                let before = self.produced.insert(number(3), (words[1].to_owned(), number(2)));
                assert_eq!(before, None, "number {} was given twice", number(3));
            }
            "strained" => self.strained = true,
            "lost" => drop(self.lost.insert((words[1].to_owned(), number(2)))),
            "sent" => match self.sent.entry(number(1)) {
                Entry::Vacant(new) => drop(new.insert(words[2].to_owned())),
                Entry::Occupied(before) => {
                    assert_eq!(before.get(), words[2], "{line}: not the bytes that were sent before");
                    self.repeated += 1;
                }
            },
            _ => panic!("{line}"),
        }
    }

    /// Holds the store against what was said, where nothing was dropped; camera and count of what is in it.
    fn check(&self, outbox: &SqliteOutbox) -> Vec<(String, u64)> {
        assert_eq!((outbox.dropped(&name("dead")), outbox.dropped(&name("live"))), (0, 0));
        let stored = self.check_with_drops(outbox);
        for (seq, event) in &self.produced {
            assert_eq!(stored.get(seq), Some(event), "produced as {seq}");
        }
        stored.into_values().collect()
    }

    /// Holds the store against what was said: what is not there was dropped and counted.
    fn check_with_drops(&self, outbox: &SqliteOutbox) -> BTreeMap<u64, (String, u64)> {
        let all = waiting(outbox, "dead");
        let mut stored: BTreeMap<u64, (String, u64)> = BTreeMap::new();
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for event in &all {
            let json: serde_json::Value = serde_json::from_slice(&event.messages[0].payload).expect("JSON");
            assert_eq!(json["seq"], event.seq);
            let camera = event.camera.as_ref().expect("a camera").to_string();
            let count = json["value"].as_f64().expect("a count") as u64;
            let before = counts.insert(camera.clone(), count);
            assert!(before.is_none_or(|before| before < count), "{camera}: {count} after {before:?}");
            stored.insert(event.seq, (camera, count));
        }
        assert_eq!(stored.len(), all.len(), "numbers are used once");
        for (seq, event) in &stored {
            assert!(
                self.produced.get(seq).is_none_or(|said| said == event),
                "{event:?} was not produced as {seq}"
            );
        }
        let last = *outbox.subscribe().borrow();
        let dropped = outbox.dropped(&name("dead"));
        assert_eq!(stored.len() as u64 + dropped, last, "every number waits for the dead sink or is counted");
        assert!(self.produced.keys().all(|seq| *seq <= last), "produced behind {last}");
        let live: BTreeSet<_> = waiting(outbox, "live").iter().map(|s| s.seq).collect();
        let neither = stored.keys().find(|seq| !live.contains(seq) && !self.sent.contains_key(seq));
        assert_eq!(neither, None, "neither sent to the live sink nor waiting for it");
        stored
    }
}

#[test]
fn twenty_kills_lose_nothing_that_was_produced() {
    /// The bound from the tenth round on: what waits for the dead sink is dropped then, and nothing else.
    const BOUND: usize = 200;
    let folder = folder();
    let (mut told, mut random, mut epoch) = (Told::default(), Random::from_system(), None);
    let (mut inside, mut dropped) = (0, 0);
    for round in 0..20 {
        let bound = if round < 10 { UNBOUNDED } else { BOUND };
        let writer = Writer::start(folder.path(), round * 1_000_000, bound);
        let (before, wanted) = (told.produced.len(), 10 + (random.unit() * 300.0) as usize);
        while told.produced.len() - before < wanted {
            let line = writer.line().unwrap_or_else(|| panic!("round {round}: it ended by itself"));
            told.take(&line);
        }
        writer.kill(&mut told);
        let outbox = open(folder.path());
        if round < 10 {
            told.check(&outbox);
        } else {
            told.check_with_drops(&outbox);
            assert_eq!(outbox.depth(&name("dead")), BOUND, "round {round}");
        }
        assert_eq!(outbox.dropped(&name("live")), 0, "round {round}");
        assert_eq!(outbox.epoch(), *epoch.get_or_insert(outbox.epoch()), "round {round}");
        dropped = outbox.dropped(&name("dead"));
        inside = *outbox.subscribe().borrow() as usize - told.produced.len();
        outbox.close();
    }
    let (produced, repeated) = (told.produced.len(), told.repeated);
    println!(
        "20 kills: {produced} produced, all found but {dropped} that were dropped and counted; {inside} more were \
         inside a commit; {repeated} sent again"
    );
    assert!(produced > 500, "only {produced}");
}

#[test]
fn a_disk_that_takes_nothing_for_a_while_loses_only_what_it_says() {
    let folder = folder();
    let mut told = Told::default();
    let writer = Writer::start(folder.path(), 0, UNBOUNDED);
    let until = |writer: &Writer, told: &mut Told, done: &dyn Fn(&Told) -> bool| {
        while !done(told) {
            told.take(&writer.line().expect("it goes on, whatever the disk does"));
        }
    };
    until(&writer, &mut told, &|told| told.produced.len() >= 200);
    writer.limit_files("65536");
    until(&writer, &mut told, &|told| told.lost.len() >= 50);
    writer.limit_files("unlimited");
    let produced = told.produced.len();
    until(&writer, &mut told, &|told| told.produced.len() >= produced + 200);
    writer.kill(&mut told);
    let outbox = open(folder.path());
    told.check(&outbox);
    println!("{} produced, all found; {} lost, as said", told.produced.len(), told.lost.len());
}

#[test]
fn status_tells_beside_a_running_daemon_and_purge_waits_for_its_end() {
    let folder = folder();
    let none = vedette(&folder, "outbox status --state .").run();
    none.expect(1, &["no event store in .", "--state"]);
    let writer = Writer::start(folder.path(), 0, UNBOUNDED);
    let mut told = Told::default();
    while told.produced.len() < 50 {
        told.take(&writer.line().expect("it goes on"));
    }
    let status = vedette(&folder, "outbox status --state . --json").run();
    let running = status.expect(0, &[]).json();
    assert!(running["last_seq"].as_u64() >= Some(50), "{running}");
    let words = &["epoch", "broker", "waiting", "oldest", "dropped", "dead", "live"];
    vedette(&folder, "outbox status --state .").run().expect(0, words);
    let refused = vedette(&folder, "outbox purge --state . --yes").run();
    refused.expect(1, &["in use by another vedette"]);
    writer.kill(&mut told);

    let waits = |sink: usize| {
        let status = vedette(&folder, "outbox status --state . --json").run().expect(0, &[]).json();
        let sink = &status["sinks"][sink];
        (sink["waiting"].as_u64().expect("a count"), sink["dropped"].as_u64().expect("a count"))
    };
    let dead = waits(0).0;
    assert!(dead >= 50);
    let asked = vedette(&folder, "outbox purge --state . --sink dead").run();
    asked.expect(2, &[&format!("{dead} events wait for broker dead"), "--yes"]);
    let unknown = vedette(&folder, "outbox purge --state . --sink dread --yes").run();
    unknown.expect(2, &["no broker `dread`", "there are: dead, live"]);
    let purged = vedette(&folder, "outbox purge --state . --sink dead --yes").run();
    purged.expect(0, &[&format!("dead: {dead} events dropped")]);
    assert_eq!(waits(0), (0, dead), "dropped by hand is counted too");
    let json = vedette(&folder, "outbox purge --state . --yes --json").run();
    assert_eq!(json.expect(0, &[]).json()["purged"][0], serde_json::json!({"sink": "dead", "dropped": 0}));
    assert_eq!((waits(0).0, waits(1).0), (0, 0));
}

/// In a mount namespace of its own, which takes the mount and the loop device along when it ends: the image `$1` on `$2`
/// and the writer `$3` in it. The steps are commands on standard input; it ends with the writer.
const ON_IMAGE: &str = r#"
    mount -o loop,commit=300 "$1" "$2" && mkdir -p "$2/state" || exit 77
    "$3" "$2/state" "$4" "$5" "$6" &
    writer=$!
    exec 1>&-
    while read -r step; do
        eval "$step" || echo "$step: did not work" >&2
    done
    kill -9 $writer
    wait
"#;

/// The end of everything that no sync has taken to the image: EXT4_IOC_SHUTDOWN without a flush of the journal, as the
/// tests of file systems do. The writer stands still by then, in no system call: a sync that is under way while ext4 is
/// shut down may answer that it has succeeded (seen with Linux 6.18), which a disk without power cannot.
const CUT: &str = r#"kill -STOP $writer; while grep -q 'State:.[RDS]' /proc/$writer/task/*/status; do :; done; python3 -c 'import fcntl, os, struct, sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack("I", 2))' "$2""#;

/// The store on the image `$1`, mounted on `$2`, is handed to the Python script `$3` by its path; then the disk is filled.
const FILL: &str = r#"
    mount -o loop "$1" "$2" && python3 -c "$3" "$2/state/outbox.db" || exit 1
    # What a deletion has freed is anybody's once the journal has taken note of it.
    for again in 1 2; do sync; cat /dev/zero >>"$2/fill" 2>/dev/null; done
    sync
"#;

/// A line is a step. Somebody reads, so that the log cannot begin anew and grows into the second part of its index (each
/// has 32 KiB, for 4,096 pages). Once all that a checkpoint may take is in the store, the log gets blocks for 4,300 pages
/// and the disk is filled but for 12 KiB: what SQLite writes to make that part has room then, what it maps has not.
const FILL_BUT_FOR_SOME: &str = r#"
    python3 -c "$READER" "$2/state/outbox.db" $writer </dev/null &
    log="$2/state/outbox.db-wal"
    while [ $(stat -c %s "$log") -lt 7000000 ] && kill -0 $writer; do :; done
    kill -STOP $writer
    head -c $((17825792 - $(stat -c %s "$log"))) /dev/zero >>"$log"; sync
    cat /dev/zero >"$2/fill" 2>/dev/null; sync
    # The last blocks are given in small pieces only.
    for piece in 1 2 3; do dd if=/dev/zero of="$2/fill.$piece" bs=1k oflag=sync 2>/dev/null || true; done
    truncate -s -12K "$2/fill"; sync
    kill -CONT $writer
"#;

const READER: &str = r#"
import os, sqlite3, sys, time
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("BEGIN")
store.execute("SELECT count(*) FROM event").fetchall()
while os.path.exists("/proc/" + sys.argv[2]) and os.stat(sys.argv[1] + "-shm").st_size <= 32768:
    time.sleep(0.05)
"#;

/// The store on the image `$1` is copied to `$3`, as it is after the journal's replay.
const SALVAGE: &str = r#"mount -o loop "$1" "$2" && cp -r "$2/state/." "$3""#;

/// A small disk of its own.
struct Disk {
    image: PathBuf,
    mount: PathBuf,
    _folder: TempDir,
}

/// A writer on it.
struct OnDisk {
    shell: Option<Child>,
    steps: Option<ChildStdin>,
}

fn in_namespace(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command
}

impl Disk {
    /// None where this process may not mount.
    fn new(bytes: u64) -> Option<Self> {
        Self::with_blocks(bytes, 4096)
    }

    /// As [`Disk::new`], with blocks of so many bytes.
    fn with_blocks(bytes: u64, block: u32) -> Option<Self> {
        let probe = "mount -t tmpfs none /mnt && python3 -c ''";
        if !in_namespace(probe).stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
            vedette_tests::skipped("a disk of its own needs the right to mount, and python3");
            return None;
        }
        let folder = folder();
        let (image, mount) = (folder.path().join("disk.img"), folder.path().join("disk"));
        std::fs::create_dir(&mount).expect("a folder");
        std::fs::File::create(&image).and_then(|file| file.set_len(bytes)).expect("an image");
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0", "-b", &block.to_string()])
            .arg(&image)
            .status();
        assert!(made.is_ok_and(|s| s.success()), "mkfs.ext4");
        Some(Self { image, mount, _folder: folder })
    }

    fn start(&self, first: u64) -> OnDisk {
        let writer = beside_this("outbox-writer").unwrap_or_else(|e| panic!("{e}"));
        let mut command = in_namespace(ON_IMAGE);
        command.args([&self.image, &self.mount, &writer]);
        command.args([CAMERAS.to_string(), first.to_string(), UNBOUNDED.to_string()]);
        let mut shell = Child::start(command.env("READER", READER).stdin(Stdio::piped()));
        OnDisk { steps: shell.stdin(), shell: Some(shell) }
    }

    /// Has Python work on the store, then fills the disk.
    fn fill(&self, script: &str) {
        let filled = in_namespace(FILL).args([&self.image, &self.mount]).arg(script).status();
        assert!(filled.is_ok_and(|s| s.success()), "fill after {script}");
    }

    /// The store as the next start finds it.
    fn salvage(&self) -> (TempDir, SqliteOutbox) {
        let copy = folder();
        let copied = in_namespace(SALVAGE).args([&self.image, &self.mount]).arg(copy.path()).status();
        assert!(copied.is_ok_and(|s| s.success()), "salvage");
        let outbox = open(copy.path());
        (copy, outbox)
    }
}

impl OnDisk {
    fn until(&mut self, told: &mut Told, done: impl Fn(&Told) -> bool) {
        let shell = self.shell.as_ref().expect("it works");
        while !done(told) {
            told.take(&shell.line().expect("it goes on"));
        }
    }

    fn step(&mut self, step: &str) {
        let steps = self.steps.as_mut().expect("it works");
        writeln!(steps, "{step}").expect("it reads");
    }

    /// kill -9, and what it still had said.
    fn end(mut self, told: &mut Told) {
        drop(self.steps.take());
        self.shell.take().expect("it works").end(|line| told.take(line));
    }
}

impl Drop for OnDisk {
    /// The shell kills the writer once there are no more steps.
    fn drop(&mut self) {
        drop(self.steps.take());
        self.shell.iter_mut().for_each(Child::let_end);
    }
}

#[test]
fn power_cuts_lose_nothing_that_was_produced() {
    let Some(disk) = Disk::new(64 << 20) else { return };
    let (mut told, mut random) = (Told::default(), Random::from_system());
    let mut inside = 0;
    for round in 0..5 {
        let mut writer = disk.start(round * 1_000_000);
        let wanted = told.produced.len() + 20 + (random.unit() * 300.0) as usize;
        writer.until(&mut told, |told| told.produced.len() >= wanted);
        writer.step(CUT);
        writer.end(&mut told);
        let (_copy, outbox) = disk.salvage();
        inside = told.check(&outbox).len() - told.produced.len();
    }
    let produced = told.produced.len();
    assert!(told.lost.is_empty(), "{:?}", told.lost);
    println!("5 power cuts: {produced} produced, all found; {inside} more were inside a commit");
}

#[test]
fn a_disk_that_others_fill_loses_only_what_is_counted() {
    let Some(disk) = Disk::new(24 << 20) else { return };
    let mut told = Told::default();
    let mut writer = disk.start(0);
    writer.until(&mut told, |told| told.produced.len() >= 200);
    // The writer stands still meanwhile: else the last block of what it gives up would be taken by the next zero.
    writer.step(r#"kill -STOP $writer; cat /dev/zero >"$2/fill" 2>/dev/null; kill -CONT $writer"#);
    // The first events that are refused are those that are not urgent: the others go into the reserve.
    writer.until(&mut told, |told| told.lost.len() >= 20);
    let urgent = told.lost.iter().filter(|(_, count)| count % 3 != 0).count();
    assert_eq!(urgent, 0, "faults or alarms among the first that were lost: {:?}", told.lost);
    let kept = told.produced.len();
    writer.until(&mut told, |told| told.lost.len() >= 500);
    let kept = told.produced.len() - kept;
    writer.step(r#"rm "$2/fill""#);
    let before = told.produced.len();
    writer.until(&mut told, |told| told.produced.len() >= before + 200);
    writer.end(&mut told);
    let (copy, outbox) = disk.salvage();
    let reserve = std::fs::metadata(copy.path().join("outbox.reserve")).expect("held again").len();
    assert_eq!(reserve, 4 << 20);
    let stored = told.check_with_drops(&outbox);
    let dropped = outbox.dropped(&name("dead"));
    println!(
        "full disk: {} lost, as said, {kept} urgent ones kept meanwhile; {dropped} dropped, as counted; {} wait",
        told.lost.len(),
        stored.len()
    );
}

#[test]
fn a_start_on_a_full_disk_keeps_faults_and_alarms_until_there_is_room() {
    /// Where the second process begins to count: divisible by three, as every count of what is not urgent.
    const SECOND: u64 = 999_999;
    /// What SQLite leaves where the last process stopped in peace: neither a log nor its index.
    const STOPPED: &str =
        "import sqlite3, sys; s = sqlite3.connect(sys.argv[1]); s.execute('SELECT * FROM sink').fetchall()";
    const OLDER: &str = "import sqlite3, sys; s = sqlite3.connect(sys.argv[1]); s.execute('ALTER TABLE event DROP COLUMN kind')";
    let cases = [("stopped", STOPPED), ("of an earlier version", OLDER), ("killed", "")];
    for (case, script) in cases {
        let Some(disk) = Disk::new(24 << 20) else { return };
        let mut told = Told::default();
        let mut writer = disk.start(0);
        writer.until(&mut told, |told| told.produced.len() >= 200);
        writer.end(&mut told);
        assert!(!told.strained, "{case}: there was room");
        disk.fill(script);

        let before = told.produced.len();
        let mut writer = disk.start(SECOND);
        writer.until(&mut told, |told| {
            told.strained && told.lost.len() >= 20 && told.produced.len() >= before + 40
        });
        let urgent = told.lost.iter().filter(|(_, count)| count % 3 != 0).count();
        assert_eq!(urgent, 0, "{case}: faults or alarms among the first that were lost: {:?}", told.lost);
        let others = told.produced.values().filter(|(_, count)| *count >= SECOND && count % 3 == 0).count();
        assert_eq!(others, 0, "{case}: what is not urgent took the room that was kept for what is");
        writer.step(r#"rm "$2/fill""#);
        let all = |told: &Told| told.produced.values().any(|(_, count)| *count >= SECOND && count % 3 == 0);
        writer.until(&mut told, all);
        let before = told.produced.len();
        writer.until(&mut told, |told| told.produced.len() >= before + 200);
        writer.end(&mut told);

        let (copy, outbox) = disk.salvage();
        let reserve = std::fs::metadata(copy.path().join("outbox.reserve")).expect("held again").len();
        assert_eq!(reserve, 4 << 20, "{case}");
        let stored = told.check_with_drops(&outbox).len();
        println!("full at start, {case}: {} lost, as said, {stored} wait", told.lost.len());
    }
}

/// SQLite maps the index of the log into memory, and the kernel ends a process that writes to a mapped page for which
/// the disk has no block: with blocks smaller than a page of memory, and room for the first of a page only.
#[test]
fn a_disk_of_small_blocks_that_fills_up_ends_nobody() {
    let Some(disk) = Disk::with_blocks(64 << 20, 1024) else { return };
    let mut told = Told::default();
    let mut writer = disk.start(0);
    writer.until(&mut told, |told| told.produced.len() >= 100);
    writer.step(FILL_BUT_FOR_SOME);
    writer.until(&mut told, |told| told.strained && told.lost.len() >= 500);
    // The log has grown into the second part of its index: that is what this is about.
    writer.step(r#"[ $(stat -c %s "$2/state/outbox.db-shm") -gt 32768 ] || kill -9 $writer"#);
    writer.step(r#"rm "$2"/fill*"#);
    let before = told.produced.len();
    writer.until(&mut told, |told| told.produced.len() >= before + 200);
    writer.end(&mut told);
    let (_copy, outbox) = disk.salvage();
    told.check_with_drops(&outbox);
    println!(
        "full disk of small blocks: {} produced, {} lost, as said",
        told.produced.len(),
        told.lost.len()
    );
}
