//! The statements that run while the store is open.
//!
//! Owns: SQL on `event`, `delivery`, `sink`, `incident` and the counter. Does not know: transactions' order and what
//! is kept in memory.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;
use vedette_core::{Name, Severity};

use super::incident::OpenIncident;
use super::messages;
use super::schema::{parsed, signed, unsigned};
use crate::outbox::Stored;

const SEVERITIES: [Severity; 5] =
    [Severity::Info, Severity::Review, Severity::Warning, Severity::Fault, Severity::Alarm];

/// An event as it goes into the store.
pub(super) struct NewEvent<'a> {
    pub(super) stored: &'a Stored,
    pub(super) packed: Vec<u8>,
    /// Unix milliseconds.
    pub(super) at: i64,
}

/// Which deliveries are given up next: by severity, the number from which on to look. Rows leave or come behind all
/// others, so that what has been looked through need not be looked through again.
pub(super) type Hints = [u64; SEVERITIES.len()];

/// Stores an event and who is to get it.
pub(super) fn insert<'a>(
    tx: &Connection,
    event: &NewEvent<'_>,
    sinks: impl Iterator<Item = &'a Name>,
) -> rusqlite::Result<()> {
    let Stored { seq, camera, severity, kind, messages: _, captured: _ } = event.stored;
    let (seq, severity) = (signed(*seq), *severity as i64);
    tx.prepare_cached(
        "INSERT INTO event (seq, camera, severity, kind, stored, messages) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![seq, camera.as_ref().map(Name::as_str), severity, kind, event.at, event.packed])?;
    let mut delivery = tx.prepare_cached("INSERT INTO delivery (sink, seq, severity) VALUES (?1, ?2, ?3)")?;
    for sink in sinks {
        delivery.execute(params![sink.as_str(), seq, severity])?;
    }
    Ok(())
}

/// Remembers the last number given.
pub(super) fn count_to(tx: &Connection, seq: u64) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE store SET seq = ?1")?.execute([signed(seq)]).map(drop)
}

/// Takes deliveries away, and events with their last delivery.
pub(super) fn remove(tx: &Connection, sink: &Name, seqs: &[u64]) -> rusqlite::Result<()> {
    let mut delivery = tx.prepare_cached("DELETE FROM delivery WHERE sink = ?1 AND seq = ?2")?;
    // `CROSS JOIN` fixes the order: a look-up for each of the few sinks instead of a walk over all that waits.
    let mut event = tx.prepare_cached(
        "DELETE FROM event WHERE seq = ?1 AND NOT EXISTS
           (SELECT 1 FROM sink s CROSS JOIN delivery d ON d.sink = s.name AND d.seq = ?1)",
    )?;
    for seq in seqs {
        let seq = signed(*seq);
        delivery.execute(params![sink.as_str(), seq])?;
        event.execute([seq])?;
    }
    Ok(())
}

/// At most `limit` deliveries of `sink` up to `floor`.
pub(super) fn up_to(tx: &Connection, sink: &Name, floor: u64, limit: usize) -> rusqlite::Result<Vec<u64>> {
    let mut statement =
        tx.prepare_cached("SELECT seq FROM delivery WHERE sink = ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3")?;
    let rows =
        statement.query_map(params![sink.as_str(), signed(floor), limit as i64], |row| unsigned(row, 0))?;
    rows.collect()
}

/// The first `count` deliveries to give up of `sink`: the oldest of the lowest severity. `last` is the last number
/// stored; `hints` move on.
pub(super) fn victims(
    tx: &Connection,
    sink: &Name,
    count: usize,
    last: u64,
    hints: &mut Hints,
) -> rusqlite::Result<Vec<(Severity, u64)>> {
    let mut statement = tx.prepare_cached(
        "SELECT seq FROM delivery WHERE sink = ?1 AND seq >= ?2 AND severity = ?3 ORDER BY seq LIMIT ?4",
    )?;
    let mut found = Vec::new();
    for (severity, from) in SEVERITIES.into_iter().zip(hints) {
        let left = count - found.len();
        if left == 0 {
            break;
        }
        let range = params![sink.as_str(), signed(*from), severity as i64, left as i64];
        let seqs: Vec<u64> =
            statement.query_map(range, |row| unsigned(row, 0))?.collect::<rusqlite::Result<_>>()?;
        *from = if seqs.len() < left { last + 1 } else { seqs.last().map_or(*from, |seq| seq + 1) };
        found.extend(seqs.into_iter().map(|seq| (severity, seq)));
    }
    Ok(found)
}

