//! The ledger file: its tables, the triggers against accidents, and the settings of every connection. The tables
//! `event`, `attachment`, `checkpoint` and `cosignature` are a promise to outsiders (`docs/event-format.md`); all others are
//! indexes and projections, written in the same transaction and rebuildable from the events.
//!
//! The triggers stop accidents, not the owner of the file: he can drop them. What exposes him is the chain, the
//! signatures and a checkpoint that somebody else holds.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

/// `QTNC` in ASCII: a file with this id is a Quittance ledger.
pub const APPLICATION_ID: i64 = 0x5154_4E43;
/// Layout of the tables.
pub const USER_VERSION: i64 = 1;

/// How long a reader waits for the short moments in which SQLite locks it out (a WAL reset).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements kept prepared per connection: every statement of this crate, with room.
const PREPARED_MAX: usize = 32;

/// All tables and triggers of a ledger.
pub(crate) const SCHEMA: &str = "
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    sealed BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;
CREATE TABLE attachment (
    seq INTEGER NOT NULL,
    name TEXT NOT NULL,
    salt BLOB,
    bytes BLOB,
    PRIMARY KEY (seq, name)
) STRICT;
CREATE TABLE checkpoint (
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL
) STRICT;

CREATE TABLE cosignature (
    size INTEGER NOT NULL,
    vkey TEXT NOT NULL,
    line TEXT NOT NULL,
    PRIMARY KEY (size, vkey)
) STRICT;

-- Indexes and projections.
CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    size INTEGER NOT NULL,
    frontier BLOB NOT NULL,
    greatest_at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE order_index (
    id INTEGER PRIMARY KEY,
    instance TEXT NOT NULL,
    order_id TEXT NOT NULL,
    UNIQUE (instance, order_id)
) STRICT;
CREATE TABLE order_event (
    order_row INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (order_row, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE ledger_event (
    seq INTEGER PRIMARY KEY
) STRICT;
CREATE TABLE open_permission (
    order_row INTEGER NOT NULL,
    coin_pub BLOB NOT NULL,
    rtransaction_id INTEGER NOT NULL,
    PRIMARY KEY (order_row, coin_pub, rtransaction_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE tile (
    level INTEGER NOT NULL,
    n INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (level, n)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER event_update BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER event_delete BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
CREATE TRIGGER attachment_update BEFORE UPDATE ON attachment
    WHEN NOT (NEW.seq = OLD.seq AND NEW.name = OLD.name AND NEW.salt IS NULL AND NEW.bytes IS NULL)
    BEGIN SELECT RAISE(ABORT, 'attachments are never changed, only erased'); END;
CREATE TRIGGER attachment_delete BEFORE DELETE ON attachment
    BEGIN SELECT RAISE(ABORT, 'attachments are never deleted'); END;
CREATE TRIGGER checkpoint_update BEFORE UPDATE ON checkpoint
    BEGIN SELECT RAISE(ABORT, 'checkpoints are never changed'); END;
CREATE TRIGGER checkpoint_delete BEFORE DELETE ON checkpoint
    BEGIN SELECT RAISE(ABORT, 'checkpoints are never deleted'); END;
CREATE TRIGGER cosignature_update BEFORE UPDATE ON cosignature
    BEGIN SELECT RAISE(ABORT, 'cosignatures are never changed'); END;
CREATE TRIGGER cosignature_delete BEFORE DELETE ON cosignature
    BEGIN SELECT RAISE(ABORT, 'cosignatures are never deleted'); END;
";

/// A setting that SQLite did not take.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// SQLite's own word.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// Only for reading.
    #[error(
        "the ledger file could be opened for reading only: is its disk full, failing or mounted read-only?"
    )]
    ReadOnly,
    /// The pragma reads back otherwise than set: durability would not be what the documentation promises.
    #[error("SQLite did not take `PRAGMA {pragma} = {wanted}`, it says {got}")]
    Refused {
        /// Its name.
        pragma: &'static str,
        /// As set.
        wanted: &'static str,
        /// As read back.
        got: String,
    },
}

fn set(
    conn: &Connection,
    pragma: &'static str,
    wanted: &'static str,
    reads: &str,
) -> Result<(), ConnectError> {
    conn.pragma_update(None, pragma, wanted)?;
    let got: String = conn.pragma_query_value(None, pragma, |row| {
        Ok(match row.get_ref(0)? {
            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
            other => other.as_str()?.to_owned(),
        })
    })?;
    if got == reads {
        Ok(())
    } else {
        Err(ConnectError::Refused { pragma, wanted, got })
    }
}

fn common(conn: &Connection) -> Result<(), ConnectError> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(PREPARED_MAX);
    // Else SQLite prepares a statement anew for each value bound to it, in the hope of a better plan.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    set(conn, "trusted_schema", "OFF", "0")?;
    set(conn, "foreign_keys", "ON", "1")?;
    set(conn, "cell_size_check", "ON", "1")
}

/// Opens the one connection that writes. Never creates a file.
///
/// # Errors
/// The file cannot be opened, or a durability setting does not hold.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, ConnectError> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    common(&conn)?;
    set(&conn, "journal_mode", "WAL", "wal")?;
    // FULL, not NORMAL: what was answered must survive a power loss.
    set(&conn, "synchronous", "FULL", "2")?;
    // What is erased is overwritten. A ledger only grows otherwise, so that there is next to nothing else to overwrite.
    set(&conn, "secure_delete", "ON", "1")?;
    // Where SQLite cannot open a file for writing it opens it for reading and says nothing, for good: a disk that was
    // full for that one moment would then refuse every commit until somebody starts the service anew. The first
    // question is of the file itself, the second of WAL and shared memory.
    if conn.is_readonly(rusqlite::MAIN_DB)? {
        return Err(ConnectError::ReadOnly);
    }
    conn.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?;
    Ok(conn)
}

/// Opens a connection that only reads.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, ConnectError> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    common(&conn)?;
    set(&conn, "query_only", "ON", "1")?;
    Ok(conn)
}

/// Opens a copy that nobody writes, without touching anything beside it: no lock, no WAL, no shared memory.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn open_immutable(path: &Path) -> Result<Connection, ConnectError> {
    let escaped = path
        .to_string_lossy()
        .replace('%', "%25")
        .replace('?', "%3f")
        .replace('#', "%23");
    let conn = Connection::open_with_flags(
        format!("file:{escaped}?immutable=1"),
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI,
    )?;
    common(&conn)?;
    Ok(conn)
}

/// Takes the WAL into the file and empties it.
///
/// # Errors
/// Somebody else reads the file just now, or it cannot be written.
pub(crate) fn truncate_wal(conn: &Connection) -> Result<(), ConnectError> {
    let busy: i64 = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy == 0 {
        return Ok(());
    }
    Err(ConnectError::Refused {
        pragma: "wal_checkpoint",
        wanted: "TRUNCATE",
        got: "busy: somebody reads the ledger".into(),
    })
}

/// The same without waiting for those who read.
///
/// # Errors
/// As there.
pub(crate) fn try_truncate_wal(conn: &Connection) -> Result<(), ConnectError> {
    conn.busy_timeout(Duration::ZERO)?;
    let truncated = truncate_wal(conn);
    conn.busy_timeout(BUSY_TIMEOUT)?;
    truncated
}

/// Reads `application_id` and `user_version`.
///
/// # Errors
/// The file is no SQLite database.
pub(crate) fn identity(conn: &Connection) -> rusqlite::Result<(i64, i64)> {
    let application_id = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let user_version = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok((application_id, user_version))
}
