//! Delivers webhooks: follows the ledger for payments and approvals, tells the shop's servers of them, and tries again
//! until one says 2xx or three days are over. What is still to be told is in memory and found again in the ledger after
//! a restart; that something was told, the ledger says once it was. So a server may be told twice, never not at all. No
//! wallet waits for any of it, and a reply's body is nobody's business. Whose turn it is, `lines.rs` says.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quittance_events::facts::{Failure, WebhookDelivered, WebhookGivenUp};
use quittance_events::{
    Append, AttachmentName, Event, Facts, InstanceId, NewEvent, Order, OrderKey, Seq, Stream, WebhookId,
};
use quittance_taler::time::TalerTimestamp;
use quittance_taler::{Amount, ErrorCode, Micros, amount};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use url::Url;

use super::lines::{Due, Lines, Name, Turn, pause};
use super::{EventType, Webhook, WebhookError};
use crate::client::{Client, ClientError};
use crate::instance::{KeyFileError, KeyFolder};
use crate::limits::{BACKGROUND_TICK, FOLLOW_PIECE, WEBHOOK_LOOK_BACK_S, WEBHOOK_REPLY_MAX, WEBHOOK_TIME};
use crate::refusal::{Refusal, RequestError};
use crate::service::Service;

/// What webhooks tell of, and what ends them.
const KINDS: [&str; 4] = [
    "payment_completed",
    "refund_approved",
    "webhook_delivered",
    "webhook_given_up",
];

#[derive(Default)]
struct State {
    configured: HashMap<InstanceId, Arc<[Webhook]>>,
    lines: Lines,
    /// Webhooks whose last attempt failed: told of when it begins and when it ends.
    failing: BTreeSet<Name>,
    /// How far the ledger was followed; nowhere yet since the start.
    seen: Option<Seq>,
}

