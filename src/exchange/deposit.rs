//! Deposits at an exchange: what its `/keys` says of the coins that it takes, kept in memory beside the signing keys that
//! the ledger has, and what its reply to a batch proves. A deposit counts only with a confirmation under a key that the
//! exchange's master key signed and that was valid then: it is all that a merchant has if the exchange denies it.
//! Specification: Taler's exchange API, `GET /keys` and `POST /batch-deposit`, messages 1025, 1201 and 1033.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use quittance_events::Ledger;
use quittance_events::book::Book;
use quittance_events::facts::{DepositForm, DepositReplied, Failure};
use quittance_events::sale::Batch;
use quittance_taler::deposit::{DepositLayout, DepositReply, DepositTerms};
use quittance_taler::exchange_keys::{ExchangeKeys, KeysError};
use quittance_taler::{MasterPub, Micros};
use serde_json::Value;
use tokio::time::Instant;

use super::verdict::{error_code, is_claim, verdict_of};
use super::{Exchange, Exchanges, KeysFailure, Pass, Reply};
use crate::decide::coins::as_signed;
use crate::limits::{KEYS_LOOK_AGAIN_S, KEYS_RETRY_S, REPLY_MAX};
use crate::logs::Foreign;

/// What the last `/keys` said of coins.
#[derive(Clone)]
pub(super) struct Listed {
    /// When it was fetched.
    at: Micros,
    /// `None`: nothing that payments can use.
    keys: Option<Arc<ExchangeKeys>>,
}

impl Exchange {
    fn listed(&self) -> Option<Listed> {
        // Whole before anything can panic.
        self.listed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads what a `/keys` says of coins. One that says nothing usable is good enough for refunds all the same.
    pub(super) async fn list(&self, body: &[u8], now: Micros, ledger: &Ledger) {
        let read = read(body.to_vec(), self.config.master_key, ledger).await;
        let keys = match read {
            Ok(keys) => Some(Arc::new(keys)),
            Err(error) => {
                let (exchange, error) = (self.config.base_url.as_str(), error.to_string());
                tracing::warn!(exchange, error = %Foreign(&error), "no payment is possible with this /keys");
                None
            }
        };
        *self.listed.write().unwrap_or_else(PoisonError::into_inner) = Some(Listed { at: now, keys });
    }
}

/// Some hundred signatures are checked, which would hold up others on this thread.
#[cfg_attr(
    not(feature = "simulation"),
    expect(unused_variables, reason = "only a simulated ledger is stepped")
)]
async fn read(body: Vec<u8>, master: MasterPub, ledger: &Ledger) -> Result<ExchangeKeys, KeysError> {
    // Another thread would come back at a moment of its own.
    #[cfg(feature = "simulation")]
    if ledger.is_stepped() {
        return ExchangeKeys::read(&body, &master);
    }
    let task = tokio::task::spawn_blocking(move || ExchangeKeys::read(&body, &master));
    task.await.expect("reading keys does not panic")
}

impl Exchanges {
    /// What the exchange says of its coins. Fetched where it is not in memory; where it is old it is looked up anew in the
    /// background and nobody waits.
    ///
    /// # Errors
    /// It could not be had.
    pub async fn coins(self: &Arc<Self>, master: MasterPub) -> Result<Arc<ExchangeKeys>, KeysFailure> {
        let exchange = Arc::clone(self.by_master.get(&master).ok_or(KeysFailure::Failed)?);
        self.ready(master).await?;
        if let Some(Listed { at, keys }) = exchange.listed() {
            let now = (self.clock)();
            // An unusable one is not asked for again with every payment.
            let lately = at <= now && now < at.plus_s(KEYS_RETRY_S);
            match keys {
                Some(keys) => return Ok(keys),
                None if lately => return Err(KeysFailure::Failed),
                None => {}
            }
        }
        self.fetch(master, Instant::now(), true).await?;
        let listed = exchange.listed().and_then(|listed| listed.keys);
        listed.ok_or(KeysFailure::Failed)
    }

    /// Whether the exchange's coins were looked up anew, because of one that the keys in memory do not explain.
    pub async fn look_for_coin(self: &Arc<Self>, master: MasterPub) -> bool {
        let Some(listed) = self.by_master.get(&master).and_then(|exchange| exchange.listed()) else {
            return false;
        };
        let now = (self.clock)();
        if listed.at <= now && now < listed.at.plus_s(KEYS_LOOK_AGAIN_S) {
            return false;
        }
        self.look_again(master).await.is_ok()
    }

    /// Asks the exchange to take a batch of coins. One attempt, bounded in time and size; redirects are not followed.
    ///
    /// # Errors
    /// How it failed; whether the exchange took them is unknown then.
    pub async fn deposit(&self, pass: Pass, master: &MasterPub, request: &Value) -> Result<Reply, Failure> {
        let exchange = self.by_master.get(master).ok_or(Failure::Connect)?;
        let body = serde_json::to_vec(request).expect("a deposit request is plain JSON");
        let call = exchange.client.post("batch-deposit", body, REPLY_MAX);
        let began = Instant::now();
        let result = tokio::time::timeout(self.times.call, call).await;
        let result = result.unwrap_or(Err(Failure::Timeout));
        pass.ended(&result, (self.clock)());
        let took: Duration = began.elapsed();
        let url = exchange.config.base_url.as_str();
        let brought = match &result {
            Ok(reply) => Ok(reply.http_status),
            Err(failure) => Err(*failure),
        };
        tracing::debug!(exchange = url, ?brought, ?took, "asked an exchange for a deposit");
        self.metrics.called(url, brought, took);
        result
    }
}

/// The confirmation, where a reply has the form of one, under whatever status: nobody signs that.
#[must_use]
pub fn claimed(reply: &Reply) -> Option<DepositReply> {
    DepositReply::read(&reply.body).ok()
}

/// What the reply proves about the batch, as of `at`.
#[must_use]
pub fn judge(
    batch: &Batch,
    terms: &DepositTerms,
    attempt: u64,
    reply: &Reply,
    book: &Book,
    at: Micros,
) -> DepositReplied {
    let claimed = claimed(reply);
    let error_code = error_code(&reply.body);
    let is_proof = |reply: &DepositReply| {
        let layout = terms.confirmed_layout(&as_signed(&batch.coins), reply);
        layout.is_some_and(|layout| is_of(layout, batch.layout))
            && book.signkey_valid(&batch.exchange_master_pub, &reply.exchange_pub, at)
    };
    let is_proof = claimed.as_ref().is_some_and(is_proof);
    let verdict = verdict_of(reply.http_status, error_code, is_proof);
    let claimed = claimed.filter(|_| is_claim(reply.http_status, verdict));
    DepositReplied {
        batch: batch.seq,
        attempt,
        http_status: reply.http_status,
        error_code,
        exchange_pub: claimed.as_ref().map(|reply| reply.exchange_pub),
        exchange_timestamp_s: claimed.as_ref().map(|reply| reply.exchange_timestamp),
        verdict,
    }
}

fn is_of(layout: DepositLayout, form: DepositForm) -> bool {
    matches!(
        (layout, form),
        (DepositLayout::PerCoin, DepositForm::PerCoin) | (DepositLayout::PerBatch, DepositForm::PerBatch)
    )
}
