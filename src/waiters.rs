//! Who waits for something to happen to an order: long polling. Each is told of what happens after he began to wait,
//! and looks for himself what it was. Nobody is queued: who finds no place among those who wait is answered at once. Of
//! orders that nobody waits for, nothing is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quittance_events::{InstanceId, OrderKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::limits::WAITERS_MAX;

/// What one waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Whatever happens to an order.
    Order(OrderKey),
    /// An order of the instance is new, paid or refunded.
    Orders(InstanceId),
}

#[derive(Default)]
struct State {
    topics: HashMap<Topic, watch::Sender<()>>,
    closed: bool,
}

type Shared = Arc<Mutex<State>>;

/// Plain data, whole before anything can panic.
fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All who wait.
pub struct Waiters {
    places: Arc<Semaphore>,
    state: Shared,
}

impl Default for Waiters {
    fn default() -> Waiters {
        Waiters {
            places: Arc::new(Semaphore::new(WAITERS_MAX)),
            state: Shared::default(),
        }
    }
}

impl Waiters {
    /// Begins to wait; `None` where there is no place, or nothing to wait for because the service stops. What happens
    /// from here on is not missed.
    #[must_use]
    pub fn begin(&self, topic: Topic) -> Option<Waiter> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let mut state = lock(&self.state);
        if state.closed {
            return None;
        }
        let sender = state
            .topics
            .entry(topic.clone())
            .or_insert_with(|| watch::channel(()).0);
        let happened = sender.subscribe();
        Some(Waiter {
            state: Arc::clone(&self.state),
            topic,
            happened,
            _place: place,
        })
    }

    /// How many wait.
    #[must_use]
    pub fn count(&self) -> usize {
        WAITERS_MAX.saturating_sub(self.places.available_permits())
    }

    /// Something happened.
    pub fn tell(&self, topic: &Topic) {
        if let Some(sender) = lock(&self.state).topics.get(topic) {
            sender.send_replace(());
        }
    }

    /// Sends everybody away: the service stops.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.topics.clear();
    }
}

/// One who waits.
pub struct Waiter {
    state: Shared,
    topic: Topic,
    happened: watch::Receiver<()>,
    _place: OwnedSemaphorePermit,
}

impl Waiter {
    /// Whether something happened by then, since this was asked last.
    pub async fn wait(&mut self, until: Instant) -> bool {
        matches!(timeout_at(until, self.happened.changed()).await, Ok(Ok(())))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        // This one is still counted.
        let is_last = |sender: &watch::Sender<()>| sender.receiver_count() <= 1;
        if state.topics.get(&self.topic).is_some_and(is_last) {
            state.topics.remove(&self.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::time::Duration;

    use super::*;

    fn order(name: &str) -> Topic {
        Topic::Order(OrderKey {
            instance: InstanceId::root(),
            order: name.parse().unwrap(),
        })
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(10)
    }

    fn late() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    #[tokio::test]
    async fn what_happens_after_the_beginning_is_not_missed() {
        let waiters = Waiters::default();
        waiters.tell(&order("a"));
        let mut a = waiters.begin(order("a")).unwrap();
        let mut again = waiters.begin(order("a")).unwrap();
        let mut b = waiters.begin(order("b")).unwrap();
        waiters.tell(&order("a"));
        waiters.tell(&order("a"));
        assert!(a.wait(late()).await);
        assert!(!a.wait(soon()).await, "both were seen");
        assert!(!b.wait(soon()).await);
        drop(a);
        waiters.tell(&order("a"));
        assert!(again.wait(late()).await);
        drop((again, b));
        assert!(lock(&waiters.state).topics.is_empty());
    }

    #[tokio::test]
    async fn who_finds_no_place_does_not_wait_and_nobody_does_when_it_closes() {
        let waiters = Waiters::default();
        let mut all: Vec<Waiter> = (0..WAITERS_MAX)
            .map(|_| waiters.begin(order("a")).unwrap())
            .collect();
        assert!(waiters.begin(order("b")).is_none());
        let mut one = all.pop().unwrap();
        drop(all);
        waiters.close();
        assert!(!one.wait(late()).await);
        assert!(waiters.begin(order("b")).is_none());
    }
}
