//! What the outbox promises, one promise a test.

mod damage;
mod model;

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use vedette_core::{ClockSource, EndedBy, EvidenceKind, Moment, Phase, Pts, Severity, SimulatedClock};

use super::commit::{GARBAGE, Work};
use super::*;
use crate::wire::{Interest, ModelStamp};

const SEVERITIES: [Severity; 5] =
    [Severity::Info, Severity::Review, Severity::Warning, Severity::Fault, Severity::Alarm];

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SimulatedClock::new(Timestamp::UNIX_EPOCH))
}

fn stamp() -> Stamp {
    let model = ModelStamp { name: "m".into(), sha256: "0123456789".into(), provider: "cpu".into() };
    Stamp::new(name("box"), "0123456789", model)
}

fn limited(directory: &Path, sinks: &[&str], limits: Limits) -> SqliteOutbox {
    let sinks: Vec<_> = sinks.iter().map(|sink| name(sink)).collect();
    SqliteOutbox::with_limits(directory, stamp(), &sinks, &clock(), limits).unwrap()
}

fn open(directory: &Path) -> SqliteOutbox {
    limited(directory, &["b"], Limits::default())
}

fn event(id: u128, phase: Phase, severity: Severity) -> Event {
    let at = Moment { pts: Pts::ZERO, wall: Timestamp::UNIX_EPOCH, wall_ok: true, clock: ClockSource::Host };
    Event {
        id: Uuid::from_u128(id),
        phase,
        kind: "intrusion",
        rule: name("night"),
        severity,
        camera: Some(name("gate")),
        zone: None,
        line: None,
        direction: None,
        captured: at,
        decided: at,
        object: None,
        value: Some(2.0),
        unit: Some("persons"),
        why: String::new(),
        ended_by: None,
        suppressed: 0,
        evidence: Default::default(),
    }
}

fn append(outbox: &SqliteOutbox, severity: Severity) -> u64 {
    outbox.append(event(1, Phase::Once, severity), None).unwrap()
}

fn append_evidence(outbox: &SqliteOutbox, severity: Severity) -> u64 {
    let evidence = Evidence {
        id: Uuid::from_u128(1),
        kind: EvidenceKind::Snapshot,
        file: "gate/1.jpg".to_owned(),
        bytes: 4711,
        sha256: "0123456789abcdef".repeat(4),
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::UNIX_EPOCH,
        camera: name("gate"),
        event_kind: "intrusion",
        severity,
    };
    outbox.append_evidence(evidence).unwrap()
}

fn fill(outbox: &SqliteOutbox, events: usize) {
    for _ in 0..events {
        append(outbox, Severity::Alarm);
    }
}

fn waiting(outbox: &SqliteOutbox, sink: &str) -> Vec<Arc<Stored>> {
    let mut after = 0;
    std::iter::from_fn(|| {
        let stored = outbox.next(&name(sink), after)?;
        after = stored.seq;
        Some(stored)
    })
    .collect()
}

fn numbers_of(outbox: &SqliteOutbox, sink: &str, severity: Severity) -> Vec<u64> {
    let mut after = 0;
    std::iter::from_fn(|| {
        after = outbox.next_of(&name(sink), severity, after)?.seq;
        Some(after)
    })
    .collect()
}

fn numbers(outbox: &SqliteOutbox, sink: &str) -> Vec<u64> {
    waiting(outbox, sink).iter().map(|stored| stored.seq).collect()
}

fn json(stored: &Stored) -> serde_json::Value {
    serde_json::from_slice(&stored.messages[0].payload).unwrap()
}

#[test]
fn what_waits_survives_a_stop_and_a_crash_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    fill(&outbox, 3);
    outbox.ack(&name("b"), 2);
    let (before, epoch) = (waiting(&outbox, "b"), outbox.epoch());
    outbox.close();
    drop(outbox);
    let outbox = open(folder.path());
    assert_eq!((waiting(&outbox, "b"), outbox.epoch()), (before.clone(), epoch));
    assert_eq!((outbox.depth(&name("b")), before.len()), (2, 2));
    assert_eq!(append(&outbox, Severity::Info), 4);
    drop(outbox);
    let outbox = open(folder.path());
    assert_eq!(numbers(&outbox, "b"), [1, 3, 4]);
    assert_eq!(waiting(&outbox, "b")[..2], before);
    assert_eq!(*outbox.subscribe().borrow(), 4);
}

