//! Merchant instances and the key folder: the files `event.key`, `checkpoint.key` (`keyring.rs`), `instance-ID.key` and
//! `instance-ID.json` (name, settings and token hashes) under KEYS, a folder and files that only their owner reads. Never in the
//! ledger file; keys are never overwritten, and tokens change in `token_file.rs`.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quittance_events::seal::EventKey;
use quittance_events::{InstanceId, ledger};
use quittance_taler::{EddsaPrivateKey, base32};
use quittance_tlog::note::{KeyName, NoteSigner};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use crate::settings::Settings;
use crate::token::Token;

/// Longest key or token file that is read.
const KEY_FILE_MAX: u64 = 1024 * 1024;

/// A merchant instance as the service runs it.
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Signs permissions.
    pub merchant: Arc<EddsaPrivateKey>,
    /// Where wallets reach it.
    pub base_url: Url,
    /// For people.
    pub name: String,
    /// What it says of itself, and its orders' defaults.
    pub settings: Settings,
}

impl Instance {
    /// The merchant as contract terms show him.
    #[must_use]
    pub fn shown(&self) -> Value {
        self.settings.shown(&self.name)
    }
}

/// Where wallets reach an instance of a service.
///
/// # Panics
/// Never: an instance's id is a path segment.
#[must_use]
pub fn instance_url(service: &Url, id: &InstanceId) -> Url {
    if *id == InstanceId::root() {
        return service.clone();
    }
    service
        .join(&format!("instances/{id}/"))
        .expect("an instance id is a path segment")
}

/// An instance's file beside its key.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct InstanceFile {
    /// For people.
    pub name: String,
    /// Who may call its private endpoints.
    pub tokens: Vec<Token>,
    /// Tokens were changed since the instance was added: from then on the ledger tells of them.
    #[serde(default)]
    pub recorded: bool,
    /// The greatest serial that any token had.
    #[serde(default)]
    pub last_serial: u64,
    /// What it says of itself, and its orders' defaults.
    #[serde(default)]
    pub settings: Settings,
}

/// What is wrong with a key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file system's word.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{path} may be read by others (mode {mode:o}): `chmod 600` it, and think about who has")]
    Mode {
        /// Which file.
        path: PathBuf,
        /// As found.
        mode: u32,
    },
    /// Others may look into the key folder, or put files there.
    #[error("{path} is open to others (mode {mode:o}): `chmod 700` it, and think about who was there")]
    FolderMode {
        /// Which folder.
        path: PathBuf,
        /// As found.
        mode: u32,
    },
    /// Somebody else has been changing the tokens for too long.
    #[error("{0} is held by another program that changes tokens: try again")]
    Busy(PathBuf),
    /// Not a key.
    #[error("{path} is not {what}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
}

pub(crate) fn io_error(path: &Path) -> impl Fn(io::Error) -> KeyFileError {
    move |source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Replaces a file in one step, so that a crash leaves the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let fail = io_error(path);
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    write_new(&temporary, bytes)?;
    std::fs::rename(&temporary, path).map_err(&fail)?;
    // A revoked token must not come back with a power loss.
    keep_name(path)
}

/// Removes a file, if it is there, so that no power loss brings it back.
pub(crate) fn remove_file(path: &Path) -> Result<(), KeyFileError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io_error(path)(e)),
        Ok(()) => keep_name(path),
    }
}

/// Puts a file's new name on disk too, which its own flush does not promise.
fn keep_name(path: &Path) -> Result<(), KeyFileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // A bare name is one where we stand.
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error(folder))
}

/// Writes a new file that only its owner reads, whole or not at all; never over an existing one. Cut short or on a
/// full disk it leaves a file of another name, which the next try removes.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let fail = io_error(path);
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    match std::fs::remove_file(&part) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .map_err(&fail)?;
    file.write_all(bytes).map_err(&fail)?;
    file.sync_all().map_err(&fail)?;
    // A link and no renaming, which would go over an existing file.
    std::fs::hard_link(&part, path).map_err(&fail)?;
    std::fs::remove_file(&part).map_err(&fail)?;
    keep_name(path)
}

/// What only its owner may have.
fn check_mode(path: &Path, metadata: &Metadata) -> Result<(), KeyFileError> {
    let mode = metadata.permissions().mode() & 0o777;
    let path = path.to_owned();
    match (mode & 0o077, metadata.is_dir()) {
        (0, _) => Ok(()),
        (_, false) => Err(KeyFileError::Mode { path, mode }),
        (_, true) => Err(KeyFileError::FolderMode { path, mode }),
    }
}

pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let fail = io_error(path);
    let file = File::open(path).map_err(&fail)?;
    let metadata = file.metadata().map_err(&fail)?;
    check_mode(path, &metadata)?;
    // Room for all of it: a vector that grows leaves its bytes behind where it was.
    let room = usize::try_from(metadata.len().min(KEY_FILE_MAX)).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(KEY_FILE_MAX).read_to_end(&mut bytes).map_err(&fail)?;
    Ok(bytes)
}

