//! Open permissions: which calls are under way, how often each was tried, and when the background asks next. Kept in
//! memory; the ledger alone says which permissions are open, so nothing is lost with it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quittance_events::{Order, OrderKey, RefundId};
use quittance_taler::{CoinPub, MasterPub, Micros};
use tokio::sync::watch;

use crate::limits::{BACKGROUND_CALLS_MAX, RETRY_FIRST_S, RETRY_MAX_S};

/// Names a permission among all orders.
pub type PermissionKey = (OrderKey, CoinPub, RefundId);

/// What this process knows of a permission beyond the ledger.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// Attempts made, recorded or not.
    attempts: u64,
    /// Times that somebody set out to ask, sent or not; the background's pause doubles with each.
    tries: u32,
    /// When the last began.
    asked: Option<Micros>,
    /// When the background asks next; `None` for carried-in ones, which it never asks.
    due: Option<Micros>,
    /// Its exchange, and since when it is open; not known of one taken up at the start until its order was read.
    place: Option<OpenPermission>,
}

/// An open permission as those who watch the service see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenPermission {
    /// Whose coin it is; `None`: not known yet.
    pub exchange: Option<MasterPub>,
    /// When it was first to be sent; `None`: not known yet.
    pub since: Option<Micros>,
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
pub(crate) struct Slot {
    pub(crate) key: PermissionKey,
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

pub(crate) enum Claim {
    Mine(Slot),
    Theirs(watch::Receiver<()>),
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

    /// Keeps of an order's open permissions where and since when they are open.
    pub fn learn(&self, order: &Order) {
        let mut state = lock(&self.state);
        for (coin, id) in order.open_permissions() {
            if let Some(memory) = state.memory.get_mut(&(order.key.clone(), coin, id)) {
                memory.place = Some(OpenPermission {
                    exchange: order.exchange_of(&coin),
                    since: order.outcome(&coin, id).and_then(|outcome| outcome.since),
                });
            }
        }
    }

    /// All that the background asks for.
    #[must_use]
    pub fn open(&self) -> Vec<OpenPermission> {
        let state = lock(&self.state);
        let open = state.memory.values().filter(|memory| memory.due.is_some());
        open.map(|memory| memory.place.unwrap_or_default()).collect()
    }

    /// Orders of permissions of which it is not known where they are open.
    pub(crate) fn unread(&self) -> BTreeSet<OrderKey> {
        let state = lock(&self.state);
        let unread = state
            .memory
            .iter()
            .filter(|(_, memory)| memory.due.is_some() && memory.place.is_none());
        unread.map(|((order, ..), _)| order.clone()).collect()
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
                // Much later than now: the clock has been set back since.
                .is_none_or(|asked| asked.plus_s(every_s) <= now || asked > now.plus_s(every_s))
    }

    /// All at once: of two requests that claimed the same ones by turns, each would wait for what the other has, and
    /// neither let go before its time is over.
    pub(crate) fn claim_all(&self, keys: &[PermissionKey]) -> Vec<Claim> {
        let mut state = lock(&self.state);
        keys.iter().map(|key| self.claim_in(&mut state, key)).collect()
    }

    pub(crate) fn claim(&self, key: &PermissionKey) -> Claim {
        self.claim_in(&mut lock(&self.state), key)
    }

