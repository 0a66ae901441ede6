//! What a successor and its predecessor have of the orders that one takes over from the other, read side by side. What
//! is compared of it, `takeover.rs` says.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use quittance_events::copy::{Copy, CopyError, StoredEvent};
use quittance_events::facts::{AbortCoinState, Verdict};
use quittance_events::seal::{SALT_LEN, attachment_digest};
use quittance_events::{Event, Facts, OrderKey, RefundId};
use quittance_taler::{Amount, CoinPub, Digest32, EddsaSignature, Micros, Timestamp};
use quittance_tlog::{Frontier, leaf_hash};

use crate::case::named_amounts;
use crate::deposits::{is_refused_otherwise, is_unsure};

/// A refund, but for its name.
pub(crate) type Terms = (Amount, Timestamp, EddsaSignature);
/// Names a refund of an order.
pub(crate) type Name = (CoinPub, RefundId);

/// What is repeated of an event: facts, and of each attachment a digest without salt.
pub(crate) struct Repeated {
    pub(crate) seq: u64,
    pub(crate) facts: Facts,
    pub(crate) attachments: BTreeMap<String, Option<Digest32>>,
}

impl Repeated {
    fn of(event: Event, stored: &StoredEvent) -> Repeated {
        let digest = |bytes: &Option<Vec<u8>>| {
            bytes
                .as_ref()
                .map(|bytes| attachment_digest(&[0; SALT_LEN], bytes))
        };
        let attachments = stored.attachments.iter();
        Repeated {
            seq: event.seq.get(),
            facts: event.facts,
            attachments: attachments.map(|a| (a.name.clone(), digest(&a.bytes))).collect(),
        }
    }

    pub(crate) fn is(&self, other: &Repeated) -> bool {
        // Of bytes that are erased on one side nothing can be said.
        let same = |(mine, other): (&Option<Digest32>, &Option<Digest32>)| {
            mine.is_none() || other.is_none() || mine == other
        };
        self.facts == other.facts
            && self.attachments.keys().eq(other.attachments.keys())
            && self
                .attachments
                .values()
                .zip(other.attachments.values())
                .all(same)
    }
}

/// An order, as one of the two ledgers has it.
#[derive(Default)]
pub(crate) struct Order {
    /// What is not a refund, in order.
    pub(crate) events: Vec<Repeated>,
    /// In order.
    pub(crate) refunds: Vec<(Name, Terms)>,
    /// The event of the first refund.
    pub(crate) refunds_at: Option<u64>,
    /// Permissions that may have been sent, and their amounts.
    pub(crate) sent: HashMap<Name, Amount>,
    /// What exchanges decided first.
    pub(crate) decided: HashMap<Name, Verdict>,
    pub(crate) wire_deadline_s: Option<Timestamp>,
    /// Batches of deposits that their exchange took, or did not take for certain.
    batches_settled: BTreeSet<u64>,
    /// Those of which an attempt may have been taken and not confirmed.
    batches_unsure: BTreeSet<u64>,
    deposited: BTreeSet<CoinPub>,
}