#[test]
fn a_row_leaves_with_its_last_delivery_and_numbers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let sinks = ["a", "b"];
    let outbox = limited(folder.path(), &sinks, Limits::default());
    let seq = append(&outbox, Severity::Alarm);
    outbox.ack(&name("a"), seq);
    outbox.close();
    drop(outbox);
    let outbox = limited(folder.path(), &sinks, Limits::default());
    assert_eq!((numbers(&outbox, "a"), numbers(&outbox, "b")), (vec![], vec![seq]));
    outbox.ack(&name("b"), seq);
    outbox.close();
    drop(outbox);
    let store =
        file::open(folder.path(), 1000, Timestamp::UNIX_EPOCH, &mut Reserve::found(folder.path())).unwrap();
    let rows =
        |table| store.reader.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get::<_, i64>(0));
    assert_eq!((rows("event"), rows("delivery")), (Ok(0), Ok(0)));
    drop(store);
    let outbox = limited(folder.path(), &sinks, Limits::default());
    assert_eq!(append(&outbox, Severity::Alarm), seq + 1, "an emptied table gives no number twice");
}

#[test]
fn a_lot_of_acknowledgements_is_deleted_with_the_next_event() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    let seqs: Vec<_> = (0..state::LOT).map(|_| append(&outbox, Severity::Alarm)).collect();
    let reader = file::read_only(&folder.path().join(file::NAME)).unwrap();
    let rows = |table| {
        let sql = format!("SELECT count(*) FROM {table}");
        reader.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let before = rows("event");
    seqs.iter().for_each(|seq| outbox.ack(&name("b"), *seq));
    let seq = append(&outbox, Severity::Alarm);
    assert_eq!((before, rows("event"), rows("delivery")), (seqs.len() as i64, 1, 1));
    assert_eq!(numbers(&outbox, "b"), [seq]);
}

#[test]
fn an_incident_that_a_crash_left_open_is_ended_by_restart() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    let seqs = [(1, Phase::Begin), (2, Phase::Begin), (2, Phase::End)]
        .map(|(id, phase)| outbox.append(event(id, phase, Severity::Alarm), None).unwrap());
    assert_eq!(seqs, [1, 2, 3]);
    drop(outbox);
    let outbox = open(folder.path());
    let ends: Vec<_> = waiting(&outbox, "b").split_off(3).iter().map(|s| json(s)).collect();
    let [end] = &ends[..] else { panic!("one end, not {ends:?}") };
    assert_eq!(end["id"], Uuid::from_u128(1).to_string());
    assert_eq!((&end["phase"], &end["ended_by"]), (&"end".into(), &"restart".into()));
    assert_eq!((&end["kind"], &end["unit"]), (&"intrusion".into(), &"persons".into()));
    drop(outbox);
    assert_eq!(waiting(&open(folder.path()), "b").len(), 4, "ended once");
}

#[test]
fn an_event_that_ended_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    let mut end = event(1, Phase::End, Severity::Alarm);
    end.ended_by = Some(EndedBy::CameraLost);
    outbox.append(end, Some(Duration::from_millis(548))).unwrap();
    let json = json(&outbox.next(&name("b"), 0).unwrap());
    assert_eq!((&json["ended_by"], &json["latency_ms"]), (&"camera-lost".into(), &548.into()));
    assert_eq!((&json["epoch"], &json["seq"]), (&outbox.epoch().to_string().into(), &1.into()));
}

#[test]
fn a_closed_outbox_takes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    assert_eq!(append(&outbox, Severity::Info), 1);
    outbox.close();
    outbox.close();
    let refused = outbox.append(event(1, Phase::Once, Severity::Info), None);
    assert!(matches!(refused, Err(OutboxError::Closed)));
    assert!(!folder.path().join("outbox.db-wal").exists(), "the log is emptied into the store");
    drop(outbox);
    assert_eq!(append(&open(folder.path()), Severity::Info), 2);
}

#[test]
fn two_daemons_do_not_share_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let Err(error) = SqliteOutbox::open(folder.path(), stamp(), &[], &clock()) else {
        panic!("opened twice")
    };
    assert!(error.to_string().contains("in use by another vedette"), "{error}");
    drop(first);
    assert!(SqliteOutbox::open(folder.path(), stamp(), &[], &clock()).is_ok());
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let Err(error) = SqliteOutbox::open(&file, stamp(), &[], &clock()) else {
        panic!("a file is no directory")
    };
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}

