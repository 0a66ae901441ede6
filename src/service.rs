//! The service behind the endpoints: instances, ledger, exchanges and the clock, and the two loops that every
//! handler uses: decide and record, record and answer. A decision is recorded on the order state that it was made
//! on, or made again; an answer is on disk before it leaves.

use std::sync::Arc;

use quittance_events::answer::Answer;
use quittance_events::facts::Undeposited;
use quittance_events::order::RecordedAnswer;
use quittance_events::store::{StoreError, permission_changes};
use quittance_events::{
    Append, AppendError, Appended, AttachmentName, Facts, Folded, Ledger, NewEvent, Order, OrderKey,
    RefundId, Seq, Stream,
};
use quittance_taler::{CoinPub, Currency, Micros, json};
use serde_json::Value;
use url::Url;

use crate::access::Access;
use crate::account::Accounts;
use crate::admission::Admission;
use crate::clock::Clock;
use crate::decide::abort;
use crate::disk::{self, Disk};
use crate::exchange::{Exchanges, Times};
use crate::limits::{DECISION_TRIES, RETRY_FIRST_S};
use crate::managed::Instances;
use crate::metrics::{Metrics, Moment};
use crate::open::Settler;
use crate::paying::Paying;
use crate::refusal::{Refusal, RequestError};
use crate::sessions::Sessions;
use crate::waiters::{Topic, Waiters};
use crate::webhook::deliver::Webhooks;

/// All that the handlers share.
pub struct Service {
    /// What is recorded.
    pub ledger: Arc<Ledger>,
    /// Whom it is for.
    pub instances: Instances,
    /// Who refunds.
    pub exchanges: Arc<Exchanges>,
    /// The time.
    pub clock: Clock,
    /// What is open.
    pub settler: Settler,
    /// Who may come in.
    pub admission: Admission,
    /// Whether there is room for more.
    pub disk: Disk,
    /// Longest waits.
    pub times: Times,
    /// How undeposited coins are told.
    pub undeposited: Undeposited,
    /// The one currency of this service.
    pub currency: Currency,
    /// Exchanges as `GET config` tells them.
    pub exchange_list: Vec<crate::config::ExchangeConfig>,
    /// Where wallets reach the root instance.
    pub base_url: Url,
    /// Whose tokens are taken.
    pub access: Access,
    /// Where exchanges wire to.
    pub accounts: Accounts,
    /// Which servers of shops are told of what.
    pub webhooks: Webhooks,
    /// Who waits for something to happen to an order.
    pub waiters: Waiters,
    /// Who has paid for what already.
    pub sessions: Sessions,
    /// Payments on their way.
    pub paying: Paying,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Whether a list of orders is another one with this.
fn is_listed(facts: &Facts) -> bool {
    matches!(
        facts,
        Facts::OrderCreated(_)
            | Facts::OrderRecorded(_)
            | Facts::PaymentCompleted(_)
            | Facts::RefundApproved(_)
            | Facts::RefundCarriedIn(_)
    )
}

/// An answer that is on disk.
#[derive(Debug, Clone)]
pub struct Served {
    /// Status and body.
    pub answer: Box<Answer>,
    /// Where it is recorded.
    pub recorded: RecordedAnswer,
}

fn parsed(terms: &[u8], seq: Seq) -> Result<Value, RequestError> {
    let terms = json::parse_strict(terms);
    Ok(terms.map_err(|e| StoreError::Damaged(format!("the terms of event {seq}: {e}")))?)
}

/// What an exchange was asked for.
enum Asked {
    Refund(CoinPub),
    Deposit(Seq),
}

impl Service {
    /// The time of a decision on this order: the clock, or the order's last event, whichever is later.
    #[must_use]
    pub fn now(&self, order: Option<&Folded>) -> Micros {
        time_of_decision(&self.ledger, &self.clock, order)
    }

    /// What the order's events add up to.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn folded(&self, key: &OrderKey) -> Result<Option<Folded>, RequestError> {
        if let Some(order) = self.ledger.cached(key) {
            return Ok(Some(order));
        }
        // A thread that reads would come back at a moment of its own.
        #[cfg(feature = "simulation")]
        if self.ledger.is_stepped() {
            return Ok(self.ledger.folded(key)?);
        }
        let (ledger, key) = (Arc::clone(&self.ledger), key.clone());
        let read = tokio::task::spawn_blocking(move || ledger.folded(&key)).await;
        Ok(read.map_err(|_| RequestError::Task)??)
    }

