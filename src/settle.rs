//! Settling with exchanges: sending permissions and bringing their replies home. One call is in flight per
//! permission however many requests want it; a request makes at most one attempt per open permission; what stays
//! open is asked again in the background, after a restart as in normal operation. Decides nothing about money: it
//! sends what the ledger says may be sent, and hands back what came.

use std::sync::Arc;

use quittance_events::facts::{ExchangeUnreached, Failure};
use quittance_events::{AttachmentName, NewEvent, Order, OrderKey, RefundId};
use quittance_taler::{CoinPub, MasterPub, Micros};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::exchange::verdict::{claimed_proof, judge};
use crate::exchange::{KeysFailure, RefundRequest, Reply, Unsent};
use crate::limits::BACKGROUND_TICK;
use crate::open::{Claim, PermissionKey, Slot};
use crate::service::{Served, Service};

/// What an attempt at a permission came to, still to be recorded.
struct Attempted {
    slot: Slot,
    attempt: u64,
    result: Result<Reply, Failure>,
}

/// How an attempt ended.
enum End {
    Attempted(Attempted),
    /// Nothing was sent: the exchange's signing keys could not be had.
    NoKeys(KeysFailure),
    /// Nothing was sent: the way to the exchange was not free.
    Unsent(Unsent),
    /// Nothing was sent: the coin's deposit may still be on its way.
    Early,
}

/// What settling brought.
#[derive(Default)]
pub struct Settled {
    /// Attempts of this request. Their permissions stay taken until this is dropped, which is after they are recorded.
    attempted: Vec<Attempted>,
    /// The time ran out before every call had ended.
    pub ran_out: bool,
    /// Some exchange's keys could not be had.
    pub no_keys: Option<KeysFailure>,
    /// Some permission was not sent, for this reason.
    pub unsent: Option<Unsent>,
}

impl Settled {
    /// The events that record this request's attempts on the order as it stands, judged at `at`.
    #[must_use]
    pub fn events(&self, service: &Service, order: &Order, at: Micros) -> Vec<NewEvent> {
        self.attempted
            .iter()
            .filter_map(|attempt| attempt.event(service, order, at))
            .collect()
    }
}

impl Attempted {
    /// The event that records this attempt on the order as it stands, judged at `at`. `None`: the permission is
    /// decided already, or it is one more failure of a long streak.
    fn event(&self, service: &Service, order: &Order, at: Micros) -> Option<NewEvent> {
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
    let wanted = wanted.into_iter().map(|(coin, id)| (order.key.clone(), coin, id));
    let wanted: Vec<PermissionKey> = wanted.collect();
    for claim in service.settler.claim_all(&wanted) {
        match claim {
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
            Some(End::Unsent(unsent)) => settled.unsent = Some(unsent),
            Some(End::Early) | None => {}
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
    Some((order.exchange_of(coin)?, request))
}

async fn call(service: &Arc<Service>, order: &Order, slot: Slot) -> End {
    let (_, coin, id) = slot.key.clone();
    let Some((master, request)) = request(order, &coin, id) else {
        tracing::error!(order = %order.key, %coin, %id, "a permission without its deposit is not sent");
        return End::NoKeys(KeysFailure::Failed);
    };
    if let (RefundId::ABORT, Some(until)) = (id, service.abort_not_before(order, &coin)) {
        service.settler.wait(&slot.key, until);
        return End::Early;
    }
    if let Err(failure) = service.exchanges.ready(master).await {
        service.settler.put_off(&slot.key, (service.clock)());
        return End::NoKeys(failure);
    }
    let pass = match service.exchanges.enter(&master).await {
        Ok(pass) => pass,
        Err(unsent) => return End::Unsent(unsent),
    };
    // Counted from here: what was never sent is no attempt, and must not use up those that are recorded.
    let recorded = order.outcome(&coin, id).map_or(0, |outcome| outcome.attempt);
    let attempt = service.settler.begin(&slot.key, recorded, (service.clock)());
    #[cfg(feature = "broken")]
    let request = crate::simulation::under_second_id(service, order, &coin, attempt, request);
    let result = service.exchanges.refund(pass, &master, &coin, &request).await;
    #[cfg(feature = "broken")]
    if result == Err(Failure::Closed)
        && quittance_events::broken::is(quittance_events::broken::Fault::NotRetried)
    {
        service.settler.forget(&slot.key);
    }
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
    let events = |order: &Order, at| attempted.event(service, order, at).into_iter().collect();
    let recorded: Result<Result<Served, ()>, _> =
        service.record_and_answer(key, events, |_, _| Ok(Err(()))).await;
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
        settle_due(&service);
    }
}

/// Sets out to ask for all open permissions whose time has come.
pub fn settle_due(service: &Arc<Service>) {
    while let Some((key, slot)) = service.settler.next_due((service.clock)()) {
        let service = Arc::clone(service);
        tokio::spawn(async move {
            ask_again(&service, key, slot).await;
            service.settler.background_call_ended();
        });
    }
}

/// Reads the orders of permissions that were open at the start, so that it is known at which exchanges they are. Only
/// those who watch the service want to know; the background asks meanwhile.
pub async fn read_open(service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    for key in service.settler.unread() {
        let order = tokio::select! {
            order = service.order(&key) => order,
            _ = stop.changed() => return,
        };
        // One that cannot be read is told of by the background, which needs it.
        if let Ok(Some(order)) = order {
            service.settler.learn(&order);
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
            service.settler.put_off(&key, (service.clock)());
            return;
        }
    };
    if !order.open_permissions().any(|open| open == (*coin, *id)) {
        return service.settler.forget(&key);
    }
    match call(service, &order, slot).await {
        End::Attempted(attempted) => record_alone(service, order_key, attempted).await,
        // Only here: wallets that keep coming while an exchange is down must not lengthen the background's pauses.
        End::Unsent(_) => service.settler.put_off(&key, (service.clock)()),
        End::NoKeys(_) | End::Early => {}
    }
}
