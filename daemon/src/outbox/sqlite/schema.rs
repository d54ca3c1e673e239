//! The store's tables, and what is read of them at the start.
//!
//! Owns: their columns. Does not know: what is done with them while the store is open (`rows`).

use rusqlite::{Connection, Row};
use uuid::Uuid;
use vedette_core::Name;

use super::incident::OpenIncident;

/// `event.seq` is given by the counter in `store`, never by SQLite: its own numbers restart when a table empties.
/// `delivery` is ordered by sink, so that a sink's next rows lie together whatever waits for others. Severities are
/// 0 (info) to 4 (alarm); times are Unix milliseconds.
const TABLES: &str = "
CREATE TABLE store (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  epoch TEXT NOT NULL,
  seq INTEGER NOT NULL                 -- the last number given
);
CREATE TABLE event (
  seq INTEGER PRIMARY KEY,
  camera TEXT,
  severity INTEGER NOT NULL,
  stored INTEGER NOT NULL,
  messages BLOB NOT NULL               -- frozen, one a dialect
);
CREATE TABLE delivery (
  sink TEXT NOT NULL,
  seq INTEGER NOT NULL,
  severity INTEGER NOT NULL,
  PRIMARY KEY (sink, seq)
) WITHOUT ROWID;
CREATE TABLE sink (
  name TEXT PRIMARY KEY,
  attached INTEGER NOT NULL,
  dropped INTEGER NOT NULL,
  floor INTEGER NOT NULL               -- deliveries up to here are given up and counted, and only wait for deletion
) WITHOUT ROWID;
CREATE TABLE incident (
  id TEXT PRIMARY KEY,
  content TEXT NOT NULL                -- JSON: what its end needs
) WITHOUT ROWID;
";

/// What one sink has in the store.
#[derive(Debug)]
pub(super) struct SinkRow {
    pub(super) name: Name,
    pub(super) attached: bool,
    /// Deliveries given up since the store began.
    pub(super) dropped: u64,
    pub(super) floor: u64,
    /// Deliveries above `floor`.
    pub(super) waiting: u64,
    /// Whether deliveries up to `floor` are still to be deleted.
    pub(super) garbage: bool,
}

/// What a process needs to know to go on with a store.
pub(super) struct Content {
    pub(super) epoch: Uuid,
    /// The last number given.
    pub(super) last: u64,
    pub(super) sinks: Vec<SinkRow>,
    pub(super) incidents: Vec<OpenIncident>,
}

/// Makes the tables of a new store with a new epoch.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)?;
    let epoch = Uuid::new_v4().to_string();
    connection.execute("INSERT INTO store (id, epoch, seq) VALUES (1, ?1, 0)", [epoch]).map(drop)
}

/// Gives a store of an earlier version of the program the columns that came later.
pub(super) fn adapt(connection: &Connection) -> rusqlite::Result<()> {
    if connection.column_exists(None, "event", "kind")? {
        return Ok(());
    }
    connection.execute_batch("ALTER TABLE event ADD COLUMN kind TEXT NOT NULL DEFAULT ''")
}

/// By severity: what a sink that takes alarms first reads, and what is given up first. Not one of the tables, so that a
/// store of an earlier version of the program gets it too.
pub(super) fn index(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .execute_batch("CREATE INDEX IF NOT EXISTS delivery_by_severity ON delivery (sink, severity, seq)")
}

/// Reads all but the events.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Content> {
    let (epoch, last) = connection.query_row("SELECT epoch, seq FROM store", [], |row| {
        Ok((parsed(row, 0, |text| Uuid::parse_str(text).ok())?, unsigned(row, 1)?))
    })?;
    let mut statement = connection.prepare("SELECT content FROM incident ORDER BY id")?;
    let content = |row: &Row<'_>| parsed(row, 0, |text| serde_json::from_str(text).ok());
    let incidents = statement.query_map([], content)?.collect::<rusqlite::Result<_>>()?;
    Ok(Content { epoch, last, sinks: sinks(connection)?, incidents })
}

/// Every sink that the store has heard of.
pub(super) fn sinks(connection: &Connection) -> rusqlite::Result<Vec<SinkRow>> {
    let mut statement = connection.prepare(
        "SELECT name, attached, dropped, floor,
           (SELECT count(*) FROM delivery d WHERE d.sink = s.name AND d.seq > s.floor),
           EXISTS (SELECT 1 FROM delivery d WHERE d.sink = s.name AND d.seq <= s.floor)
         FROM sink s ORDER BY name",
    )?;
    let sink = |row: &Row<'_>| {
        Ok(SinkRow {
            name: parsed(row, 0, |text| Name::new(text).ok())?,
            attached: row.get(1)?,
            dropped: unsigned(row, 2)?,
            floor: unsigned(row, 3)?,
            waiting: unsigned(row, 4)?,
            garbage: row.get(5)?,
        })
    };
    statement.query_map([], sink)?.collect()
}

/// SQLite's integers are signed; ours never are.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(at)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, value))
}

/// A text column of a type of ours.
pub(super) fn parsed<T>(row: &Row<'_>, at: usize, parse: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text: String = row.get(at)?;
    let unreadable = || {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(at, kind, "not what this program wrote".into())
    };
    parse(&text).ok_or_else(unreadable)
}