impl Order {
    /// Takes in an event of the predecessor.
    fn take(&mut self, event: &Event) {
        match &event.facts {
            Facts::OrderRecorded(f) => self.wire_deadline_s = Some(f.wire_deadline_s),
            Facts::RefundCarriedIn(f) => {
                for row in &f.rows {
                    let name = (row.coin_pub, row.rtransaction_id);
                    self.refunds
                        .push((name, (row.amount, row.execution_s, row.merchant_sig)));
                    self.sent.insert(name, row.amount);
                }
            }
            Facts::RefundApproved(f) => {
                self.refunds.extend(f.rows.iter().map(|row| {
                    let name = (row.coin_pub, row.rtransaction_id);
                    (name, (row.amount, f.execution_s, row.merchant_sig))
                }));
            }
            Facts::RefundRequested(f) => {
                for row in &f.rows {
                    let name = (row.coin_pub, row.rtransaction_id);
                    let amount = self.refunds.iter().find(|(known, _)| *known == name);
                    self.sent.extend(amount.map(|(name, terms)| (*name, terms.0)));
                }
            }
            Facts::AbortRequested(f) => {
                let granted = f
                    .coins
                    .iter()
                    .filter(|coin| matches!(coin.state, AbortCoinState::Deposited | AbortCoinState::Asked));
                let amounts =
                    granted.filter_map(|coin| Some(((coin.coin_pub, RefundId::ABORT), coin.amount?)));
                self.sent.extend(amounts);
            }
            Facts::AbortExtended(f) => {
                let coins = f.coins.iter();
                self.sent
                    .extend(coins.map(|coin| ((coin.coin_pub, RefundId::ABORT), coin.amount)));
            }
            Facts::DepositRecorded(f) => {
                self.deposited.insert(f.coin_pub);
            }
            Facts::DepositUnreached(f) => {
                self.batches_unsure.insert(f.batch.get());
            }
            Facts::DepositReplied(f) => {
                let batch = f.batch.get();
                if is_unsure(f) {
                    self.batches_unsure.insert(batch);
                }
                let is_open = is_refused_otherwise(f) && self.batches_unsure.contains(&batch);
                if f.verdict.is_conclusive() && !is_open {
                    self.batches_settled.insert(batch);
                }
            }
            Facts::ExchangeReplied(f) if f.verdict.is_conclusive() => {
                self.decided
                    .entry((f.coin_pub, f.rtransaction_id))
                    .or_insert(f.verdict);
            }
            _ => {}
        }
    }

    /// Whether a successor repeats this event, the last one that was taken in.
    pub(crate) fn is_repeated(&self, facts: &Facts) -> bool {
        match facts {
            Facts::OrderRecorded(_)
            | Facts::OrderCreated(_)
            | Facts::OrderClaimed(_)
            | Facts::OrderDeleted(_)
            | Facts::SessionPaid(_)
            | Facts::DepositRecorded(_)
            | Facts::PaymentCompleted(_)
            | Facts::AbortRequested(_)
            | Facts::AbortExtended(_)
            // Of these, only what is still open at the end.
            | Facts::DepositRequested(_) => true,
            Facts::ExchangeReplied(f) => {
                let name = (f.coin_pub, f.rtransaction_id);
                f.rtransaction_id == RefundId::ABORT
                    && f.verdict == Verdict::Refused
                    && self.decided.get(&name) == Some(&Verdict::Refused)
            }
            _ => false,
        }
    }

    /// Whether a batch of deposits is repeated, now that all is known that came of it: its exchange may have taken it, or an
    /// abort asks for one of its coins that is not deposited.
    fn is_open(&self, event: &Repeated) -> bool {
        let Facts::DepositRequested(f) = &event.facts else {
            return true;
        };
        let before = f.part.map_or(0, |part| u64::from(part.0.saturating_sub(1)));
        let batch = event.seq.saturating_sub(before);
        // Parts of one batch stand together or not at all.
        let of_batch = self.events.iter().filter_map(|other| match &other.facts {
            Facts::DepositRequested(f) => {
                let before = f.part.map_or(0, |part| u64::from(part.0.saturating_sub(1)));
                (other.seq.saturating_sub(before) == batch).then_some(&f.coins)
            }
            _ => None,
        });
        let is_asked = |coin: &CoinPub| {
            !self.deposited.contains(coin) && self.sent.contains_key(&(*coin, RefundId::ABORT))
        };
        !self.batches_settled.contains(&batch) || of_batch.flatten().any(|coin| is_asked(&coin.coin_pub))
    }

    /// Leaves out what a successor does not repeat.
    fn settle(&mut self) {
        let open: Vec<bool> = self.events.iter().map(|event| self.is_open(event)).collect();
        let mut open = open.into_iter();
        self.events.retain(|_| open.next().unwrap_or(true));
    }

    /// Takes in an event of the successor's takeover.
    fn take_over(&mut self, event: Event, stored: &StoredEvent) {
        let Facts::RefundCarriedIn(f) = &event.facts else {
            self.events.push(Repeated::of(event, stored));
            return;
        };
        self.refunds_at.get_or_insert(event.seq.get());
        self.refunds.extend(f.rows.iter().map(|row| {
            let name = (row.coin_pub, row.rtransaction_id);
            (name, (row.amount, row.execution_s, row.merchant_sig))
        }));
    }

