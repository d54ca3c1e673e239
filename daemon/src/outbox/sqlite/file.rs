//! The store's files: the lock of the directory, opening `outbox.db`, setting it aside when it is damaged.
//!
//! Owns: what a usable file is, SQLite's settings, which errors mean damage. Does not know: events; tables are
//! `schema`'s.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::reserve::Reserve;
use super::schema::{self, Content};
use crate::outbox::OutboxError;

/// The store's name in the state directory.
pub(super) const NAME: &str = "outbox.db";
const LOCK: &str = "outbox.lock";

/// What SQLite keeps beside the store.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// "vdte": tells `file` and us whose SQLite file it is.
const APPLICATION: i32 = i32::from_be_bytes(*b"vdte");

/// The version of the tables.
const VERSION: i32 = 1;

/// Damaged stores that are kept for whoever looks into them; a disk that fails again and again must not fill up.
const SET_ASIDE_MAX: usize = 3;

/// Blocks that the index of the log has on the disk: those for a log of 64 MiB, more than any transaction of ours makes.
const INDEX: u64 = 128 << 10;

/// An open store.
pub(super) struct Opened {
    pub(super) writer: Connection,
    pub(super) reader: Connection,
    /// To be closed after both, see [`allocate_index`].
    pub(super) index: Option<File>,
    pub(super) content: Content,
}

/// Why a file cannot be used.
enum Unusable {
    /// It is not a store of ours, or not a whole one: the text says what is wrong.
    Damaged(String),
    /// The system refuses; the file may be good.
    Refused(rusqlite::Error),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        let damaged = is_damage(&error) || is_other_tables(&error);
        if damaged { Self::Damaged(error.to_string()) } else { Self::Refused(error) }
    }
}

/// Whether the content of the file is at fault, so that no later attempt can succeed. A sector that cannot be read is:
/// writing somewhere else goes on.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => true,
            ErrorCode::SystemIoFailure => matches!(
                failure.extended_code,
                ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS
            ),
            _ => false,
        },
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..)
        | E::QueryReturnedNoRows
        | E::Utf8Error(..) => true,
        _ => false,
    }
}

/// Whether the tables are not those that a statement expects.
fn is_other_tables(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|failure| failure.extended_code == ffi::SQLITE_ERROR)
}

/// Whether there is no room: the bound on pages or the disk, for a page or for the index of the log, which SQLite tells
/// apart.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    let index = |failure: &ffi::Error| failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE;
    error.sqlite_error_code() == Some(ErrorCode::DiskFull) || error.sqlite_error().is_some_and(index)
}

/// Whether a store may not open for want of room: a full disk also makes no new file.
fn may_want_room(error: &rusqlite::Error) -> bool {
    is_full(error) || error.sqlite_error_code() == Some(ErrorCode::CannotOpen)
}

/// Makes the directory and takes its lock. The system drops the lock with the returned file, however the process ends.
pub(super) fn lock(directory: &Path) -> Result<File, OutboxError> {
    let denied = |source| OutboxError::Directory { path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(denied)?;
    let lock = File::create(directory.join(LOCK)).map_err(denied)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OutboxError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(denied(error)),
    }
}

/// Opens the store in `directory`, which is locked; makes a new one where there is none. A damaged one is set aside
/// first, with a warning in the log: a state file must never keep an appliance from watching. On a full disk `reserve`
/// is given up for it.
pub(super) fn open(
    directory: &Path,
    pages: u32,
    now: Timestamp,
    reserve: &mut Reserve,
) -> Result<Opened, OutboxError> {
    let mut opened = open_or_replace(directory, pages, now, reserve)?;
    opened.index = allocate_index(&directory.join(NAME), reserve);
    Ok(opened)
}

/// Gives the index of the log its blocks now. SQLite maps it into memory, and of each page it has only the last byte
/// written: where blocks are smaller than that and the disk is full by the time of the rest, the kernel ends the process.
///
/// The file that was opened for it must stay open as long as the store: closing any descriptor of a file takes the
/// process's POSIX locks away, those of SQLite too, by which others know that this index is in use.
fn allocate_index(path: &Path, reserve: &mut Reserve) -> Option<File> {
    // It is not there where the file system allows no write-ahead log.
    let index = File::options().read(true).write(true).open(format!("{}-shm", path.display())).ok()?;
    loop {
        match fallocate(&index, FallocateFlags::KEEP_SIZE, 0, INDEX) {
            // Some file systems keep no room for files.
            Ok(()) | Err(Errno::OPNOTSUPP) => return Some(index),
            Err(Errno::INTR) => {}
            Err(Errno::NOSPC | Errno::DQUOT) if reserve.release() => {}
            Err(error) => {
                log::warn!(
                    "event store {}: no room is kept for the index of its log: {error}; free space on that disk",
                    path.display()
                );
                return Some(index);
            }
        }
    }
}