/// The webhooks of a service.
pub struct Webhooks {
    folder: KeyFolder,
    state: Mutex<State>,
    /// For http, and for https once it is needed.
    clients: [tokio::sync::OnceCell<Client>; 2],
    /// A call has ended: the next may be made at once.
    freed: Notify,
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
            freed: Notify::new(),
            change: tokio::sync::Mutex::default(),
        })
    }

    /// Has an instance that was opened begin with none.
    pub async fn open_of(&self, instance: &InstanceId) {
        let _alone = self.change.lock().await;
        self.lock().set(instance, Some(Arc::default()));
    }

    /// Tells of nothing of an instance any more, since it was closed, and takes its webhooks away: whoever has it next
    /// is another.
    ///
    /// # Errors
    /// Their file cannot be removed; they are not told all the same.
    pub async fn close_of(&self, instance: &InstanceId) -> Result<(), RequestError> {
        let _alone = self.change.lock().await;
        self.lock().set(instance, None);
        let (folder, id) = (self.folder.clone(), instance.clone());
        let removed = tokio::task::spawn_blocking(move || folder.remove_webhooks(&id)).await;
        Ok(removed.map_err(|_| RequestError::Task)??)
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
    /// `change` refuses, the instance was closed meanwhile, or the file cannot be read or written; then nothing is
    /// changed.
    pub async fn change(
        &self,
        instance: &InstanceId,
        change: impl FnOnce(&mut Vec<Webhook>) -> Result<(), WebhookError> + Send + 'static,
    ) -> Result<(), RequestError> {
        let _alone = self.change.lock().await;
        if !self.lock().configured.contains_key(instance) {
            return Err(Refusal::new(ErrorCode::MerchantGenericInstanceUnknown).into());
        }
        let (folder, id) = (self.folder.clone(), instance.clone());
        let changed = tokio::task::spawn_blocking(move || folder.change_webhooks(&id, change)).await;
        let webhooks = changed.map_err(|_| RequestError::Task)??;
        self.lock().set(instance, Some(webhooks.into()));
        Ok(())
    }

    fn are_none(&self) -> bool {
        self.lock()
            .configured
            .values()
            .all(|webhooks| webhooks.is_empty())
    }

    /// Takes up what an event gives to tell, or lets go of what it ends.
    fn follow(&self, event: &Event) {
        let Some(order) = event.order_key() else { return };
        let mut state = self.lock();
        let mut forget = |webhook: &WebhookId, of| {
            let name = (order.instance.clone(), webhook.clone());
            state.lines.forget(&name, of);
        };
        let event_type = match &event.facts {
            Facts::PaymentCompleted(f) if is_first(f.part) => EventType::Pay,
            Facts::RefundApproved(f) if is_first(f.part) => EventType::Refund,
            Facts::WebhookDelivered(f) => return forget(&f.webhook, f.of),
            Facts::WebhookGivenUp(f) => return forget(&f.webhook, f.of),
            _ => return,
        };
        let webhooks = state.configured.get(&order.instance).cloned().unwrap_or_default();
        let told = |webhook: &&Webhook| webhook.tells_of(event_type, event.at_us);
        for webhook in webhooks.iter().filter(told) {
            let due = Due::new(order.clone(), event_type, event.at_us);
            state.lines.add(webhook.id.clone(), event.seq, due);
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
    /// Has these be an instance's webhooks from now on, and lets go of what none of them tells.
    fn set(&mut self, instance: &InstanceId, webhooks: Option<Arc<[Webhook]>>) {
        let now = webhooks.as_deref().unwrap_or_default();
        let of = |id: &WebhookId| now.iter().find(|webhook| webhook.id == *id);
        self.lines.retain(instance, |id, due| {
            of(id).is_some_and(|webhook| webhook.tells_of(due.event_type, due.at))
        });
        self.failing
            .retain(|(owner, id)| owner != instance || of(id).is_some());
        match webhooks {
            Some(webhooks) => self.configured.insert(instance.clone(), webhooks),
            None => self.configured.remove(instance),
        };
    }
}

/// A turn's place among the calls, given back when it is dropped, whatever became of the call.
struct Place {
    service: Arc<Service>,
    turn: Turn,
    again: Option<Micros>,
}

impl Place {
    async fn used(mut self) {
        self.again = attempt(&self.service, &self.turn).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let webhooks = &self.service.webhooks;
        webhooks.lock().lines.end(&self.turn, self.again);
        webhooks.freed.notify_one();
    }
}

/// Follows the ledger and delivers, for as long as the service lives. What is under way at the end is told again.
pub async fn run(service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(BACKGROUND_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let looks = tokio::select! {
            _ = tick.tick() => true,
            () = service.webhooks.freed.notified() => false,
            _ = stop.changed() => return,
        };
        if looks && let Err(error) = catch_up(&service).await {
            tracing::error!(%error, "the ledger could not be read for webhooks; trying again");
            continue;
        }
        let now = (service.clock)();
        loop {
            let next = service.webhooks.lock().lines.take_next(now);
            let Some(turn) = next else { break };
            let place = Place {
                service: Arc::clone(&service),
                // Should it end in a panic.
                again: Some(pause(now, turn.due.attempts)),
                turn,
            };
            tokio::spawn(place.used());
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
            service.webhooks.follow(event);
        }
        service.webhooks.lock().seen = Some(seen);
    }
}

/// How an attempt ended.
enum End {
    Delivered(u16),
    Refused(u16),
    Unreached,
    /// There is nothing to send, and will not be: the contract is erased, or the templates come to too much.
    Unmade,
}

impl End {
    fn outcome(&self) -> &'static str {
        match self {
            End::Delivered(_) => "delivered",
            End::Refused(_) => "refused",
            End::Unreached => "unreached",
            End::Unmade => "unmade",
        }
    }

    /// Whether it is the server that takes nothing, rather than this message that it does not take: silence, and the
    /// words for it of a server that has too much to do and of a proxy without one behind it.
    fn is_down(&self) -> Option<bool> {
        match self {
            End::Delivered(_) => Some(false),
            End::Refused(status) => Some(matches!(status, 429 | 502..=504)),
            End::Unreached => Some(true),
            End::Unmade => None,
        }
    }
}

/// When it is to be tried again, if it is.
async fn attempt(service: &Arc<Service>, turn: &Turn) -> Option<Micros> {
    let Turn {
        name,
        of,
        due,
        is_over,
    } = turn;
    let (of, (instance, id), order, attempt) = (*of, name, &due.order, due.attempts);
    let configured = service.webhooks.of(instance);
    let is_it = |webhook: &&Webhook| webhook.id == *id && webhook.tells_of(due.event_type, due.at);
    // Else it was deleted since, or changed to tell of other things.
    let webhook = configured.iter().find(is_it)?;
    let now = (service.clock)();
    let again = Some(pause(now, attempt));
    let delivered = if *is_over {
        None
    } else {
        let end = match tell(service, webhook, due.event_type, of, order, now).await {
            Ok(end) => end,
            Err(error) => {
                tracing::error!(%order, webhook = %id, %error, "an order could not be read for a webhook");
                return again;
            }
        };
        service.metrics.told_a_shop(end.outcome());
        let mut state = service.webhooks.lock();
        if let Some(is_down) = end.is_down() {
            state.lines.found(turn, now, is_down);
        }
        match end {
            End::Delivered(http_status) => {
                if state.failing.remove(name) {
                    tracing::info!(%instance, webhook = %id, "the webhook is taken again");
                }
                Some(http_status)
            }
            _ if now >= due.given_up_at() => None,
            end => {
                if state.failing.insert(name.clone()) {
                    tracing::warn!(%instance, webhook = %id, outcome = end.outcome(), "a webhook is not taken; it is tried again");
                }
                // The last attempt is made when the time is over.
                return again.map(|again| again.min(due.given_up_at()));
            }
        }
    };
    let webhook = id.clone();
    let facts: Facts = match delivered {
        Some(http_status) => WebhookDelivered {
            webhook,
            of,
            attempt,
            http_status,
        }
        .into(),
        None => {
            service.metrics.told_a_shop("given_up");
            tracing::warn!(%order, webhook = %id, of = %of, "a webhook was given up");
            WebhookGivenUp { webhook, of, attempt }.into()
        }
    };
    let append = Append {
        stream: Stream::Told(order.clone()),
        at: service.now(service.ledger.cached(order).as_ref()),
        events: vec![NewEvent::bare(facts)],
    };
    match service.ledger.append(append).await {
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%order, webhook = %id, %error, "a webhook's delivery was not recorded; it is told again");
            again
        }
    }
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
        Ok(reply) => End::Refused(reply.http_status),
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
