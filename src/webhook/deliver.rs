//! Delivers webhooks: follows the ledger for payments and approvals, tells the shop's servers of them, and tries again
//! until one says 2xx or three days are over. What is still to be told is in memory and found again in the ledger after
//! a restart; that something was told, the ledger says once it was. So a server may be told twice, never not at all. No
//! wallet waits for any of it, and a reply's body is nobody's business.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quittance_events::facts::{Failure, WebhookDelivered, WebhookGivenUp};
use quittance_events::{
    Append, AttachmentName, Event, Facts, InstanceId, NewEvent, Order, OrderKey, Seq, Stream, WebhookId,
};
use quittance_taler::time::TalerTimestamp;
use quittance_taler::{Amount, Micros, amount};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use url::Url;

use super::{EventType, Webhook, WebhookError};
use crate::client::{Client, ClientError};
use crate::instance::{KeyFileError, KeyFolder};
use crate::limits::{
    BACKGROUND_TICK, FOLLOW_PIECE, WEBHOOK_CALLS_MAX, WEBHOOK_FIRST_S, WEBHOOK_GIVE_UP_S,
    WEBHOOK_LOOK_BACK_S, WEBHOOK_PAUSE_MAX_S, WEBHOOK_REPLY_MAX, WEBHOOK_TIME,
};
use crate::refusal::RequestError;
use crate::service::Service;

/// What webhooks tell of, and what ends them.
const KINDS: [&str; 4] = [
    "payment_completed",
    "refund_approved",
    "webhook_delivered",
    "webhook_given_up",
];

/// What is to be told: an event, to a webhook of its instance.
type Key = (Seq, WebhookId);

struct Due {
    order: OrderKey,
    event_type: EventType,
    /// When it happened.
    at: Micros,
    /// Of this process.
    attempts: u64,
    next: Micros,
}

#[derive(Default)]
struct State {
    configured: HashMap<InstanceId, Arc<[Webhook]>>,
    due: BTreeMap<Key, Due>,
    queue: BTreeSet<(Micros, Key)>,
    under_way: HashSet<Key>,
    /// Webhooks whose last attempt failed: told of when it begins and when it ends.
    failing: BTreeSet<(InstanceId, WebhookId)>,
    /// How far the ledger was followed; nowhere yet since the start.
    seen: Option<Seq>,
}

/// The webhooks of a service.
pub struct Webhooks {
    folder: KeyFolder,
    state: Mutex<State>,
    /// For http, and for https once it is needed.
    clients: [tokio::sync::OnceCell<Client>; 2],
    /// Whoever changes them is alone with them.
    change: tokio::sync::Mutex<()>,
}

