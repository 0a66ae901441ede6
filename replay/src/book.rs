//! All orders of a ledger, in bounded memory: an order may get an event at any time, but few do at once. The states
//! of those that had an event lately are kept; a state that is dropped is folded anew from the ledger if an event
//! comes after all. What stays of every order is its name, where its events stand, and what was found.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use lru::LruCache;
use quittance_events::copy::{Copy, CopyError};
use quittance_events::{OrderKey, RefundId};
use quittance_taler::{CoinPub, MasterPub};

use crate::accounts::Accounts;
use crate::case::SigningKeys;
use crate::findings::Marks;
use crate::fold::OrderFold;
use crate::instances::Instances;
use crate::judge::{Again, Ledger};
use crate::owed;
use crate::parts::Decision;

/// Weight of the states kept, in units of about half a KiB: about 60 MB, and 10,000 orders of the usual size.
pub(crate) const STATES_KEPT: usize = 120_000;

/// How many events are folded again for each one read, before more states are kept.
const FOLDED_AGAIN_MAX: usize = 8;

/// Under which order an event is filed; 0 is the ledger's own.
pub(crate) type Filed = u32;

/// Of an event whose bytes do not tell.
const UNREADABLE: Filed = Filed::MAX;

/// No place before.
const NOWHERE: u32 = u32::MAX;

/// Where an event stands: sixteen bytes, of each event.
pub(crate) struct Place {
    /// The row's number.
    pub(crate) seq: i64,
    order: Filed,
    /// Index of the place before of the same order.
    before: u32,
}

impl Place {
    /// The order that the event belongs to, 0 for the ledger's own; nothing where it could not be read.
    pub(crate) fn order(&self) -> Option<Filed> {
        (self.order != UNREADABLE).then_some(self.order)
    }
}

/// An order, whatever of its state is in memory.
pub(crate) struct Slot {
    pub(crate) key: Arc<OrderKey>,
    pub(crate) marks: Marks,
    /// That events came before its first was told once.
    pub(crate) told_unborn: bool,
    /// It was recorded or offered.
    is_born: bool,
    /// Index of the last place.
    last: u32,
    /// Open permissions of a state that was dropped.
    open: Vec<(CoinPub, RefundId)>,
}

/// All orders.
pub(crate) struct Book {
    numbers: HashMap<Arc<OrderKey>, Filed>,
    /// By number, from 1.
    slots: Vec<Slot>,
    places: Vec<Place>,
    /// States in memory, with their weight.
    states: LruCache<Filed, (usize, Box<OrderFold>)>,
    weight: usize,
    weight_max: usize,
    /// Events that were folded once more since then.
    folded_again: usize,
}

/// What it takes to fold a state anew.
pub(crate) struct Source<'a> {
    pub(crate) copy: &'a Copy,
    pub(crate) signing_keys: &'a SigningKeys,
    pub(crate) exchange_keys: &'a [MasterPub],
    pub(crate) accounts: &'a Accounts,
    pub(crate) instances: &'a Instances,
    pub(crate) ledger: Ledger,
}

impl Book {
    pub(crate) fn new(weight_max: usize) -> Book {
        Book {
            numbers: HashMap::new(),
            slots: Vec::new(),
            places: Vec::new(),
            states: LruCache::unbounded(),
            weight: 0,
            weight_max,
            folded_again: 0,
        }
    }

    /// The order's number; a new one where it is new.
    pub(crate) fn number(&mut self, key: &OrderKey) -> Filed {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let key = Arc::new(key.clone());
        self.slots.push(Slot {
            key: Arc::clone(&key),
            marks: Marks::default(),
            told_unborn: false,
            is_born: false,
            last: NOWHERE,
            open: Vec::new(),
        });
        let number = Filed::try_from(self.slots.len()).expect("a file holds fewer than 2^32 orders");
        self.numbers.insert(key, number);
        number
    }

    pub(crate) fn slot(&mut self, number: Filed) -> &mut Slot {
        &mut self.slots[index(number)]
    }

    pub(crate) fn find(&self, key: &OrderKey) -> Option<&Slot> {
        self.numbers.get(key).map(|number| &self.slots[index(*number)])
    }

    /// Notes where an event stands.
    pub(crate) fn file(&mut self, seq: i64, order: Option<Filed>) {
        let here = u32::try_from(self.places.len()).expect("a file holds fewer than 2^32 events");
        let before = match order {
            Some(number) if number > 0 => std::mem::replace(&mut self.slot(number).last, here),
            _ => NOWHERE,
        };
        self.places.push(Place {
            seq,
            order: order.unwrap_or(UNREADABLE),
            before,
        });
    }

