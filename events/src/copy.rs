//! A copy of a ledger as the auditor reads it: every stored byte, in order, from a file that nobody writes. Trusts
//! nothing that it reads: rows come back as they are stored, and what they should be is the reader's to judge.
//! Never writes, not even beside the file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement};

use crate::schema;

/// Why a file cannot be read as a ledger.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file cannot be opened at all, or is no SQLite database.
    #[error("{0} is unreadable: {1}")]
    Unreadable(String, String),
    /// A database, but not a ledger.
    #[error("{path} is not a Quittance ledger (application id {application_id:#x})")]
    NotALedger {
        /// The file.
        path: String,
        /// As found.
        application_id: i64,
    },
    /// A ledger of a newer layout.
    #[error(
        "{path} has layout {version}, this program knows {}: use a newer one",
        schema::USER_VERSION
    )]
    NewerLayout {
        /// The file.
        path: String,
        /// As found.
        version: i64,
    },
    /// It is a ledger, and damaged.
    #[error("the file is damaged: {0}")]
    Damaged(String),
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> CopyError {
        CopyError::Damaged(error.to_string())
    }
}

/// An event as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// The row's number.
    pub seq: i64,
    /// Sealed bytes.
    pub sealed: Vec<u8>,
    /// Signature bytes.
    pub signature: Vec<u8>,
    /// Its attachments, by name.
    pub attachments: Vec<StoredAttachment>,
}

/// An attachment as stored.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredAttachment {
    /// Whose.
    pub seq: i64,
    /// Its name.
    pub name: String,
    /// `None`: erased.
    pub salt: Option<Vec<u8>>,
    /// `None`: erased.
    pub bytes: Option<Vec<u8>>,
}

/// Contracts and reasons by their length alone.
impl fmt::Debug for StoredAttachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredAttachment")
            .field("seq", &self.seq)
            .field("name", &self.name)
            .field("len", &self.bytes.as_ref().map(Vec::len))
            .finish_non_exhaustive()
    }
}

/// The head row as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHead {
    /// Number of events.
    pub size: i64,
    /// Hashes of the tree's right edge.
    pub frontier: Vec<u8>,
    /// Greatest `at_us` since the last clock correction.
    pub greatest_at_us: i64,
}

/// An open permission as stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredOpen {
    /// The order's instance.
    pub instance: String,
    /// The order's id.
    pub order: String,
    /// The coin's bytes.
    pub coin_pub: Vec<u8>,
    /// The permission's id.
    pub rtransaction_id: i64,
}

/// A ledger file opened for reading only.
pub struct Copy {
    pub(crate) conn: Connection,
}

