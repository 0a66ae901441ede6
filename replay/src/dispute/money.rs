//! Coins, permissions and sums of an order, for the report.

use std::collections::{BTreeMap, HashSet};

use quittance_taler::{Amount, CoinPub};

use crate::approvals::merchant_signed;
use crate::fold::{OrderFold, amount_of, units};
use crate::story::{second, time};

use super::permissions::{Decided, Permission, Permissions};
use super::replayed::Replayed;
use super::report::{AttemptPart, CoinPart, DepositPart, Outcome, PermissionPart, PermissionSource, Sums};

/// The order's permissions, each with the outcome that the rules leave standing.
pub(crate) fn permissions(replayed: &Replayed) -> Permissions {
    let mut permissions = Permissions::default();
    for decision in &replayed.decisions {
        let event = &decision.event;
        if event.order_key().as_ref() == Some(&replayed.key) {
            permissions.take(&event.facts, decision.first(), event.at_us);
        }
    }
    for permission in &mut permissions.list {
        let name = (permission.coin, permission.id);
        let standing = replayed.fold.standing(&permission.coin, permission.id);
        permission.decided = standing
            .filter(|standing| standing.is_decided())
            .and_then(|standing| {
                let (seq, at) = *replayed.decided.get(&name)?;
                let confirmed_by = match standing.said {
                    crate::fold::Said::Confirmed(key, _) => Some(key),
                    _ => None,
                };
                Some(Decided {
                    seq,
                    at,
                    confirmed_by,
                })
            });
    }
    permissions
}

/// Deposited coins in recorded order, then those that only an abort, or only a permission, names.
pub(crate) fn coins(fold: &OrderFold, permissions: &[Permission]) -> Vec<CoinPart> {
    let mut of_coin: BTreeMap<CoinPub, Vec<PermissionPart>> = BTreeMap::new();
    for permission in permissions {
        let part = permission_part(fold, permission);
        of_coin.entry(permission.coin).or_default().push(part);
    }
    let mut listed = HashSet::new();
    let deposited = fold.deposits.iter().map(|deposit| deposit.facts.coin_pub);
    let others = fold.aborted.keys().chain(of_coin.keys()).copied();
    let order: Vec<CoinPub> = deposited
        .chain(others)
        .filter(|coin| listed.insert(*coin))
        .collect();
    order
        .into_iter()
        .map(|coin| CoinPart {
            coin_pub: coin.to_string(),
            deposit: fold.deposit(&coin).map(|deposit| DepositPart {
                seq: deposit.seq,
                exchange_master_pub: deposit.facts.exchange_master_pub.to_string(),
                exchange_url: deposit.facts.exchange_url.clone(),
                amount_with_fee: deposit.facts.amount_with_fee.to_string(),
                deposit_fee: deposit.facts.deposit_fee.to_string(),
                refund_fee: deposit.facts.refund_fee.to_string(),
            }),
            counted: fold
                .payment
                .as_ref()
                .is_some_and(|payment| payment.coins.contains(&coin)),
            aborted: fold.aborted.contains_key(&coin),
            permissions: of_coin.remove(&coin).unwrap_or_default(),
        })
        .collect()
}

fn permission_part(fold: &OrderFold, permission: &Permission) -> PermissionPart {
    let name = (&permission.coin, permission.id);
    PermissionPart {
        id: permission.id.get(),
        source: permission.source,
        amount: permission.amount.to_string(),
        approved_seq: permission.granted_seq,
        approved_at: time(permission.granted_at),
        execution_time: permission.execution_s.map(second),
        merchant_signed: merchant_signed(fold, name, &permission.amount, &permission.merchant_sig),
        asked_at: permission.asked_at.map(time),
        outcome: permission.outcome(),
        attempts: permission
            .attempts
            .iter()
            .map(|attempt| AttemptPart {
                seq: attempt.seq,
                at: time(attempt.at),
                attempt: attempt.number,
                http_status: attempt.http_status,
                result: attempt.result.clone(),
            })
            .collect(),
        decided_at: permission.decided.map(|decided| time(decided.at)),
        decided_seq: permission.decided.map(|decided| decided.seq),
        confirmed_by: permission
            .decided
            .and_then(|decided| decided.confirmed_by)
            .map(|key| key.to_string()),
    }
}

/// The order's sums. Amounts of foreign currencies, which have their own finding, count in none.
pub(crate) fn sums(fold: &OrderFold, permissions: &[Permission]) -> Sums {
    let currency = fold.currency();
    let sum = |abort: bool, outcome: Option<Outcome>| {
        let fitting = permissions.iter().filter(|permission| {
            (permission.source == PermissionSource::Abort) == abort
                && outcome.is_none_or(|outcome| permission.outcome() == outcome)
        });
        amount_of(
            currency,
            units(currency, fitting.map(|permission| permission.amount)),
        )
        .to_string()
    };
    let paid = fold
        .payment
        .as_ref()
        .map_or_else(|| Amount::zero(currency), |payment| payment.paid);
    Sums {
        paid: paid.to_string(),
        approved: sum(false, None),
        confirmed: sum(false, Some(Outcome::Confirmed)),
        refused: sum(false, Some(Outcome::Refused)),
        open: sum(false, Some(Outcome::Open)),
        not_asked: sum(false, Some(Outcome::NotAsked)),
        given_back: sum(true, None),
        given_back_confirmed: sum(true, Some(Outcome::Confirmed)),
        given_back_refused: sum(true, Some(Outcome::Refused)),
        given_back_open: sum(true, Some(Outcome::Open)),
    }
}
