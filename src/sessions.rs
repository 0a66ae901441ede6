//! Which orders were shown to be paid in which session of a browser, the latest last: so that a customer who has paid for
//! something is not asked to pay for it again. Learnt from `session_paid` events, those of the last days after a start;
//! what is forgotten here is in the ledger still, and costs no more than a look at an order that is to be paid.
//! Specification: Taler's merchant API, `already_paid_order_id`.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use quittance_events::{Event, Facts, InstanceId, OrderId, OrderKey, Seq};
use quittance_taler::Digest32;
use tokio::sync::watch;

use crate::limits::{FOLLOW_PIECE, SESSION_ORDERS_MAX, SESSIONS_KEPT_MAX, SESSIONS_LOOK_BACK_S};
use crate::refusal::RequestError;
use crate::service::Service;

/// Sessions of all instances.
pub struct Sessions(Mutex<LruCache<(InstanceId, Digest32), Vec<OrderId>>>);

impl Default for Sessions {
    fn default() -> Sessions {
        let most = NonZeroUsize::new(SESSIONS_KEPT_MAX).expect("the limit is not zero");
        Sessions(Mutex::new(LruCache::new(most)))
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, LruCache<(InstanceId, Digest32), Vec<OrderId>>> {
        // Plain data, each change of which is whole before the next can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The order was shown to be paid in this session.
    pub fn learn(&self, order: &OrderKey, session: Digest32) {
        let mut sessions = self.lock();
        let orders = sessions.get_or_insert_mut((order.instance.clone(), session), Vec::new);
        orders.retain(|known| *known != order.order);
        if orders.len() >= SESSION_ORDERS_MAX {
            orders.remove(0);
        }
        orders.push(order.order.clone());
    }

    fn learn_from(&self, event: &Event) {
        if let (Some(order), Facts::SessionPaid(facts)) = (event.order_key(), &event.facts) {
            self.learn(&order, facts.session);
        }
    }

    /// The session's orders, the latest first.
    #[must_use]
    pub fn orders(&self, instance: &InstanceId, session: Digest32) -> Vec<OrderId> {
        let mut sessions = self.lock();
        let orders = sessions.get(&(instance.clone(), session));
        orders
            .map(|orders| orders.iter().rev().cloned().collect())
            .unwrap_or_default()
    }
}

/// Learns what was recorded before the start, while the service is at work.
pub async fn recall(service: Arc<Service>, stop: watch::Receiver<bool>) {
    if let Err(error) = read_back(&service, &stop).await {
        tracing::error!(%error, "sessions of before the start could not be read; customers may be asked to pay twice");
    }
}

async fn read_back(service: &Arc<Service>, stop: &watch::Receiver<bool>) -> Result<(), RequestError> {
    let size = Seq::new(service.ledger.stats().events).unwrap_or(Seq::NONE);
    let from = (service.clock)().minus_s(SESSIONS_LOOK_BACK_S);
    let mut seen: Option<Seq> = None;
    while seen.is_none_or(|seen| seen < size) && !*stop.borrow() {
        let ledger = Arc::clone(&service.ledger);
        let read = tokio::task::spawn_blocking(move || {
            let seen = seen.map_or_else(|| ledger.before(from, FOLLOW_PIECE), Ok)?;
            ledger.events_of_kinds(seen, FOLLOW_PIECE, &["session_paid"])
        });
        let (events, end) = read.await.map_err(|_| RequestError::Task)??;
        for event in &events {
            service.sessions.learn_from(event);
        }
        seen = Some(end);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn key(instance: &str, order: &str) -> OrderKey {
        OrderKey {
            instance: instance.parse().unwrap(),
            order: order.parse().unwrap(),
        }
    }

    #[test]
    fn a_session_has_the_latest_orders_of_its_instance() {
        let sessions = Sessions::default();
        let (one, other) = (Digest32::from_bytes([1; 32]), Digest32::from_bytes([2; 32]));
        for order in ["a", "b", "a"] {
            sessions.learn(&key("shop", order), one);
        }
        let ids = |instance: &str, session| {
            let orders = sessions.orders(&instance.parse().unwrap(), session);
            orders.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ids("shop", one), ["a", "b"]);
        assert_eq!(ids("shop", other), [""; 0]);
        assert_eq!(ids("other", one), [""; 0]);
        for number in 0..=SESSION_ORDERS_MAX {
            sessions.learn(&key("shop", &number.to_string()), other);
        }
        let ids = ids("shop", other);
        assert_eq!(ids.len(), SESSION_ORDERS_MAX);
        assert_eq!(
            (ids[0].clone(), ids.last().unwrap().clone()),
            (SESSION_ORDERS_MAX.to_string(), "1".to_owned())
        );
    }
}