impl Copy {
    /// Opens a file that nobody writes.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn open(path: &Path) -> Result<Copy, CopyError> {
        Copy::check(path, schema::open_immutable(path))
    }

    /// Opens a private copy that came with a `-wal` beside it; SQLite takes the WAL in.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub fn open_with_wal(path: &Path) -> Result<Copy, CopyError> {
        Copy::check(path, schema::open_writer(path))
    }

    fn check(path: &Path, opened: Result<Connection, schema::ConnectError>) -> Result<Copy, CopyError> {
        let name = path.display().to_string();
        let unreadable = |e: &dyn std::fmt::Display| CopyError::Unreadable(name.clone(), e.to_string());
        let conn = opened.map_err(|e| unreadable(&e))?;
        let (application_id, version) = schema::identity(&conn).map_err(|e| unreadable(&e))?;
        if application_id != schema::APPLICATION_ID {
            return Err(CopyError::NotALedger {
                path: name,
                application_id,
            });
        }
        if version > schema::USER_VERSION {
            return Err(CopyError::NewerLayout { path: name, version });
        }
        if version != schema::USER_VERSION {
            return Err(CopyError::Damaged(format!("layout version {version}")));
        }
        Ok(Copy { conn })
    }

    /// SQLite's own check of pages, indexes and types; one line for each damage, none for a sound file.
    ///
    /// # Errors
    /// The file is too damaged even for that.
    pub fn integrity(&self) -> Result<Vec<String>, CopyError> {
        let mut lines = Vec::new();
        self.conn.pragma_query(None, "integrity_check", |row| {
            lines.push(row.get::<_, String>(0)?);
            Ok(())
        })?;
        lines.retain(|line| line != "ok");
        Ok(lines)
    }

    /// The tables, triggers and indexes as the file has them, against those of this layout: a line for each that is
    /// missing, foreign or different.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn schema_differences(&self) -> Result<Vec<String>, CopyError> {
        type Objects = BTreeMap<String, Option<String>>;
        fn objects(conn: &Connection) -> rusqlite::Result<Objects> {
            conn.prepare(
                "SELECT type || ' ' || name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
        }
        static WANTED: OnceLock<Objects> = OnceLock::new();
        let wanted = match WANTED.get() {
            Some(wanted) => wanted,
            None => {
                let model = Connection::open_in_memory()?;
                model.execute_batch(schema::SCHEMA)?;
                let wanted = objects(&model)?;
                WANTED.get_or_init(|| wanted)
            }
        };
        let found = objects(&self.conn)?;
        let missing = wanted
            .keys()
            .filter(|name| !found.contains_key(*name))
            .map(|name| format!("{name} is missing"));
        let foreign = found.iter().filter_map(|(name, sql)| match wanted.get(name) {
            None => Some(format!("{name} is not of this layout")),
            Some(wanted) if wanted != sql => Some(format!("{name} is defined otherwise")),
            Some(_) => None,
        });
        Ok(missing.chain(foreign).collect())
    }

    /// Walks all events in stored order with their attachments. Attachments of no event come at the end, as `Err`
    /// of the walk's item.
    ///
    /// # Errors
    /// The file is damaged, or `each` stops the walk.
    pub fn walk<E: From<CopyError>>(
        &self,
        mut each: impl FnMut(Result<StoredEvent, StoredAttachment>) -> Result<(), E>,
    ) -> Result<(), E> {
        let damaged = |e: rusqlite::Error| E::from(CopyError::from(e));
        let mut events = self
            .conn
            .prepare("SELECT seq, sealed, signature FROM event ORDER BY seq")
            .map_err(damaged)?;
        let mut attachments = self
            .conn
            .prepare("SELECT seq, name, salt, bytes FROM attachment ORDER BY seq, name")
            .map_err(damaged)?;
        let mut events = events.query([]).map_err(damaged)?;
        let mut attachments = attachments.query([]).map_err(damaged)?;
        let mut waiting = next_attachment(&mut attachments).map_err(damaged)?;
        while let Some(row) = events.next().map_err(damaged)? {
            let mut event = StoredEvent {
                seq: row.get(0).map_err(damaged)?,
                sealed: row.get(1).map_err(damaged)?,
                signature: row.get(2).map_err(damaged)?,
                attachments: Vec::new(),
            };
            while let Some(attachment) = waiting.take_if(|attachment| attachment.seq <= event.seq) {
                if attachment.seq == event.seq {
                    event.attachments.push(attachment);
                } else {
                    each(Err(attachment))?;
                }
                waiting = next_attachment(&mut attachments).map_err(damaged)?;
            }
            each(Ok(event))?;
        }
        while let Some(attachment) = waiting {
            each(Err(attachment))?;
            waiting = next_attachment(&mut attachments).map_err(damaged)?;
        }
        Ok(())
    }

    /// Walks the sealed bytes of all events in stored order, without anything else.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn walk_sealed(&self, mut each: impl FnMut(i64, &[u8])) -> Result<(), CopyError> {
        let mut statement = self.conn.prepare("SELECT seq, sealed FROM event ORDER BY seq")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let sealed = row.get_ref(1)?;
            each(row.get(0)?, sealed.as_bytes().map_err(rusqlite::Error::from)?);
        }
        Ok(())
    }

    /// The next events after a sequence, without their attachments; as many as asked for, fewer at the end.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn events_after(&self, seq: i64, limit: u32) -> Result<Vec<StoredEvent>, CopyError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT seq, sealed, signature FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        )?;
        let rows = statement.query_map((seq, limit), |row| {
            Ok(StoredEvent {
                seq: row.get(0)?,
                sealed: row.get(1)?,
                signature: row.get(2)?,
                attachments: Vec::new(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The greatest sequence stored; 0 where there is none.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn last_seq(&self) -> Result<i64, CopyError> {
        Ok(self
            .conn
            .query_row("SELECT coalesce(max(seq), 0) FROM event", [], |row| row.get(0))?)
    }

    /// The next checkpoints from a size on, by size; as many as asked for, fewer at the end.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn checkpoints_from(&self, size: i64, limit: u32) -> Result<Vec<(i64, String)>, CopyError> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT size, note FROM checkpoint WHERE size >= ?1 ORDER BY size LIMIT ?2")?;
        let rows = statement.query_map((size, limit), |row| Ok((row.get(0)?, lossy(row.get_ref(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The checkpoint of the greatest size below this one.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn checkpoint_below(&self, size: i64) -> Result<Option<(i64, String)>, CopyError> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT size, note FROM checkpoint WHERE size < ?1 ORDER BY size DESC LIMIT 1")?;
        let mut rows = statement.query([size])?;
        Ok(match rows.next()? {
            None => None,
            Some(row) => Some((row.get(0)?, lossy(row.get_ref(1)?))),
        })
    }

    /// The cosignatures of a size as (size, VKEY, line), by key.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn cosignatures_of(&self, size: i64) -> Result<Vec<(i64, String, String)>, CopyError> {
        let mut found = Vec::new();
        self.walk_cosignatures_from(size, |at, vkey, line| {
            let is_of = at == size;
            if is_of {
                found.push((at, vkey, line));
            }
            is_of
        })?;
        Ok(found)
    }

    /// Walks cosignatures as (size, VKEY, line) from a size on, by size and key, as long as `each` says so.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn walk_cosignatures_from(
        &self,
        size: i64,
        mut each: impl FnMut(i64, String, String) -> bool,
    ) -> Result<(), CopyError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT size, vkey, line FROM cosignature WHERE size >= ?1 ORDER BY size, vkey",
        )?;
        let mut rows = statement.query([size])?;
        while let Some(row) = rows.next()? {
            if !each(row.get(0)?, lossy(row.get_ref(1)?), lossy(row.get_ref(2)?)) {
                break;
            }
        }
        Ok(())
    }

    /// The head row; `None` where it is missing.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn head(&self) -> Result<Option<StoredHead>, CopyError> {
        let mut statement = self
            .conn
            .prepare("SELECT size, frontier, greatest_at_us FROM head ORDER BY id")?;
        let mut rows = statement.query([])?;
        match rows.next()? {
            None => Ok(None),
            Some(row) => Ok(Some(StoredHead {
                size: row.get(0)?,
                frontier: row.get(1)?,
                greatest_at_us: row.get(2)?,
            })),
        }
    }

    /// Walks the order index: each event's sequence with the (instance, order) that it is filed under, or `None`
    /// where it is filed under the ledger's own events; in order of sequence. A row of `order_event` without its
    /// `order_index` is filed under empty names.
    ///
    /// # Errors
    /// The file is damaged, or `each` stops the walk.
    pub fn walk_index<E: From<CopyError>>(
        &self,
        mut each: impl FnMut(i64, Option<(String, String)>) -> Result<(), E>,
    ) -> Result<(), E> {
        let damaged = |e: rusqlite::Error| E::from(CopyError::from(e));
        let mut statement: Statement = self
            .conn
            .prepare(
                "SELECT seq, coalesce(instance, ''), coalesce(order_id, ''), 1 FROM order_event
                 LEFT JOIN order_index ON order_index.id = order_row
                 UNION ALL SELECT seq, NULL, NULL, 0 FROM ledger_event ORDER BY 1",
            )
            .map_err(damaged)?;
        let mut rows = statement.query([]).map_err(damaged)?;
        while let Some(row) = rows.next().map_err(damaged)? {
            let names = match row.get::<_, i64>(3).map_err(damaged)? {
                0 => None,
                _ => Some((
                    lossy(row.get_ref(1).map_err(damaged)?),
                    lossy(row.get_ref(2).map_err(damaged)?),
                )),
            };
            each(row.get(0).map_err(damaged)?, names)?;
        }
        Ok(())
    }

    /// Orders that the index lists without any event.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn empty_orders(&self) -> Result<Vec<(String, String)>, CopyError> {
        let mut statement = self.conn.prepare(
            "SELECT instance, order_id FROM order_index WHERE id NOT IN (SELECT order_row FROM order_event)",
        )?;
        let rows = statement.query_map([], |row| Ok((lossy(row.get_ref(0)?), lossy(row.get_ref(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Open permissions as stored.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn open_permissions(&self) -> Result<Vec<StoredOpen>, CopyError> {
        let mut statement = self.conn.prepare(
            "SELECT coalesce(instance, ''), coalesce(order_id, ''), coin_pub, rtransaction_id FROM open_permission
             LEFT JOIN order_index ON order_index.id = order_row ORDER BY 1, 2, 3, 4",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(StoredOpen {
                instance: lossy(row.get_ref(0)?),
                order: lossy(row.get_ref(1)?),
                coin_pub: row.get(2)?,
                rtransaction_id: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// One event with its attachments.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn event(&self, seq: i64) -> Result<Option<StoredEvent>, CopyError> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT sealed, signature FROM event WHERE seq = ?1")?;
        let mut rows = statement.query([seq])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (sealed, signature) = (row.get(0)?, row.get(1)?);
        let mut statement = self
            .conn
            .prepare_cached("SELECT seq, name, salt, bytes FROM attachment WHERE seq = ?1 ORDER BY name")?;
        let mut attachments = Vec::new();
        let mut rows = statement.query([seq])?;
        while let Some(attachment) = next_attachment(&mut rows)? {
            attachments.push(attachment);
        }
        Ok(Some(StoredEvent {
            seq,
            sealed,
            signature,
            attachments,
        }))
    }
}

/// Text that may not be UTF-8 any more: damage must be told, not hidden behind a conversion error.
fn lossy(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(_) | ValueRef::Null => String::new(),
    }
}

fn next_attachment(rows: &mut rusqlite::Rows<'_>) -> rusqlite::Result<Option<StoredAttachment>> {
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(StoredAttachment {
        seq: row.get(0)?,
        name: lossy(row.get_ref(1)?),
        salt: row.get(2)?,
        bytes: row.get(3)?,
    }))
}