#[test]
fn payloads_are_frozen_when_the_configuration_changes() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    let before = append(&outbox, Severity::Info);
    let frozen = outbox.next(&name("b"), 0).unwrap();
    outbox.restamp(Stamp { config: "ffffffffff".to_owned(), ..stamp() });
    append(&outbox, Severity::Info);
    assert_eq!(outbox.next(&name("b"), 0).unwrap(), frozen);
    assert_eq!(json(&outbox.next(&name("b"), before).unwrap())["config"], "ffffffff");
    drop(outbox);
    assert_eq!(open(folder.path()).next(&name("b"), 0).unwrap(), frozen);
}

#[test]
fn a_sink_that_is_gone_from_the_configuration_drops_what_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = limited(folder.path(), &["a", "b"], Limits::default());
    fill(&outbox, 1000);
    drop(outbox);
    let outbox = open(folder.path());
    assert_eq!((outbox.depth(&name("a")), outbox.dropped(&name("a"))), (0, 1000));
    assert_eq!((outbox.depth(&name("b")), outbox.dropped(&name("b"))), (1000, 0));
    outbox.attach(&name("a"));
    assert!(outbox.next(&name("a"), 0).is_none(), "what was dropped does not come back");
    let seq = append(&outbox, Severity::Alarm);
    assert_eq!(numbers(&outbox, "a"), [seq]);
    outbox.detach(&name("a"));
    assert_eq!((outbox.depth(&name("a")), outbox.dropped(&name("a"))), (0, 1001));
    outbox.detach(&name("never-heard-of"));
}

/// A store of one megabyte; events of about a kilobyte.
const SMALL: Limits = Limits { events: 100_000, pages: 256 };

#[test]
fn a_full_file_drops_the_oldest_of_the_lowest_severity() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = limited(folder.path(), &["b"], SMALL);
    let alarms: Vec<_> = (0..100).map(|_| append(&outbox, Severity::Alarm)).collect();
    let reviews: Vec<_> = (0..3000).map(|_| append(&outbox, Severity::Review)).collect();
    let (left, sink) = (numbers(&outbox, "b"), name("b"));
    let (kept, newest) = left.split_at(alarms.len());
    assert_eq!(kept, alarms, "no alarm gives way to what is less urgent");
    assert_eq!(newest, &reviews[reviews.len() - newest.len()..], "the oldest go first");
    assert_eq!(outbox.dropped(&sink), (alarms.len() + reviews.len() - left.len()) as u64);
    assert!(left.len() > 300, "only {} fit a megabyte", left.len());
    let length = std::fs::metadata(folder.path().join("outbox.db")).unwrap().len();
    assert!(length <= 256 * 4096, "{length} bytes");
    drop(outbox);
    let outbox = limited(folder.path(), &["b"], SMALL);
    assert_eq!(numbers(&outbox, "b"), left);
    assert_eq!(outbox.dropped(&sink), (alarms.len() + reviews.len() - left.len()) as u64);
}

#[test]
fn what_is_less_urgent_than_all_that_waits_in_a_full_file_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = limited(folder.path(), &["b"], SMALL);
    let alarms = 2000;
    fill(&outbox, alarms);
    let (before, dropped) = (numbers(&outbox, "b"), outbox.dropped(&name("b")));
    let infos: Vec<_> = (0..50).map(|_| append(&outbox, Severity::Info)).collect();
    let after = numbers(&outbox, "b");
    let missing: Vec<_> = before.iter().filter(|seq| !after.contains(seq)).collect();
    assert!(missing.is_empty(), "alarms {missing:?} gave way to counts");
    assert_eq!(alarms + 50, after.len() + outbox.dropped(&name("b")) as usize);
    assert!(outbox.dropped(&name("b")) > dropped, "{infos:?} cannot all have found room");
}

#[test]
fn a_dead_sink_takes_nothing_from_a_live_one() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = limited(folder.path(), &["dead", "live"], SMALL);
    for _ in 0..2000 {
        let seq = append(&outbox, Severity::Info);
        assert_eq!(numbers(&outbox, "live"), [seq]);
        outbox.ack(&name("live"), seq);
    }
    assert_eq!((outbox.dropped(&name("live")), outbox.depth(&name("live"))), (0, 0));
    assert_eq!(outbox.dropped(&name("dead")) as usize + outbox.depth(&name("dead")), 2000);
    assert!(outbox.dropped(&name("dead")) > 0);
}

