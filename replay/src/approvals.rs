//! Rules of approvals and of refunds taken over: totals, rows, ids, signatures, times, deadlines.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use quittance_events::facts::{RefundApproved, RefundCarriedIn, RefundRequested};
use quittance_events::{Facts, RefundId};
use quittance_taler::{Amount, CoinPub, EddsaSignature, Timestamp, message};

use crate::case::{Case, named_amounts};
use crate::findings::Mark;
use crate::fold::{OrderFold, amount_of, units};
use crate::judge::Ledger;
use crate::rules;

/// After a loss ids begin at this many times the generation: those of the lost events stay below.
const GENERATION: u64 = 1 << 20;

/// Whether the merchant signed this refund.
pub(crate) fn merchant_signed(
    order: &OrderFold,
    (coin, id): (&CoinPub, RefundId),
    amount: &Amount,
    signature: &EddsaSignature,
) -> bool {
    let message = message::refund_request(&order.terms.h_contract, coin, id.get(), amount);
    order.terms.merchant_pub.verify(&message, signature)
}

impl Case<'_> {
    /// Likewise; what was judged before is not checked again, as nothing in the order's state rests on it.
    pub(crate) fn merchant_signed(
        &self,
        order: &OrderFold,
        permission: (&CoinPub, RefundId),
        amount: &Amount,
        signature: &EddsaSignature,
    ) -> bool {
        self.is_again || merchant_signed(order, permission, amount, signature)
    }
}

/// Refunds made elsewhere.
pub(crate) fn carried_in(order: &mut OrderFold, f: &RefundCarriedIn, ledger: Ledger, case: &mut Case) {
    let currency = order.currency();
    // What was sold here was refunded here, if not in the ledger before this one.
    if order.sale.is_some() && !ledger.taking_over {
        let draft = case
            .draft(&rules::APPROVAL_CARRIED_IN, "the order was sold here")
            .stake(named_amounts(&f.clone().into()));
        case.find(draft, &[Mark::Total], &[Mark::Total]);
    }
    if !order.approved.is_empty() {
        let draft = case
            .draft(
                &rules::APPROVAL_CARRIED_IN,
                "the order's first approval was before",
            )
            .stake(named_amounts(&f.clone().into()));
        case.find(draft, &[Mark::Total], &[Mark::Total]);
    }
    for row in &f.rows {
        let permission = Mark::Permission(row.coin_pub, row.rtransaction_id);
        let depends = [Mark::Terms, Mark::Coin(row.coin_pub), Mark::Payment];
        let counted = order
            .payment
            .as_ref()
            .is_none_or(|payment| payment.coins.contains(&row.coin_pub));
        let wrong = if row.rtransaction_id.get() == 0 {
            Some("id 0 is that of aborts")
        } else if order.refund(&row.coin_pub, row.rtransaction_id).is_some() {
            Some("the id is taken")
        } else if row.amount.currency() != currency || row.amount.is_zero() {
            Some("the amount is nothing, or in another currency")
        } else if order.deposit(&row.coin_pub).is_none() || !counted {
            Some("the coin is not deposited for the payment")
        } else {
            None
        };
        if let Some(what) = wrong {
            let text = format!("coin {}, id {}: {what}", row.coin_pub, row.rtransaction_id);
            let draft = case.draft(&rules::APPROVAL_CARRIED_IN, text).stake([row.amount]);
            case.find(draft, &depends, &[permission]);
        }
        if !case.merchant_signed(
            order,
            (&row.coin_pub, row.rtransaction_id),
            &row.amount,
            &row.merchant_sig,
        ) {
            unsigned(case, row.coin_pub, row.rtransaction_id, row.amount);
        }
        order.add_refund(
            (row.coin_pub, row.rtransaction_id),
            row.amount,
            row.execution_s,
            true,
        );
        case.money(row.amount).approved.add(row.amount);
    }
    over_deposit(order, f.rows.iter().map(|row| row.coin_pub), case);
    let total = order.refunded_units();
    if let Some(paid) = order
        .payment
        .as_ref()
        .map(|payment| payment.paid)
        .filter(|paid| paid.units() < total)
    {
        let excess = amount_of(currency, total - paid.units());
        let draft = case
            .draft(&rules::APPROVAL_CARRIED_IN, "more is taken over than was paid")
            .differs(format!("at most {paid}"), amount_of(currency, total))
            .stake([excess]);
        case.find(draft, &[Mark::Payment, Mark::Total], &[Mark::Total]);
    }
}

