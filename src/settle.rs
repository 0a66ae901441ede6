//! Settling with exchanges: sending permissions and bringing their replies home. One call is in flight per
//! permission however many requests want it; a request makes at most one attempt per open permission; what stays
//! open is asked again in the background, after a restart as in normal operation. Decides nothing about money: it
//! sends what the ledger says may be sent, and hands back what came.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quittance_events::facts::{ExchangeUnreached, Failure};
use quittance_events::{AttachmentName, NewEvent, Order, OrderKey, RefundId};
use quittance_taler::{CoinPub, MasterPub, Micros};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::exchange::verdict::{claimed_proof, judge};
use crate::exchange::{KeysFailure, RefundRequest, Reply};
use crate::limits::{BACKGROUND_CALLS_MAX, BACKGROUND_TICK, RETRY_FIRST_S, RETRY_MAX_S};
use crate::refusal::RequestError;
use crate::service::Service;

/// Names a permission among all orders.
pub type PermissionKey = (OrderKey, CoinPub, RefundId);

/// What this process knows of a permission beyond the ledger.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// Attempts made, recorded or not.
    attempts: u64,
    /// When the last began.
    asked: Option<Micros>,
    /// When the background asks next; `None` for carried-in ones, which it never asks.
    due: Option<Micros>,
}

#[derive(Default)]
struct State {
    /// Calls under way. Whoever waits for one sees its channel close once its reply is recorded.
    in_flight: HashMap<PermissionKey, watch::Receiver<()>>,
    memory: HashMap<PermissionKey, Memory>,
    queue: BTreeSet<(Micros, PermissionKey)>,
    background_calls: usize,
}

/// Keeps track of open permissions.
#[derive(Default)]
pub struct Settler {
    state: Arc<Mutex<State>>,
}

/// The right to call for a permission. Dropped after the reply is recorded, it lets those go on who waited.
struct Slot {
    key: PermissionKey,
    state: Arc<Mutex<State>>,
    _done: watch::Sender<()>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // The state is plain data, each change of it is whole before the next can panic.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.state).in_flight.remove(&self.key);
    }
}

enum Claim {
    Mine(Slot),
    Theirs(watch::Receiver<()>),
}

/// What an attempt at a permission came to, still to be recorded.
pub struct Attempted {
    slot: Slot,
    attempt: u64,
    result: Result<Reply, Failure>,
}

/// How an attempt ended.
enum End {
    Attempted(Attempted),
    /// Nothing was sent: the exchange's signing keys could not be had.
    NoKeys(KeysFailure),
}

/// What settling brought.
#[derive(Default)]
pub struct Settled {
    /// Attempts of this request, to be recorded with its answer.
    pub attempted: Vec<Attempted>,
    /// The time ran out before every call had ended.
    pub ran_out: bool,
    /// Some exchange's keys could not be had.
    pub no_keys: Option<KeysFailure>,
}

impl Attempted {
    /// The event that records this attempt on the order as it stands, judged at `at`. `None`: the permission is
    /// decided already, or it is one more failure of a long streak.
    #[must_use]
    pub fn event(&self, service: &Service, order: &Order, at: Micros) -> Option<NewEvent> {
        let (_, coin, id) = self.slot.key;
        if order.outcome(&coin, id)?.is_conclusive() {
            return None;
        }
        match &self.result {
            Ok(reply) => {
                let facts = judge(order, (coin, id), self.attempt, reply, &service.ledger.book(), at);
                let worth = facts.verdict.is_conclusive() || self.attempt.is_power_of_two();
                worth.then(|| NewEvent::with(facts, AttachmentName::Reply, reply.body.clone()))
            }
            Err(failure) => self.attempt.is_power_of_two().then(|| {
                NewEvent::bare(ExchangeUnreached {
                    coin_pub: coin,
                    rtransaction_id: id,
                    attempt: self.attempt,
                    failure: *failure,
                })
            }),
        }
    }
}

impl Settler {
    /// Takes up a permission that may have been sent: the background asks for it from `due` on.
    pub fn enqueue(&self, key: PermissionKey, due: Micros) {
        let mut state = lock(&self.state);
        let memory = state.memory.entry(key.clone()).or_default();
        if memory.due.is_none() {
            memory.due = Some(due);
            state.queue.insert((due, key));
        }
    }