    fn claim_in(&self, state: &mut State, key: &PermissionKey) -> Claim {
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
    pub(crate) fn begin(&self, key: &PermissionKey, recorded: u64, now: Micros) -> u64 {
        let mut state = lock(&self.state);
        let memory = state.memory.entry(key.clone()).or_default();
        memory.attempts = memory.attempts.max(recorded) + 1;
        memory.asked = Some(now);
        memory.tries = memory.tries.saturating_add(1);
        let attempts = memory.attempts;
        Settler::postpone(&mut state, key, now);
        attempts
    }

    /// Nothing could be sent: the background comes again later, and no attempt is counted.
    pub(crate) fn put_off(&self, key: &PermissionKey, now: Micros) {
        let mut state = lock(&self.state);
        let memory = state.memory.entry(key.clone()).or_default();
        memory.tries = memory.tries.saturating_add(1);
        Settler::postpone(&mut state, key, now);
    }

    /// It is too early to send anything: the background comes at `until`, and no attempt is counted.
    pub(crate) fn wait(&self, key: &PermissionKey, until: Micros) {
        let mut state = lock(&self.state);
        let memory = state.memory.get_mut(key);
        if let Some(due) = memory.and_then(|memory| memory.due.as_mut()) {
            let before = std::mem::replace(due, until);
            state.queue.remove(&(before, key.clone()));
            state.queue.insert((until, key.clone()));
        }
    }

    fn postpone(state: &mut State, key: &PermissionKey, now: Micros) {
        let Some(memory) = state.memory.get_mut(key) else {
            return;
        };
        let Some(due) = memory.due else { return };
        let pause_s = 1u64
            .checked_shl(memory.tries.saturating_sub(1))
            .map_or(RETRY_MAX_S, |factor| RETRY_FIRST_S.saturating_mul(factor));
        let next = now.plus_s(pause_s.min(RETRY_MAX_S));
        memory.due = Some(next);
        state.queue.remove(&(due, key.clone()));
        state.queue.insert((next, key.clone()));
    }

    /// No pause is longer than the longest: what is due later than that was put off by a clock that has been set back
    /// since, and would stay open for as long as that clock was wrong.
    fn catch_up(state: &mut State, now: Micros) {
        let latest = now.plus_s(RETRY_MAX_S);
        while let Some((due, key)) = state.queue.pop_last() {
            if due <= latest {
                state.queue.insert((due, key));
                return;
            }
            if let Some(memory) = state.memory.get_mut(&key) {
                memory.due = Some(now);
            }
            state.queue.insert((now, key));
        }
    }

    /// The next permission that is due and not under way, if the background may make another call.
    pub(crate) fn next_due(&self, now: Micros) -> Option<(PermissionKey, Slot)> {
        let key = {
            let mut state = lock(&self.state);
            if state.background_calls >= BACKGROUND_CALLS_MAX {
                return None;
            }
            Settler::catch_up(&mut state, now);
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

    /// A call that [`Settler::next_due`] gave leave for has ended.
    pub(crate) fn background_call_ended(&self) {
        lock(&self.state).background_calls -= 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::sync::Barrier;
    use std::thread;

    use quittance_events::InstanceId;

    use super::*;

    fn at(seconds: u64) -> Micros {
        Micros::from_s(1_000_000 + seconds).unwrap()
    }

    fn permission(number: u8) -> PermissionKey {
        let order = OrderKey {
            instance: InstanceId::root(),
            order: format!("order-{number}").parse().unwrap(),
        };
        (order, CoinPub::from_bytes([number; 32]), RefundId::ABORT)
    }

    #[test]
    fn a_clock_that_was_ahead_puts_nothing_off_for_longer_than_the_longest_pause() {
        let settler = Settler::default();
        let ahead = 100_000;
        for number in [1, 2] {
            settler.enqueue(permission(number), at(ahead));
            settler.begin(&permission(number), 0, at(ahead));
        }
        settler.enqueue(permission(3), at(RETRY_MAX_S));
        assert!(!settler.may_ask(&permission(1), 5, at(ahead + 1)));
        // Set right.
        assert!(settler.may_ask(&permission(1), 5, at(0)));
        let mut due = Vec::new();
        while let Some((key, slot)) = settler.next_due(at(0)) {
            settler.begin(&key, 1, at(0));
            drop(slot);
            due.push(key);
        }
        assert_eq!(due, [permission(1), permission(2)]);
        assert!(settler.next_due(at(RETRY_MAX_S)).is_some());
    }

    #[test]
    fn what_is_sent_too_early_waits_for_its_time_and_for_no_longer() {
        let settler = Settler::default();
        settler.enqueue(permission(1), at(0));
        for until in [60, 90] {
            let (key, slot) = settler.next_due(at(until - 30)).unwrap();
            settler.wait(&key, at(until));
            drop(slot);
            settler.background_call_ended();
            assert!(settler.next_due(at(until - 1)).is_none());
        }
        let asked = settler.next_due(at(90));
        assert!(asked.is_some());
        // Of what nobody is to ask for, nothing is waited for.
        settler.wait(&permission(2), at(0));
        assert!(settler.next_due(at(90)).is_none());
    }

    #[test]
    fn who_claims_several_has_all_or_waits_for_all() {
        let wanted: Vec<PermissionKey> = (0..32).map(permission).collect();
        for _ in 0..200 {
            let settler = Settler::default();
            let begin = Barrier::new(2);
            let claim = || {
                begin.wait();
                settler.claim_all(&wanted)
            };
            let claimed =
                thread::scope(|scope| [(); 2].map(|()| scope.spawn(claim)).map(|t| t.join().unwrap()));
            let mut mine = claimed.map(|claims| {
                let mine = claims.iter().filter(|claim| matches!(claim, Claim::Mine(_)));
                mine.count()
            });
            mine.sort_unstable();
            assert_eq!(mine, [0, wanted.len()]);
        }
    }

    #[test]
    fn a_wallet_asks_for_a_permission_once_in_the_interval_though_its_order_is_a_little_ahead() {
        let settler = Settler::default();
        settler.begin(&permission(1), 0, at(3));
        assert!(!settler.may_ask(&permission(1), 5, at(0)));
        assert!(!settler.may_ask(&permission(1), 5, at(7)));
        assert!(settler.may_ask(&permission(1), 5, at(8)));
    }
}
