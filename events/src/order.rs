//! The order projection: what an order's events add up to. Folding never decides whether an event should have
//! happened (that is the service's decision before, and the auditor's afterwards); it only refuses events that
//! name something the order does not have, because no answer could be built from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quittance_taler::{
    Amount, AmountError, CoinPub, Currency, Digest32, EddsaSignature, MasterPub, Micros, Timestamp, amount,
};

use crate::event::{AttachmentName, Event, FORMAT_VERSION, Facts, NewEvent};
use crate::facts::{AbortCoinState, DepositRecorded, OrderRecorded, Part};
use crate::ids::{OrderKey, RefundId, Seq};
pub use crate::outcome::{Attempt, NO_DEPOSIT_CODES, Outcome, REPLY_HANDED_ON_MAX};
use crate::sale::Sale;
use crate::seal::no_digest;

/// Where an event of selling stands in an order that was told.
const UNSOLD: &str = "the order was not sold here";

/// An event that does not fit the order it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} ({kind}) does not fit its order: {what}")]
pub struct FoldError {
    /// The event.
    pub seq: Seq,
    /// Its kind.
    pub kind: &'static str,
    /// Why not.
    pub what: &'static str,
}

/// The first event of a decision of which this event is that part: parts follow each other.
fn first_part(seq: Seq, part: Option<Part>) -> Seq {
    let before = part.map_or(0, |Part(i, _)| u64::from(i.saturating_sub(1)));
    Seq::new(seq.get().saturating_sub(before)).unwrap_or(seq)
}

/// A permission of an approval, or one carried in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The coin.
    pub coin_pub: CoinPub,
    /// Its id.
    pub rtransaction_id: RefundId,
    /// The amount, refund fee included.
    pub amount: Amount,
    /// When it was approved.
    pub execution_s: Timestamp,
    /// The event that approved it (the first part), whose attachment `reason` says why; that which carried it in.
    pub approval: Seq,
    /// The merchant's signature.
    pub merchant_sig: EddsaSignature,
    /// Made elsewhere before a takeover.
    pub carried_in: bool,
    /// May have been sent to the exchange.
    pub requested: bool,
    /// What the exchange said.
    pub outcome: Outcome,
    /// Stood as success in an answer whose last byte went out.
    pub taken: bool,
}

impl Row {
    /// Whether a wallet may still get it. `past`: the order's wire deadline is.
    #[must_use]
    pub fn is_pending(&self, past: bool) -> bool {
        !self.taken && !self.outcome.is_refused() && (self.requested || !past)
    }

    /// Requested, and the exchange has not decided.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.requested && !self.outcome.is_conclusive()
    }
}

/// A coin under an abort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbortedCoin {
    /// The coin.
    pub coin_pub: CoinPub,
    /// Amount and merchant's signature, where there was a deposit.
    pub permission: Option<(Amount, EddsaSignature)>,
    /// What the exchange said.
    pub outcome: Outcome,
}

impl AbortedCoin {
    /// May have been sent, and the exchange has not decided.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.permission.is_some() && !self.outcome.is_conclusive()
    }
}

/// The payment that completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Sum of its coins, with fees.
    pub paid: Amount,
    /// The coins that it counts.
    pub coins: BTreeSet<CoinPub>,
    /// When it was completed.
    pub at: Micros,
}

/// A recorded answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedAnswer {
    /// The state it was built on.
    pub as_of: Seq,
    /// Digest of its body.
    pub body: Digest32,
    /// Its event (the last part).
    pub seq: Seq,
    /// That event's digest.
    pub event: Digest32,
    /// Of a refund's: which of the order's rows stood as success.
    success: Vec<usize>,
    /// Whether it is a refund's answer; only those are delivered.
    is_refund: bool,
    delivered: bool,
}

impl RecordedAnswer {
    /// Whether its last byte went out.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.delivered
    }
}

