//! Exchanges: where they are, what they are asked, and how their signing keys are learnt. An exchange is its master
//! public key; it is called only at the address that the configuration gives for that key, whatever a wallet or
//! contract says. Nothing here records a reply or knows an order; settling does.
//! Specification: Taler's exchange API, `GET /keys` and `POST /coins/$COIN_PUB/refund`; deposits in `deposit.rs`.

pub mod deposit;
mod gate;
pub mod keys;
pub mod verdict;

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use quittance_events::book::Book;
use quittance_events::facts::Failure;
use quittance_events::{Append, AttachmentName, Ledger, NewEvent, Stream};
use quittance_taler::{Amount, CoinPub, EddsaSignature, HashCode, MasterPub, MerchantPub};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::client::Client;
pub use crate::client::{ClientError, Reply};
use crate::clock::Clock;
use crate::config::ExchangeConfig;
use crate::limits::{CALLS_PER_EXCHANGE_MAX, KEYS_FRESH_S, KEYS_MAX, KEYS_RETRY_S, PLACE_TIME, REPLY_MAX};
use crate::logs::Foreign;
use crate::metrics::Metrics;
use gate::Gate;
pub use gate::{Pass, Unsent};
use quittance_taler::Micros;

/// Why an exchange's signing keys could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysFailure {
    /// Not in time.
    Timeout,
    /// No connection, no `/keys`, or not those of the configured master key.
    Failed,
    /// The exchange gave them, and the ledger could not take them: no fault of the exchange's.
    Unrecorded,
}

/// The refund request as the exchange reads it.
#[derive(Debug, Clone, Serialize)]
pub struct RefundRequest {
    /// Refund fee included.
    pub refund_amount: Amount,
    /// Which contract.
    pub h_contract_terms: HashCode,
    /// Which of the coin's refunds.
    pub rtransaction_id: u64,
    /// Whose.
    pub merchant_pub: MerchantPub,
    /// Over all of it but the merchant's key.
    pub merchant_sig: EddsaSignature,
}

/// Longest times at an exchange, and the pause between requests to a witness. Tests shorten them.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// One refund call.
    pub call: Duration,
    /// One fetch of `/keys`.
    pub keys: Duration,
    /// All that one wallet request waits for.
    pub request: Duration,
    /// Pause between two requests to one witness.
    pub witness: Duration,
}

impl Default for Times {
    fn default() -> Times {
        use crate::limits::{CALL_TIME, KEYS_TIME, REQUEST_TIME, WITNESS_PAUSE};
        Times {
            call: CALL_TIME,
            keys: KEYS_TIME,
            request: REQUEST_TIME,
            witness: WITNESS_PAUSE,
        }
    }
}

struct Exchange {
    config: ExchangeConfig,
    client: Client,
    gate: Arc<Gate>,
    fetch: Mutex<Fetched>,
    listed: RwLock<Option<deposit::Listed>>,
}

/// The last fetch of `/keys` in this process.
#[derive(Default)]
struct Fetched {
    /// Ended at; a waiter that began before takes its result.
    ended: Option<Instant>,
    at: Option<Micros>,
    failure: Option<KeysFailure>,
}

/// All configured exchanges.
pub struct Exchanges {
    by_master: HashMap<MasterPub, Arc<Exchange>>,
    ledger: Arc<Ledger>,
    clock: Clock,
    times: Times,
    metrics: Arc<Metrics>,
}

impl Exchanges {
    /// Clients for the configured exchanges. Contacts none yet.
    ///
    /// # Errors
    /// An https exchange without root certificates: none on this machine, or none in the file that is configured.
    pub fn new(
        configs: &[ExchangeConfig],
        ledger: Arc<Ledger>,
        clock: Clock,
        times: Times,
        metrics: Arc<Metrics>,
    ) -> Result<Exchanges, ClientError> {
        let mut by_master = HashMap::new();
        for config in configs {
            let gate = Gate::new(config.base_url.as_str(), CALLS_PER_EXCHANGE_MAX, PLACE_TIME);
            let roots = config.tls_roots.as_ref();
            let exchange = Exchange {
                config: config.clone(),
                client: Client::new(&config.base_url, config.connect_to, "application/json", roots)?,
                gate: Arc::new(gate),
                fetch: Mutex::default(),
                listed: RwLock::default(),
            };
            by_master.insert(config.master_key, Arc::new(exchange));
        }
        Ok(Exchanges {
            by_master,
            ledger,
            clock,
            times,
            metrics,
        })
    }

