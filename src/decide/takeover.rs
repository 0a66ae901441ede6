//! Decides what a successor ledger carries in from the one that it continues: which orders, and which of their events.
//! What the two parties to an order still owe each other must be answered as before; all else stays behind, in a file
//! that is kept. Specification: `docs/event-format.md`, "Successors".

use quittance_events::facts::{CarriedInRow, Part, RefundCarriedIn, Verdict};
use quittance_events::order::{AbortedCoin, Row};
use quittance_events::sale::Batch;
use quittance_events::{Facts, NewEvent, Order, RefundId, Seq, TokenId};
use quittance_taler::{CoinPub, Micros};

/// What stands as `by` of the refunds that a successor carries in: no token told them, the predecessor did.
///
/// # Panics
/// Never: the name is a constant that the rule allows.
#[must_use]
pub fn by() -> TokenId {
    "takeover".parse().expect("`takeover` is a token id")
}

/// Whether an order is carried in: its wire deadline is not past, or an exchange has not decided one of its refunds, or
/// has confirmed one that no wallet was told of. What was never sent to the exchange by the wire deadline is decided,
/// unless the events are lost that would say that it was sent.
#[must_use]
pub fn in_flight(order: &Order, now: Micros, after_loss: bool) -> bool {
    let owed = |row: &Row| match row.outcome.confirmation() {
        Some(_) => !row.taken,
        None => (row.requested || after_loss) && !row.outcome.is_refused(),
    };
    !now.is_past(order.terms.wire_deadline_s)
        || order.aborts.iter().any(AbortedCoin::is_open)
        || order.rows.iter().any(owed)
}

/// Whether the successor records this event of the order as it was, in its place among the others: contract, deposits,
/// aborts and payment, so that they are judged as they were. An abort's final refusal is one of them: it lets the coin
/// count for the payment, and is never sent again. `seq` is the event's.
#[must_use]
pub fn is_repeated(order: &Order, seq: Seq, facts: &Facts) -> bool {
    match facts {
        Facts::OrderCreated(_)
        | Facts::OrderClaimed(_)
        | Facts::OrderDeleted(_)
        | Facts::SessionPaid(_)
        | Facts::OrderRecorded(_)
        | Facts::DepositRecorded(_)
        | Facts::AbortRequested(_)
        | Facts::AbortExtended(_)
        | Facts::PaymentCompleted(_) => true,
        Facts::ExchangeReplied(f) => {
            f.rtransaction_id == RefundId::ABORT
                && f.verdict == Verdict::Refused
                && order
                    .aborted(&f.coin_pub)
                    .is_some_and(|coin| coin.outcome.is_refused())
        }
        Facts::DepositRequested(f) => {
            let before = f.part.map_or(0, |Part(i, _)| u64::from(i.saturating_sub(1)));
            let batches = order.sale.iter().flat_map(|sale| &sale.batches);
            let mut batches = batches.filter(|batch| batch.seq.get() + before == seq.get());
            batches.any(|batch| is_open(order, batch))
        }
        _ => false,
    }
}

/// What the exchange took is in the deposits, or came to nothing. What is in question it may have taken; and of a coin
/// that an abort asks for without a deposit the batch alone says where.
fn is_open(order: &Order, batch: &Batch) -> bool {
    let is_asked = |coin: &CoinPub| {
        let aborted = order.aborted(coin);
        order.deposit(coin).is_none() && aborted.is_some_and(|aborted| aborted.permission.is_some())
    };
    batch.is_in_question() || batch.coins.iter().any(|coin| is_asked(&coin.coin_pub))
}

/// The order's refunds, after all that is repeated: asked again when a wallet picks them up, and a repeat of what an
/// exchange granted is granted.
#[must_use]
pub fn refunds(order: &Order) -> Option<NewEvent> {
    let row = |row: &Row| CarriedInRow {
        coin_pub: row.coin_pub,
        rtransaction_id: row.rtransaction_id,
        amount: row.amount,
        execution_s: row.execution_s,
        merchant_sig: row.merchant_sig,
    };
    let facts = RefundCarriedIn {
        rows: order.rows.iter().map(row).collect(),
        part: None,
        by: by(),
    };
    (!order.rows.is_empty()).then(|| NewEvent::bare(facts))
}