#[test]
fn cameras_append_while_sinks_take() {
    const CAMERAS: u64 = 8;
    const EACH: u64 = 100;
    let folder = tempfile::tempdir().unwrap();
    let outbox = limited(folder.path(), &["fast", "dead"], Limits { events: 300, pages: 10_000 });
    let mut got: BTreeMap<Name, Vec<(u64, f64)>> = BTreeMap::new();
    std::thread::scope(|scope| {
        for camera in 0..CAMERAS {
            let outbox = &outbox;
            scope.spawn(move || {
                for at in 0..EACH {
                    let mut event = event(1, Phase::Once, SEVERITIES[at as usize % 5]);
                    event.camera = Some(name(&format!("c{camera}")));
                    event.value = Some(at as f64);
                    outbox.append(event, None).unwrap();
                }
            });
        }
        let fast = name("fast");
        let mut taken = 0;
        while taken < CAMERAS * EACH - outbox.dropped(&fast) {
            let Some(stored) = outbox.next(&fast, 0) else {
                std::thread::yield_now();
                continue;
            };
            let value = json(&stored)["value"].as_f64().unwrap();
            got.entry(stored.camera.clone().unwrap()).or_default().push((stored.seq, value));
            outbox.ack(&fast, stored.seq);
            taken += 1;
        }
    });
    for (camera, got) in &got {
        assert!(got.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{camera}: {got:?}");
    }
    assert_eq!(outbox.depth(&name("fast")), 0);
    let dead = name("dead");
    assert_eq!((outbox.depth(&dead), outbox.dropped(&dead)), (300, CAMERAS * EACH - 300));
}

#[test]
fn status_tells_what_waits_while_the_daemon_runs_and_purge_waits_for_its_end() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(status::status(folder.path()).unwrap(), None);
    let outbox = limited(folder.path(), &["a", "b"], Limits::default());
    outbox.append(event(1, Phase::Begin, Severity::Alarm), None).unwrap();
    let seq = append(&outbox, Severity::Alarm);
    let told = status::status(folder.path()).unwrap().unwrap();
    assert_eq!((told.epoch, told.last_seq, told.open_incidents), (outbox.epoch(), seq, 1));
    let [a, b] = &told.sinks[..] else { panic!("{told:?}") };
    assert_eq!((a.waiting, a.oldest, a.dropped, a.attached), (2, Some(Timestamp::UNIX_EPOCH), 0, true));
    let stored = waiting(&outbox, "b");
    let payloads: usize = stored.iter().flat_map(|s| &s.messages).map(|m| m.payload.len()).sum();
    assert!(b.bytes as usize > payloads && b.bytes as usize <= payloads + 64 * stored.len(), "{told:?}");

    let now = Timestamp::UNIX_EPOCH;
    let refused = status::purge(folder.path(), None, now);
    assert!(matches!(refused, Err(OutboxError::InUse(_))), "{refused:?}");
    drop(outbox);
    assert_eq!(status::purge(folder.path(), Some(&name("a")), now).unwrap(), [(name("a"), 2)]);
    let told = status::status(folder.path()).unwrap().unwrap();
    assert_eq!((told.sinks[0].waiting, told.sinks[0].dropped), (0, 2));
    assert_eq!((told.sinks[1].waiting, told.sinks[1].dropped), (2, 0));
    let all = status::purge(folder.path(), None, now).unwrap();
    assert_eq!(all, [(name("a"), 0), (name("b"), 2)]);
    let outbox = limited(folder.path(), &["a", "b"], Limits::default());
    assert_eq!(outbox.dropped(&name("b")), 2);
    assert_eq!(numbers(&outbox, "b"), [seq + 1], "the open incident's end");
}

#[test]
fn a_sink_gets_what_it_is_interested_in_and_nothing_else_counts_as_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let alarms = Interest { severities: Some(vec![Severity::Alarm]), ..Interest::default() };
    let stamp = Stamp { interests: [(name("pager"), alarms)].into(), ..stamp() };
    let limits = Limits { events: 2, ..Limits::default() };
    let sinks = [name("pager"), name("all")];
    let outbox = SqliteOutbox::with_limits(folder.path(), stamp, &sinks, &clock(), limits).unwrap();
    let alarm = append(&outbox, Severity::Alarm);
    (0..5).for_each(|_| _ = append(&outbox, Severity::Info));
    assert_eq!((outbox.depth(&name("pager")), outbox.dropped(&name("pager"))), (1, 0));
    assert_eq!((outbox.depth(&name("all")), outbox.dropped(&name("all"))), (2, 4));
    assert_eq!(outbox.next(&name("pager"), 0).map(|s| s.seq), Some(alarm));
    assert_eq!(outbox.next(&name("pager"), alarm), None);
    let second = append(&outbox, Severity::Alarm);
    assert_eq!(outbox.next(&name("pager"), alarm).map(|s| s.seq), Some(second));
}