/// An order, as its events tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its name.
    pub key: OrderKey,
    /// The contract.
    pub terms: Arc<OrderRecorded>,
    /// The event whose attachment `terms` has the contract terms as they are now.
    pub terms_at: Seq,
    /// Deposits in recorded order.
    pub deposits: Vec<DepositRecorded>,
    /// The payment, once complete.
    pub payment: Option<Payment>,
    /// Permissions of approvals: carried-in ones first, then in order of approval and coin.
    pub rows: Vec<Row>,
    /// Coins under an abort, in the order in which they were first named.
    pub aborts: Vec<AbortedCoin>,
    /// Coin sets (sorted) whose abort was refused with 412.
    pub abort_refusals: BTreeSet<Vec<CoinPub>>,
    /// What selling adds; absent where the intake told of the order.
    pub sale: Option<Sale>,
    /// The last event that moved the order; answers are built as of it.
    pub moved: Seq,
    /// The last event of any kind.
    pub last: Seq,
    /// Its time.
    pub last_at: Micros,
    answers: Vec<RecordedAnswer>,
    refusal_parts: Vec<CoinPub>,
}

impl Order {
    /// An order begins with its `order_recorded`.
    ///
    /// # Errors
    /// Any other event, or one without an order.
    pub fn begin(event: &Event) -> Result<Order, FoldError> {
        let fail = |what| FoldError {
            seq: event.seq,
            kind: event.facts.kind(),
            what,
        };
        let Facts::OrderRecorded(terms) = &event.facts else {
            return Err(fail("nothing comes before order_recorded"));
        };
        Ok(Order {
            key: event.order_key().ok_or_else(|| fail("it names no order"))?,
            terms: Arc::new(terms.clone()),
            terms_at: event.seq,
            deposits: Vec::new(),
            payment: None,
            rows: Vec::new(),
            aborts: Vec::new(),
            abort_refusals: BTreeSet::new(),
            sale: None,
            moved: event.seq,
            last: event.seq,
            last_at: event.at_us,
            answers: Vec::new(),
            refusal_parts: Vec::new(),
        })
    }

