//! Who may call the private endpoints of a running service. The files under KEYS say which tokens an instance has; they
//! may be changed while the service runs, by its own endpoints and by `quittance token`, and every request looks
//! whether they were. From the first such change on the ledger tells of an instance's tokens: a token is taken only
//! once its `token_added` is recorded, and one that the ledger says was revoked is never taken again, whatever a file
//! that was put back says.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use quittance_events::facts::{TokenAdded, TokenRevoked, TokenScope};
use quittance_events::{Append, AppendError, InstanceId, Ledger, NewEvent, Stream, TokenId};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::instance::{InstanceFile, KeyFileError, KeyFolder, io_error};
use crate::limits::TOKENS_MAX;
use crate::token::{self, Grant, Token, TokenError};
use crate::token_file::{ChangeError, Stamp};

/// Who bears a token that is known.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// The token.
    pub token: Token,
    /// It is a file that the configuration names, and for every instance.
    pub is_configured: bool,
}

impl Bearer {
    /// Whether the token's scope has this one in it. The ledger's entries tell of all instances, so that nothing but
    /// `audit` opens them among an instance's tokens.
    #[must_use]
    pub fn may(&self, scope: TokenScope) -> bool {
        let own = self.token.grant.scope;
        own == scope || own == TokenScope::All && (self.is_configured || scope != TokenScope::Audit)
    }
}

/// Why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The tokens' own rules, or their files.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The ledger did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A token that is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A task ended in a panic.
    #[error("the task that changes tokens failed")]
    Task,
}

/// An instance's tokens as the service knows them.
#[derive(Default)]
struct Known {
    /// The state of the file that was read last; none where it must be read again.
    stamp: Option<Stamp>,
    tokens: Arc<[Token]>,
    /// A file that could not be read is told of once.
    told: Option<Stamp>,
}

type Keeper = RwLock<Known>;

/// All tokens of a service.
pub struct Access {
    folder: KeyFolder,
    ledger: Arc<Ledger>,
    clock: Clock,
    /// Those of files that the configuration names.
    configured: Vec<Token>,
    instances: RwLock<BTreeMap<InstanceId, Arc<Keeper>>>,
    /// Whoever compares files and ledger, or changes them, is alone with them.
    change: tokio::sync::Mutex<()>,
}

fn added(token: &Token, by: Option<&TokenId>) -> TokenAdded {
    let Grant {
        scope,
        expire_s,
        refreshable,
    } = token.grant;
    TokenAdded {
        token: token.id.clone(),
        scope,
        expire_s,
        refreshable,
        by: by.cloned(),
    }
}

fn is_as_recorded(token: &Token, recorded: &TokenAdded) -> bool {
    let by = recorded.by.as_ref();
    added(token, by) == *recorded
}