    /// Has all exchanges called over a simulated network.
    ///
    /// # Panics
    /// They are in use already.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn over(mut self, wire: &Arc<dyn crate::client::Wire>) -> Exchanges {
        for exchange in self.by_master.values_mut() {
            let exchange = Arc::get_mut(exchange).expect("nobody uses it yet");
            exchange.client.wire = Some(Arc::clone(wire));
        }
        self
    }

    /// Whether the exchange may be used here.
    #[must_use]
    pub fn is_configured(&self, exchange: &MasterPub) -> bool {
        self.by_master.contains_key(exchange)
    }

    /// Each exchange's address, and whether calls to it are held back because it was down lately.
    #[must_use]
    pub fn held_back(&self) -> Vec<(String, bool)> {
        let exchanges = self.by_master.values();
        exchanges
            .map(|exchange| (exchange.config.base_url.to_string(), !exchange.gate.is_closed()))
            .collect()
    }

    /// Makes sure that the exchange's signing keys are in the ledger, so that a confirmation can be judged. Where
    /// they are, old ones are looked up anew in the background and nobody waits.
    ///
    /// # Errors
    /// They are not and could not be had.
    pub async fn ready(self: &Arc<Self>, master: MasterPub) -> Result<(), KeysFailure> {
        let exchange = Arc::clone(self.by_master.get(&master).ok_or(KeysFailure::Failed)?);
        let now = (self.clock)();
        if has_current_key(&self.ledger.book(), &master, now) {
            // Of one that is down nothing is asked that can wait.
            if exchange.gate.is_closed()
                && let Ok(fetched) = exchange.fetch.try_lock()
                && fetched
                    .at
                    .is_none_or(|at| now < at || at.plus_s(KEYS_FRESH_S) < now)
            {
                drop(fetched);
                let this = Arc::clone(self);
                let began = Instant::now();
                // It reports its own failure, and what is recorded stays good without it.
                tokio::spawn(async move { this.fetch(master, began, true).await });
            }
            return Ok(());
        }
        self.fetch(master, Instant::now(), true).await
    }

    /// Fetches `/keys` because a reply names a signing key that the ledger does not know.
    ///
    /// # Errors
    /// It could not be had.
    pub async fn look_again(&self, master: MasterPub) -> Result<(), KeysFailure> {
        self.fetch(master, Instant::now(), false).await
    }

    /// One fetch at a time; who waited for one that began after him takes its result.
    async fn fetch(&self, master: MasterPub, began: Instant, spare: bool) -> Result<(), KeysFailure> {
        let exchange = self.by_master.get(&master).ok_or(KeysFailure::Failed)?;
        let mut fetched = exchange.fetch.lock().await;
        let now = (self.clock)();
        let waited_for_it = fetched.ended.is_some_and(|ended| ended >= began);
        // A time to come is one of before the clock was set back, and says nothing of lately.
        let lately = fetched
            .at
            .is_some_and(|at| at <= now && now < at.plus_s(KEYS_RETRY_S));
        let failed_lately = spare && fetched.failure.is_some() && lately;
        if waited_for_it || failed_lately {
            return fetched.failure.map_or(Ok(()), Err);
        }
        // What was not sent is no failed fetch: it may be sent as soon as the way is free.
        let pass = exchange.gate.enter(now).await.map_err(|unsent| match unsent {
            Unsent::Down => KeysFailure::Failed,
            Unsent::Busy => KeysFailure::Timeout,
        })?;
        let result = self.fetch_and_record(exchange, pass, now).await;
        if result == Err(KeysFailure::Unrecorded) {
            // The exchange need not be spared for it: the next request tries again.
            return result;
        }
        *fetched = Fetched {
            ended: Some(Instant::now()),
            at: Some((self.clock)()),
            failure: result.err(),
        };
        result
    }

    async fn fetch_and_record(
        &self,
        exchange: &Exchange,
        pass: Pass,
        now: Micros,
    ) -> Result<(), KeysFailure> {
        let url = exchange.config.base_url.as_str();
        let call = exchange.client.get("keys", KEYS_MAX);
        let reply = tokio::time::timeout(self.times.keys, call).await;
        let reply = reply.unwrap_or(Err(Failure::Timeout));
        pass.ended(&reply, (self.clock)());
        let reply = match reply {
            Err(Failure::Timeout) => {
                self.metrics.fetched_keys(url, "timeout");
                tracing::warn!(exchange = url, "no /keys in time");
                return Err(KeysFailure::Timeout);
            }
            Err(failure) => {
                self.metrics.fetched_keys(url, "unreached");
                tracing::warn!(exchange = url, ?failure, "no /keys");
                return Err(KeysFailure::Failed);
            }
            Ok(reply) => reply,
        };
        let seen = match keys::read(&reply, &exchange.config) {
            Ok(seen) => seen,
            Err(error) => {
                self.metrics.fetched_keys(url, "unusable");
                let error = error.to_string();
                tracing::warn!(exchange = url, error = %Foreign(&error), "/keys is not usable");
                return Err(KeysFailure::Failed);
            }
        };
        exchange.list(&reply.body, now, &self.ledger).await;
        if self.ledger.book().latest_signkeys(&seen.master_pub) == Some(seen.signkeys.as_slice()) {
            self.metrics.fetched_keys(url, "unchanged");
            return Ok(());
        }
        let append = Append {
            stream: Stream::Ledger(None),
            at: now,
            events: vec![NewEvent::with(seen, AttachmentName::Keys, reply.body)],
        };
        match self.ledger.append(append).await {
            Ok(_) => {
                self.metrics.fetched_keys(url, "recorded");
                Ok(())
            }
            Err(error) => {
                self.metrics.fetched_keys(url, "unrecorded");
                tracing::error!(exchange = url, %error, "signing keys were not recorded");
                Err(KeysFailure::Unrecorded)
            }
        }
    }

    /// Leave to make one call to the exchange. Waits for a place among the calls under way, for a bounded time.
    ///
    /// # Errors
    /// Why no call is to be made now.
    pub async fn enter(&self, master: &MasterPub) -> Result<Pass, Unsent> {
        let exchange = self.by_master.get(master).ok_or(Unsent::Down)?;
        exchange.gate.enter((self.clock)()).await
    }

    /// Asks the exchange to refund a coin. One attempt, bounded in time and size; redirects are not followed.
    ///
    /// # Errors
    /// How it failed; whether the exchange refunded is unknown then.
    pub async fn refund(
        &self,
        pass: Pass,
        master: &MasterPub,
        coin: &CoinPub,
        request: &RefundRequest,
    ) -> Result<Reply, Failure> {
        let exchange = self.by_master.get(master).ok_or(Failure::Connect)?;
        let body = serde_json::to_vec(request).expect("a refund request is plain JSON");
        let path = format!("coins/{coin}/refund");
        let call = exchange.client.post(&path, body, REPLY_MAX);
        let began = Instant::now();
        let result = tokio::time::timeout(self.times.call, call).await;
        let result = result.unwrap_or(Err(Failure::Timeout));
        pass.ended(&result, (self.clock)());
        let took = began.elapsed();
        let url = exchange.config.base_url.as_str();
        let brought = match &result {
            Ok(reply) => Ok(reply.http_status),
            Err(failure) => Err(*failure),
        };
        tracing::debug!(exchange = url, ?brought, ?took, "asked an exchange");
        self.metrics.called(url, brought, took);
        result
    }
}

fn has_current_key(book: &Book, master: &MasterPub, now: Micros) -> bool {
    book.latest_signkeys(master)
        .is_some_and(|keys| keys.iter().any(|key| key.is_valid_at(now)))
}