/// Reads a private key: 32 raw bytes, or their base32.
///
/// # Errors
/// The file cannot be read, others may read it, or it holds no key.
pub fn read_key(path: &Path) -> Result<EddsaPrivateKey, KeyFileError> {
    let bytes = read_private(path)?;
    if let Ok(raw) = <[u8; 32]>::try_from(bytes.as_slice()) {
        return Ok(EddsaPrivateKey::from_bytes(raw));
    }
    let text = std::str::from_utf8(&bytes).ok().map(str::trim);
    text.and_then(|text| EddsaPrivateKey::from_base32(text).ok())
        .ok_or_else(|| KeyFileError::Content {
            path: path.to_owned(),
            what: "a key of 32 bytes or their base32",
        })
}

/// Makes a new key and writes it.
///
/// # Errors
/// The file exists or cannot be written.
///
/// # Panics
/// The system has no randomness.
pub fn make_key(path: &Path) -> Result<EddsaPrivateKey, KeyFileError> {
    let key = random_key();
    write_key(path, &key)?;
    Ok(key)
}

/// A new key.
pub(crate) fn random_key() -> EddsaPrivateKey {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut_slice()).expect("the system has randomness");
    EddsaPrivateKey::from_bytes(*secret)
}

fn write_key(path: &Path, key: &EddsaPrivateKey) -> Result<(), KeyFileError> {
    let text = Zeroizing::new(format!("{}\n", base32::encode(key.as_bytes())));
    write_new(path, text.as_bytes())
}

/// Reads a token's text from an operator's file.
///
/// # Errors
/// As [`read_key`].
pub fn read_token(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let bytes = read_private(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| KeyFileError::Content {
        path: path.to_owned(),
        what: "a token in UTF-8",
    })?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// The key folder.
#[derive(Clone)]
pub struct KeyFolder(pub PathBuf);

impl KeyFolder {
    /// Checks that nobody but the owner can look into the folder or at any key or instance in it.
    ///
    /// # Errors
    /// Others can, or it cannot be read.
    pub fn check_modes(&self) -> Result<(), KeyFileError> {
        let fail = io_error(&self.0);
        check_mode(&self.0, &std::fs::metadata(&self.0).map_err(&fail)?)?;
        for entry in std::fs::read_dir(&self.0).map_err(&fail)? {
            let path = entry.map_err(&fail)?.path();
            if !path
                .extension()
                .is_some_and(|kind| kind == "key" || kind == "json")
            {
                continue;
            }
            match std::fs::metadata(&path) {
                Ok(metadata) => check_mode(&path, &metadata)?,
                // It was renamed meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(io_error(&path)(e)),
            }
        }
        Ok(())
    }

    fn key_path(&self, id: &InstanceId) -> PathBuf {
        self.0.join(format!("instance-{id}.key"))
    }

    pub(crate) fn file_path(&self, id: &InstanceId) -> PathBuf {
        self.0.join(format!("instance-{id}.json"))
    }

    /// Makes the ledger's two keys.
    ///
    /// # Errors
    /// They exist or cannot be written.
    pub fn make_ledger_keys(&self, origin: &KeyName) -> Result<ledger::Keys, KeyFileError> {
        let event = make_key(&self.0.join("event.key"))?;
        let checkpoint = make_key(&self.0.join("checkpoint.key"))?;
        Ok(ledger_keys(event, &checkpoint, origin))
    }

    /// The key that an instance has from an earlier life, or from an `instance add` that was cut short.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn earlier_key(&self, id: &InstanceId) -> Result<Option<EddsaPrivateKey>, KeyFileError> {
        let path = self.key_path(id);
        if path.exists() {
            read_key(&path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Writes an instance's key, never over another one, and its file.
    ///
    /// # Errors
    /// Another key is there, or a file cannot be written.
    pub fn write_instance(
        &self,
        id: &InstanceId,
        key: &EddsaPrivateKey,
        file: &InstanceFile,
    ) -> Result<(), KeyFileError> {
        match self.earlier_key(id)? {
            None => write_key(&self.key_path(id), key)?,
            Some(earlier) if earlier.as_bytes() == key.as_bytes() => {}
            Some(_) => {
                return Err(KeyFileError::Content {
                    path: self.key_path(id),
                    what: "the key that was given",
                });
            }
        }
        let _lock = self.lock_tokens()?;
        self.write_file(id, file)
    }

    /// Reads an instance's key and file.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn read_instance(&self, id: &InstanceId) -> Result<(EddsaPrivateKey, InstanceFile), KeyFileError> {
        Ok((read_key(&self.key_path(id))?, self.read_file(id)?))
    }
}

fn ledger_keys(event: EddsaPrivateKey, checkpoint: &EddsaPrivateKey, origin: &KeyName) -> ledger::Keys {
    ledger::Keys {
        event: EventKey::new(event),
        checkpoint: NoteSigner::new(origin.clone(), checkpoint.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_new_file_is_there_whole_or_not_at_all_and_never_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        // As a full disk or a kill in the middle left it.
        std::fs::write(folder.path().join("a.key.part"), "hal").unwrap();
        write_new(&path, b"whole").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        write_new(&path, b"other").unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