impl Webhooks {
    /// Reads those of these instances.
    ///
    /// # Errors
    /// A file cannot be read, or others may read it.
    pub fn open<'a>(
        folder: KeyFolder,
        instances: impl Iterator<Item = &'a InstanceId>,
    ) -> Result<Webhooks, KeyFileError> {
        let mut state = State::default();
        for id in instances {
            state
                .configured
                .insert(id.clone(), folder.read_webhooks(id)?.into());
        }
        Ok(Webhooks {
            folder,
            state: Mutex::new(state),
            clients: Default::default(),
            change: tokio::sync::Mutex::default(),
        })
    }

    /// Reads those of an instance that was opened: it may have had some before it was closed.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub async fn open_of(&self, instance: &InstanceId) -> Result<(), RequestError> {
        self.change(instance, |_| Ok(())).await
    }

    /// Tells of nothing of an instance any more: it was closed.
    pub fn close_of(&self, instance: &InstanceId) {
        self.lock().configured.remove(instance);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain data, each change of which is whole before the next can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An instance's.
    #[must_use]
    pub fn of(&self, instance: &InstanceId) -> Arc<[Webhook]> {
        self.lock().configured.get(instance).cloned().unwrap_or_default()
    }

    /// Changes an instance's. When this returns, the change is on disk and in force.
    ///
    /// # Errors
    /// `change` refuses, or the file cannot be read or written; then nothing is changed.
    pub async fn change(
        &self,
        instance: &InstanceId,
        change: impl FnOnce(&mut Vec<Webhook>) -> Result<(), WebhookError> + Send + 'static,
    ) -> Result<(), RequestError> {
        let _alone = self.change.lock().await;
        let (folder, id) = (self.folder.clone(), instance.clone());
        let changed = tokio::task::spawn_blocking(move || folder.change_webhooks(&id, change)).await;
        let webhooks = changed.map_err(|_| RequestError::Task)??;
        self.lock().configured.insert(instance.clone(), webhooks.into());
        Ok(())
    }

    fn are_none(&self) -> bool {
        self.lock()
            .configured
            .values()
            .all(|webhooks| webhooks.is_empty())
    }

    /// Takes up what an event gives to tell, or lets go of what it ends.
    fn follow(&self, event: &Event, now: Micros) {
        let mut state = self.lock();
        let event_type = match &event.facts {
            Facts::PaymentCompleted(f) if is_first(f.part) => EventType::Pay,
            Facts::RefundApproved(f) if is_first(f.part) => EventType::Refund,
            Facts::WebhookDelivered(f) => return state.forget(&(f.of, f.webhook.clone())),
            Facts::WebhookGivenUp(f) => return state.forget(&(f.of, f.webhook.clone())),
            _ => return,
        };
        let Some(order) = event.order_key() else { return };
        let webhooks = state.configured.get(&order.instance).cloned().unwrap_or_default();
        let told = |webhook: &&Webhook| {
            webhook.details.event_type == event_type && webhook.created_us <= event.at_us
        };
        for webhook in webhooks.iter().filter(told) {
            let key = (event.seq, webhook.id.clone());
            let due = Due {
                order: order.clone(),
                event_type,
                at: event.at_us,
                attempts: 0,
                next: now,
            };
            state.queue.insert((now, key.clone()));
            state.due.insert(key, due);
        }
    }

    async fn client(&self, url: &Url) -> Result<&Client, ClientError> {
        let is_https = url.scheme() == "https";
        let client = || async { Client::new(url, None, "application/json", None) };
        self.clients[usize::from(is_https)].get_or_try_init(client).await
    }
}

fn is_first(part: Option<quittance_events::facts::Part>) -> bool {
    part.is_none_or(|part| part.0 == 1)
}

impl State {
    fn forget(&mut self, key: &Key) {
        if let Some(due) = self.due.remove(key) {
            self.queue.remove(&(due.next, key.clone()));
        }
    }

    fn put_off(&mut self, key: &Key, next: Micros) {
        if let Some(due) = self.due.get_mut(key) {
            self.queue.remove(&(due.next, key.clone()));
            due.next = next;
            self.queue.insert((next, key.clone()));
        }
    }

    /// What is due and not under way, if another call may be made.
    fn take_next(&mut self, now: Micros) -> Option<Key> {
        if self.under_way.len() >= WEBHOOK_CALLS_MAX {
            return None;
        }
        // No pause is longer than the longest: what is due later was put off by a clock that has been set back since.
        let latest = now.plus_s(WEBHOOK_PAUSE_MAX_S);
        while let Some((next, key)) = self.queue.last().cloned()
            && next > latest
        {
            self.put_off(&key, now);
        }
        let is_due = |(next, key): &&(Micros, Key)| *next <= now && !self.under_way.contains(key);
        let passed = self.queue.iter().take(2 * WEBHOOK_CALLS_MAX);
        let (_, key) = passed.take_while(|(next, _)| *next <= now).find(is_due)?.clone();
        self.under_way.insert(key.clone());
        Some(key)
    }
}

/// Follows the ledger and delivers, for as long as the service lives. What is under way at the end is told again.
pub async fn run(service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(BACKGROUND_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.changed() => return,
        }
        match catch_up(&service).await {
            Ok(()) => {
                let now = (service.clock)();
                loop {
                    let next = service.webhooks.lock().take_next(now);
                    let Some(key) = next else { break };
                    let service = Arc::clone(&service);
                    tokio::spawn(async move {
                        attempt(&service, &key).await;
                        service.webhooks.lock().under_way.remove(&key);
                    });
                }
            }
            Err(error) => tracing::error!(%error, "the ledger could not be read for webhooks; trying again"),
        }
    }
}