impl Access {
    /// Reads the tokens of all instances.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn open(
        folder: KeyFolder,
        ledger: Arc<Ledger>,
        clock: Clock,
        configured: Vec<Token>,
        instances: impl Iterator<Item = InstanceId>,
    ) -> Result<Access, KeyFileError> {
        let access = Access {
            folder,
            ledger,
            clock,
            configured,
            instances: RwLock::default(),
            change: tokio::sync::Mutex::default(),
        };
        for id in instances {
            access.open_door(&id).await?;
        }
        if access.ledger.book().tokens(None).is_some()
            && let Err(error) = access.record_differences(None, &access.configured).await
        {
            tracing::error!(%error, "a change of the configured tokens was not recorded");
        }
        Ok(access)
    }

    /// Reads the tokens of an instance that was opened, and takes them from here on.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub async fn open_door(&self, id: &InstanceId) -> Result<(), KeyFileError> {
        let keeper = Arc::new(Keeper::default());
        self.read(id, &keeper).await?;
        let mut instances = self.instances.write().unwrap_or_else(PoisonError::into_inner);
        instances.insert(id.clone(), keeper);
        Ok(())
    }

    /// Takes none of an instance's tokens any more: it was closed.
    pub fn close_door(&self, id: &InstanceId) {
        let mut instances = self.instances.write().unwrap_or_else(PoisonError::into_inner);
        instances.remove(id);
    }

    fn keeper(&self, id: &InstanceId) -> Option<Arc<Keeper>> {
        let instances = self.instances.read().unwrap_or_else(PoisonError::into_inner);
        instances.get(id).cloned()
    }

    /// Which token this is among those of the instance, if it is named and open, and those of the configuration.
    pub async fn find(&self, instance: Option<&InstanceId>, text: &str) -> Option<Bearer> {
        let tokens = match instance {
            Some(id) => self.tokens(id).await,
            None => Arc::default(),
        };
        let found = token::find(tokens.iter().chain(&self.configured), text)?;
        Some(Bearer {
            token: found.clone(),
            is_configured: self.configured.iter().any(|token| std::ptr::eq(token, found)),
        })
    }

    /// The instance's tokens as of now, expired ones too; none where it is not open.
    pub async fn tokens(&self, id: &InstanceId) -> Arc<[Token]> {
        let Some(keeper) = &self.keeper(id) else {
            return Arc::default();
        };
        if let Some(tokens) = self.unchanged(id, keeper) {
            return tokens;
        }
        let _alone = self.change.lock().await;
        self.follow(id, keeper).await;
        Arc::clone(&known(keeper).tokens)
    }

    /// Makes a token of an instance that is open; gives its text, which is kept nowhere.
    ///
    /// # Errors
    /// See [`AccessError`]; the token is not taken then.
    pub async fn make(
        &self,
        id: &InstanceId,
        grant: Grant,
        description: String,
        by: &TokenId,
    ) -> Result<(Zeroizing<String>, Token), AccessError> {
        let keeper = &self.keeper(id).ok_or(ChangeError::Unknown)?;
        let _alone = self.change.lock().await;
        self.follow(id, keeper).await;
        let now = (self.clock)();
        let tokens = Arc::clone(&known(keeper).tokens);
        // Before anything is recorded; the file itself is asked again when the token gets its place.
        if tokens.iter().filter(|token| !token.is_expired(now)).count() >= TOKENS_MAX {
            return Err(ChangeError::Full.into());
        }
        let (text, mut token) = Token::generate();
        token.grant = grant;
        token.created_s = Some(now.floor_s());
        token.description = description;
        self.record_all(id, &tokens).await?;
        self.record(Some(id), vec![NewEvent::bare(added(&token, Some(by)))])
            .await?;
        let kept = token.clone();
        let written = self.change(id, move |file| file.add(kept, now)).await;
        // Where the file did not take it, this finds it recorded and not there, and records that it is no more.
        known_mut(keeper).stamp = None;
        self.follow(id, keeper).await;
        written?;
        Ok((text, token))
    }

    /// Takes a token from an instance: it is not taken any more when this returns.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn revoke(&self, id: &InstanceId, token: &TokenId, by: &TokenId) -> Result<(), AccessError> {
        let keeper = &self.keeper(id).ok_or(ChangeError::Unknown)?;
        let _alone = self.change.lock().await;
        self.follow(id, keeper).await;
        let tokens = Arc::clone(&known(keeper).tokens);
        if tokens.iter().all(|known| known.id != *token) {
            return Err(ChangeError::Unknown.into());
        }
        let facts = TokenRevoked {
            token: token.clone(),
            by: Some(by.clone()),
        };
        let recorded = match self.record_all(id, &tokens).await {
            Ok(()) => self.record(Some(id), vec![NewEvent::bare(facts)]).await,
            Err(error) => Err(error),
        };
        let gone = token.clone();
        let written = self.change(id, move |file| file.remove(&gone)).await;
        match (recorded, written) {
            // It may have been taken from the file by a command just now.
            (_, Ok(()) | Err(AccessError::Change(ChangeError::Unknown))) => {}
            (Ok(()), Err(error)) => {
                tracing::error!(%error, "a revoked token is still in its file; the ledger says that it is not taken");
            }
            (Err(_), Err(error)) => return Err(error),
        }
        // A ledger that fails must not keep a lost token alive: it tells of it as soon as it can.
        *known_mut(keeper) = Known {
            tokens: tokens
                .iter()
                .filter(|known| known.id != *token)
                .cloned()
                .collect(),
            ..Known::default()
        };
        self.follow(id, keeper).await;
        Ok(())
    }

    /// Takes this token in the place of the one that the instance was opened with or that was set last; none: nobody has
    /// such a token any more. The others stay.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn set_auth(
        &self,
        id: &InstanceId,
        text: Option<Zeroizing<String>>,
        by: &TokenId,
    ) -> Result<(), AccessError> {
        let keeper = &self.keeper(id).ok_or(ChangeError::Unknown)?;
        let _alone = self.change.lock().await;
        self.follow(id, keeper).await;
        let now = (self.clock)();
        let tokens = Arc::clone(&known(keeper).tokens);
        let (set, left): (Vec<Token>, Vec<Token>) = tokens.iter().cloned().partition(|token| token.is_auth);
        let is_set = match (&text, &set[..]) {
            (Some(text), [set]) => set.is(text),
            (None, []) => true,
            _ => false,
        };
        if is_set {
            return Ok(());
        }
        if text.is_some() && left.iter().filter(|token| !token.is_expired(now)).count() >= TOKENS_MAX {
            return Err(ChangeError::Full.into());
        }
        let new = match &text {
            Some(text) => {
                let mut token = Token::keep(text)?;
                token.created_s = Some(now.floor_s());
                token.is_auth = true;
                Some(token)
            }
            None => None,
        };
        self.record_all(id, &tokens).await?;
        let gone = set.iter().map(|token| {
            NewEvent::bare(TokenRevoked {
                token: token.id.clone(),
                by: Some(by.clone()),
            })
        });
        let new_event = new.iter().map(|token| NewEvent::bare(added(token, Some(by))));
        self.record(Some(id), gone.chain(new_event).collect()).await?;
        let written = self.change(id, move |file| {
            file.tokens.retain(|token| !token.is_auth);
            new.map_or(Ok(()), |token| file.add(token, now))
        });
        let written = written.await;
        // Recorded as revoked, they are not taken, whatever became of the file.
        *known_mut(keeper) = Known {
            tokens: left.into(),
            ..Known::default()
        };
        self.follow(id, keeper).await;
        written
    }

    fn unchanged(&self, id: &InstanceId, keeper: &Keeper) -> Option<Arc<[Token]>> {
        let now = self.folder.stamp(id).ok();
        let known = known(keeper);
        (now.is_some() && known.stamp == now).then(|| Arc::clone(&known.tokens))
    }

    /// Takes up what changed in the file. A file that cannot be read changes nothing.
    async fn follow(&self, id: &InstanceId, keeper: &Keeper) {
        if self.unchanged(id, keeper).is_some() {
            return;
        }
        if let Err(error) = self.read(id, keeper).await {
            let stamp = self.folder.stamp(id).ok();
            let mut known = known_mut(keeper);
            if known.told != stamp || stamp.is_none() {
                tracing::error!(instance = %id, %error, "tokens could not be read again; those read before are taken");
            }
            known.told = stamp;
        }
    }

    /// Reads the file and brings the ledger up to it.
    async fn read(&self, id: &InstanceId, keeper: &Keeper) -> Result<(), KeyFileError> {
        let (folder, of) = (self.folder.clone(), id.clone());
        let read = tokio::task::spawn_blocking(move || {
            // The stamp first: a change after it is seen the next time.
            let stamp = folder.stamp(&of).map_err(io_error(&folder.file_path(&of)))?;
            Ok::<_, KeyFileError>((stamp, folder.read_file(&of)?))
        });
        let (stamp, file) = read
            .await
            .map_err(|e| io_error(&self.folder.file_path(id))(io::Error::other(e)))??;
        let mut tokens = file.tokens;
        let mut stamp = Some(stamp);
        if file.recorded || self.ledger.book().tokens(Some(id)).is_some() {
            if let Some(recorded) = self.ledger.book().tokens(Some(id)) {
                tokens.retain(|token| !recorded.revoked.contains(&token.id));
            }
            if let Err(error) = self.record_all(id, &tokens).await {
                tracing::error!(instance = %id, %error, "a change of tokens was not recorded; new ones are not taken until it is");
                let before = Arc::clone(&known(keeper).tokens);
                let book = self.ledger.book();
                tokens.retain(|token| match book.tokens(Some(id)) {
                    Some(recorded) => recorded.live.contains_key(&token.id),
                    None => before.iter().any(|known| known.id == token.id),
                });
                stamp = None;
            }
        }
        *known_mut(keeper) = Known {
            stamp,
            tokens: tokens.into(),
            told: None,
        };
        Ok(())
    }

    /// Brings the ledger up to these tokens of an instance: those that it does not know are added, those that are gone
    /// before their time are revoked.
    async fn record_all(&self, id: &InstanceId, tokens: &[Token]) -> Result<(), AppendError> {
        // Before the instance's own: from its first record on, an auditor looks for every token behind its events.
        self.record_differences(None, &self.configured).await?;
        self.record_differences(Some(id), tokens).await
    }

    async fn record_differences(&self, id: Option<&InstanceId>, tokens: &[Token]) -> Result<(), AppendError> {
        let book = self.ledger.book();
        let now = (self.clock)();
        let live = book.tokens(id).map(|recorded| &recorded.live);
        let is_recorded = |token: &Token| {
            live.and_then(|live| live.get(&token.id))
                .is_some_and(|recorded| is_as_recorded(token, recorded))
        };
        let new = tokens
            .iter()
            .filter(|token| !is_recorded(token) && !token.is_expired(now))
            .map(|token| NewEvent::bare(added(token, None)));
        let gone = live
            .into_iter()
            .flatten()
            .filter(|(id, recorded)| {
                tokens.iter().all(|token| token.id != **id) && !now.is_past(recorded.expire_s)
            })
            .map(|(id, _)| {
                NewEvent::bare(TokenRevoked {
                    token: id.clone(),
                    by: None,
                })
            });
        self.record(id, gone.chain(new).collect()).await
    }

    async fn record(&self, instance: Option<&InstanceId>, events: Vec<NewEvent>) -> Result<(), AppendError> {
        if events.is_empty() {
            return Ok(());
        }
        let append = Append {
            stream: Stream::Ledger(instance.cloned()),
            at: (self.clock)(),
            events,
        };
        self.ledger.append(append).await.map(|_| ())
    }

    async fn change(
        &self,
        id: &InstanceId,
        change: impl FnOnce(&mut InstanceFile) -> Result<(), ChangeError> + Send + 'static,
    ) -> Result<(), AccessError> {
        let (folder, id) = (self.folder.clone(), id.clone());
        let changed = tokio::task::spawn_blocking(move || folder.change_tokens(&id, change)).await;
        Ok(changed.map_err(|_| AccessError::Task)??)
    }
}

fn known(keeper: &Keeper) -> RwLockReadGuard<'_, Known> {
    // Each change of it is whole before anything can panic.
    keeper.read().unwrap_or_else(PoisonError::into_inner)
}

fn known_mut(keeper: &Keeper) -> RwLockWriteGuard<'_, Known> {
    keeper.write().unwrap_or_else(PoisonError::into_inner)
}
