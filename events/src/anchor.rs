//! The anchor: the last signed checkpoint, kept outside the ledger file, and the lock that lets one process write.
//! A chain cannot tell that its end was cut off; the anchor can. It is only ever replaced by compare-and-swap, so
//! that a restored ledger or a second writer is noticed instead of overwriting what it contradicts.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest anchor that is read: a checkpoint with room for the signatures of many witnesses.
const ANCHOR_MAX: u64 = 64 * 1024;

/// Why the anchor was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// The file system's word.
    #[error("the anchor {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        source: io::Error,
    },
    /// Somebody else wrote it since: going on would hide a contradiction.
    #[error("the anchor {0} is not the one that this process wrote last")]
    Changed(PathBuf),
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> AnchorError {
    move |source| AnchorError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Reads the anchor; `None` where there is none.
///
/// # Errors
/// It exists and cannot be read.
pub fn read(path: &Path) -> Result<Option<String>, AnchorError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(path)(e)),
    };
    let mut text = String::new();
    file.take(ANCHOR_MAX)
        .read_to_string(&mut text)
        .map_err(io_error(path))?;
    Ok(Some(text))
}

/// Replaces the anchor if it still is `expected`. When this returns, the new one is on disk.
///
/// # Errors
/// It is another one by now, or the file system failed.
pub fn replace(path: &Path, expected: Option<&str>, new: &str) -> Result<(), AnchorError> {
    if read(path)?.as_deref() != expected {
        return Err(AnchorError::Changed(path.to_owned()));
    }
    write_over(path, new)
}

/// The anchor as the process that writes the ledger keeps it.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    /// What is on disk, as far as this process knows.
    text: String,
    /// What may be there instead: a replacement whose rename happened and whose flush then failed.
    tried: Option<String>,
}

impl Kept {
    pub(crate) fn new(path: PathBuf, text: String) -> Kept {
        let tried = None;
        Kept { path, text, tried }
    }

    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text
    }

    /// Replaces it, unless somebody else has. It can be tried again after an error, whether that came before or after
    /// the rename.
    ///
    /// # Errors
    /// As [`replace`].
    pub(crate) fn replace(&mut self, new: &str) -> Result<(), AnchorError> {
        match read(&self.path)? {
            Some(now) if now == self.text || Some(&now) == self.tried.as_ref() => self.text = now,
            _ => return Err(AnchorError::Changed(self.path.clone())),
        }
        self.tried = Some(new.to_owned());
        write_over(&self.path, new)?;
        self.text = self.tried.take().expect("it was just put there");
        Ok(())
    }
}

fn write_over(path: &Path, new: &str) -> Result<(), AnchorError> {
    let fail = io_error(path);
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(&fail)?;
    file.write_all(new.as_bytes()).map_err(&fail)?;
    file.sync_all().map_err(&fail)?;
    std::fs::rename(&temporary, path).map_err(&fail)?;
    // The rename itself must survive a power loss too.
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(&fail)
}

/// Why the ledger could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process writes this ledger.
    #[error("the ledger is in use by {holder}")]
    Held {
        /// What that process wrote about itself.
        holder: String,
    },
    /// The file system's word.
    #[error("the lock file {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        source: io::Error,
    },
}

/// Held by the one process that may write the ledger; the lock ends with it, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Said and not left to the closing of the file: a child process that is just being started holds it open, too.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the lock was not let go; it ends with this process");
        }
    }
}

/// Locks `LEDGER.lock`. `holder` tells a second process who holds it.
///
/// # Errors
/// Somebody holds it, or the file system failed.
pub fn lock(ledger: &Path, holder: &str) -> Result<Lock, LockError> {
    let mut path = ledger.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let fail = |source| LockError::Io {
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The holder's words are a courtesy; the lock is what counts.
            if (&file).take(200).read_to_string(&mut holder).is_err() || holder.trim().is_empty() {
                holder = "another process".into();
            }
            return Err(LockError::Held {
                holder: holder.trim().to_owned(),
            });
        }
        Err(std::fs::TryLockError::Error(e)) => return Err(fail(e)),
    }
    // The lock is what counts and is held by now: a full disk must not keep the service from starting.
    let named = file
        .set_len(0)
        .and_then(|()| writeln!(file, "process {} ({holder})", std::process::id()));
    if let Err(error) = named {
        tracing::warn!(%error, path = %path.display(), "the lock file does not tell who holds it");
    }
    Ok(Lock { file })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn the_anchor_is_swapped_only_from_what_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.anchor");
        replace(&path, None, "one\n").unwrap();
        replace(&path, Some("one\n"), "two\n").unwrap();
        assert!(matches!(
            replace(&path, Some("one\n"), "three\n"),
            Err(AnchorError::Changed(_))
        ));
        assert!(matches!(
            replace(&path, None, "three\n"),
            Err(AnchorError::Changed(_))
        ));
        assert_eq!(read(&path).unwrap().as_deref(), Some("two\n"));
    }

    #[test]
    fn an_anchor_that_was_renamed_and_not_flushed_is_still_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.anchor");
        replace(&path, None, "one\n").unwrap();
        let mut kept = Kept::new(path.clone(), "one\n".into());
        // The temporary file cannot be made: nothing happened.
        let blocker = dir.path().join("ledger.anchor.new");
        std::fs::create_dir(&blocker).unwrap();
        assert!(matches!(kept.replace("two\n"), Err(AnchorError::Io { .. })));
        assert!(kept.is("one\n"));
        // The same error, after the rename.
        std::fs::write(&path, "two\n").unwrap();
        std::fs::remove_dir(&blocker).unwrap();
        kept.replace("three\n").unwrap();
        assert!(kept.is("three\n"));
        // What was only tried and superseded is not ours any more.
        std::fs::write(&path, "two\n").unwrap();
        assert!(matches!(kept.replace("four\n"), Err(AnchorError::Changed(_))));
        assert_eq!(read(&path).unwrap().as_deref(), Some("two\n"));
    }

    #[test]
    fn the_second_process_is_told_who_holds_the_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.sqlite3");
        let first = lock(&ledger, "serve").unwrap();
        let Err(LockError::Held { holder }) = lock(&ledger, "clock-correct") else {
            panic!("locked twice")
        };
        assert_eq!(holder, format!("process {} (serve)", std::process::id()));
        drop(first);
        lock(&ledger, "clock-correct").unwrap();
    }
}
