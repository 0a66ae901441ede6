//! An instance's tokens in its file under KEYS, which a running service and `quittance token` may change at the same
//! time: each change reads the file anew and replaces it whole while it holds the lock of the folder, so that none is
//! lost. The file says which tokens there are, the ledger says since when and by whom (`access.rs`). Texts of tokens
//! are never written.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use quittance_events::{InstanceId, TokenId};
use quittance_taler::Micros;

use crate::instance::{InstanceFile, KeyFileError, KeyFolder, io_error, read_private, replace};
use crate::limits::{TOKEN_DESCRIPTION_MAX, TOKENS_LOCK_TIME, TOKENS_MAX};
use crate::token::Token;

/// Between two tries at the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Why tokens were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The files.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// No place for another.
    #[error("the instance has {TOKENS_MAX} tokens that are not expired, which is the most: revoke one first")]
    Full,
    /// Too long a word for people.
    #[error("a description has at most {TOKEN_DESCRIPTION_MAX} bytes and no control characters")]
    Description,
    /// Nothing to revoke.
    #[error("the instance has no such token")]
    Unknown,
}

/// Which state of the file was read: another file, or a changed one, has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Whether it may stand beside a token.
///
/// # Errors
/// It is too long, or would spoil a list on a terminal.
pub fn check_description(text: &str) -> Result<(), ChangeError> {
    if text.len() > TOKEN_DESCRIPTION_MAX || text.contains(char::is_control) {
        return Err(ChangeError::Description);
    }
    Ok(())
}

impl InstanceFile {
    /// Gives a token its place.
    ///
    /// # Errors
    /// There is none left.
    pub fn add(&mut self, mut token: Token, now: Micros) -> Result<(), ChangeError> {
        check_description(&token.description)?;
        if self.tokens.len() >= TOKENS_MAX {
            // Expired ones are kept so that who bears one is told so, as long as nobody needs their place.
            self.tokens.retain(|token| !token.is_expired(now));
        }
        if self.tokens.len() >= TOKENS_MAX {
            return Err(ChangeError::Full);
        }
        self.last_serial += 1;
        token.serial = self.last_serial;
        self.tokens.push(token);
        Ok(())
    }

    /// Takes a token away.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove(&mut self, id: &TokenId) -> Result<(), ChangeError> {
        let before = self.tokens.len();
        self.tokens.retain(|token| token.id != *id);
        if self.tokens.len() == before {
            return Err(ChangeError::Unknown);
        }
        Ok(())
    }
}

impl KeyFolder {
    /// Changes an instance's tokens. When this returns, the change is on disk.
    ///
    /// # Errors
    /// `change` refuses, or a file cannot be read, locked or written; then nothing is changed.
    pub fn change_tokens(
        &self,
        id: &InstanceId,
        change: impl FnOnce(&mut InstanceFile) -> Result<(), ChangeError>,
    ) -> Result<(), ChangeError> {
        self.change_file(id, |file| {
            change(file)?;
            file.recorded = true;
            Ok(())
        })
    }

    /// Changes what an instance's file says, its tokens or not. When this returns, the change is on disk.
    ///
    /// # Errors
    /// As [`KeyFolder::change_tokens`].
    pub fn change_file(
        &self,
        id: &InstanceId,
        change: impl FnOnce(&mut InstanceFile) -> Result<(), ChangeError>,
    ) -> Result<(), ChangeError> {
        let _lock = self.lock_tokens()?;
        let mut file = self.read_file(id)?;
        change(&mut file)?;
        Ok(self.write_file(id, &file)?)
    }

    /// Reads an instance's file.
    ///
    /// # Errors
    /// It cannot be read, others may read it, or it is something else.
    pub fn read_file(&self, id: &InstanceId) -> Result<InstanceFile, KeyFileError> {
        let path = self.file_path(id);
        let file = serde_json::from_slice(&read_private(&path)?);
        let mut file: InstanceFile = file.map_err(|_| KeyFileError::Content {
            path,
            what: "an instance's name and tokens",
        })?;
        // Tokens from before they had serials, in the order in which they stand.
        for token in file.tokens.iter_mut().filter(|token| token.serial == 0) {
            file.last_serial += 1;
            token.serial = file.last_serial;
        }
        Ok(file)
    }

    /// Writes an instance's file; the caller holds the lock.
    pub(crate) fn write_file(&self, id: &InstanceId, file: &InstanceFile) -> Result<(), KeyFileError> {
        let json = serde_json::to_vec_pretty(file).expect("an instance's file is plain JSON");
        replace(&self.file_path(id), &json)
    }

    /// Which state of an instance's file is there now.
    pub(crate) fn stamp(&self, id: &InstanceId) -> io::Result<Stamp> {
        let metadata = std::fs::metadata(self.file_path(id))?;
        Ok(Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Holds off everybody else who changes tokens until the folder that this gives is closed.
    pub(crate) fn lock_tokens(&self) -> Result<File, KeyFileError> {
        let (path, fail) = (self.0.clone(), io_error(&self.0));
        let folder = File::open(&path).map_err(&fail)?;
        let until = Instant::now() + TOKENS_LOCK_TIME;
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(folder),
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::WouldBlock) => return Err(KeyFileError::Busy(path)),
                Err(TryLockError::Error(e)) => return Err(fail(e)),
            }
        }
    }
}
