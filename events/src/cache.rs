//! What readers and the writer share: the state as of the last commit. Orders are kept folded up to a bound; what
//! fell out is folded anew from the file. Only the writer publishes, and only after a commit.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use quittance_taler::Micros;

use crate::book::Book;
use crate::condition::Condition;
use crate::ids::OrderKey;
use crate::keys::KeyRing;
use crate::limits::ORDERS_CACHED_MAX;
use crate::sale::Folded;
use crate::stats::Stats;
use crate::store::StoreError;

struct State {
    orders: LruCache<OrderKey, Folded>,
    book: Arc<Book>,
    greatest_at: Micros,
    /// Commits published so far. A reader that loaded an order while this grew may hold an old state and must not
    /// put it into the cache.
    published: u64,
}

pub(crate) struct Shared {
    pub(crate) origin: Arc<str>,
    pub(crate) ring: KeyRing,
    pub(crate) condition: Condition,
    pub(crate) stats: Stats,
    state: Mutex<State>,
}

/// A panic while one of this crate's locks is held leaves plain data that was swapped in whole, so going on is safe.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn bounded<K: std::hash::Hash + Eq, V>(max: usize) -> LruCache<K, V> {
    LruCache::new(NonZeroUsize::new(max).expect("a cache's bound is above zero"))
}

impl Shared {
    pub(crate) fn new(ring: KeyRing, book: Book, greatest_at: Micros) -> Shared {
        let orders = bounded(ORDERS_CACHED_MAX);
        let state = Mutex::new(State {
            orders,
            book: Arc::new(book),
            greatest_at,
            published: 0,
        });
        Shared {
            origin: ring.origin.as_str().into(),
            ring,
            condition: Condition::default(),
            stats: Stats::new(),
            state,
        }
    }

    pub(crate) fn book(&self) -> Arc<Book> {
        Arc::clone(&lock(&self.state).book)
    }

    pub(crate) fn greatest_at(&self) -> Micros {
        lock(&self.state).greatest_at
    }

    pub(crate) fn cached(&self, key: &OrderKey) -> Option<Folded> {
        lock(&self.state).orders.get(key).cloned()
    }

    /// As [`Shared::cached`], for who looks at many orders and should not keep others from staying.
    pub(crate) fn peeked(&self, key: &OrderKey) -> Option<Folded> {
        lock(&self.state).orders.peek(key).cloned()
    }

    /// The order as committed; `read` folds it from the file where it is not in memory.
    pub(crate) fn folded(
        &self,
        key: &OrderKey,
        read: impl FnOnce() -> Result<Option<Folded>, StoreError>,
    ) -> Result<Option<Folded>, StoreError> {
        let published = {
            let mut state = lock(&self.state);
            if let Some(order) = state.orders.get(key) {
                return Ok(Some(order.clone()));
            }
            state.published
        };
        let Some(order) = read()? else {
            return Ok(None);
        };
        let mut state = lock(&self.state);
        if state.published == published {
            state.orders.put(key.clone(), order.clone());
        }
        Ok(Some(order))
    }

    /// Makes a commit visible.
    pub(crate) fn publish(
        &self,
        orders: HashMap<OrderKey, Option<Folded>>,
        book: Arc<Book>,
        greatest_at: Micros,
    ) {
        let mut state = lock(&self.state);
        state.published += 1;
        state.book = book;
        state.greatest_at = greatest_at;
        for (key, order) in orders {
            if let Some(order) = order {
                state.orders.put(key, order);
            }
        }
    }
}
