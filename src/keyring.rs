//! The ledger's own keys under KEYS, over rotations: `event.key` and `checkpoint.key` are in force; `event-new.key` is
//! made before the event that names it, and takes its place after; `event-before-N.key` is the one that event N
//! replaced. A crash between any two of these steps leaves a folder in which the key in force is found, by what the
//! ledger says and not by a file's name. Never overwrites or deletes a key.

use std::fs::File;
use std::path::{Path, PathBuf};

use quittance_events::facts::KeyRole;
use quittance_events::keys::{KeyHistory, KeyRing};
use quittance_events::seal::EventKey;
use quittance_taler::{Digest32, EddsaPrivateKey};
use quittance_tlog::note::{KeyName, NoteSigner};

use crate::instance::{KeyFileError, KeyFolder, io_error, make_key, read_key};

/// Both roles, in the order in which they are rotated.
pub const ROLES: [KeyRole; 2] = [KeyRole::Event, KeyRole::Checkpoint];

impl KeyFolder {
    fn in_force(&self, role: KeyRole) -> PathBuf {
        self.0.join(format!("{}.key", role.as_str()))
    }

    fn new_path(&self, role: KeyRole) -> PathBuf {
        self.0.join(format!("{}-new.key", role.as_str()))
    }

    /// Reads every key of the ledger that is at hand.
    ///
    /// # Errors
    /// A file cannot be read, or there is no key at all of a role that is not among those that `may_be_lost`.
    pub fn read_ring(&self, origin: &KeyName, may_be_lost: &[KeyRole]) -> Result<KeyRing, KeyFileError> {
        let event = self.read_role(KeyRole::Event, may_be_lost)?;
        let checkpoint = self.read_role(KeyRole::Checkpoint, may_be_lost)?;
        let signer = |key: EddsaPrivateKey| NoteSigner::new(origin.clone(), key.as_bytes());
        Ok(KeyRing {
            origin: origin.clone(),
            event: event.into_iter().map(EventKey::new).collect(),
            checkpoint: checkpoint.into_iter().map(signer).collect(),
        })
    }

    fn read_role(
        &self,
        role: KeyRole,
        may_be_lost: &[KeyRole],
    ) -> Result<Vec<EddsaPrivateKey>, KeyFileError> {
        let (current, new) = (self.in_force(role), self.new_path(role));
        let mut keys = Vec::new();
        // Without either there is nothing to begin with: the first file's own error tells it best.
        if current.exists() || !(new.exists() || may_be_lost.contains(&role)) {
            keys.push(read_key(&current)?);
        }
        if new.exists() {
            keys.push(read_key(&new)?);
        }
        let before = format!("{}-before-", role.as_str());
        let fail = io_error(&self.0);
        for entry in std::fs::read_dir(&self.0).map_err(&fail)? {
            let entry = entry.map_err(&fail)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(&before) && name.ends_with(".key") {
                keys.push(read_key(&entry.path())?);
            }
        }
        Ok(keys)
    }

    /// Makes the key that is to follow the one in force, or takes up the one that an interrupted rotation left. It is on
    /// disk when this returns.
    ///
    /// # Errors
    /// The file cannot be read or written, or another key than the one in force stands in its place.
    pub fn new_key(&self, role: KeyRole, history: &KeyHistory) -> Result<EddsaPrivateKey, KeyFileError> {
        let (current, path) = (self.in_force(role), self.new_path(role));
        if let (true, Some(now)) = (current.exists(), history.now(role)) {
            expect(&current, &now.key)?;
        }
        if path.exists() {
            return read_key(&path);
        }
        // Under another name first: a key file is whole or not there. A half-written one was never a key.
        let half = path.with_extension("half");
        match std::fs::remove_file(&half) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io_error(&half)(e)),
            _ => {}
        }
        let key = make_key(&half)?;
        rename(&half, &path)?;
        self.sync()?;
        Ok(key)
    }

    /// Gives the files the names that the ledger's events imply: after a rotation, and after one that was cut short
    /// when its event was recorded already.
    ///
    /// # Errors
    /// A file cannot be read or renamed, or one is there that is no key of this ledger.
    pub fn settle(&self, history: &KeyHistory) -> Result<(), KeyFileError> {
        for role in ROLES {
            let (current, new) = (self.in_force(role), self.new_path(role));
            let [.., before, now] = history.of(role) else {
                continue;
            };
            if !new.exists() || !is(&new, &now.key)? {
                continue;
            }
            if current.exists() {
                expect(&current, &before.key)?;
                let name = format!("{}-before-{}.key", role.as_str(), now.from);
                rename(&current, &self.0.join(name))?;
            }
            rename(&new, &current)?;
            self.sync()?;
        }
        Ok(())
    }

    /// A new or renamed file must survive a power loss by its name too.
    fn sync(&self) -> Result<(), KeyFileError> {
        File::open(&self.0)
            .and_then(|folder| folder.sync_all())
            .map_err(io_error(&self.0))
    }
}

fn is(path: &Path, key: &Digest32) -> Result<bool, KeyFileError> {
    Ok(read_key(path)?.public_bytes() == *key.as_bytes())
}

fn expect(path: &Path, key: &Digest32) -> Result<(), KeyFileError> {
    if is(path, key)? {
        return Ok(());
    }
    Err(KeyFileError::Content {
        path: path.to_owned(),
        what: "the key that the ledger names in its place; move it away",
    })
}

/// Never over another file. Whoever holds the ledger's lock is alone with these.
fn rename(from: &Path, to: &Path) -> Result<(), KeyFileError> {
    if to.exists() {
        return Err(io_error(to)(std::io::ErrorKind::AlreadyExists.into()));
    }
    std::fs::rename(from, to).map_err(io_error(from))
}
