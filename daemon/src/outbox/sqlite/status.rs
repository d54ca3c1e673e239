//! The store seen from outside: what waits in it, beside a running daemon too, and giving that up by hand.
//!
//! Owns: what `vedette outbox` tells and does. Does not know: how it is printed.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use uuid::Uuid;
use vedette_core::Name;

use super::file::{self, Opened};
use super::reserve::Reserve;
use super::schema::{self, Content, SinkRow};
use super::{Limits, commit, rows};
use crate::outbox::OutboxError;

/// What is in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreStatus {
    /// Consumers de-duplicate on (node, epoch, seq).
    pub epoch: Uuid,
    /// The last number given.
    pub last_seq: u64,
    /// Incidents that have begun and not ended.
    pub open_incidents: usize,
    /// Size of the file in bytes, without its write-ahead log.
    pub file_bytes: u64,
    /// Of each sink that the store has heard of, by name.
    pub sinks: Vec<SinkWaiting>,
}

/// What waits for one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SinkWaiting {
    /// Its name in the configuration.
    pub sink: Name,
    /// Whether events are kept for it: false where it is gone from the configuration.
    pub attached: bool,
    /// Events that wait. In a running daemon those of the last seconds count until their deletion is committed.
    pub waiting: u64,
    /// When the oldest of them was stored.
    pub oldest: Option<Timestamp>,
    /// Events dropped since the store began.
    pub dropped: u64,
    /// Bytes of the messages that wait, in all dialects.
    pub bytes: u64,
}

/// Reads the store in `directory`; writes nothing and disturbs nobody. None where there is no store.
///
/// # Errors
/// The store cannot be read.
pub fn status(directory: &Path) -> Result<Option<StoreStatus>, OutboxError> {
    let path = directory.join(file::NAME);
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(source) => return Err(OutboxError::Directory { path: directory.to_owned(), source }),
    }
    read(&path).map(Some).map_err(|error| OutboxError::unreadable(&path, &error))
}

fn read(path: &Path) -> rusqlite::Result<StoreStatus> {
    let mut reader = file::read_only(path)?;
    // One moment for all that is told.
    let tx = reader.transaction()?;
    let Content { epoch, last, sinks, incidents } = schema::load(&tx)?;
    let file_bytes = rows::pages(&tx)?.count * rows::PAGE_BYTES;
    let sinks = sinks.into_iter().map(|row| waiting(&tx, row)).collect::<rusqlite::Result<_>>()?;
    Ok(StoreStatus { epoch, last_seq: last, open_incidents: incidents.len(), file_bytes, sinks })
}

fn waiting(connection: &Connection, row: SinkRow) -> rusqlite::Result<SinkWaiting> {
    let SinkRow { name, attached, dropped, floor, waiting, garbage: _ } = row;
    let range = params![name.as_str(), schema::signed(floor)];
    let oldest: Option<i64> = connection
        .query_row(
            "SELECT e.stored FROM delivery d CROSS JOIN event e ON e.seq = d.seq
             WHERE d.sink = ?1 AND d.seq > ?2 ORDER BY d.seq LIMIT 1",
            range,
            |row| row.get(0),
        )
        .optional()?;
    let bytes = connection.query_row(
        "SELECT coalesce(sum(length(e.messages)), 0) FROM delivery d CROSS JOIN event e ON e.seq = d.seq
         WHERE d.sink = ?1 AND d.seq > ?2",
        range,
        |row| schema::unsigned(row, 0),
    )?;
    let oldest = oldest.and_then(|at| Timestamp::from_millisecond(at).ok());
    Ok(SinkWaiting { sink: name, attached, waiting, oldest, dropped, bytes })
}

/// Drops what waits for `sink`, or for every sink, and counts it there; how many for each. No daemon may have the store
/// open. A damaged store is set aside.
///
/// # Errors
/// A daemon runs, the store cannot be written.
pub fn purge(directory: &Path, sink: Option<&Name>, now: Timestamp) -> Result<Vec<(Name, u64)>, OutboxError> {
    let _lock = file::lock(directory)?;
    // A full disk is a reason to purge, and the next daemon makes another reserve.
    let mut reserve = Reserve::found(directory);
    let Opened { mut writer, reader, index, content } =
        file::open(directory, Limits::default().pages, now, &mut reserve)?;
    // The last connection to close tidies up, which one that only reads cannot.
    drop(reader);
    let purged = drop_all(&mut writer, &content, sink);
    // In this order, see `file::allocate_index`.
    drop((writer, index));
    purged.map_err(|error| OutboxError::store(&directory.join(file::NAME), &error))
}

fn drop_all(
    writer: &mut Connection,
    content: &Content,
    sink: Option<&Name>,
) -> rusqlite::Result<Vec<(Name, u64)>> {
    let wanted = || content.sinks.iter().filter(|row| sink.is_none_or(|name| *name == row.name));
    let tx = writer.transaction()?;
    for row in wanted() {
        rows::save_sink(&tx, &row.name, row.attached, row.dropped + row.waiting, content.last)?;
    }
    tx.commit()?;
    // Given up by now; deleted in parts, since a full disk is a reason to purge and has no room for a large log.
    for row in wanted() {
        loop {
            let tx = writer.transaction()?;
            let seqs = rows::up_to(&tx, &row.name, content.last, commit::GARBAGE)?;
            rows::remove(&tx, &row.name, &seqs)?;
            tx.commit()?;
            if seqs.len() < commit::GARBAGE {
                break;
            }
        }
    }
    Ok(wanted().map(|row| (row.name.clone(), row.waiting)).collect())
}
