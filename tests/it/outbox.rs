//! The outbox in a process that is killed, or whose disk takes nothing: what it said it has produced is there.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use uuid::Uuid;
use vedette::outbox::{Outbox, SqliteOutbox, Stored};
use vedette::random::Random;
use vedette::wire::{ModelStamp, Stamp};
use vedette_core::{Clock, Name, SystemClock};
use vedette_tests::binary::beside_this;

use crate::cli::{folder, vedette};

const CAMERAS: usize = 8;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn open(directory: &Path) -> SqliteOutbox {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let model = ModelStamp { name: "m".into(), sha256: "0123456789".into(), provider: "cpu".into() };
    let stamp = Stamp { node: name("box"), epoch: Uuid::nil(), config: "0123456789".into(), model };
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
struct Writer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Writer {
    /// Files that may not grow as large as they want end a process that does not ignore the signal for that; a disk
    /// that is full sends none.
    fn start(directory: &Path, first: u64) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(beside_this("outbox-writer").unwrap_or_else(|e| panic!("{e}")))
            .arg(directory)
            .args([CAMERAS.to_string(), first.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// The size that its files may have from here on, in bytes.
    fn limit_files(&self, bytes: &str) {
        let limit = format!("--fsize={bytes}:unlimited");
        let status = Command::new("prlimit").args(["--pid", &self.child.id().to_string(), &limit]).status();
        assert!(status.is_ok_and(|s| s.success()), "prlimit {limit}");
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("text");
        // A kill may cut the last line.
        line.ends_with('\n').then(|| line.trim_end().to_owned())
    }

    /// kill -9, and what it still had said.
    fn kill(mut self, told: &mut Told) {
        self.child.kill().expect("alive until now");
        while let Some(line) = self.line() {
            told.take(&line);
        }
        let status = self.child.wait().expect("a child");
        assert_eq!(status.code(), None, "it ended by itself: {status}");
    }
}

/// What writers have said, over all of them.
#[derive(Default)]
struct Told {
    /// Camera and count by number.
    produced: BTreeMap<u64, (String, u64)>,
    lost: BTreeSet<(String, u64)>,
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

    /// Holds the store against what was said; camera and count of what is in it.
    fn check(&self, outbox: &SqliteOutbox) -> Vec<(String, u64)> {
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
        for (seq, event) in &self.produced {
            assert_eq!(stored.get(seq), Some(event), "produced as {seq}");
        }
        let live: BTreeSet<_> = waiting(outbox, "live").iter().map(|s| s.seq).collect();
        let neither = stored.keys().find(|seq| !live.contains(seq) && !self.sent.contains_key(seq));
        assert_eq!(neither, None, "neither sent to the live sink nor waiting for it");
        assert_eq!((outbox.dropped(&name("dead")), outbox.dropped(&name("live"))), (0, 0));
        stored.into_values().collect()
    }
}

#[test]
fn twenty_kills_lose_nothing_that_was_produced() {
    let folder = folder();
    let (mut told, mut random, mut epoch) = (Told::default(), Random::from_system(), None);
    let mut inside = 0;
    for round in 0..20 {
        let mut writer = Writer::start(folder.path(), round * 1_000_000);
        let (before, wanted) = (told.produced.len(), (random.unit() * 300.0) as usize);
        while told.produced.len() - before < wanted {
            let line = writer.line().unwrap_or_else(|| panic!("round {round}: it ended by itself"));
            told.take(&line);
        }
        writer.kill(&mut told);
        let outbox = open(folder.path());
        inside = told.check(&outbox).len() - told.produced.len();
        assert_eq!(outbox.epoch(), *epoch.get_or_insert(outbox.epoch()), "round {round}");
        outbox.close();
    }
    let (produced, repeated) = (told.produced.len(), told.repeated);
    println!(
        "20 kills: {produced} produced, all found; {inside} more were inside a commit; {repeated} sent again"
    );
    assert!(produced > 500, "only {produced}");
}

#[test]
fn a_disk_that_takes_nothing_for_a_while_loses_only_what_it_says() {
    let folder = folder();
    let mut told = Told::default();
    let mut writer = Writer::start(folder.path(), 0);
    let until = |writer: &mut Writer, told: &mut Told, done: &dyn Fn(&Told) -> bool| {
        while !done(told) {
            told.take(&writer.line().expect("it goes on, whatever the disk does"));
        }
    };
    until(&mut writer, &mut told, &|told| told.produced.len() >= 200);
    writer.limit_files("65536");
    until(&mut writer, &mut told, &|told| told.lost.len() >= 50);
    writer.limit_files("unlimited");
    let produced = told.produced.len();
    until(&mut writer, &mut told, &|told| told.produced.len() >= produced + 200);
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
    let mut writer = Writer::start(folder.path(), 0);
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

/// In a mount namespace of its own, which takes the mount and the loop device along when it ends: the image `$1` on `$2`,
/// the program behind them in it, and at the first line of standard input the end of everything that no sync has
/// taken to the image (EXT4_IOC_SHUTDOWN without a flush of the journal, as file system tests do).
const POWER_CUT: &str = r#"
    mount -o loop,commit=300 "$1" "$2" || exit 77
    mkdir -p "$2/state"
    "$3" "$2/state" "$4" "$5" &
    read -r cut
    python3 -c 'import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack("I", 2))' "$2" || echo "no cut" >&2
    kill -9 $!
    wait
"#;

/// The store on the image `$1` is copied to `$3`, as it is after the journal's replay.
const SALVAGE: &str = r#"mount -o loop "$1" "$2" && cp -r "$2/state/." "$3""#;

fn in_namespace(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command
}

/// Whether this process may mount.
fn may_mount() -> bool {
    let probe = "mount -t tmpfs none /mnt && python3 -c ''";
    in_namespace(probe).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

#[test]
fn power_cuts_lose_nothing_that_was_produced() {
    if !may_mount() {
        vedette_tests::skipped("a power cut needs the right to mount, and python3");
        return;
    }
    let folder = folder();
    let (image, mount) = (folder.path().join("disk.img"), folder.path().join("disk"));
    std::fs::create_dir(&mount).expect("a folder");
    std::fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("an image");
    let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status();
    assert!(made.is_ok_and(|s| s.success()), "mkfs.ext4");
    let (mut told, mut random) = (Told::default(), Random::from_system());
    let (mut inside, mut unsynced) = (0, 0);
    for round in 0..5_u64 {
        let writer = beside_this("outbox-writer").unwrap_or_else(|e| panic!("{e}"));
        let mut command = in_namespace(POWER_CUT);
        command.args([&image, &mount, &writer]).args([CAMERAS.to_string(), (round * 1_000_000).to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let (before, wanted) = (told.produced.len(), 20 + (random.unit() * 300.0) as usize);
        let mut cut = child.stdin.take();
        for line in lines.lines().map_while(Result::ok) {
            told.take(&line);
            if told.produced.len() - before >= wanted {
                // Closing it is a line as well.
                cut = None;
            }
        }
        assert!(cut.is_none(), "round {round}: it ended before the cut");
        assert!(child.wait().is_ok_and(|s| s.code() != Some(77)), "round {round}: no mount");
        // The cut comes as an error to what is inside a commit: nobody is told that it was produced.
        unsynced += std::mem::take(&mut told.lost).len();
        let copy = self::folder();
        let copied = in_namespace(SALVAGE).args([&image, &mount]).arg(copy.path()).status();
        assert!(copied.is_ok_and(|s| s.success()), "round {round}: salvage");
        inside = told.check(&open(copy.path())).len() - told.produced.len();
    }
    let produced = told.produced.len();
    println!(
        "5 power cuts: {produced} produced, all found; {inside} more were inside a commit; {unsynced} lost by the cut, as said"
    );
}