fn unsigned(case: &mut Case, coin: CoinPub, id: RefundId, amount: Amount) {
    let text = format!("the merchant did not sign {amount} of coin {coin} under id {id}");
    let draft = case.draft(&rules::APPROVAL_SIGNATURE, text).stake([amount]);
    let permission = Mark::Permission(coin, id);
    case.find(draft, &[Mark::Terms, permission], &[permission]);
}

/// Tells of coins whose refunds exceed their deposit.
fn over_deposit(order: &OrderFold, coins: impl Iterator<Item = CoinPub>, case: &mut Case) {
    let currency = order.currency();
    for coin in coins.collect::<BTreeSet<_>>() {
        let refunded = order.refunded_units_on(&coin);
        // A coin without deposit breaks another rule.
        let Some(deposited) = order
            .deposited(&coin)
            .filter(|deposited| deposited.units() < refunded)
        else {
            continue;
        };
        let excess = amount_of(currency, refunded - deposited.units());
        let draft = case
            .draft(
                &rules::APPROVAL_COIN,
                format!("coin {coin} is refunded more than was deposited with it"),
            )
            .differs(format!("at most {deposited}"), amount_of(currency, refunded))
            .stake([excess]);
        // Where the total is above the payment, some coin must be above its deposit.
        case.find(draft, &[Mark::Coin(coin), Mark::Total], &[Mark::Coin(coin)]);
    }
}

/// An approval.
pub(crate) fn approved(order: &mut OrderFold, f: &RefundApproved, generation: u64, case: &mut Case) {
    case.checked.approvals += 1;
    let currency = order.currency();
    let rows = named_amounts(&Facts::from(f.clone()));
    let before = amount_of(currency, order.refunded_units());
    deadline(order, &rows, "a refund is approved", case);
    if order.payment.is_none() || order.terms.refund_deadline_s <= order.terms.timestamp_s {
        let what = if order.payment.is_none() {
            "the order is not paid"
        } else {
            "the contract allows no refunds"
        };
        let draft = case
            .draft(&rules::APPROVAL_ALLOWED, what)
            .stake(rows.iter().copied());
        case.find(draft, &[Mark::Terms, Mark::Payment], &[Mark::Total]);
    }
    total(order, f, before, case);
    let growth = amount_of(currency, f.total.units().saturating_sub(before.units()));
    let sum = amount_of(currency, units(currency, rows.iter().copied()));
    if sum != growth || rows.iter().any(Amount::is_zero) {
        let draft = case
            .draft(
                &rules::APPROVAL_ROWS,
                format!("the rows sum to {sum}, the total grows by {growth}"),
            )
            .differs(growth, sum)
            .stake([amount_of(currency, sum.units().abs_diff(growth.units()))]);
        case.find(draft, &[Mark::Total], &[Mark::Total]);
    }
    for row in &f.rows {
        let permission = Mark::Permission(row.coin_pub, row.rtransaction_id);
        let counted = order
            .payment
            .as_ref()
            .is_none_or(|payment| payment.coins.contains(&row.coin_pub));
        if !counted {
            let text = format!("the payment does not count coin {}", row.coin_pub);
            let draft = case.draft(&rules::APPROVAL_ROWS, text).stake([row.amount]);
            case.find(draft, &[Mark::Payment, Mark::Coin(row.coin_pub)], &[permission]);
        }
        let highest = order
            .refunds()
            .filter(|refund| refund.coin == row.coin_pub)
            .map(|refund| refund.id.get())
            .max();
        let expected = (highest.unwrap_or(0) + 1).max(generation.saturating_mul(GENERATION));
        let id = row.rtransaction_id.get();
        if id != expected {
            let draft = case
                .draft(&rules::APPROVAL_IDS, format!("coin {} has id {id}", row.coin_pub))
                .differs(expected, id)
                .stake([row.amount]);
            case.find(draft, &[permission], &[permission]);
        }
        if !case.merchant_signed(
            order,
            (&row.coin_pub, row.rtransaction_id),
            &row.amount,
            &row.merchant_sig,
        ) {
            unsigned(case, row.coin_pub, row.rtransaction_id, row.amount);
        }
    }
    execution(order, f, &rows, case);
    for row in &f.rows {
        order.add_refund(
            (row.coin_pub, row.rtransaction_id),
            row.amount,
            f.execution_s,
            false,
        );
        case.money(row.amount).approved.add(row.amount);
    }
    over_deposit(order, f.rows.iter().map(|row| row.coin_pub), case);
}