/// Saves what is known of a sink.
pub(super) fn save_sink(
    tx: &Connection,
    name: &Name,
    attached: bool,
    dropped: u64,
    floor: u64,
) -> rusqlite::Result<()> {
    tx.prepare_cached("REPLACE INTO sink (name, attached, dropped, floor) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![name.as_str(), attached, signed(dropped), signed(floor)])
        .map(drop)
}

/// Remembers an incident until [`end_incident`].
pub(super) fn save_incident(tx: &Connection, incident: &OpenIncident) -> rusqlite::Result<()> {
    let content =
        serde_json::to_string(incident).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    tx.prepare_cached("REPLACE INTO incident (id, content) VALUES (?1, ?2)")?
        .execute(params![incident.id.to_string(), content])
        .map(drop)
}

/// Forgets an incident.
pub(super) fn end_incident(tx: &Connection, id: Uuid) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM incident WHERE id = ?1")?.execute([id.to_string()]).map(drop)
}

/// What [`page`] asks, of all events and of a severity's.
const PAGE: &str =
    "SELECT e.seq, e.camera, e.severity, e.messages, e.kind FROM delivery d CROSS JOIN event e ON e.seq = d.seq
     WHERE d.sink = ?1 AND d.seq > ?2 AND d.seq <= ?3 ORDER BY d.seq LIMIT ?4";
const PAGE_OF: &str =
    "SELECT e.seq, e.camera, e.severity, e.messages, e.kind FROM delivery d CROSS JOIN event e ON e.seq = d.seq
     WHERE d.sink = ?1 AND d.seq > ?2 AND d.seq <= ?3 AND d.severity = ?5 ORDER BY d.seq LIMIT ?4";

/// The next at most `limit` events of `sink`, of one severity or of all, with numbers above `after` and up to `last`.
pub(super) fn page(
    reader: &Connection,
    sink: &Name,
    of: Option<Severity>,
    (after, last): (u64, u64),
    limit: usize,
) -> rusqlite::Result<Vec<Stored>> {
    let mut statement = reader.prepare_cached(if of.is_some() { PAGE_OF } else { PAGE })?;
    let (sink, after, last, limit) = (sink.as_str(), signed(after), signed(last), limit as i64);
    match of {
        Some(severity) => {
            statement.query_map(params![sink, after, last, limit, severity as i64], stored)?.collect()
        }
        None => statement.query_map(params![sink, after, last, limit], stored)?.collect(),
    }
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let camera = match row.get_ref(1)? {
        rusqlite::types::ValueRef::Null => None,
        _ => Some(parsed(row, 1, |text| Name::new(text).ok())?),
    };
    let damaged = || {
        let kind = rusqlite::types::Type::Integer;
        rusqlite::Error::FromSqlConversionFailure(2, kind, "not what this program wrote".into())
    };
    let seq = unsigned(row, 0)?;
    let severity = usize::try_from(unsigned(row, 2)?).ok().and_then(|at| SEVERITIES.get(at).copied());
    // One event is given up here rather than all that wait with it.
    let messages = messages::unpack(row.get(3)?).unwrap_or_else(|| {
        log::error!(seq; "event {seq} is damaged in the event store and cannot be delivered");
        Vec::new()
    });
    let (severity, kind) = (severity.ok_or_else(damaged)?, row.get(4)?);
    Ok(Stored { seq, camera, severity, kind, messages, captured: None })
}

/// When the oldest event in the store was stored; an event leaves with its last delivery.
pub(super) fn waiting_since(reader: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let oldest = reader
        .prepare_cached("SELECT stored FROM event ORDER BY seq LIMIT 1")?
        .query_row([], |row| row.get::<_, i64>(0))
        .optional()?;
    Ok(oldest.and_then(|millis| Timestamp::from_millisecond(millis).ok()))
}

/// Whether `seq` waits for `sink`.
pub(super) fn waits(reader: &Connection, sink: &Name, seq: u64) -> rusqlite::Result<bool> {
    reader
        .prepare_cached("SELECT 1 FROM delivery WHERE sink = ?1 AND seq = ?2")?
        .exists(params![sink.as_str(), signed(seq)])
}

/// SQLite's default, and ours.
pub(super) const PAGE_BYTES: u64 = 4096;

/// The size of the file, in pages of [`PAGE_BYTES`].
pub(super) struct Pages {
    /// Its length.
    pub(super) count: u64,
    /// The bound of its length.
    pub(super) max: u64,
}

/// How large the file is and may become.
pub(super) fn pages(connection: &Connection) -> rusqlite::Result<Pages> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| unsigned(row, 0));
    Ok(Pages { count: pragma("page_count")?, max: pragma("max_page_count")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::sqlite::schema;

    fn plan(query: &str) -> String {
        let connection = Connection::open_in_memory().unwrap();
        schema::create(&connection).unwrap();
        schema::adapt(&connection).unwrap();
        schema::index(&connection).unwrap();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let rows = statement.raw_query().mapped(|row| row.get::<_, String>(3)).map(Result::unwrap);
        rows.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_page_is_looked_up_and_never_sorted() {
        for (query, key) in [
            (PAGE, "PRIMARY KEY (sink=? AND seq>? AND seq<?)"),
            (PAGE_OF, "(sink=? AND severity=? AND seq>? AND seq<?)"),
        ] {
            let plan = plan(query);
            assert!(plan.contains(key) && !plan.contains("TEMP B-TREE"), "{plan}");
        }
    }
}