/// Reads what was recorded since the last time.
async fn catch_up(service: &Arc<Service>) -> Result<(), RequestError> {
    let size = Seq::new(service.ledger.stats().events).unwrap_or(Seq::NONE);
    if service.webhooks.are_none() {
        // A webhook tells of nothing that was before it.
        service.webhooks.lock().seen = Some(size);
        return Ok(());
    }
    loop {
        let seen = service.webhooks.lock().seen;
        if seen.is_some_and(|seen| seen >= size) {
            return Ok(());
        }
        let (ledger, now) = (Arc::clone(&service.ledger), (service.clock)());
        let read = tokio::task::spawn_blocking(move || {
            let from = now.minus_s(WEBHOOK_LOOK_BACK_S);
            let seen = seen.map_or_else(|| ledger.before(from, FOLLOW_PIECE), Ok)?;
            ledger.events_of_kinds(seen, FOLLOW_PIECE, &KINDS)
        });
        let (events, seen) = read.await.map_err(|_| RequestError::Task)??;
        for event in &events {
            service.webhooks.follow(event, now);
        }
        service.webhooks.lock().seen = Some(seen);
    }
}

/// How an attempt ended.
enum End {
    Delivered(u16),
    Refused,
    Unreached,
    /// There is nothing to send, and will not be: the contract is erased, or the templates come to too much.
    Unmade,
}

async fn attempt(service: &Arc<Service>, key: &Key) {
    let (of, id) = key;
    let (order, event_type, at, attempt) = {
        let mut state = service.webhooks.lock();
        let Some(due) = state.due.get_mut(key) else { return };
        due.attempts += 1;
        (due.order.clone(), due.event_type, due.at, due.attempts)
    };
    let configured = service.webhooks.of(&order.instance);
    let is_it = |webhook: &&Webhook| webhook.id == *id && webhook.details.event_type == event_type;
    let Some(webhook) = configured.iter().find(is_it) else {
        // Deleted since, or changed to tell of other things.
        return service.webhooks.lock().forget(key);
    };
    let now = (service.clock)();
    let end = match tell(service, webhook, event_type, *of, &order, now).await {
        Ok(end) => end,
        Err(error) => {
            tracing::error!(%order, webhook = %id, %error, "an order could not be read for a webhook");
            service.webhooks.lock().put_off(key, pause(now, attempt));
            return;
        }
    };
    let outcome = match end {
        End::Delivered(_) => "delivered",
        End::Refused => "refused",
        End::Unreached => "unreached",
        End::Unmade => "unmade",
    };
    service.metrics.told_a_shop(outcome);
    let (webhook, of, given_up_at) = (id.clone(), *of, at.plus_s(WEBHOOK_GIVE_UP_S));
    let facts: Facts = match end {
        End::Delivered(http_status) => WebhookDelivered {
            webhook,
            of,
            attempt,
            http_status,
        }
        .into(),
        _ if now >= given_up_at => WebhookGivenUp { webhook, of, attempt }.into(),
        _ => {
            let mut state = service.webhooks.lock();
            // The last attempt is made when the time is over.
            state.put_off(key, pause(now, attempt).min(given_up_at));
            if state.failing.insert((order.instance.clone(), id.clone())) {
                tracing::warn!(instance = %order.instance, webhook = %id, outcome, "a webhook is not taken; it is tried again");
            }
            return;
        }
    };
    let is_delivered = matches!(facts, Facts::WebhookDelivered(_));
    if !is_delivered {
        service.metrics.told_a_shop("given_up");
        tracing::warn!(%order, webhook = %id, of = %of, "a webhook was given up");
    } else if service
        .webhooks
        .lock()
        .failing
        .remove(&(order.instance.clone(), id.clone()))
    {
        tracing::info!(instance = %order.instance, webhook = %id, "the webhook is taken again");
    }
    let append = Append {
        stream: Stream::Told(order.clone()),
        at: service.now(service.ledger.cached(&order).as_ref()),
        events: vec![NewEvent::bare(facts)],
    };
    match service.ledger.append(append).await {
        Ok(_) => service.webhooks.lock().forget(key),
        Err(error) => {
            tracing::warn!(%order, webhook = %id, %error, "a webhook's delivery was not recorded; it is told again");
            service.webhooks.lock().put_off(key, pause(now, attempt));
        }
    }
}