    /// All places, in stored order.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The order's name.
    pub(crate) fn name(&self, number: Filed) -> Option<&OrderKey> {
        self.slots.get(index(number)).map(|slot| &*slot.key)
    }

    /// How many orders were recorded or offered.
    pub(crate) fn born(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_born).count()
    }

    /// Takes an order's state out to judge its next decision; none before it is recorded or offered.
    ///
    /// # Errors
    /// It was dropped and its events cannot be read any more.
    pub(crate) fn take(
        &mut self,
        number: Filed,
        next: &Decision,
        source: &Source,
    ) -> Result<Option<Box<OrderFold>>, CopyError> {
        if let Some((weight, state)) = self.states.pop(&number) {
            self.weight -= weight;
            return Ok(Some(state));
        }
        let mut state = self.fold_again(number, next.row, source)?;
        if let Some(order) = &mut state {
            // Of a commit that is over, what it left owing was told then.
            let _told_before = owed::left_before(order, next);
        }
        Ok(state)
    }

    /// Takes an order's state out as its last event before a row left it.
    ///
    /// # Errors
    /// As [`Book::take`].
    pub(crate) fn take_last(
        &mut self,
        number: Filed,
        before: i64,
        source: &Source,
    ) -> Result<Option<Box<OrderFold>>, CopyError> {
        if let Some((weight, state)) = self.states.pop(&number) {
            self.weight -= weight;
            return Ok(Some(state));
        }
        self.fold_again(number, before, source)
    }

    fn fold_again(
        &mut self,
        number: Filed,
        before: i64,
        source: &Source,
    ) -> Result<Option<Box<OrderFold>>, CopyError> {
        let slot = &mut self.slots[index(number)];
        if !slot.is_born {
            return Ok(None);
        }
        slot.open = Vec::new();
        let mut seqs = Vec::new();
        let mut at = slot.last;
        while let Some(place) = usize::try_from(at).ok().and_then(|at| self.places.get(at)) {
            if place.seq < before {
                seqs.push(place.seq);
            }
            at = place.before;
        }
        seqs.reverse();
        self.note_folded_again(seqs.len());
        let slot = &self.slots[index(number)];
        let again = Again {
            key: &slot.key,
            signing_keys: source.signing_keys,
            exchange_keys: source.exchange_keys,
            accounts: source.accounts,
            instances: source.instances,
            ledger: source.ledger,
        };
        again.fold(source.copy, &seqs)
    }

    /// Large orders that get events by turns push each other out, and are folded anew for each event: then memory is
    /// cheaper than time without end.
    fn note_folded_again(&mut self, events: usize) {
        self.folded_again += events;
        if self.folded_again > FOLDED_AGAIN_MAX * self.places.len() {
            self.folded_again = 0;
            self.weight_max = self.weight_max.saturating_mul(2);
        }
    }

    /// Puts a state back after it was judged, and drops those of orders that had no event for long.
    pub(crate) fn put(&mut self, number: Filed, state: Option<Box<OrderFold>>) {
        let Some(state) = state else { return };
        self.slot(number).is_born = true;
        let weight = state.weight();
        self.weight += weight;
        self.states.put(number, (weight, state));
        // The order in hand stays: its next event is likely to come at once.
        while self.weight > self.weight_max
            && self.states.len() > 1
            && let Some((dropped, (weight, state))) = self.states.pop_lru()
        {
            self.weight -= weight;
            self.slot(dropped).open = state.open.iter().copied().collect();
        }
    }

    /// All permissions that are open at the end.
    pub(crate) fn open(&self) -> BTreeSet<(OrderKey, Vec<u8>, i64)> {
        let of = |number: Filed, (coin, id): &(CoinPub, RefundId)| {
            let key = OrderKey::clone(&self.slots[index(number)].key);
            (key, coin.as_bytes().to_vec(), id.sql())
        };
        let kept = self
            .states
            .iter()
            .flat_map(|(number, (_, state))| state.open.iter().map(|open| of(*number, open)));
        let dropped = self
            .slots
            .iter()
            .zip(1..)
            .flat_map(|(slot, number)| slot.open.iter().map(move |open| (number, open)));
        kept.chain(dropped.map(|(number, open)| of(number, open)))
            .collect()
    }
}

/// Numbers start at 1: of 0 there is no slot.
fn index(number: Filed) -> usize {
    usize::try_from(number).map_or(usize::MAX, |number| number.wrapping_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_that_push_each_other_out_are_kept_in_the_end() {
        let mut book = Book::new(100);
        for seq in 1..=10 {
            book.file(seq, Some(0));
        }
        for (events, kept) in [(80, 100), (1, 200), (80, 200), (1, 400)] {
            book.note_folded_again(events);
            assert_eq!(book.weight_max, kept);
        }
    }
}
