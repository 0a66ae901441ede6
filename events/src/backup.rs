//! Copies a ledger file while it is being served: SQLite's own backup, in one read transaction, so that the copy ends
//! at one commit, however many follow it. Takes no lock that a writer would feel and changes nothing of the original.
//! The copy is evidence and the beginning of a successor; it is never served from (`docs/operating.md`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use quittance_tlog::{Checkpoint, Note};

use crate::schema::{self, ConnectError};
use crate::store::{self, StoreError};

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// Events in the copy.
    pub events: u64,
    /// The file beside it: the copy's last checkpoint, which serves as its anchor.
    pub checkpoint: PathBuf,
    /// Events that the checkpoint covers.
    pub covered: u64,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No such ledger.
    #[error("there is no ledger at {0}")]
    Missing(PathBuf),
    /// A file, but not a ledger of this layout.
    #[error("{0} is not a ledger of this layout")]
    NotALedger(PathBuf),
    /// Backups never overwrite.
    #[error("{0} exists already; a backup overwrites nothing")]
    Exists(PathBuf),
    /// A file or folder.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// The ledger could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// SQLite did not copy it in one go.
    #[error("SQLite did not finish the copy: {0:?}")]
    Unfinished(StepResult),
}

impl From<rusqlite::Error> for BackupError {
    fn from(error: rusqlite::Error) -> BackupError {
        BackupError::Store(error.into())
    }
}

impl From<ConnectError> for BackupError {
    fn from(error: ConnectError) -> BackupError {
        BackupError::Store(error.into())
    }
}

/// The path with this behind its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes a new file that only its owner reads.
pub(crate) fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Gives a finished file its name, never over another file, so that the name stands for a whole file or for none.
pub(crate) fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    File::open(temporary)?.sync_all()?;
    // A link is refused where a rename would overwrite.
    std::fs::hard_link(temporary, path)?;
    std::fs::remove_file(temporary)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Copies the ledger to `out`, and its last checkpoint to `out.checkpoint`. Both are on disk when this returns, and
/// `out` only appears once it is whole.
///
/// # Errors
/// There is no ledger, one of the files exists, or the file system or SQLite failed. What was begun is taken away.
pub fn backup(ledger: &Path, out: &Path) -> Result<BackedUp, BackupError> {
    if !ledger.exists() {
        return Err(BackupError::Missing(ledger.to_owned()));
    }
    let (temporary, checkpoint) = (beside(out, ".new"), beside(out, ".checkpoint"));
    for path in [out, checkpoint.as_path()] {
        if path.symlink_metadata().is_ok() {
            return Err(BackupError::Exists(path.to_owned()));
        }
    }
    new_file(&temporary).map_err(|e| at(&temporary)(e))?;
    let copied = copy(ledger, &temporary).and_then(|(events, note)| {
        let covered = covered(&note)?;
        let mut file = new_file(&checkpoint).map_err(at(&checkpoint))?;
        let written = file.write_all(note.as_bytes()).and_then(|()| file.sync_all());
        let published = written
            .map_err(at(&checkpoint))
            .and_then(|()| publish(&temporary, out).map_err(at(out)));
        if let Err(error) = published {
            take_away(&checkpoint);
            return Err(error);
        }
        let checkpoint = checkpoint.clone();
        Ok(BackedUp {
            events,
            checkpoint,
            covered,
        })
    });
    if copied.is_err() {
        take_away(&temporary);
    }
    copied
}

fn at(path: &Path) -> impl Fn(io::Error) -> BackupError {
    move |error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(path.to_owned()),
        _ => BackupError::Io(path.to_owned(), error),
    }
}

/// Removes what this very call has made. That it fails adds nothing to the error that is about to be told.
fn take_away(path: &Path) {
    let _ = std::fs::remove_file(path);
}

/// Events and last checkpoint of the copy.
fn copy(ledger: &Path, to: &Path) -> Result<(u64, String), BackupError> {
    let from = schema::open_reader(ledger)?;
    if schema::identity(&from)? != (schema::APPLICATION_ID, schema::USER_VERSION) {
        return Err(BackupError::NotALedger(ledger.to_owned()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(to, flags)?;
    // All pages in one step: one read transaction, which a commit by the service neither disturbs nor begins anew.
    match Backup::new(&from, &mut conn)?.step(-1)? {
        StepResult::Done => {}
        other => return Err(BackupError::Unfinished(other)),
    }
    drop(from);
    // One file, and one that says of itself that nothing belongs beside it.
    conn.pragma_update(None, "journal_mode", "DELETE")?;
    let head = store::read_head(&conn)?;
    let note = store::latest_checkpoint(&conn)?
        .ok_or_else(|| StoreError::Damaged("it holds no checkpoint".into()))?;
    conn.close().map_err(|(_, error)| error)?;
    Ok((head.size.get(), note))
}

/// The size that a checkpoint of our own speaks of.
fn covered(note: &str) -> Result<u64, BackupError> {
    let damaged = |e: &dyn std::fmt::Display| StoreError::Damaged(format!("its checkpoint: {e}"));
    let note = Note::parse(note).map_err(|e| damaged(&e))?;
    let checkpoint = Checkpoint::parse_text(note.text()).map_err(|e| damaged(&e))?;
    Ok(checkpoint.size)
}
