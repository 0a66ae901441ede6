//! Rules of aborts: when, which coins, how much, and that what comes too late is given back.

use std::collections::BTreeSet;

use quittance_events::facts::{AbortCoinState, AbortExtended, AbortRefused, AbortRequested};
use quittance_events::{AttachmentName, RefundId};
use quittance_taler::{Amount, CoinPub, EddsaSignature, HashCode, json};
use serde::Deserialize;

use crate::case::Case;
use crate::findings::Mark;
use crate::fold::{OrderFold, amount_of};
use crate::judge::Ledger;
use crate::owed::Owed;
use crate::rules;

/// Refusals that are recorded for one order: a wallet must not fill a ledger.
const REFUSALS_MAX: usize = 100;
const REFUSED_STATUS: u16 = 412;
const REFUSED_CODE: u32 = 2254;

/// What is read of a wallet's request.
#[derive(Deserialize)]
struct Request {
    h_contract: HashCode,
    #[serde(deserialize_with = "json::objects")]
    coins: Vec<RequestCoin>,
}

#[derive(Deserialize)]
struct RequestCoin {
    coin_pub: CoinPub,
}

/// An accepted abort.
pub(crate) fn requested(order: &mut OrderFold, f: &AbortRequested, ledger: Ledger, case: &mut Case) {
    case.checked.aborts += 1;
    if order.payment.is_some() {
        let draft = case
            .draft(&rules::ABORT_REQUESTED, "the order is paid")
            .stake(f.coins.iter().filter_map(|coin| coin.amount));
        case.find(draft, &[Mark::Payment], &[Mark::Payment]);
    }
    named_coins(order, f, case);
    let mut is_new = false;
    for coin in &f.coins {
        let mark = Mark::Coin(coin.coin_pub);
        let permission = Mark::Permission(coin.coin_pub, RefundId::ABORT);
        let expected = if order.aborted.contains_key(&coin.coin_pub) {
            AbortCoinState::Known
        } else if order.deposit(&coin.coin_pub).is_some() {
            AbortCoinState::Deposited
        } else if order
            .sale
            .as_ref()
            .and_then(|sale| sale.in_question(&coin.coin_pub))
            .is_some()
        {
            AbortCoinState::Asked
        } else {
            AbortCoinState::Undeposited
        };
        is_new |= expected != AbortCoinState::Known;
        // A batch that its exchange decided after the abort is not taken over. One that it decided before may be, for the
        // sake of another coin, and without its reply it looks open. What was said of the coin the predecessor knows.
        let is_old = ledger.taking_over
            && matches!(
                (coin.state, expected),
                (AbortCoinState::Asked, AbortCoinState::Undeposited)
                    | (AbortCoinState::Undeposited, AbortCoinState::Asked)
            );
        if coin.state != expected && !is_old {
            let draft = case
                .draft(
                    &rules::ABORT_STATE,
                    format!("coin {} is not as the abort has it", coin.coin_pub),
                )
                .differs(state_word(expected), state_word(coin.state))
                .stake(order.deposited(&coin.coin_pub));
            case.find(draft, &[mark, permission], &[mark, permission]);
        }
        match (coin.state, coin.amount, &coin.merchant_sig) {
            (AbortCoinState::Deposited | AbortCoinState::Asked, Some(amount), Some(signature)) => {
                permission_rules(order, coin.coin_pub, amount, signature, case);
                order.name_in_abort(coin.coin_pub, Some(amount));
            }
            (AbortCoinState::Undeposited, None, None) => order.name_in_abort(coin.coin_pub, None),
            (AbortCoinState::Known, None, None) => {}
            _ => {
                let text = format!(
                    "coin {}: amount and signature go with what may be deposited and no other",
                    coin.coin_pub
                );
                let draft = case
                    .draft(&rules::ABORT_STATE, text)
                    .stake(order.deposited(&coin.coin_pub));
                case.find(draft, &[mark, permission], &[mark, permission]);
                order.name_in_abort(coin.coin_pub, coin.amount);
            }
        }
    }
    if !is_new {
        let draft = case.draft(
            &rules::ABORT_STATE,
            "the abort names no coin that is not under one already",
        );
        case.find(draft, &[], &[]);
    }
}

fn state_word(state: AbortCoinState) -> &'static str {
    match state {
        AbortCoinState::Deposited => "deposited",
        AbortCoinState::Undeposited => "undeposited",
        AbortCoinState::Asked => "asked",
        AbortCoinState::Known => "known",
    }
}

/// The event's coins are those of the request as received.
fn named_coins(order: &OrderFold, f: &AbortRequested, case: &mut Case) {
    let Some(bytes) = case.decision.bytes(AttachmentName::Body) else {
        return;
    };
    let recorded: Vec<CoinPub> = f.coins.iter().map(|coin| coin.coin_pub).collect();
    let (what, differing) = match json::read_object::<Request>(bytes) {
        Err(e) => (format!("the request cannot be read: {e}"), recorded),
        Ok(request) if request.h_contract != order.terms.h_contract => {
            ("the request is about another contract".to_owned(), recorded)
        }
        Ok(request) => {
            let named: Vec<CoinPub> = request.coins.iter().map(|coin| coin.coin_pub).collect();
            let (asked, held): (BTreeSet<_>, BTreeSet<_>) = (
                named.iter().copied().collect(),
                recorded.iter().copied().collect(),
            );
            if named == recorded && asked.len() == named.len() {
                return;
            }
            let differing = asked.symmetric_difference(&held).copied().collect();
            (
                "the abort holds other coins than the wallet's request, or in another order".to_owned(),
                differing,
            )
        }
    };
    let draft = case
        .draft(&rules::ABORT_COINS, what)
        .stake(differing.iter().filter_map(|coin| order.deposited(coin)));
    let marks: Vec<Mark> = differing
        .iter()
        .map(|coin| Mark::Permission(*coin, RefundId::ABORT))
        .collect();
    case.find(draft, &[Mark::Terms], &marks);
}

