//! Opens the evidence without touching it. A main file alone is opened immutable; one with a `-wal` beside it is
//! copied together with it to a temporary folder first, because only SQLite can take a WAL in, and it writes when
//! it does.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use quittance_events::copy::{Copy, CopyError};
use quittance_events::schema::APPLICATION_ID;
use tempfile::TempDir;

/// Why there is nothing to report on.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The file cannot be read, or is no database.
    #[error("{path} is unreadable: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// A database of something else.
    #[error("{0}")]
    NotALedger(String),
    /// Of a newer layout or event format.
    #[error("{0}")]
    Newer(String),
    /// No such order.
    #[error("the ledger has no order {0}")]
    NoSuchOrder(String),
    /// No such past state.
    #[error("{0}")]
    NoSuchState(String),
    /// No checkpoint to hold the ledger against.
    #[error("{0} is no checkpoint")]
    NoCheckpoint(String),
    /// No receipt, or none of this ledger's.
    #[error("{0}")]
    NoReceipt(String),
}

impl Unusable {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "errors are handed over as they come"
    )]
    pub(crate) fn unreadable(path: &Path, why: impl ToString) -> Unusable {
        Unusable::Unreadable {
            path: path.display().to_string(),
            why: why.to_string(),
        }
    }
}

/// A ledger opened for reading, as [`verify`](crate::verify) reads it.
pub enum Opened {
    /// It can be read, as far as one knows yet.
    Readable {
        /// The reader.
        copy: Copy,
        /// Another, for another thread.
        second: Box<Copy>,
        /// The main file's header says WAL and there is none.
        wal_missing: bool,
        /// Keeps the private copy while it is read.
        folder: Option<TempDir>,
    },
    /// It is a ledger, and too damaged to be read at all.
    Damaged(String),
}

/// Bytes of SQLite's header that are looked at: journal mode at 18 and 19, application id at 68.
const HEADER_BYTES: usize = 72;

/// Opens a ledger.
///
/// # Errors
/// It cannot be read, or is no ledger of a format that this program knows. Damage is no error here.
///
/// # Panics
/// Never.
pub fn open(path: &Path) -> Result<Opened, Unusable> {
    let header = read_header(path).map_err(|e| Unusable::unreadable(path, e))?;
    let wal = beside(path, "-wal");
    // Two readers: one walks all events while the other looks single ones up.
    let twice = |open: fn(&Path) -> Result<Copy, CopyError>, path: &Path| Ok((open(path)?, open(path)?));
    let (opened, folder) = if wal.exists() {
        let folder = tempfile::tempdir().map_err(|e| Unusable::unreadable(path, e))?;
        let private = folder.path().join("ledger.sqlite3");
        std::fs::copy(path, &private).map_err(|e| Unusable::unreadable(path, e))?;
        std::fs::copy(&wal, beside(&private, "-wal")).map_err(|e| Unusable::unreadable(&wal, e))?;
        (twice(Copy::open_with_wal, &private), Some(folder))
    } else {
        (twice(Copy::open, path), None)
    };
    match opened {
        Ok((copy, second)) => {
            let wal_missing = folder.is_none() && header.get(18..20) == Some(&[2, 2]);
            Ok(Opened::Readable {
                copy,
                second: Box::new(second),
                wal_missing,
                folder,
            })
        }
        Err(error @ CopyError::NotALedger { .. }) => Err(Unusable::NotALedger(error.to_string())),
        Err(error @ CopyError::NewerLayout { .. }) => Err(Unusable::Newer(error.to_string())),
        Err(CopyError::Damaged(why)) => Ok(Opened::Damaged(why)),
        // What bears our id and cannot be opened is a damaged ledger; all else was never one.
        Err(CopyError::Unreadable(_, why)) if is_ours(&header) => Ok(Opened::Damaged(why)),
        Err(CopyError::Unreadable(_, why)) => Err(Unusable::unreadable(path, why)),
    }
}

fn is_ours(header: &[u8]) -> bool {
    let id = u32::try_from(APPLICATION_ID)
        .expect("the application id has 32 bits")
        .to_be_bytes();
    header.get(68..72) == Some(&id)
}

/// Reads the beginning of a text file. What is no text in it is no checkpoint or receipt; that is told as such.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, Unusable> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|e| Unusable::unreadable(path, e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_header(path: &Path) -> io::Result<Vec<u8>> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    let limit = u64::try_from(HEADER_BYTES).expect("a header is short");
    File::open(path)?.take(limit).read_to_end(&mut header)?;
    Ok(header)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
