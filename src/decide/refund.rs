//! Decides a wallet's refund request before the exchange is asked: may it be served at all, and which approved
//! permissions are sent for the first time. Specification: Taler's merchant API, `POST orders/$ORDER_ID/refund`.
//! Whether it is 200 or 410 is decided later, on the state that the answer is built from.

use quittance_events::facts::{PermissionName, RefundRequested};
use quittance_events::{NewEvent, Order};
use quittance_taler::{ErrorCode, HashCode, MasterPub, Micros};

use crate::refusal::Refusal;

/// Lets the request through to an order that it knows.
///
/// # Errors
/// No such order, or the contract is another one.
pub fn admit<'a>(order: Option<&'a Order>, h_contract: &HashCode) -> Result<&'a Order, Refusal> {
    let order = order.ok_or_else(|| Refusal::new(ErrorCode::MerchantGenericOrderUnknown))?;
    if order.terms.h_contract != *h_contract {
        return Err(Refusal::new(
            ErrorCode::MerchantGenericContractHashDoesNotMatchOrder,
        ));
    }
    Ok(order)
}

/// Which permissions are sent for the first time: approved ones at exchanges that can be asked, before the wire
/// deadline. Past it the exchange has paid out, and only what was sent before can still be told.
pub fn first_requests(order: &Order, reachable: impl Fn(&MasterPub) -> bool, now: Micros) -> Vec<NewEvent> {
    #[cfg(feature = "broken")]
    let now = if quittance_events::broken::is(quittance_events::broken::Fault::Late) {
        order.last_at.min(now)
    } else {
        now
    };
    if now.is_past(order.terms.wire_deadline_s) {
        return Vec::new();
    }
    let rows: Vec<PermissionName> = order
        .rows
        .iter()
        .filter(|row| !row.requested)
        .filter(|row| {
            order
                .deposit(&row.coin_pub)
                .is_some_and(|d| reachable(&d.exchange_master_pub))
        })
        .map(|row| PermissionName {
            coin_pub: row.coin_pub,
            rtransaction_id: row.rtransaction_id,
        })
        .collect();
    if rows.is_empty() {
        Vec::new()
    } else {
        vec![NewEvent::bare(RefundRequested { rows, part: None })]
    }
}
