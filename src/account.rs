//! Accounts of instances that exchanges wire to. The ledger tells which there are; payto URI and salt stand in the
//! attachment of an account's `account_added`, and an account that was closed is kept for the orders that name it.
//! Nothing here asks a bank whether an account exists.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use quittance_events::facts::{AccountAdded, AccountClosed};
use quittance_events::store::StoreError;
use quittance_events::{Append, AttachmentName, InstanceId, NewEvent, Seq, Stream, TokenId};
use quittance_taler::payto::PaytoUri;
use quittance_taler::{ErrorCode, HashCode, WireSalt, json};
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::limits::{ACCOUNTS_CACHED_MAX, ACCOUNTS_OPEN_MAX};
use crate::refusal::{Refusal, RequestError};
use crate::service::Service;

/// What an account's hash is made of: the attachment `account`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireAccount {
    /// The account, as it was written.
    pub payto_uri: PaytoUri,
    /// Keeps the hash from telling it.
    pub salt: WireSalt,
}

impl WireAccount {
    /// This account under a new salt.
    ///
    /// # Panics
    /// The system has no randomness.
    #[must_use]
    pub fn new(payto_uri: PaytoUri) -> WireAccount {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).expect("the system has randomness");
        WireAccount {
            payto_uri,
            salt: WireSalt::from_bytes(salt),
        }
    }

    /// What contracts and deposits name instead of the account.
    #[must_use]
    pub fn h_wire(&self) -> HashCode {
        self.payto_uri.h_wire(&self.salt)
    }

    /// The event that adds it.
    #[must_use]
    pub fn added(&self, by: Option<&TokenId>) -> NewEvent {
        let facts = AccountAdded {
            h_wire: self.h_wire(),
            wire_method: self.payto_uri.method(),
            by: by.cloned(),
        };
        let bytes = json::to_canonical(self).expect("an account is two texts");
        NewEvent::with(facts, AttachmentName::Account, bytes)
    }
}

/// What the service keeps of accounts beside the ledger.
#[derive(Default)]
pub struct Accounts {
    /// Those that were read, by the event that added them.
    read: Mutex<HashMap<Seq, Arc<WireAccount>>>,
    /// Whoever adds or closes one is alone with them.
    change: tokio::sync::Mutex<()>,
}

impl Service {
    /// Payto URI and salt of an instance's account, open or closed; `None` where it has none of that hash, or where
    /// its attachment was erased.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn account(
        &self,
        instance: &InstanceId,
        h_wire: &HashCode,
    ) -> Result<Option<Arc<WireAccount>>, RequestError> {
        let book = self.ledger.book();
        match book.account(instance, h_wire) {
            Some(account) => self.account_of(account.seq).await,
            None => Ok(None),
        }
    }

    /// As [`Service::account`], by the event that added it.
    ///
    /// # Errors
    /// As there.
    pub async fn account_of(&self, seq: Seq) -> Result<Option<Arc<WireAccount>>, RequestError> {
        let known = |read: &Mutex<HashMap<Seq, Arc<WireAccount>>>| {
            // Plain data, whole before anything can panic.
            let read = read.lock().unwrap_or_else(PoisonError::into_inner);
            read.get(&seq).cloned()
        };
        if let Some(account) = known(&self.accounts.read) {
            return Ok(Some(account));
        }
        let Some(bytes) = self.attachment(seq, AttachmentName::Account).await? else {
            return Ok(None);
        };
        let account: WireAccount = serde_json::from_slice(&bytes)
            .map_err(|e| StoreError::Damaged(format!("the account of event {seq}: {e}")))?;
        let account = Arc::new(account);
        let mut read = self.accounts.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.len() >= ACCOUNTS_CACHED_MAX {
            read.clear();
        }
        read.insert(seq, Arc::clone(&account));
        Ok(Some(account))
    }

    /// An attachment's bytes; `None` where there is none or they are erased.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub(crate) async fn attachment(
        &self,
        seq: Seq,
        name: AttachmentName,
    ) -> Result<Option<Vec<u8>>, RequestError> {
        // A thread that reads would come back at a moment of its own.
        #[cfg(feature = "simulation")]
        if self.ledger.is_stepped() {
            return Ok(self.ledger.attachment(seq, name)?);
        }
        let ledger = Arc::clone(&self.ledger);
        let read = tokio::task::spawn_blocking(move || ledger.attachment(seq, name)).await;
        Ok(read.map_err(|_| RequestError::Task)??)
    }

    /// Opens an account of an instance, where it is not open under the same payto URI.
    ///
    /// # Errors
    /// The instance has too many, or what kept it from being recorded.
    pub async fn add_account(
        &self,
        instance: &InstanceId,
        payto_uri: PaytoUri,
        by: &TokenId,
    ) -> Result<Arc<WireAccount>, RequestError> {
        let _alone = self.accounts.change.lock().await;
        let book = self.ledger.book();
        let mut open = 0;
        for account in book.accounts(instance).iter().filter(|account| account.open) {
            open += 1;
            if let Some(known) = self.account_of(account.seq).await?
                && known.payto_uri == payto_uri
            {
                return Ok(known);
            }
        }
        if open >= ACCOUNTS_OPEN_MAX {
            let why = format!("an instance has at most {ACCOUNTS_OPEN_MAX} accounts: close one first");
            return Err(Refusal::new(ErrorCode::GenericForbidden).detail(why).into());
        }
        let account = WireAccount::new(payto_uri);
        self.record_of(instance, account.added(Some(by))).await?;
        Ok(Arc::new(account))
    }

    /// Closes an account: no new order names it. Orders that do are paid and deposited all the same.
    ///
    /// # Errors
    /// The instance has no open account of that hash, or what kept it from being recorded.
    pub async fn close_account(
        &self,
        instance: &InstanceId,
        h_wire: &HashCode,
        by: &TokenId,
    ) -> Result<(), RequestError> {
        let _alone = self.accounts.change.lock().await;
        let book = self.ledger.book();
        if !book.account(instance, h_wire).is_some_and(|account| account.open) {
            return Err(Refusal::new(ErrorCode::MerchantGenericAccountUnknown).into());
        }
        let facts = AccountClosed {
            h_wire: *h_wire,
            by: Some(by.clone()),
        };
        self.record_of(instance, NewEvent::bare(facts)).await
    }

    /// Records an event of an instance that belongs to no order.
    pub(crate) async fn record_of(&self, instance: &InstanceId, event: NewEvent) -> Result<(), RequestError> {
        if disk::takes_on(&event.facts) && self.disk.is_low() {
            return Err(RequestError::DiskLow);
        }
        let append = Append {
            stream: Stream::Ledger(Some(instance.clone())),
            at: (self.clock)(),
            events: vec![event],
        };
        self.ledger.append(append).await?;
        Ok(())
    }
}