    /// The order as it stands, where it has a contract and was not taken back.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn order(&self, key: &OrderKey) -> Result<Option<Arc<Order>>, RequestError> {
        let folded = self.folded(key).await?;
        let known = folded.filter(|folded| !folded.is_deleted());
        Ok(known.and_then(|folded| folded.order().cloned()))
    }

    /// The contract terms behind an event, as JSON; `None` where they are erased.
    ///
    /// # Errors
    /// The ledger cannot be read, or they are not what was recorded.
    pub async fn terms(&self, seq: Seq) -> Result<Option<Value>, RequestError> {
        let Some(bytes) = self.attachment(seq, AttachmentName::Terms).await? else {
            return Ok(None);
        };
        parsed(&bytes, seq).map(Some)
    }

    /// The order's contract terms as they are now, though members were forgotten since it was read; `None` where they are
    /// erased.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn contract(&self, order: &Arc<Order>) -> Result<Option<Vec<u8>>, RequestError> {
        // A thread that reads would come back at a moment of its own.
        #[cfg(feature = "simulation")]
        if self.ledger.is_stepped() {
            return Ok(self.ledger.contract(order)?);
        }
        let (ledger, order) = (Arc::clone(&self.ledger), Arc::clone(order));
        let read = tokio::task::spawn_blocking(move || ledger.contract(&order)).await;
        Ok(read.map_err(|_| RequestError::Task)??)
    }

    /// The same as JSON, or those of an offer.
    ///
    /// # Errors
    /// The ledger cannot be read, or they are not what was recorded.
    pub async fn terms_now(&self, folded: &Folded) -> Result<Option<Value>, RequestError> {
        let (seq, bytes) = match folded {
            Folded::Offered(offer) => return self.terms(offer.seq).await,
            Folded::Recorded(order) => (order.terms_at, self.contract(order).await?),
        };
        bytes.map(|bytes| parsed(&bytes, seq)).transpose()
    }

    /// Records events of an order that were decided on its state as of `decided_on`. What they open, the background
    /// takes up; what they close, it forgets.
    async fn append(
        &self,
        key: &OrderKey,
        decided_on: Seq,
        at: Micros,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        let changes: Vec<_> = events
            .iter()
            .flat_map(|event| permission_changes(&event.facts))
            .collect();
        let told_late = events
            .iter()
            .any(|event| matches!(event.facts, Facts::AbortExtended(_)));
        let verdicts: Vec<_> = events
            .iter()
            .filter_map(|event| match &event.facts {
                Facts::ExchangeReplied(f) => Some((Asked::Refund(f.coin_pub), f.verdict)),
                Facts::DepositReplied(f) => Some((Asked::Deposit(f.batch), f.verdict)),
                _ => None,
            })
            .collect();
        let stream = Stream::Order(key.clone(), decided_on);
        let is_listed = events.iter().any(|event| is_listed(&event.facts));
        let session = events.iter().rev().find_map(|event| match &event.facts {
            Facts::SessionPaid(facts) => Some(facts.session),
            _ => None,
        });
        let appended = self.ledger.append(Append { stream, at, events }).await?;
        if let Some(session) = session {
            self.sessions.learn(key, session);
        }
        self.waiters.tell(&Topic::Order(key.clone()));
        if is_listed {
            self.waiters.tell(&Topic::Orders(key.instance.clone()));
        }
        if let Some(order) = &appended.order() {
            for (asked, verdict) in verdicts {
                let exchange = match asked {
                    Asked::Refund(coin) => order.exchange_of(&coin),
                    Asked::Deposit(batch) => {
                        order.sale.as_ref().and_then(|sale| sale.exchange_of_batch(batch))
                    }
                };
                self.metrics.judged(exchange.as_ref(), verdict);
            }
        }
        let opened = changes.iter().any(|(.., opens)| *opens);
        for (coin, id, opens) in changes {
            let permission = (key.clone(), coin, id);
            if opens {
                let early = appended.order().filter(|_| id == RefundId::ABORT);
                let early = early.and_then(|order| self.abort_not_before(&order, &coin));
                // A request that opens a permission asks for it at once; the background comes after it.
                let due = early.unwrap_or(at.plus_s(if told_late { 0 } else { RETRY_FIRST_S }));
                self.settler.enqueue(permission, due);
            } else {
                self.settler.forget(&permission);
            }
        }
        if let (true, Some(order)) = (opened, &appended.order()) {
            self.settler.learn(order);
        }
        Ok(appended)
    }

    /// Until when an abort's refund of this coin waits for a deposit that may still be on its way.
    pub(crate) fn abort_not_before(&self, order: &Order, coin: &CoinPub) -> Option<Micros> {
        let since_tried = |batch| self.paying.since_tried(&order.key, batch);
        abort::not_before(order, coin, since_tried, (self.clock)())
    }

    /// Makes a decision on the order's latest state and records it; gives the order afterwards. An order that nobody has
    /// claimed has no contract, and is none here; nor is one that was taken back.
    ///
    /// # Errors
    /// The decision's refusal (whose own events are recorded), or what kept it from being recorded.
    pub async fn decide_and_record(
        &self,
        key: &OrderKey,
        decide: impl Fn(Option<&Order>, Micros) -> Result<Vec<NewEvent>, Refusal>,
    ) -> Result<Option<Arc<Order>>, RequestError> {
        let of_order = |folded: Option<&Folded>, at| {
            let known = folded.filter(|folded| !folded.is_deleted());
            decide(known.and_then(Folded::order).map(AsRef::as_ref), at)
        };
        let folded = self.decide_and_record_sale(key, of_order).await?;
        Ok(folded.and_then(|folded| folded.order().cloned()))
    }

    /// As [`Service::decide_and_record`], for what orders without a contract have their say in, too.
    ///
    /// # Errors
    /// As there.
    pub async fn decide_and_record_sale(
        &self,
        key: &OrderKey,
        decide: impl Fn(Option<&Folded>, Micros) -> Result<Vec<NewEvent>, Refusal>,
    ) -> Result<Option<Folded>, RequestError> {
        for _ in 0..DECISION_TRIES {
            let order = self.folded(key).await?;
            let at = self.now(order.as_ref());
            let (events, refusal) = match decide(order.as_ref(), at) {
                Ok(events) => (events, None),
                Err(mut refusal) => (std::mem::take(&mut refusal.events), Some(refusal)),
            };
            // What is recorded already is answered as always: only what would add to it is refused.
            if events.iter().any(|event| disk::takes_on(&event.facts)) && self.disk.is_low() {
                return Err(RequestError::DiskLow);
            }
            let order = if events.is_empty() {
                order
            } else {
                let decided_on = order.as_ref().map_or(Seq::NONE, Folded::moved);
                match self.append(key, decided_on, at, events).await {
                    Ok(appended) => appended.folded,
                    Err(AppendError::Moved) => continue,
                    Err(error) => return Err(error.into()),
                }
            };
            return refusal.map_or(Ok(order), |refusal| Err(refusal.into()));
        }
        Err(RequestError::Contended)
    }

    /// Records attempts at the exchange (`attempts` makes their events for the order as it stands) together with the
    /// answer that they make possible. `build` answers on the order as it is with them, or says why there is no answer to record.
    ///
    /// # Errors
    /// What kept it from being recorded.
    pub async fn record_and_answer<U>(
        &self,
        key: &OrderKey,
        attempts: impl Fn(&Order, Micros) -> Vec<NewEvent>,
        build: impl Fn(&Order, Micros) -> Result<Result<Box<Answer>, U>, RequestError>,
    ) -> Result<Result<Served, U>, RequestError> {
        for _ in 0..DECISION_TRIES {
            let order = self.order(key).await?.ok_or(RequestError::Contended)?;
            let at = self.now(Some(&Folded::Recorded(Arc::clone(&order))));
            let mut events = attempts(&order, at);
            let answered = if events.is_empty() {
                build(&order, at)?
            } else {
                let preview = order.preview(at, &events);
                build(&preview.map_err(|e| AppendError::Unfit(e.to_string()))?, at)?
            };
            let answer = match answered {
                Ok(answer) => answer,
                Err(unrecorded) if events.is_empty() => return Ok(Err(unrecorded)),
                Err(unrecorded) => match self.append(key, order.moved, at, events).await {
                    Ok(_) => return Ok(Err(unrecorded)),
                    Err(AppendError::Moved) => continue,
                    Err(error) => return Err(error.into()),
                },
            };
            if let (true, Some(recorded)) = (events.is_empty(), order.recorded_answer(&answer.digest)) {
                return Ok(Ok(Served {
                    recorded: recorded.clone(),
                    answer,
                }));
            }
            events.push(NewEvent::bare(answer.facts.clone()));
            match self.append(key, order.moved, at, events).await {
                Ok(Appended {
                    answer: Some(recorded),
                    ..
                }) => return Ok(Ok(Served { answer, recorded })),
                Ok(_) => {
                    return Err(AppendError::Unfit("an answer was recorded and not folded".into()).into());
                }
                Err(AppendError::Moved) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RequestError::Contended)
    }

    /// The metrics as of now.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        self.metrics.text(Moment {
            now: (self.clock)(),
            ledger: self.ledger.stats(),
            open: self.settler.open(),
            inside: self.admission.inside(),
            exchanges: self.exchanges.held_back(),
            disk_is_low: self.disk.is_low(),
        })
    }

    /// Takes up what was open when the service stopped.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn take_up_open_permissions(&self) -> Result<usize, RequestError> {
        let open = self.ledger.open_permissions()?;
        let count = open.len();
        let now = (self.clock)();
        for permission in open {
            self.settler.enqueue(permission, now);
        }
        Ok(count)
    }
}

/// The time of a decision on this order: the clock, or the order's last event, whichever is later.
pub(crate) fn time_of_decision(ledger: &Ledger, clock: &Clock, order: Option<&Folded>) -> Micros {
    let now = clock();
    match order.map(Folded::last) {
        Some((last, at)) if last > ledger.book().clock_epoch => now.max(at),
        _ => now,
    }
}
