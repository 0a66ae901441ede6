//! Cosignatures of witnesses, kept beside the checkpoints that they are of. They arrive after the checkpoint is stored
//! and signed, so they stand in a table of their own; a published checkpoint is the note with their lines behind it.
//! Verifies nothing: who asked for a cosignature has checked it, and the auditor checks it again.

use rusqlite::{Connection, OptionalExtension, params};

use crate::ids::Seq;
use crate::store::StoreError;

/// A witness's word on a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// The checkpoint's size.
    pub size: Seq,
    /// The witness's key as a VKEY.
    pub vkey: String,
    /// The signature line, without its line end.
    pub line: String,
}

/// Stores a cosignature; the first of a key for a size stays.
pub(crate) fn insert(conn: &Connection, cosignature: &Cosignature) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR IGNORE INTO cosignature (size, vkey, line) VALUES (?1, ?2, ?3)")?
        .execute(params![
            cosignature.size.sql(),
            cosignature.vkey,
            cosignature.line
        ])?;
    Ok(())
}

/// The lines for the checkpoint of that size, by key.
pub(crate) fn lines_of(conn: &Connection, size: u64) -> Result<Vec<String>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT line FROM cosignature WHERE size = ?1 ORDER BY vkey")?;
    let lines = statement.query_map([size.cast_signed()], |row| row.get(0))?;
    Ok(lines.collect::<Result<_, _>>()?)
}

/// The greatest size that this key cosigned; [`Seq::NONE`] where it has none.
pub(crate) fn last_of(conn: &Connection, vkey: &str) -> Result<Seq, StoreError> {
    let size: Option<i64> = conn
        .query_row(
            "SELECT max(size) FROM cosignature WHERE vkey = ?1",
            [vkey],
            |row| row.get(0),
        )
        .optional()?
        .flatten();
    size.map_or(Ok(Seq::NONE), crate::store::seq_of)
}