fn open_or_replace(
    directory: &Path,
    pages: u32,
    now: Timestamp,
    reserve: &mut Reserve,
) -> Result<Opened, OutboxError> {
    let path = directory.join(NAME);
    let refused = |error: rusqlite::Error| OutboxError::store(&path, &error);
    reserve.make_room();
    let mut open_in_room = || match open_once(&path, pages) {
        Err(Unusable::Refused(error)) if may_want_room(&error) && reserve.release() => {
            open_once(&path, pages)
        }
        opened => opened,
    };
    let damage = match open_in_room() {
        Ok(opened) => return Ok(opened),
        Err(Unusable::Refused(error)) => return Err(refused(error)),
        Err(Unusable::Damaged(damage)) => damage,
    };
    let aside = set_aside(directory, now)
        .map_err(|source| OutboxError::Directory { path: directory.to_owned(), source })?;
    log::warn!(
        "event store {} is damaged ({damage}): set aside as {aside}, a new one with a new epoch begins; events that \
         waited in it are not delivered",
        path.display()
    );
    open_in_room().map_err(|unusable| match unusable {
        Unusable::Refused(error) => refused(error),
        Unusable::Damaged(problem) => OutboxError::Store { path: path.clone(), problem },
    })
}

/// The file grows to so many pages at most; never below what it has.
pub(super) fn bound(writer: &Connection, pages: u32) -> rusqlite::Result<()> {
    writer.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}

fn open_once(path: &Path, pages: u32) -> Result<Opened, Unusable> {
    let fresh = !path.exists();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut writer = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_CREATE)?;
    // Until it is known to be good it stays as it is, with its log.
    keep_log(&writer, true)?;
    let (application, version): (i32, i32) =
        (pragma(&writer, "application_id")?, pragma(&writer, "user_version")?);
    let tables: i64 = writer.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let empty = (application, version, tables) == (0, 0, 0);
    if !empty && application != APPLICATION {
        return Err(Unusable::Damaged("it is another program's database".to_owned()));
    }
    if !empty && version != VERSION {
        let text = format!("its tables have version {version}, this program knows {VERSION}");
        return Err(Unusable::Damaged(text));
    }
    let mode: String = writer.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        log::warn!(
            "event store {}: this file system allows no write-ahead log, which is slower",
            path.display()
        );
    }
    writer.pragma_update(None, "synchronous", "FULL")?;
    // A write-ahead log that keeps its size is written in place, which costs the disk less than growing it anew; the
    // limit cuts off what one large deletion left behind. 1,000 pages are SQLite's own checkpoint distance.
    writer.query_row("PRAGMA journal_size_limit = 8388608", [], |_| Ok(()))?;
    bound(&writer, pages)?;
    writer.pragma_update(None, "cache_size", -1024)?;
    if empty {
        let tx = writer.transaction()?;
        schema::create(&tx)?;
        tx.pragma_update(None, "application_id", APPLICATION)?;
        tx.pragma_update(None, "user_version", VERSION)?;
        tx.commit()?;
    }
    let verdict: String = writer.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Unusable::Damaged(verdict.replace('\n', " ")));
    }
    schema::adapt(&writer)?;
    match schema::index(&writer) {
        // Everything works without it, only slower.
        Err(error) if is_full(&error) => {}
        indexed => indexed?,
    }
    let content = schema::load(&writer)?;
    keep_log(&writer, false)?;
    let reader = read_only(path)?;
    if empty {
        sync_directory(path);
        if !fresh {
            log::warn!("event store {} is empty: a new one with a new epoch begins", path.display());
        }
    }
    Ok(Opened { writer, reader, index: None, content })
}

/// Whether closing the connection leaves the write-ahead log where it is: the one way to set a damaged store aside
/// as it was found.
pub(super) fn keep_log(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map(drop)
}

/// A second connection that reads what is committed, beside the writer or a running daemon.
pub(super) fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(path, flags)?;
    reader.pragma_update(None, "cache_size", -1024)?;
    Ok(reader)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// Renames the store and what SQLite keeps beside it; the new name.
pub(super) fn set_aside(directory: &Path, now: Timestamp) -> io::Result<String> {
    let mut aside = format!("{NAME}.corrupt-{}", now.as_second());
    for again in 1.. {
        if !directory.join(&aside).exists() {
            break;
        }
        aside = format!("{NAME}.corrupt-{}.{again}", now.as_second());
    }
    // The log first: beside a new store it would be taken for that one's.
    for companion in COMPANIONS {
        let from = directory.join(format!("{NAME}{companion}"));
        if from.exists() {
            fs::rename(from, directory.join(format!("{aside}{companion}")))?;
        }
    }
    fs::rename(directory.join(NAME), directory.join(&aside))?;
    forget_old(directory);
    sync_directory(&directory.join(NAME));
    Ok(aside)
}

/// Deletes all but the newest damaged stores.
fn forget_old(directory: &Path) {
    let prefix = format!("{NAME}.corrupt-");
    let mut found: Vec<(io::Result<std::time::SystemTime>, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&prefix) && !COMPANIONS.iter().any(|c| name.ends_with(c)) {
            found.push((entry.metadata().and_then(|m| m.modified()), entry.path()));
        }
    }
    found.sort_by_key(|(modified, _)| std::cmp::Reverse(modified.as_ref().ok().copied()));
    for (_, path) in found.into_iter().skip(SET_ASIDE_MAX) {
        // What cannot be deleted only takes room.
        for suffix in COMPANIONS.iter().chain(&[""]) {
            let _ = fs::remove_file(format!("{}{suffix}", path.display()));
        }
    }
}

/// Makes the directory's entry for `path` survive a power cut; SQLite does so for its log only.
fn sync_directory(path: &Path) {
    let synced = path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all());
    if let Err(error) = synced {
        log::warn!("event store {}: its directory cannot be synced: {error}", path.display());
    }
}