    /// Forgets a permission that the exchange has decided.
    pub fn forget(&self, key: &PermissionKey) {
        let mut state = lock(&self.state);
        if let Some(Memory { due: Some(due), .. }) = state.memory.remove(key) {
            state.queue.remove(&(due, key.clone()));
        }
    }

    /// Whether a wallet's refund request may ask for this permission again.
    #[must_use]
    pub fn may_ask(&self, key: &PermissionKey, every_s: u64, now: Micros) -> bool {
        let state = lock(&self.state);
        // Under way already: waiting for it asks nothing.
        state.in_flight.contains_key(key)
            || state
                .memory
                .get(key)
                .and_then(|memory| memory.asked)
                .is_none_or(|asked| asked.plus_s(every_s) <= now)
    }

    fn claim(&self, key: &PermissionKey) -> Claim {
        let mut state = lock(&self.state);
        if let Some(theirs) = state.in_flight.get(key) {
            return Claim::Theirs(theirs.clone());
        }
        let (done, theirs) = watch::channel(());
        state.in_flight.insert(key.clone(), theirs);
        Claim::Mine(Slot {
            key: key.clone(),
            state: Arc::clone(&self.state),
            _done: done,
        })
    }

    /// Counts an attempt and sets when the background asks next, should this one bring nothing.
    fn begin(&self, key: &PermissionKey, recorded: u64, now: Micros) -> u64 {
        let mut state = lock(&self.state);
        let memory = state.memory.entry(key.clone()).or_default();
        memory.attempts = memory.attempts.max(recorded) + 1;
        memory.asked = Some(now);
        let attempts = memory.attempts;
        Settler::postpone(&mut state, key, now);
        attempts
    }