    /// Folds the order's next event. `digest` is the event's, `reply` its `reply` attachment, if it has one.
    ///
    /// # Errors
    /// The event names a deposit, permission or answer that the order does not have. The order is then unchanged
    /// or half changed and must be dropped.
    #[expect(
        clippy::too_many_lines,
        reason = "one arm a kind: the fold is read as a table"
    )]
    pub fn apply(&mut self, event: &Event, digest: &Digest32, reply: Option<&[u8]>) -> Result<(), FoldError> {
        let fail = |what| FoldError {
            seq: event.seq,
            kind: event.facts.kind(),
            what,
        };
        match &event.facts {
            Facts::OrderRecorded(_) => return Err(fail("the order is recorded already")),
            Facts::DepositRecorded(deposit) => self.deposits.push(deposit.clone()),
            Facts::PaymentCompleted(f) => {
                let payment = self.payment.get_or_insert_with(|| Payment {
                    paid: f.paid,
                    coins: BTreeSet::new(),
                    at: event.at_us,
                });
                payment.coins.extend(f.coins.iter().copied());
            }
            Facts::RefundCarriedIn(f) => {
                for row in &f.rows {
                    let place = self.rows.iter().take_while(|row| row.carried_in).count();
                    self.rows.insert(
                        place,
                        Row {
                            coin_pub: row.coin_pub,
                            rtransaction_id: row.rtransaction_id,
                            amount: row.amount,
                            execution_s: row.execution_s,
                            approval: first_part(event.seq, f.part),
                            merchant_sig: row.merchant_sig,
                            carried_in: true,
                            // The shop may have sent it before; it is asked again as any that was sent.
                            requested: true,
                            outcome: Outcome::open_since(event.at_us),
                            taken: false,
                        },
                    );
                }
            }
            Facts::RefundApproved(f) => self.rows.extend(f.rows.iter().map(|row| Row {
                coin_pub: row.coin_pub,
                rtransaction_id: row.rtransaction_id,
                amount: row.amount,
                execution_s: f.execution_s,
                approval: first_part(event.seq, f.part),
                merchant_sig: row.merchant_sig,
                carried_in: false,
                requested: false,
                outcome: Outcome::default(),
                taken: false,
            })),
            Facts::RefundRequested(f) => {
                for name in &f.rows {
                    let row = self
                        .row_mut(&name.coin_pub, name.rtransaction_id)
                        .ok_or_else(|| fail("it names a permission that was not approved"))?;
                    row.requested = true;
                    row.outcome.since.get_or_insert(event.at_us);
                }
            }
            Facts::AbortRequested(f) => {
                for coin in &f.coins {
                    if coin.state == AbortCoinState::Known {
                        continue;
                    }
                    let permission = match (coin.state, coin.amount, coin.merchant_sig) {
                        (AbortCoinState::Deposited | AbortCoinState::Asked, Some(amount), Some(sig)) => {
                            Some((amount, sig))
                        }
                        (AbortCoinState::Undeposited, None, None) => None,
                        _ => {
                            return Err(fail(
                                "amount and signature go with what may be deposited and no other",
                            ));
                        }
                    };
                    self.name_in_abort(coin.coin_pub, permission, event.at_us);
                }
            }
            Facts::AbortExtended(f) => {
                for coin in &f.coins {
                    self.name_in_abort(coin.coin_pub, Some((coin.amount, coin.merchant_sig)), event.at_us);
                }
            }
            Facts::AbortRefused(f) => {
                self.refusal_parts.extend(f.coins.iter().copied());
                if Part::is_last(f.part) {
                    self.abort_refusals
                        .insert(std::mem::take(&mut self.refusal_parts));
                }
            }
            Facts::ExchangeReplied(f) => self
                .outcome_mut(&f.coin_pub, f.rtransaction_id)
                .ok_or_else(|| fail("no such permission"))?
                .replied(event.seq, f, reply),
            Facts::ExchangeUnreached(f) => self
                .outcome_mut(&f.coin_pub, f.rtransaction_id)
                .ok_or_else(|| fail("no such permission"))?
                .unreached(f),
            Facts::RefundAnswered(f) => {
                let success = f.rows.iter().flatten().filter(|row| row.exchange_status == 200);
                let success: Option<Vec<usize>> = success
                    .map(|row| {
                        self.rows.iter().position(|r| {
                            r.coin_pub == row.coin_pub && r.rtransaction_id == row.rtransaction_id
                        })
                    })
                    .collect();
                let success = success.ok_or_else(|| fail("it tells of a permission that does not exist"))?;
                self.answered(event.seq, f.as_of, f.body, *digest, true, success);
            }
            Facts::AbortAnswered(f) => {
                self.answered(event.seq, f.as_of, f.body, *digest, false, Vec::new());
            }
            Facts::RefundDelivered(f) => {
                let answer = self
                    .answers
                    .iter_mut()
                    .find(|answer| answer.seq == f.answer && answer.is_refund)
                    .ok_or_else(|| fail("no such answer is waiting to be delivered"))?;
                answer.delivered = true;
                for &row in &answer.success {
                    self.rows[row].taken = true;
                }
            }
            Facts::AttachmentErased(f) => {
                if f.name == AttachmentName::Reply {
                    let rows = self.rows.iter_mut().map(|row| &mut row.outcome);
                    let aborts = self.aborts.iter_mut().map(|coin| &mut coin.outcome);
                    rows.chain(aborts).for_each(|outcome| outcome.erased(f.seq));
                }
            }
            Facts::OrderClaimed(f) => self.sale_mut().ok_or_else(|| fail(UNSOLD))?.claim = Some(f.clone()),
            Facts::OrderDeleted(_) => self.sale_mut().ok_or_else(|| fail(UNSOLD))?.deleted = true,
            Facts::DepositRequested(f) => self
                .sale_mut()
                .ok_or_else(|| fail(UNSOLD))?
                .requested(event.seq, f),
            Facts::DepositReplied(f) => self
                .sale_mut()
                .and_then(|sale| sale.replied(event.seq, f))
                .ok_or_else(|| fail("no such batch of deposits"))?,
            Facts::DepositUnreached(f) => self
                .sale_mut()
                .and_then(|sale| sale.unreached(f))
                .ok_or_else(|| fail("no such batch of deposits"))?,
            Facts::SessionPaid(f) => {
                let sale = self.sale_mut().ok_or_else(|| fail(UNSOLD))?;
                sale.session = Some(f.session);
                sale.sessions += 1;
            }
            Facts::TermsForgotten(_) => self.terms_at = event.seq,
            // Of a shop told or not told, nothing of the order depends.
            Facts::WebhookDelivered(_) | Facts::WebhookGivenUp(_) => {}
            Facts::OrderCreated(_) => return Err(fail("the order exists already")),
            Facts::LedgerOpened(_)
            | Facts::AccountAdded(_)
            | Facts::AccountClosed(_)
            | Facts::LedgerKeyRotated(_)
            | Facts::TokenAdded(_)
            | Facts::TokenRevoked(_)
            | Facts::InstanceAdded(_)
            | Facts::InstanceClosed(_)
            | Facts::ExchangeKeysSeen(_)
            | Facts::ClockCorrected(_)
            | Facts::FormatRaised(_) => return Err(fail("it belongs to no order")),
        }
        if event.facts.moves_order() {
            self.moved = event.seq;
            // An answer can be given again only while the order stands still; a delivery may still be told of.
            self.answers
                .retain(|answer| answer.is_refund && !answer.delivered);
        }
        self.last = event.seq;
        self.last_at = event.at_us;
        Ok(())
    }

    /// The order that these events would begin, on a copy, as [`Order::preview`].
    ///
    /// # Errors
    /// There are none, or they do not fit.
    pub fn preview_begun(key: &OrderKey, at: Micros, events: &[NewEvent]) -> Result<Order, FoldError> {
        let (first, rest) = events.split_first().ok_or(FoldError {
            seq: Seq::NONE,
            kind: "order",
            what: "it has no event",
        })?;
        Order::begin(&unplaced(key, at, Seq::NONE.next(), first))?.preview(at, rest)
    }

    /// The order as it will be once these events are recorded at `at`, so that an answer can be built that shares
    /// their commit. Only the sequences in it are provisional.
    ///
    /// # Errors
    /// As [`Order::apply`].
    pub fn preview(&self, at: Micros, events: &[NewEvent]) -> Result<Order, FoldError> {
        let mut order = self.clone();
        for new in events {
            let event = unplaced(&self.key, at, order.last.next(), new);
            let reply = new
                .attachments
                .iter()
                .find(|(name, _)| *name == AttachmentName::Reply);
            order.apply(&event, &no_digest(), reply.map(|(_, bytes)| bytes.as_slice()))?;
        }
        Ok(order)
    }

    fn name_in_abort(&mut self, coin_pub: CoinPub, permission: Option<(Amount, EddsaSignature)>, at: Micros) {
        let place = self.aborts.iter().position(|coin| coin.coin_pub == coin_pub);
        let place = place.unwrap_or_else(|| {
            self.aborts.push(AbortedCoin {
                coin_pub,
                permission: None,
                outcome: Outcome::default(),
            });
            self.aborts.len() - 1
        });
        let coin = &mut self.aborts[place];
        coin.permission = permission.or(coin.permission);
        if permission.is_some() {
            coin.outcome.since.get_or_insert(at);
        }
    }

    fn answered(
        &mut self,
        seq: Seq,
        as_of: Seq,
        body: Digest32,
        event: Digest32,
        is_refund: bool,
        success: Vec<usize>,
    ) {
        match self
            .answers
            .iter_mut()
            .find(|answer| answer.as_of == as_of && answer.body == body)
        {
            // The next part of one answer: its event is the last part.
            Some(answer) => {
                answer.seq = seq;
                answer.event = event;
                answer.success.extend(success);
            }
            None => self.answers.push(RecordedAnswer {
                as_of,
                body,
                seq,
                event,
                success,
                is_refund,
                delivered: false,
            }),
        }
    }

    fn sale_mut(&mut self) -> Option<&mut Sale> {
        self.sale.as_mut()
    }

    fn row_mut(&mut self, coin: &CoinPub, id: RefundId) -> Option<&mut Row> {
        self.rows
            .iter_mut()
            .find(|row| row.coin_pub == *coin && row.rtransaction_id == id)
    }

    fn outcome_mut(&mut self, coin: &CoinPub, id: RefundId) -> Option<&mut Outcome> {
        if id == RefundId::ABORT {
            return self
                .aborts
                .iter_mut()
                .find(|aborted| aborted.coin_pub == *coin && aborted.permission.is_some())
                .map(|aborted| &mut aborted.outcome);
        }
        self.row_mut(coin, id)
            .filter(|row| row.requested)
            .map(|row| &mut row.outcome)
    }

    /// The event of the last recorded reply to this permission; [`Seq::NONE`] where the last attempt brought none.
    #[must_use]
    pub fn last_reply(&self, coin: &CoinPub, id: RefundId) -> Seq {
        let outcome = match id {
            RefundId::ABORT => self.aborted(coin).map(|coin| &coin.outcome),
            id => self.row(coin, id).map(|row| &row.outcome),
        };
        outcome.map_or(Seq::NONE, |outcome| outcome.reply)
    }

    /// The coin's deposit.
    #[must_use]
    pub fn deposit(&self, coin: &CoinPub) -> Option<&DepositRecorded> {
        self.deposits.iter().find(|deposit| deposit.coin_pub == *coin)
    }

    /// The exchange that has the coin's deposit, or that was asked to take one.
    #[must_use]
    pub fn exchange_of(&self, coin: &CoinPub) -> Option<MasterPub> {
        let deposited = self.deposit(coin).map(|deposit| deposit.exchange_master_pub);
        let asked = || self.sale.as_ref().and_then(|sale| sale.exchange_asked_of(coin));
        deposited.or_else(asked)
    }

    /// The coin as an abort names it.
    #[must_use]
    pub fn aborted(&self, coin: &CoinPub) -> Option<&AbortedCoin> {
        self.aborts.iter().find(|aborted| aborted.coin_pub == *coin)
    }

    /// The permission's row.
    #[must_use]
    pub fn row(&self, coin: &CoinPub, id: RefundId) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.coin_pub == *coin && row.rtransaction_id == id)
    }

    /// What the exchange said of a permission of either sort.
    #[must_use]
    pub fn outcome(&self, coin: &CoinPub, id: RefundId) -> Option<&Outcome> {
        if id == RefundId::ABORT {
            return self.aborted(coin).map(|aborted| &aborted.outcome);
        }
        self.row(coin, id).map(|row| &row.outcome)
    }

    /// Whether a deposited coin counts for a payment: no abort names it, or the exchange finally refused the
    /// abort's refund for another reason than that there is no such deposit.
    #[must_use]
    pub fn counts(&self, coin: &CoinPub) -> bool {
        self.aborted(coin)
            .is_none_or(|aborted| aborted.outcome.is_refused() && !aborted.outcome.says_no_deposit())
    }

    /// Whether the shop took it back: then it is unknown to everybody.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.sale.as_ref().is_some_and(|sale| sale.deleted)
    }

    /// The order's currency.
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.terms.amount.currency()
    }

    /// Sum of all rows: what was approved, carried-in refunds included.
    ///
    /// # Errors
    /// Beyond Taler's largest amount, or of several currencies.
    pub fn approved(&self) -> Result<Amount, AmountError> {
        amount::sum(self.currency(), self.rows.iter().map(|row| row.amount))
    }

    /// Sum of the coin's rows.
    ///
    /// # Errors
    /// As [`Order::approved`].
    pub fn approved_on(&self, coin: &CoinPub) -> Result<Amount, AmountError> {
        amount::sum(
            self.currency(),
            self.rows
                .iter()
                .filter(|row| row.coin_pub == *coin)
                .map(|row| row.amount),
        )
    }

    /// The latest `execution_s` of any row.
    #[must_use]
    pub fn last_execution(&self) -> Option<Timestamp> {
        self.rows.iter().map(|row| row.execution_s).max()
    }

    /// An answer that was recorded on the order's present state with this body.
    #[must_use]
    pub fn recorded_answer(&self, body: &Digest32) -> Option<&RecordedAnswer> {
        self.answers
            .iter()
            .find(|answer| answer.as_of == self.moved && answer.body == *body)
    }

    /// Whether the delivery of this answer is still to be recorded.
    #[must_use]
    pub fn awaits_delivery(&self, answer: Seq) -> bool {
        self.answers
            .iter()
            .any(|recorded| recorded.seq == answer && recorded.is_refund && !recorded.delivered)
    }

    /// Permissions that the exchange has not decided, though they may have been sent.
    pub fn open_permissions(&self) -> impl Iterator<Item = (CoinPub, RefundId)> {
        let rows = self
            .rows
            .iter()
            .filter(|row| row.is_open())
            .map(|row| (row.coin_pub, row.rtransaction_id));
        let aborts = self.aborts.iter().filter(|coin| coin.is_open());
        rows.chain(aborts.map(|coin| (coin.coin_pub, RefundId::ABORT)))
    }
}

/// An order's event as a fold takes it, before it has its place.
fn unplaced(key: &OrderKey, at: Micros, seq: Seq, new: &NewEvent) -> Event {
    Event {
        at_us: at,
        attachments: BTreeMap::new(),
        facts: new.facts.clone(),
        instance: Some(key.instance.clone()),
        ledger: "".into(),
        order: Some(key.order.clone()),
        prev: no_digest(),
        seq,
        version: FORMAT_VERSION,
    }
}