    /// Amounts that may have been sent and that no exchange has decided.
    pub(crate) fn undecided(&self) -> impl Iterator<Item = Amount> {
        self.sent
            .iter()
            .filter(|(name, _)| !self.decided.contains_key(*name))
            .map(|(_, amount)| *amount)
    }

    /// Whether a successor must have it, whatever was lost.
    pub(crate) fn in_flight(&self, at: Micros) -> bool {
        self.wire_deadline_s.is_some_and(|deadline| !at.is_past(deadline))
            || self.undecided().next().is_some()
    }

    /// All amounts that its refunds and aborts name.
    pub(crate) fn named(&self) -> Vec<Amount> {
        let aborts = self
            .events
            .iter()
            .filter(|event| matches!(event.facts, Facts::AbortRequested(_) | Facts::AbortExtended(_)));
        let refunds = self.refunds.iter().map(|(_, terms)| terms.0);
        refunds
            .chain(aborts.flat_map(|event| named_amounts(&event.facts)))
            .collect()
    }
}

pub(crate) type Orders = BTreeMap<OrderKey, Order>;

/// The predecessor as its file has it.
pub(crate) struct Old {
    pub(crate) origin: Option<String>,
    pub(crate) generation: u64,
    /// Events in the file.
    pub(crate) count: u64,
    /// Root at the size that is named; nothing where the file holds fewer events.
    pub(crate) root: Option<Digest32>,
    /// As of that size.
    pub(crate) orders: Orders,
}

impl Old {
    /// Of orders that the successor does not have, nothing is kept but what is owed: most are long concluded.
    pub(crate) fn read(copy: &Copy, size: u64, new: &Orders) -> Result<Old, CopyError> {
        let mut frontier = Frontier::default();
        let mut old = Old {
            origin: None,
            generation: 0,
            count: 0,
            root: None,
            orders: Orders::new(),
        };
        copy.walk::<CopyError>(|item| {
            let Ok(stored) = item else { return Ok(()) };
            old.count += 1;
            if old.count > size {
                return Ok(());
            }
            frontier.push(leaf_hash(&[stored.sealed.as_slice(), &stored.signature].concat()));
            if old.count == size {
                old.root = Some(Digest32::from_bytes(frontier.root().0));
            }
            // What cannot be read is a finding of the predecessor's own verification.
            let Ok(event) = Event::parse(&stored.sealed) else {
                return Ok(());
            };
            match (&event.facts, event.order_key()) {
                (Facts::LedgerOpened(genesis), _) if old.count == 1 => {
                    old.generation = genesis
                        .predecessor
                        .as_ref()
                        .and_then(|p| p.generation)
                        .unwrap_or(0);
                    old.origin = Some(genesis.origin.clone());
                }
                (_, Some(key)) => {
                    let is_compared = new.contains_key(&key);
                    let order = old.orders.entry(key).or_default();
                    order.take(&event);
                    if is_compared && order.is_repeated(&event.facts) {
                        order.events.push(Repeated::of(event, &stored));
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        old.orders.values_mut().for_each(Order::settle);
        Ok(old)
    }
}

/// Ends the walk over the successor where its takeover ends.
enum Stop {
    Over,
    Damaged(CopyError),
}

impl From<CopyError> for Stop {
    fn from(error: CopyError) -> Stop {
        Stop::Damaged(error)
    }
}

/// Orders as the takeover recorded them, and its time: the events after the genesis that bear its time, up to the first
/// instance that is opened.
pub(crate) fn taken_over(copy: &Copy) -> Result<(Orders, Option<Micros>), CopyError> {
    let (mut orders, mut at) = (Orders::new(), None);
    let walked = copy.walk::<Stop>(|item| {
        let Ok(stored) = item else { return Ok(()) };
        let Ok(event) = Event::parse(&stored.sealed) else {
            return Ok(());
        };
        if event.at_us != *at.get_or_insert(event.at_us) || matches!(event.facts, Facts::InstanceAdded(_)) {
            return Err(Stop::Over);
        }
        if let Some(key) = event.order_key() {
            orders.entry(key).or_default().take_over(event, &stored);
        }
        Ok(())
    });
    match walked {
        Err(Stop::Damaged(error)) => Err(error),
        Ok(()) | Err(Stop::Over) => Ok((orders, at)),
    }
}
