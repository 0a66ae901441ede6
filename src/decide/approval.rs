//! Decides a merchant's refund approval. The amount asked is the order's new total, never an increment, so that a
//! repeated request approves nothing twice. Contacts no exchange. Specification: Taler's merchant API,
//! `POST private/orders/$ORDER_ID/refund`; the order of checks stands in `docs/protocol-choices.md`.

use quittance_events::facts::{ApprovedRow, RefundApproved};
use quittance_events::{AttachmentName, NewEvent, Order, RefundId, TokenId};
use quittance_taler::{Amount, AmountError, EddsaPrivateKey, ErrorCode, Micros, Timestamp};

use super::permit;
use super::spread::{Coin, spread};
use crate::refusal::Refusal;

/// A merchant's wish. No `Debug`: reasons must not come into a log by mistake.
#[derive(Clone, PartialEq, Eq)]
pub struct ApprovalRequest {
    /// The new total.
    pub refund: Amount,
    /// Why. Goes into an attachment and nowhere else.
    pub reason: String,
}

fn inconsistent(detail: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::MerchantPrivatePostOrdersIdRefundInconsistentAmount).detail(detail)
}

/// The ledger's own amounts do not add up: nothing is approved on top of that.
fn broken(error: AmountError) -> Refusal {
    Refusal::new(ErrorCode::GenericInternalInvariantFailure).detail(error)
}

/// Decides an approval. No events: the same total is approved already. The merchant's key comes with the least id that
/// this ledger may give to a refund.
///
/// # Errors
/// In this order: no such order, currency, unpaid, a contract without refunds, wire deadline past, lower than
/// approved or above what was paid, or no spread over the coins that the exchange would take.
pub fn decide(
    order: Option<&Order>,
    request: &ApprovalRequest,
    (merchant, first_id): (&EddsaPrivateKey, RefundId),
    by: &TokenId,
    now: Micros,
) -> Result<Vec<NewEvent>, Refusal> {
    let order = order.ok_or_else(|| Refusal::new(ErrorCode::MerchantGenericOrderUnknown))?;
    let total = request.refund;
    if total.currency() != order.currency() {
        return Err(Refusal::new(ErrorCode::MerchantGenericCurrencyMismatch)
            .detail(format!("the order is in {}", order.currency())));
    }
    let Some(payment) = &order.payment else {
        return Err(Refusal::new(
            ErrorCode::MerchantPrivatePostOrdersIdRefundOrderUnpaid,
        ));
    };
    if order.terms.refund_deadline_s <= order.terms.timestamp_s {
        return Err(Refusal::new(
            ErrorCode::MerchantPrivatePostOrdersIdRefundNotAllowedByContract,
        ));
    }
    let approved = order.approved().map_err(broken)?;
    if total == approved {
        return Ok(Vec::new());
    }
    if now.is_past(order.terms.wire_deadline_s) {
        return Err(Refusal::new(
            ErrorCode::MerchantPrivatePostRefundAfterWireDeadline,
        ));
    }
    if total.units() < approved.units() {
        return Err(inconsistent(format!(
            "{approved} is approved already; an approval cannot be taken back"
        )));
    }
    if total.units() > payment.paid.units() {
        return Err(inconsistent(format!("{} was paid", payment.paid)));
    }
    let increment = total.checked_sub(approved).map_err(broken)?;
    let rows = rows(order, increment, approved, (merchant, first_id))?;
    let facts = RefundApproved {
        total,
        execution_s: execution(order, now),
        rows,
        part: None,
        by: by.clone(),
    };
    Ok(vec![NewEvent::with(
        facts,
        AttachmentName::Reason,
        request.reason.clone().into_bytes(),
    )])
}

/// The decision's second, or one more than the approval before: wallets take one second for one approval.
fn execution(order: &Order, now: Micros) -> Timestamp {
    let after_last = order
        .last_execution()
        .and_then(|last| last.seconds())
        .and_then(|last| Timestamp::from_s(last + 1).ok());
    now.floor_s().max(after_last.unwrap_or(now.floor_s()))
}

fn rows(
    order: &Order,
    increment: Amount,
    approved: Amount,
    (merchant, first_id): (&EddsaPrivateKey, RefundId),
) -> Result<Vec<ApprovedRow>, Refusal> {
    let paid = order.payment.as_ref();
    let mut counted: Vec<_> = order
        .deposits
        .iter()
        .filter(|deposit| paid.is_some_and(|payment| payment.coins.contains(&deposit.coin_pub)))
        .collect();
    // It counts because the exchange refused to give it back; it will refuse the next refund, too.
    counted.sort_by_key(|deposit| order.aborted(&deposit.coin_pub).is_some());
    let coins: Vec<Coin> = counted
        .iter()
        .map(|deposit| {
            let before = order.approved_on(&deposit.coin_pub)?;
            #[cfg(feature = "broken")]
            let before = if quittance_events::broken::is(quittance_events::broken::Fault::Uncapped) {
                Amount::zero(order.currency())
            } else {
                before
            };
            let rest = deposit.amount_with_fee.checked_sub(before)?;
            Ok(Coin {
                rest: rest.units(),
                refund_fee: deposit.refund_fee.units(),
            })
        })
        .collect::<Result<_, AmountError>>()
        .map_err(broken)?;
    let shares = spread(&coins, increment.units()).map_err(|nearest| {
        let total = |units: u128| {
            let increment = Amount::from_units(order.currency(), units).ok()?;
            approved.checked_add(increment).ok().map(|total| total.to_string())
        };
        let fitting: Vec<String> = nearest.iter().filter_map(|units| total(*units)).collect();
        inconsistent(format!(
            "the exchange takes no share below a coin's refund fee, so this total cannot be spread over the coins; \
             the nearest that can: {}",
            fitting.join(", ")
        ))
    })?;
    let mut rows = Vec::new();
    for (deposit, share) in counted.iter().zip(shares).filter(|(_, share)| *share > 0) {
        let amount = Amount::from_units(order.currency(), share).map_err(broken)?;
        let coin_pub = deposit.coin_pub;
        let used = order
            .rows
            .iter()
            .filter(|row| row.coin_pub == coin_pub)
            .map(|row| row.rtransaction_id.get());
        let after_used = used.max().unwrap_or(0) + 1;
        let id = RefundId::new(after_used.max(first_id.get()))
            .map_err(|_| inconsistent("the coin's refund ids are used up"))?;
        let merchant_sig = permit(merchant, &order.terms.h_contract, &coin_pub, id, &amount);
        rows.push(ApprovedRow {
            coin_pub,
            rtransaction_id: id,
            amount,
            merchant_sig,
        });
    }
    Ok(rows)
}