#[test]
fn a_bound_that_is_changed_holds_from_the_next_event_on() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = limited(folder.path(), &["a"], Limits::default());
    (0..5).for_each(|_| _ = append(&outbox, Severity::Info));
    outbox.limit(Limits { events: 2, ..Limits::default() });
    assert_eq!((outbox.depth(&name("a")), outbox.dropped(&name("a"))), (5, 0));
    append(&outbox, Severity::Info);
    assert_eq!((outbox.depth(&name("a")), outbox.dropped(&name("a"))), (2, 4));
    outbox.limit(Limits { events: 4, ..Limits::default() });
    (0..3).for_each(|_| _ = append(&outbox, Severity::Info));
    assert_eq!((outbox.depth(&name("a")), outbox.dropped(&name("a"))), (4, 5));
}

#[test]
fn a_much_lower_bound_is_reached_in_parts() {
    const WAITING: usize = 3 * GARBAGE;
    let folder = tempfile::tempdir().unwrap();
    let outbox = limited(folder.path(), &["a"], Limits::default());
    fill(&outbox, WAITING);
    outbox.close();
    drop(outbox);

    // One transaction after the other, as the writer makes them.
    let mut reserve = Reserve::found(folder.path());
    let pages = Limits::default().pages;
    let opened = file::open(folder.path(), pages, Timestamp::UNIX_EPOCH, &mut reserve).unwrap();
    let (mut store, state) =
        (opened.writer, Mutex::new(State::new(&opened.content, opened.reader, opened.index)));
    let mut part = |events: &[Arc<Stored>]| {
        let uninterested = vec![Vec::new(); events.len()];
        let work =
            Work { events, uninterested: &uninterested, capacity: 100, sweep: true, ..Work::default() };
        let committed = commit::commit(&mut store, &state, &work).unwrap();
        let left = committed.leaves_work();
        committed.publish(&mut locked(&state), &work);
        let state = locked(&state);
        let sink = &state.sinks[&name("a")];
        (left, sink.depth, sink.complained)
    };
    let coming = |seq| {
        let (camera, severity, kind) = (Some(name("gate")), Severity::Info, "intrusion".to_owned());
        [Arc::new(Stored { seq, camera, severity, kind, messages: Vec::new(), captured: None })]
    };
    let next = WAITING as u64 + 1;
    assert_eq!(
        part(&coming(next)),
        (true, WAITING - GARBAGE, false),
        "one event, and no append waits for more"
    );
    assert_eq!(part(&[]), (false, WAITING - 2 * GARBAGE, false));
    assert_eq!(part(&[]), (false, WAITING - 2 * GARBAGE, false), "a few are for the next event");
    assert_eq!(part(&coming(next + 1)), (false, 100, true), "said once the bound holds");
}

#[test]
fn an_idle_store_comes_near_a_lower_bound_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = limited(folder.path(), &["a"], Limits::default());
    fill(&outbox, 3 * GARBAGE);
    outbox.limit(Limits { events: 2, ..Limits::default() });
    let clock = vedette_core::SystemClock::new();
    while outbox.depth(&name("a")) > 2 + GARBAGE {
        assert!(clock.now().0 < Duration::from_secs(60), "{} still wait", outbox.depth(&name("a")));
        clock.pause(Duration::from_millis(5), &vedette_core::Shutdown::new());
    }
    append(&outbox, Severity::Alarm);
    assert_eq!((outbox.depth(&name("a")), outbox.dropped(&name("a"))), (2, 3 * GARBAGE as u64 - 1));
}

#[test]
fn evidence_waits_numbered_and_frozen_behind_its_event() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    let event = append(&outbox, Severity::Alarm);
    assert_eq!(append_evidence(&outbox, Severity::Alarm), event + 1);
    let (before, epoch) = (waiting(&outbox, "b"), outbox.epoch());
    drop(outbox);
    let outbox = open(folder.path());
    assert_eq!(waiting(&outbox, "b"), before, "not the same bytes after a crash");
    let [first, second] = [json(&before[0]), json(&before[1])];
    assert_eq!((&first["id"], &first["seq"]), (&second["id"], &event.into()));
    assert_eq!((&second["epoch"], &second["seq"]), (&epoch.to_string().into(), &(event + 1).into()));
    assert_eq!((&second["kind"], &second["node"]), (&"snapshot".into(), &"box".into()));
    assert_eq!(
        (before[1].messages[0].topic.as_str(), before[1].severity),
        ("gate/evidence", Severity::Alarm)
    );
    outbox.ack(&name("b"), event + 1);
    assert_eq!((numbers(&outbox, "b"), outbox.depth(&name("b"))), (vec![event], 1));
}