fn total(order: &OrderFold, f: &RefundApproved, before: Amount, case: &mut Case) {
    let paid = order.payment.as_ref().map(|payment| payment.paid);
    if f.total
        .try_cmp(&before)
        .is_ok_and(|ordering| ordering != Ordering::Greater)
    {
        let draft = case
            .draft(&rules::APPROVAL_TOTAL, "the total does not grow")
            .differs(format!("more than {before}"), f.total)
            .stake([amount_of(before.currency(), before.units() - f.total.units())]);
        case.find(draft, &[Mark::Total], &[Mark::Total]);
    }
    match paid.map(|paid| (paid, f.total.try_cmp(&paid))) {
        Some((paid, Ok(Ordering::Greater))) => {
            let excess = amount_of(paid.currency(), f.total.units() - paid.units());
            let draft = case
                .draft(&rules::APPROVAL_TOTAL, "more is approved than was paid")
                .differs(format!("at most {paid}"), f.total)
                .stake([excess]);
            case.find(draft, &[Mark::Payment, Mark::Total], &[Mark::Total]);
        }
        Some((paid, Err(_))) => {
            let text = format!("the total is not in {}", paid.currency());
            let draft = case
                .draft(&rules::APPROVAL_TOTAL, text)
                .differs(paid.currency(), f.total)
                .stake([f.total]);
            case.find(draft, &[Mark::Payment], &[Mark::Total]);
        }
        _ => {}
    }
}

fn execution(order: &OrderFold, f: &RefundApproved, rows: &[Amount], case: &mut Case) {
    let now = case.at().floor_s();
    // After a "never" there is no later second; the decision's own is what remains.
    let next = order
        .last_execution()
        .and_then(|last| last.seconds())
        .and_then(|last| Timestamp::from_s(last + 1).ok());
    let expected = next.map_or(now, |next| next.max(now));
    if f.execution_s != expected {
        let draft = case
            .draft(
                &rules::APPROVAL_EXECUTION,
                "the approval bears another second than its decision",
            )
            .differs(second(expected), second(f.execution_s))
            .stake(rows.iter().copied());
        let marks: Vec<Mark> = f
            .rows
            .iter()
            .map(|row| Mark::Permission(row.coin_pub, row.rtransaction_id))
            .collect();
        case.find(draft, &marks, &marks);
    }
}

pub(crate) fn second(time: Timestamp) -> String {
    time.seconds()
        .map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s"))
}

fn deadline(order: &OrderFold, amounts: &[Amount], what: &str, case: &mut Case) {
    let wire = order.terms.wire_deadline_s;
    if case.at().is_past(wire) {
        let draft = case
            .draft(
                &rules::APPROVAL_DEADLINE,
                format!("{what} past the wire deadline"),
            )
            .differs(format!("before {}", second(wire)), second(case.at().floor_s()))
            .stake(amounts.iter().copied());
        case.find(draft, &[Mark::Terms], &[]);
    }
}

/// Refunds about to be sent for the first time.
pub(crate) fn requested(order: &mut OrderFold, f: &RefundRequested, case: &mut Case) {
    let mut amounts = Vec::new();
    for name in &f.rows {
        let permission = Mark::Permission(name.coin_pub, name.rtransaction_id);
        let wrong = match order.refund_mut(&name.coin_pub, name.rtransaction_id) {
            None => Some(("it was never approved", None)),
            Some(refund) if refund.requested => Some(("it was requested before", Some(refund.amount))),
            Some(refund) => {
                refund.requested = true;
                amounts.push(refund.amount);
                None
            }
        };
        // The service's own index opens whatever is named.
        order.open.insert((name.coin_pub, name.rtransaction_id));
        if let Some((what, amount)) = wrong {
            let text = format!("coin {}, id {}: {what}", name.coin_pub, name.rtransaction_id);
            let draft = case.draft(&rules::APPROVAL_REQUESTED, text).stake(amount);
            case.find(draft, &[permission], &[permission]);
        }
    }
    deadline(order, &amounts, "a refund is requested for the first time", case);
}
