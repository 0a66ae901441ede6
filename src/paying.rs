//! Payments on their way: one payment or abort of an order at a time, batches sent and their replies recorded. Whoever
//! pays waits for its exchanges for a bounded time; what goes on after that records its replies all the same, and
//! completes the payment if they are all there. Nothing is deposited again in the background: the wallet asks again, or
//! aborts. Decides nothing; `decide/pay.rs` does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quittance_events::facts::{DepositUnreached, Failure, Verdict};
use quittance_events::sale::{Batch, INSUFFICIENT_FUNDS};
use quittance_events::store::StoreError;
use quittance_events::{Folded, Order, OrderKey, Seq};
use quittance_taler::deposit::DepositTerms;
use quittance_taler::exchange_keys::ExchangeKeys;
use quittance_taler::payment::{PaymentTerms, Price};
use quittance_taler::{ErrorCode, MasterPub, Micros};
use serde_json::Value;
use tokio::sync::{Mutex as Queue, Notify, OwnedMutexGuard};
use tokio::task::JoinSet;

use crate::account::WireAccount;
use crate::clock::Steady;
use crate::decide::coins::{self, Checked, Share, Unfit, as_signed, deposit_terms};
use crate::decide::pay::{self, Outcome, Payment, Standing};
use crate::exchange::verdict::error_code;
use crate::exchange::{KeysFailure, Reply, Unsent, deposit};
use crate::instance::Instance;
use crate::limits::ATTEMPTS_COUNTED_MAX;
use crate::refusal::{Refusal, RequestError};
use crate::service::{Served, Service};

/// Who is at which order.
#[derive(Default)]
struct Turns {
    orders: Mutex<HashMap<OrderKey, Arc<Queue<()>>>>,
    /// Told when nobody is at any.
    ended: Notify,
}

/// What this process knows of payments beyond the ledger.
pub struct Paying {
    steady: Steady,
    turns: Arc<Turns>,
    attempts: Mutex<Attempts>,
}

/// Attempts at batches in question, recorded or not.
struct Attempts {
    /// From when on all are known.
    since: Duration,
    of: HashMap<(OrderKey, Seq), Tried>,
}

/// Attempts at a batch.
#[derive(Clone, Copy)]
struct Tried {
    count: u64,
    /// When the last began, or ended.
    at: Duration,
}

/// The right to be the only payment or abort of an order.
pub struct Turn {
    key: OrderKey,
    turns: Arc<Turns>,
    guard: Option<OwnedMutexGuard<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain data, each change of it whole before the next can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut orders = lock(&self.turns.orders);
        drop(self.guard.take());
        // Only the map has it: nobody holds it or waits.
        if orders
            .get(&self.key)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            orders.remove(&self.key);
        }
        if orders.is_empty() {
            self.turns.ended.notify_waiters();
        }
    }
}

impl Paying {
    /// Knows of nothing before now.
    #[must_use]
    pub fn new(steady: Steady) -> Paying {
        let attempts = Attempts {
            since: steady(),
            of: HashMap::new(),
        };
        Paying {
            steady,
            turns: Arc::default(),
            attempts: Mutex::new(attempts),
        }
    }

    /// Waits until no other payment or abort of the order is under way.
    pub async fn turn(&self, key: &OrderKey) -> Turn {
        let turn = Arc::clone(lock(&self.turns.orders).entry(key.clone()).or_default());
        let mut mine = Turn {
            key: key.clone(),
            turns: Arc::clone(&self.turns),
            guard: None,
        };
        mine.guard = Some(turn.lock_owned().await);
        mine
    }