    fn postpone(state: &mut State, key: &PermissionKey, now: Micros) {
        let Some(memory) = state.memory.get_mut(key) else {
            return;
        };
        let Some(due) = memory.due else { return };
        let doublings = u32::try_from(memory.attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        let pause_s = RETRY_FIRST_S
            .checked_shl(doublings)
            .filter(|pause| *pause > 0)
            .unwrap_or(RETRY_MAX_S);
        let next = now.plus_s(pause_s.min(RETRY_MAX_S));
        memory.due = Some(next);
        state.queue.remove(&(due, key.clone()));
        state.queue.insert((next, key.clone()));
    }

    /// The next permission that is due and not under way, if the background may make another call.
    fn next_due(&self, now: Micros) -> Option<(PermissionKey, Slot)> {
        let key = {
            let mut state = lock(&self.state);
            if state.background_calls >= BACKGROUND_CALLS_MAX {
                return None;
            }
            loop {
                let (due, key) = state.queue.first().cloned()?;
                if due > now {
                    return None;
                }
                if !state.in_flight.contains_key(&key) {
                    state.background_calls += 1;
                    break key;
                }
                // Somebody is at it; should he fail, it is due again.
                Settler::postpone(&mut state, &key, now);
            }
        };
        match self.claim(&key) {
            Claim::Mine(slot) => Some((key, slot)),
            Claim::Theirs(_) => {
                lock(&self.state).background_calls -= 1;
                None
            }
        }
    }
}

/// Sends the order's permissions and waits for what comes until `until`. Calls that are still under way then go on
/// by themselves and record their replies alone.
pub async fn settle(
    service: &Arc<Service>,
    order: &Arc<Order>,
    wanted: Vec<(CoinPub, RefundId)>,
    until: Instant,
) -> Settled {
    let mut mine = Vec::new();
    let mut theirs = Vec::new();
    for (coin, id) in wanted {
        match service.settler.claim(&(order.key.clone(), coin, id)) {
            Claim::Mine(slot) => mine.push(spawn_call(service, order, slot)),
            Claim::Theirs(watch) => theirs.push(watch),
        }
    }
    let mut settled = Settled::default();
    for mut receiver in mine {
        let end = match timeout_at(until, &mut receiver).await {
            Ok(end) => end.ok(),
            Err(_) => {
                settled.ran_out = true;
                // Between the time-out and here it may have come: what was handed over must not be lost.
                receiver.close();
                receiver.try_recv().ok()
            }
        };
        match end {
            Some(End::Attempted(attempted)) => settled.attempted.push(attempted),
            Some(End::NoKeys(failure)) => settled.no_keys = Some(failure),
            None => {}
        }
    }
    for mut watch in theirs {
        // The channel closes when that call's reply is recorded; nothing is ever sent through it.
        if timeout_at(until, watch.changed()).await.is_err() {
            settled.ran_out = true;
        }
    }
    settled
}

/// Makes the call in a task of its own: a wallet that hangs up must not cancel a refund half-way.
fn spawn_call(service: &Arc<Service>, order: &Arc<Order>, slot: Slot) -> oneshot::Receiver<End> {
    let (sender, receiver) = oneshot::channel();
    let (service, order) = (Arc::clone(service), Arc::clone(order));
    tokio::spawn(async move {
        let end = call(&service, &order, slot).await;
        if let Err(End::Attempted(attempted)) = sender.send(end) {
            record_alone(&service, &order.key, attempted).await;
        }
    });
    receiver
}

/// The permission as the exchange reads it, and which exchange that is.
fn request(order: &Order, coin: &CoinPub, id: RefundId) -> Option<(MasterPub, RefundRequest)> {
    let (amount, merchant_sig) = match id {
        RefundId::ABORT => order.aborted(coin)?.permission?,
        id => order.row(coin, id).map(|row| (row.amount, row.merchant_sig))?,
    };
    let request = RefundRequest {
        refund_amount: amount,
        h_contract_terms: order.terms.h_contract,
        rtransaction_id: id.get(),
        merchant_pub: order.terms.merchant_pub,
        merchant_sig,
    };
    Some((order.deposit(coin)?.exchange_master_pub, request))
}

async fn call(service: &Arc<Service>, order: &Order, slot: Slot) -> End {
    let (_, coin, id) = slot.key.clone();
    let Some((master, request)) = request(order, &coin, id) else {
        tracing::error!(order = %order.key, %coin, %id, "a permission without its deposit is not sent");
        return End::NoKeys(KeysFailure::Failed);
    };
    let recorded = order.outcome(&coin, id).map_or(0, |outcome| outcome.attempt);
    let attempt = service.settler.begin(&slot.key, recorded, (service.clock)());
    if let Err(failure) = service.exchanges.ready(master).await {
        return End::NoKeys(failure);
    }
    let result = service.exchanges.refund(&master, &coin, &request).await;
    if let Ok(reply) = &result
        && let Some((signkey, _)) = claimed_proof(reply)
        && !service.ledger.book().knows_signkey(&master, &signkey)
    {
        // The exchange may have a new signing key. Without it the reply is unproven, which the judgement says.
        let _ = service.exchanges.look_again(master).await;
    }
    End::Attempted(Attempted {
        slot,
        attempt,
        result,
    })
}

async fn record_alone(service: &Arc<Service>, key: &OrderKey, attempted: Attempted) {
    let recorded: Result<(), RequestError> = service.record_attempts(key, &[attempted]).await;
    if let Err(error) = recorded {
        tracing::error!(order = %key, %error, "an exchange's reply was not recorded; it will be asked again");
    }
}

/// Asks for open permissions whose time has come, for as long as the service lives.
pub async fn run_background(service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(BACKGROUND_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.changed() => return,
        }
        while let Some((key, slot)) = service.settler.next_due((service.clock)()) {
            let service = Arc::clone(&service);
            tokio::spawn(async move {
                ask_again(&service, key, slot).await;
                lock(&service.settler.state).background_calls -= 1;
            });
        }
    }
}

async fn ask_again(service: &Arc<Service>, key: PermissionKey, slot: Slot) {
    let (order_key, coin, id) = &key;
    let order = match service.order(order_key).await {
        Ok(Some(order)) => order,
        Ok(None) => {
            tracing::error!(order = %order_key, "an open permission of an order that is not there");
            return service.settler.forget(&key);
        }
        Err(error) => {
            tracing::error!(order = %order_key, %error, "an open permission could not be read");
            service.settler.begin(&key, 0, (service.clock)());
            return;
        }
    };
    if !order.open_permissions().any(|open| open == (*coin, *id)) {
        return service.settler.forget(&key);
    }
    if let End::Attempted(attempted) = call(service, &order, slot).await {
        record_alone(service, order_key, attempted).await;
    }
}