/// Full recorded amount, signed under id 0.
fn permission_rules(
    order: &OrderFold,
    coin: CoinPub,
    amount: Amount,
    signature: &EddsaSignature,
    case: &mut Case,
) {
    let permission = Mark::Permission(coin, RefundId::ABORT);
    case.money(amount).aborted.add(amount);
    let deposited = order.deposited(&coin).or_else(|| order.asked_of(&coin));
    if let Some(deposited) = deposited.filter(|deposited| *deposited != amount) {
        let difference = if deposited.currency() == amount.currency() {
            amount_of(amount.currency(), deposited.units().abs_diff(amount.units()))
        } else {
            amount
        };
        let draft = case
            .draft(
                &rules::ABORT_AMOUNT,
                format!("coin {coin} is given back another amount than its deposit"),
            )
            .differs(deposited, amount)
            .stake([difference]);
        case.find(draft, &[Mark::Coin(coin), permission], &[permission]);
    }
    if !case.merchant_signed(order, (&coin, RefundId::ABORT), &amount, signature) {
        let text = format!("the merchant did not sign {amount} of coin {coin} under id 0");
        let draft = case.draft(&rules::ABORT_SIGNATURE, text).stake([amount]);
        case.find(draft, &[Mark::Terms, permission], &[permission]);
    }
}

/// Late deposits are given back.
pub(crate) fn extended(order: &mut OrderFold, f: &AbortExtended, ledger: Ledger, case: &mut Case) {
    case.checked.aborts += 1;
    for coin in &f.coins {
        let permission = Mark::Permission(coin.coin_pub, RefundId::ABORT);
        let first = case.decision.first();
        // One commit's events of an order stand side by side with one time.
        let run_start = if order.is_same_commit(first, case.at()) {
            order.run_start
        } else {
            first
        };
        let named = coin.coin_pub;
        let is_owed = order.owed.contains(&Owed::GivenBack(named));
        let sale = order
            .sale
            .as_ref()
            .filter(|_| order.payment.is_none() && !is_owed);
        // A batch that its exchange decided afterwards is not taken over.
        let is_asked = sale.is_some_and(|sale| ledger.taking_over || sale.in_question(&named).is_some());
        let deposit = order.deposit(&named);
        let wrong = match (deposit, sale) {
            (None, _) if !is_asked => Some("there is no deposit"),
            (_, Some(_)) if order.aborted.contains_key(&named) => Some("an abort gives it back already"),
            // Of several wallets one pays: what others deposited, or may have, goes back right before that payment.
            (_, Some(_)) => {
                order.owed.push(Owed::Payment(first, named));
                None
            }
            (Some(deposit), None) if deposit.seq < run_start => Some("its deposit is of an earlier commit"),
            (Some(_), None) if !is_owed => Some("no abort had named it, and the order was not paid before"),
            _ => None,
        };
        if let Some(what) = wrong {
            let text = format!("coin {}: {what}", coin.coin_pub);
            let draft = case.draft(&rules::ABORT_EXTENDED, text).stake([coin.amount]);
            case.find(
                draft,
                &[Mark::Coin(coin.coin_pub), Mark::Payment, permission],
                &[permission],
            );
        }
        permission_rules(order, coin.coin_pub, coin.amount, &coin.merchant_sig, case);
        order.name_in_abort(coin.coin_pub, Some(coin.amount));
        order.owed.retain(|owed| *owed != Owed::GivenBack(coin.coin_pub));
    }
}

/// A 412.
pub(crate) fn refused(order: &mut OrderFold, f: &AbortRefused, case: &mut Case) {
    let is_sorted = f.coins.windows(2).all(|pair| pair[0] < pair[1]);
    let all_known = f.coins.iter().all(|coin| order.aborted.contains_key(coin));
    let wrong = if (f.http_status, f.error_code) != (REFUSED_STATUS, REFUSED_CODE) {
        Some("a refusal is 412 with 2254")
    } else if order.payment.is_none() {
        Some("the order is not paid")
    } else if all_known {
        Some("every coin is under an abort already: that is a repeat and is answered as one")
    } else if !is_sorted {
        Some("its coins are not sorted, or one stands twice")
    } else if !order.refusals.insert(f.coins.clone()) {
        Some("the same coins were refused before")
    } else if order.refusals.len() > REFUSALS_MAX {
        Some("more than 100 refusals are recorded")
    } else {
        None
    };
    if let Some(what) = wrong {
        let draft = case.draft(&rules::ABORT_REFUSAL, what);
        case.find(draft, &[Mark::Payment], &[]);
    }
}