    /// Waits until no payment is under way, those that outlived their requests too.
    pub async fn ended(&self) {
        loop {
            let ended = self.turns.ended.notified();
            tokio::pin!(ended);
            // Listened for before it is looked, so that an end in between is heard.
            ended.as_mut().enable();
            if lock(&self.turns.orders).is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// The number of the next attempt at a batch, of which `recorded` was the last that is recorded. Of one that `is_new`
    /// is not, an attempt may have been made that this process does not know of, as where the one before died over it.
    fn attempt(&self, key: &OrderKey, batch: Seq, (recorded, is_new): (u64, bool)) -> u64 {
        let now = (self.steady)();
        let mut attempts = lock(&self.attempts);
        if attempts.of.len() >= ATTEMPTS_COUNTED_MAX {
            attempts.of.clear();
            attempts.since = now;
        }
        let tried = attempts.of.entry((key.clone(), batch));
        let count = u64::from(!is_new);
        let tried = tried.or_insert(Tried { count, at: now });
        tried.count = recorded.max(tried.count) + 1;
        tried.at = now;
        tried.count
    }

    /// The attempt is over; what it began at the exchange may not be.
    fn attempted(&self, key: &OrderKey, batch: Seq) {
        let now = (self.steady)();
        if let Some(tried) = lock(&self.attempts).of.get_mut(&(key.clone(), batch)) {
            tried.at = now;
        }
    }

    /// How long ago a batch in question may have been tried last. The process before may have died over an attempt.
    #[must_use]
    pub fn since_tried(&self, key: &OrderKey, batch: Seq) -> Duration {
        let now = (self.steady)();
        let attempts = lock(&self.attempts);
        let tried = attempts.of.get(&(key.clone(), batch));
        now.saturating_sub(tried.map_or(attempts.since, |tried| tried.at))
    }

    /// The batch is in question no more.
    fn ended_question(&self, key: &OrderKey, batch: Seq) {
        lock(&self.attempts).of.remove(&(key.clone(), batch));
    }
}

/// Why a batch is not deposited.
enum Trouble {
    NoKeys(KeysFailure),
    Unsent(Unsent),
    Unreached(Failure),
    Replied(Verdict, Reply),
}

/// The status of an exchange that may not take the coins, until the customer or the merchant has done something about it.
const LEGALLY_REFUSED: u16 = 451;

impl Trouble {
    /// The first is told: a wallet can do something about a coin that was spent before.
    fn rank(&self) -> u8 {
        match self {
            Trouble::Replied(Verdict::Refused, reply) if is_overspent(reply) => 0,
            Trouble::Replied(Verdict::Refused, _) => 1,
            Trouble::Replied(..) => 2,
            Trouble::Unreached(_) => 3,
            Trouble::NoKeys(_) => 4,
            Trouble::Unsent(_) => 5,
        }
    }

    /// As the wallet is told. Wallets give up for good at a 400 or 410, so none of these is one.
    fn refusal(&self, exchange_url: &str) -> Refusal {
        let refusal = match self {
            Trouble::NoKeys(failure) => no_keys(*failure),
            Trouble::Unsent(Unsent::Busy) | Trouble::Unreached(Failure::Timeout) => too_slow(),
            Trouble::Unsent(Unsent::Down) | Trouble::Unreached(Failure::Connect | Failure::Closed) => {
                Refusal::new(ErrorCode::MerchantGenericExchangeConnectFailure).status(502)
            }
            Trouble::Replied(verdict, reply) => {
                let code = match verdict {
                    Verdict::Refused if is_overspent(reply) => {
                        ErrorCode::MerchantPostOrdersIdPayInsufficientFunds
                    }
                    Verdict::Refused => ErrorCode::MerchantPostOrdersIdPayExchangeFailed,
                    Verdict::Later if reply.http_status == LEGALLY_REFUSED => {
                        ErrorCode::MerchantPostOrdersIdPayExchangeLegallyRefused
                    }
                    Verdict::Later => ErrorCode::MerchantGenericExchangeUnexpectedStatus,
                    _ => ErrorCode::MerchantGenericExchangeReplyMalformed,
                };
                replied(Refusal::new(code), reply)
            }
        };
        refusal.member("exchange_url", exchange_url)
    }
}

fn is_overspent(reply: &Reply) -> bool {
    reply.http_status == 409 && error_code(&reply.body) == Some(INSUFFICIENT_FUNDS)
}

/// With the exchange's status, code and whole reply, under the names of old and of new.
fn replied(refusal: Refusal, reply: &Reply) -> Refusal {
    let mut refusal = refusal
        .member("exchange_http_status", reply.http_status)
        .member("exchange_hc", reply.http_status);
    if let Some(code) = error_code(&reply.body) {
        refusal = refusal.member("exchange_code", code).member("exchange_ec", code);
    }
    match serde_json::from_slice::<Value>(&reply.body) {
        Ok(body @ Value::Object(_)) => refusal.member("exchange_reply", body),
        _ => refusal,
    }
}

fn no_keys(failure: KeysFailure) -> Refusal {
    match failure {
        KeysFailure::Timeout => too_slow(),
        KeysFailure::Failed => Refusal::new(ErrorCode::MerchantGenericExchangeKeysFailure),
        KeysFailure::Unrecorded => Refusal::new(ErrorCode::GenericDbStoreFailed),
    }
}

/// The time for the request ran out; the wallet comes again.
#[must_use]
pub fn too_slow() -> Refusal {
    Refusal::new(ErrorCode::MerchantGenericExchangeTimeout)
}

/// All that a payment's batches have in common.
struct Sending {
    service: Arc<Service>,
    /// As it was when the wallet came.
    instance: Arc<Instance>,
    key: OrderKey,
    payment: Payment,
    terms: DepositTerms,
    price: Price,
    account: Arc<WireAccount>,
    /// The last batch that was asked for before.
    known: Option<Seq>,
    /// Until every reply is recorded.
    _turn: Turn,
}

impl Service {
    /// What is asked of the order's payment: the contract's word on amount and fees.
    ///
    /// # Errors
    /// The ledger cannot be read, or the contract is not there any more.
    async fn price(&self, order: &Order) -> Result<Price, RequestError> {
        let damaged =
            |why: String| StoreError::Damaged(format!("the contract of order {}: {why}", order.key));
        let terms = self.terms(order.terms_at).await?;
        let terms = terms.ok_or_else(|| damaged("it was erased".to_owned()))?;
        let terms = PaymentTerms::read(&terms).map_err(|error| damaged(error.to_string()))?;
        Ok(terms.price)
    }
}

/// Takes a wallet's payment as far as it goes: `Ok` where the order is paid by it. `turn` is the order's.
///
/// # Errors
/// Why it is not.
pub async fn pay(
    service: Arc<Service>,
    instance: Arc<Instance>,
    key: OrderKey,
    payment: Payment,
    turn: Turn,
) -> Result<Order, RequestError> {
    let folded = service.folded(&key).await?;
    let configured = |exchange: &MasterPub| service.exchanges.is_configured(exchange);
    let (standing, shares) = pay::standing(
        folded.as_ref(),
        &payment,
        configured,
        service.now(folded.as_ref()),
    )?;
    let Standing::Open(order, sale) = standing else {
        let decide = |order: Option<&Folded>, now| match pay::standing(order, &payment, configured, now)?.0 {
            Standing::Paid(_, sale) => Ok(pay::in_session(sale, payment.session)),
            Standing::Open(..) => Ok(Vec::new()),
        };
        let folded = service.decide_and_record_sale(&key, decide).await?;
        return paid(folded).ok_or(RequestError::Contended);
    };
    let known = sale.batches.last().map(|batch| batch.seq);
    let (terms, price) = (deposit_terms(order, sale), service.price(order).await?);
    let account = service.account(&key.instance, &sale.offer.created.h_wire).await?;
    let account = account.ok_or_else(|| {
        tracing::error!(order = %key, "the account that the contract names is not there any more");
        Refusal::new(ErrorCode::GenericDbInvariantFailure)
    })?;
    let checked = check(&service, order, &payment, &shares, &terms, &price).await?;
    let decide = |order: Option<&Folded>, now| {
        let merchant = &instance.merchant;
        pay::decide(order, &payment, &checked, &price, configured, merchant, now)
    };
    let folded = service.decide_and_record_sale(&key, decide).await?;
    let (order, sale) = pay::sold(folded.as_ref())?;
    if order.payment.is_some() {
        return Ok(order.clone());
    }
    let batches: Vec<Batch> = checked
        .wanted
        .iter()
        .filter_map(|wanted| pay::undecided(sale, wanted).cloned())
        .collect();
    let sending = Arc::new(Sending {
        service,
        instance,
        key,
        payment,
        terms,
        price,
        account,
        known,
        _turn: turn,
    });
    sending.send(order, batches).await
}

fn paid(folded: Option<Folded>) -> Option<Order> {
    let order = folded?.order()?.as_ref().clone();
    order.payment.is_some().then_some(order)
}

/// Checks the coins, and once more against newer keys where those in memory do not explain one.
async fn check(
    service: &Arc<Service>,
    order: &Order,
    payment: &Payment,
    shares: &[Share],
    terms: &DepositTerms,
    price: &Price,
) -> Result<Checked, RequestError> {
    let mut looked_again = false;
    loop {
        let all = shares.iter().map(|share| async move {
            let keys = service.exchanges.coins(share.exchange).await;
            keys.map(|keys| (share.exchange, keys))
        });
        let keys: Result<Vec<_>, _> = futures_util::future::join_all(all).await.into_iter().collect();
        let keys = keys.map_err(no_keys)?;
        let unfit = match checked(service, order, payment, shares, (terms, price), keys).await? {
            Ok(checked) => return Ok(checked),
            Err(unfit) => unfit,
        };
        match unfit.look_again {
            Some(exchange) if !looked_again && service.exchanges.look_for_coin(exchange).await => {
                looked_again = true;
            }
            _ => return Err(unfit.refusal.into()),
        }
    }
}

async fn checked(
    service: &Arc<Service>,
    order: &Order,
    payment: &Payment,
    shares: &[Share],
    (terms, price): (&DepositTerms, &Price),
    keys: Vec<(MasterPub, Arc<ExchangeKeys>)>,
) -> Result<Result<Checked, Unfit>, RequestError> {
    let now = service.now(Some(&Folded::Recorded(Arc::new(order.clone()))));
    let (order, payment, shares) = (order.clone(), payment.clone(), shares.to_vec());
    let (terms, price) = (*terms, *price);
    let work = move || {
        let keys = |wanted: &MasterPub| {
            let mut keys = keys.iter();
            keys.find(|(master, _)| master == wanted)
                .map(|(_, keys)| Arc::clone(keys))
        };
        coins::check(&order, &payment, &shares, &terms, &price, keys, now)
    };
    #[cfg(feature = "simulation")]
    if service.ledger.is_stepped() {
        return Ok(work());
    }
    // Two signatures a coin, one of them RSA: milliseconds that others on this thread would wait for.
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| RequestError::Task)
}

impl Sending {
    /// Sends the batches side by side, and records each reply as it comes.
    async fn send(self: &Arc<Self>, order: &Order, batches: Vec<Batch>) -> Result<Order, RequestError> {
        let mut calls = JoinSet::new();
        for batch in batches {
            let (this, order) = (Arc::clone(self), order.clone());
            calls.spawn(async move { this.send_one(&order, batch).await });
        }
        let (mut troubles, mut failed) = (Vec::new(), None);
        // All are waited for, whatever became of one: a call that is dropped leaves unrecorded what its exchange says, and
        // the turn must not pass on before.
        while let Some(ended) = calls.join_next().await {
            match ended.unwrap_or(Err(RequestError::Task)) {
                Ok(trouble) => troubles.extend(trouble),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(order) = paid(self.service.folded(&self.key).await?) {
            return Ok(order);
        }
        let worst = troubles.into_iter().min_by_key(|(_, trouble)| trouble.rank());
        match worst {
            Some((url, trouble)) => Err(trouble.refusal(&url).into()),
            None => Err(Refusal::new(ErrorCode::MerchantPostOrdersIdPayPaymentInsufficient).into()),
        }
    }

    /// One attempt at a batch. Gives what kept it from being deposited, and where.
    async fn send_one(&self, order: &Order, batch: Batch) -> Result<Option<(String, Trouble)>, RequestError> {
        let (service, master) = (&self.service, batch.exchange_master_pub);
        let trouble = |trouble| Ok(Some((batch.exchange_url.clone(), trouble)));
        if let Err(failure) = service.exchanges.ready(master).await {
            return trouble(Trouble::NoKeys(failure));
        }
        let pass = match service.exchanges.enter(&master).await {
            Ok(pass) => pass,
            Err(unsent) => return trouble(Trouble::Unsent(unsent)),
        };
        let is_new = self.known.is_none_or(|known| batch.seq > known);
        let attempt = service
            .paying
            .attempt(&self.key, batch.seq, (batch.attempt, is_new));
        let result = service
            .exchanges
            .deposit(pass, &master, &self.request(order, &batch))
            .await;
        service.paying.attempted(&self.key, batch.seq);
        if let Ok(reply) = &result
            && let Some(claimed) = deposit::claimed(reply)
            && !service
                .ledger
                .book()
                .knows_signkey(&master, &claimed.exchange_pub)
        {
            // The exchange may have a new signing key. Without it the reply is unproven, which the judgement says.
            let _ = service.exchanges.look_again(master).await;
        }
        let order = self.record(&batch, attempt, &result).await?;
        let recorded = order.sale.as_ref().and_then(|sale| {
            let mut batches = sale.batches.iter();
            batches.find(|known| known.seq == batch.seq)
        });
        if recorded.is_some_and(|batch| !batch.is_in_question()) {
            service.paying.ended_question(&self.key, batch.seq);
        }
        match result {
            Err(failure) => trouble(Trouble::Unreached(failure)),
            Ok(_) if recorded.is_some_and(Batch::is_confirmed) => Ok(None),
            Ok(reply) => {
                let book = service.ledger.book();
                let at = service.now(Some(&Folded::Recorded(Arc::clone(&order))));
                match deposit::judge(&batch, &self.terms, attempt, &reply, &book, at).verdict {
                    // The key that proves it has come since it was recorded: the wallet's next attempt brings it.
                    Verdict::Confirmed => trouble(Trouble::Unreached(Failure::Timeout)),
                    verdict => trouble(Trouble::Replied(verdict, reply)),
                }
            }
        }
    }

    fn request(&self, order: &Order, batch: &Batch) -> Value {
        let signed = as_signed(&batch.coins).into_iter().filter_map(|coin| {
            let mut paid = self.payment.coins.iter();
            let paid = paid.find(|paid| paid.coin_pub == coin.coin_pub)?;
            Some((coin, paid.ub_sig.clone()))
        });
        let claim = order.sale.as_ref().and_then(|sale| sale.claim.as_ref());
        self.terms.batch_request(
            &self.account.payto_uri,
            &self.account.salt,
            &signed.collect::<Vec<_>>(),
            claim.map(|claim| &claim.contract_sig),
        )
    }

    /// Records an attempt, and that the order is paid if that makes it so. What was asked for is recorded whatever the
    /// disk's reserve: it is settled, not taken on.
    async fn record(
        &self,
        batch: &Batch,
        attempt: u64,
        result: &Result<Reply, Failure>,
    ) -> Result<Arc<Order>, RequestError> {
        let service = &self.service;
        let events = |order: &Order, at: Micros| {
            let merchant = &self.instance.merchant;
            let outcome = match result {
                Ok(reply) => {
                    let book = service.ledger.book();
                    let facts = deposit::judge(batch, &self.terms, attempt, reply, &book, at);
                    Outcome::Replied(facts, reply.body.clone())
                }
                Err(failure) => Outcome::Unreached(DepositUnreached {
                    batch: batch.seq,
                    attempt,
                    failure: *failure,
                }),
            };
            let mut events = pay::recorded(order, &outcome, merchant);
            // An order that does not take these refuses them at the append, too.
            if let Ok(after) = order.preview(at, &events) {
                events.extend(pay::completed(&after, &self.payment, &self.price, merchant));
            }
            events
        };
        let recorded: Result<Result<Served, ()>, _> = service
            .record_and_answer(&self.key, events, |_, _| Ok(Err(())))
            .await;
        let _: Result<Served, ()> = recorded?;
        service.order(&self.key).await?.ok_or(RequestError::Contended)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::sync::atomic::{AtomicU64, Ordering};

    use quittance_events::InstanceId;

    use super::*;

    #[test]
    fn the_first_attempt_of_this_process_may_not_be_the_first() {
        let key = OrderKey {
            instance: InstanceId::root(),
            order: "boots".parse().unwrap(),
        };
        let batch = |number| Seq::new(number).unwrap();
        let passed = Arc::new(AtomicU64::new(0));
        let pass = |seconds| passed.fetch_add(seconds, Ordering::Relaxed);
        let steady = Arc::clone(&passed);
        let paying = Paying::new(Arc::new(move || {
            Duration::from_secs(steady.load(Ordering::Relaxed))
        }));
        let attempts = |number, recorded, is_new| {
            [0, 1].map(|_| paying.attempt(&key, batch(number), (recorded, is_new)))
        };
        let since = |number| paying.since_tried(&key, batch(number)).as_secs();
        pass(100);
        assert_eq!(attempts(1, 0, true), [1, 2]);
        assert_eq!(attempts(2, 0, false), [2, 3]);
        assert_eq!(attempts(3, 4, false), [5, 6]);
        // One that nobody here has tried may have been tried until this process began.
        assert_eq!((since(4), since(3)), (100, 0));
        pass(8);
        assert_eq!((since(4), since(3)), (108, 8));
        paying.attempted(&key, batch(3));
        assert_eq!(since(3), 0);
        paying.ended_question(&key, batch(3));
        assert_eq!(since(3), 108);
        // Where too many were counted, none is known any more, and each may have been tried just now.
        pass(10);
        for number in 1..=u64::try_from(ATTEMPTS_COUNTED_MAX).unwrap() {
            paying.attempt(&key, batch(100 + number), (0, true));
        }
        assert_eq!((since(1), since(4)), (0, 0));
    }
}