#[test]
fn evidence_goes_where_its_event_goes_and_is_dropped_as_that_is() {
    let folder = tempfile::tempdir().unwrap();
    let interest = |kind: &str, severity| Interest {
        kinds: Some(vec![kind.to_owned()]),
        severities: Some(vec![severity]),
        ..Interest::default()
    };
    let interests = [
        (name("alarms"), interest("intrusion", Severity::Alarm)),
        (name("infos"), interest("intrusion", Severity::Info)),
        (name("counts"), interest("occupancy", Severity::Alarm)),
    ];
    let stamp = Stamp { interests: interests.into(), ..stamp() };
    let limits = Limits { events: 2, ..Limits::default() };
    let sinks = ["alarms", "infos", "counts", "all"].map(name);
    let outbox = SqliteOutbox::with_limits(folder.path(), stamp, &sinks, &clock(), limits).unwrap();
    let info = append_evidence(&outbox, Severity::Info);
    let alarm = append(&outbox, Severity::Alarm);
    let of_it = append_evidence(&outbox, Severity::Alarm);
    assert_eq!(numbers(&outbox, "alarms"), [alarm, of_it]);
    assert_eq!(numbers(&outbox, "infos"), [info]);
    assert_eq!(numbers(&outbox, "counts"), [0; 0]);
    assert_eq!((numbers(&outbox, "all"), outbox.dropped(&name("all"))), (vec![alarm, of_it], 1));
    append_evidence(&outbox, Severity::Review);
    assert_eq!((numbers(&outbox, "all"), outbox.dropped(&name("all"))), (vec![alarm, of_it], 2));
}

#[test]
fn a_severity_is_read_in_order_whatever_waits_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    let seqs: Vec<_> = (0..300).map(|n| append(&outbox, SEVERITIES[n % 5])).collect();
    let of = |at: usize| seqs.iter().copied().skip(at).step_by(5).collect::<Vec<_>>();
    assert_eq!(numbers_of(&outbox, "b", Severity::Alarm), of(4));
    let alarm = append(&outbox, Severity::Alarm);
    assert_eq!(outbox.next_of(&name("b"), Severity::Alarm, seqs[299]).map(|s| s.seq), Some(alarm));
    of(4).into_iter().chain([alarm]).for_each(|seq| outbox.ack(&name("b"), seq));
    assert_eq!(outbox.next_of(&name("b"), Severity::Alarm, 0), None);
    assert_eq!((numbers_of(&outbox, "b", Severity::Info), outbox.depth(&name("b"))), (of(0), 240));
}

#[test]
fn a_store_of_an_earlier_version_gets_what_came_later() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    let seq = append(&outbox, Severity::Fault);
    outbox.close();
    drop(outbox);
    let old = rusqlite::Connection::open(folder.path().join("outbox.db")).unwrap();
    old.execute_batch("DROP INDEX delivery_by_severity; ALTER TABLE event DROP COLUMN kind").unwrap();
    drop(old);
    let outbox = open(folder.path());
    assert_eq!(numbers_of(&outbox, "b", Severity::Fault), [seq]);
    let kind = |after| outbox.next(&name("b"), after).map(|stored| stored.kind.clone());
    assert_eq!(kind(0).as_deref(), Some(""));
    append(&outbox, Severity::Fault);
    assert_eq!(kind(seq).as_deref(), Some("intrusion"));
    let there = "SELECT count(*) FROM sqlite_schema WHERE name = 'delivery_by_severity'";
    let store = rusqlite::Connection::open(folder.path().join("outbox.db")).unwrap();
    assert_eq!(store.query_row(there, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn the_store_knows_since_when_something_waits() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    assert_eq!(outbox.waiting_since(), None);
    append(&outbox, Severity::Info);
    let since = outbox.waiting_since();
    assert!(since.is_some());
    append(&outbox, Severity::Alarm);
    assert_eq!(outbox.waiting_since(), since);
    outbox.detach(&name("b"));
    outbox.close();
    drop(outbox);
    assert_eq!(open(folder.path()).waiting_since(), None);
}