/// When the next attempt is made after one of this number failed.
fn pause(now: Micros, attempt: u64) -> Micros {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let pause = 2u64
        .checked_pow(doublings)
        .and_then(|factor| factor.checked_mul(WEBHOOK_FIRST_S));
    now.plus_s(pause.map_or(WEBHOOK_PAUSE_MAX_S, |pause| pause.min(WEBHOOK_PAUSE_MAX_S)))
}

async fn tell(
    service: &Arc<Service>,
    webhook: &Webhook,
    event_type: EventType,
    of: Seq,
    key: &OrderKey,
    now: Micros,
) -> Result<End, RequestError> {
    let Some(order) = service.order(key).await? else {
        return Ok(End::Unmade);
    };
    let terms = service.contract(&order).await?;
    let reason = match event_type {
        EventType::Pay => None,
        EventType::Refund => service.attachment(of, AttachmentName::Reason).await?,
    };
    let values = values(&order, event_type, of, terms.as_deref(), reason.as_deref())?;
    let Some(request) = webhook.request(&values, of, now) else {
        return Ok(End::Unmade);
    };
    let client = match service.webhooks.client(&webhook.details.url).await {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "no webhook can be sent over https");
            return Ok(End::Unreached);
        }
    };
    let called = tokio::time::timeout(WEBHOOK_TIME, client.call(request, WEBHOOK_REPLY_MAX)).await;
    Ok(match called.unwrap_or(Err(Failure::Timeout)) {
        Ok(reply) if (200..300).contains(&reply.http_status) => End::Delivered(reply.http_status),
        Ok(_) => End::Refused,
        Err(_) => End::Unreached,
    })
}

/// What templates may name.
fn values(
    order: &Order,
    event_type: EventType,
    of: Seq,
    terms: Option<&[u8]>,
    reason: Option<&[u8]>,
) -> Result<Value, RequestError> {
    let terms: Value = terms
        .and_then(|bytes| serde_json::from_slice(bytes).ok())
        .unwrap_or_default();
    let mut values = json!({
        "webhook_type": event_type.as_str(),
        "instance_id": order.key.instance,
        "order_id": order.key.order,
        "amount": order.terms.amount,
        "contract_terms": terms,
    });
    match event_type {
        EventType::Pay => {
            let at = order.payment.as_ref().map(|payment| payment.at.floor_s());
            values["timestamp"] = json!(at.map(TalerTimestamp));
        }
        EventType::Refund => {
            // In all, as of that approval: later ones tell of themselves.
            let approved = order.rows.iter().filter(|row| row.approval <= of);
            let total: Amount = amount::sum(order.currency(), approved.map(|row| row.amount))?;
            let at = order
                .rows
                .iter()
                .find(|row| row.approval == of)
                .map(|row| row.execution_s);
            values["timestamp"] = json!(at.map(TalerTimestamp));
            values["refund_amount"] = json!(total);
            values["reason"] = json!(reason.map(String::from_utf8_lossy));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn pauses_grow_from_ten_seconds_to_an_hour() {
        let now = Micros::from_s(1000).unwrap();
        let pauses: Vec<u64> = [1, 2, 3, 8, 9, 10, 64, 65, u64::MAX]
            .map(|attempt| (pause(now, attempt).get() - now.get()) / 1_000_000)
            .into();
        assert_eq!(pauses, [10, 20, 40, 1280, 2560, 3600, 3600, 3600, 3600]);
    }

    #[test]
    fn what_is_under_way_is_not_taken_twice_and_a_clock_set_back_puts_nothing_off_for_ever() {
        let mut state = State::default();
        let at = |seconds: u64| Micros::from_s(1_000_000 + seconds).unwrap();
        let order = OrderKey {
            instance: InstanceId::root(),
            order: "a".parse().unwrap(),
        };
        for (seq, next) in [(1, at(0)), (2, at(5)), (3, at(100_000))] {
            let key = (Seq::new(seq).unwrap(), "w".parse().unwrap());
            let due = Due {
                order: order.clone(),
                event_type: EventType::Pay,
                at: next,
                attempts: 0,
                next,
            };
            state.queue.insert((next, key.clone()));
            state.due.insert(key, due);
        }
        let mut taken = || {
            let key = state.take_next(at(0));
            key.map(|(seq, _)| seq.get())
        };
        assert_eq!([taken(), taken(), taken()], [Some(1), Some(3), None]);
    }
}
