//! Rules of orders: contract terms, deposits, payments. Deposits of an order that was told are what the merchant told; a
//! ledger proves that they were told then, not that they were made. Of those that were sold here, see `deposits.rs`.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use quittance_events::AttachmentName;
use quittance_events::facts::{DepositRecorded, OrderRecorded, PaymentCompleted};
use quittance_taler::forget::check_digests;
use quittance_taler::{CoinPub, ContractError, ContractTerms, contract_hash, json};

use crate::case::Case;
use crate::deposits;
use crate::findings::Mark;
use crate::fold::{OrderFold, Payment, amount_of, units};
use crate::judge::Ledger;
use crate::owed::Owed;
use crate::rules;
use crate::selling;

/// Terms hash to h_contract and agree with the facts.
pub(crate) fn recorded(terms: &OrderRecorded, case: &mut Case) {
    agree(terms, true, case);
}

/// Terms agree with the facts; those of an offer have no hash yet.
pub(crate) fn agree(terms: &OrderRecorded, has_hash: bool, case: &mut Case) {
    for (what, expected, found) in differences(terms, has_hash, case) {
        let draft = case
            .draft(&rules::ORDER_TERMS, what)
            .differs(expected, found)
            .stake([terms.amount]);
        case.find(draft, &[Mark::Terms], &[Mark::Terms]);
    }
}

/// What differs between facts and the terms behind the event, with what is expected and found.
pub(crate) fn differences(
    terms: &OrderRecorded,
    has_hash: bool,
    case: &Case,
) -> Vec<(String, String, String)> {
    // Without the bytes there is nothing to compare; the log's rules have told of it.
    let Some(bytes) = case.decision.bytes(AttachmentName::Terms) else {
        return Vec::new();
    };
    let none = String::new;
    let value = match json::parse_strict(bytes) {
        Ok(value) => value,
        Err(e) => return vec![(format!("the terms cannot be read: {e}"), none(), none())],
    };
    let mut wrong = Vec::new();
    if json::canonical(&value) != bytes {
        let what = "the terms are not stored as canonical JSON".to_owned();
        wrong.push((what, none(), none()));
    }
    match contract_hash(&value) {
        _ if !has_hash => {}
        Ok(hash) if hash == terms.h_contract => {}
        Ok(hash) => {
            let what = "the terms hash to another h_contract".to_owned();
            wrong.push((what, hash.to_string(), terms.h_contract.to_string()));
        }
        Err(e) => wrong.push((e.to_string(), none(), terms.h_contract.to_string())),
    }
    // The hash takes a digest for its member, whatever stands beside it.
    if let Err(e @ ContractError::Digest(_)) = check_digests(&value) {
        wrong.push((e.to_string(), none(), none()));
    }
    let read = match ContractTerms::read(&value, terms.choice_index) {
        Ok(read) => read,
        Err(e) => {
            wrong.push((e.to_string(), none(), none()));
            return wrong;
        }
    };
    let exchanges = |list: Vec<(String, quittance_taler::MasterPub)>| format!("{list:?}");
    let said = exchanges(
        read.exchanges
            .into_iter()
            .map(|e| (e.url, e.master_pub))
            .collect(),
    );
    let recorded = exchanges(
        terms
            .exchanges
            .iter()
            .map(|e| (e.url.clone(), e.master_pub))
            .collect(),
    );
    for (what, expected, found) in [
        ("order_id", read.order_id, case.key.order.to_string()),
        ("amount", read.amount.to_string(), terms.amount.to_string()),
        (
            "timestamp",
            format!("{:?}", read.timestamp),
            format!("{:?}", terms.timestamp_s),
        ),
        (
            "refund_deadline",
            format!("{:?}", read.refund_deadline),
            format!("{:?}", terms.refund_deadline_s),
        ),
        (
            "wire_transfer_deadline",
            format!("{:?}", read.wire_transfer_deadline),
            format!("{:?}", terms.wire_deadline_s),
        ),
        (
            "merchant_pub",
            read.merchant_pub.to_string(),
            terms.merchant_pub.to_string(),
        ),
        ("exchanges", said, recorded),
    ] {
        if expected != found {
            let what = format!("the terms have another {what} than is recorded");
            wrong.push((what, expected, found));
        }
    }
    wrong
}

/// A coin is deposited once, in the order's currency, at an exchange of the terms.
pub(crate) fn deposited(order: &mut OrderFold, f: &DepositRecorded, ledger: Ledger, case: &mut Case) {
    let coin = Mark::Coin(f.coin_pub);
    case.money(f.amount_with_fee).deposited.add(f.amount_with_fee);
    let wrong = |case: &mut Case, what: String| {
        let draft = case.draft(&rules::ORDER_DEPOSIT, what).stake([f.amount_with_fee]);
        case.find(draft, &[Mark::Terms, coin], &[coin]);
    };
    if let Some(first) = order.deposit(&f.coin_pub) {
        wrong(
            case,
            format!("coin {} was deposited at event {} already", f.coin_pub, first.seq),
        );
    }
    let currency = order.currency();
    if [f.amount_with_fee, f.deposit_fee, f.refund_fee]
        .iter()
        .any(|amount| amount.currency() != currency)
    {
        wrong(
            case,
            format!("coin {} is not in the order's currency {currency}", f.coin_pub),
        );
    }
    if !order
        .terms
        .exchanges
        .iter()
        .any(|exchange| exchange.master_pub == f.exchange_master_pub)
    {
        wrong(
            case,
            format!("the terms do not name the exchange {}", f.exchange_master_pub),
        );
    }
    if order.sale.is_some() {
        deposits::recorded(order, f, ledger, case);
    }
    // An abort that asked for the coin gives it back already, unless the exchange said that there is nothing.
    let is_given_back = order
        .aborted
        .get(&f.coin_pub)
        .is_some_and(|aborted| aborted.amount.is_some() && !aborted.standing.has_no_deposit());
    if !is_given_back && (order.payment.is_some() || order.aborted.contains_key(&f.coin_pub)) {
        order.owed.push(Owed::GivenBack(f.coin_pub));
    }
    order.record_deposit(f.clone(), case.decision.first());
}

/// The payment counts what it may count.
pub(crate) fn paid(order: &mut OrderFold, f: &PaymentCompleted, ledger: Ledger, case: &mut Case) {
    let currency = order.currency();
    if order.payment.is_some() {
        let draft = case
            .draft(&rules::ORDER_PAID, "the order was paid already")
            .stake([f.paid]);
        case.find(draft, &[Mark::Payment], &[]);
        return;
    }
    let listed: BTreeSet<CoinPub> = f.coins.iter().copied().collect();
    let mut depends = vec![Mark::Terms];
    for coin in &listed {
        depends.push(Mark::Coin(*coin));
        if !order.counts(coin) {
            let draft = case
                .draft(
                    &rules::ABORT_PAYMENT,
                    format!("the payment counts coin {coin}, which is under an abort"),
                )
                .stake(order.deposited(coin));
            let permission = Mark::Permission(*coin, quittance_events::RefundId::ABORT);
            case.find(draft, &[Mark::Coin(*coin), permission], &[Mark::Payment]);
        }
    }
    let counted: BTreeSet<CoinPub> = order
        .deposits
        .iter()
        .map(|d| d.facts.coin_pub)
        .filter(|coin| order.counts(coin))
        .collect();
    let sum = amount_of(
        currency,
        units(currency, counted.iter().filter_map(|coin| order.deposited(coin))),
    );
    let difference = amount_of(currency, sum.units().abs_diff(f.paid.units()));
    let lacking = amount_of(
        currency,
        order.terms.amount.units().saturating_sub(f.paid.units()),
    );
    depends.push(Mark::Payment);
    let wrong = if listed.len() != f.coins.len() {
        Some("the payment lists a coin twice".to_owned())
    } else if listed != counted {
        Some("the payment does not count the deposits that no unrefused abort names".to_owned())
    } else if sum != f.paid {
        Some("the payment is not the sum of its deposits".to_owned())
    } else if f.paid.try_cmp(&order.terms.amount) == Ok(Ordering::Less) {
        Some(format!(
            "the payment does not cover the order's {}",
            order.terms.amount
        ))
    } else {
        None
    };
    if let Some(what) = wrong {
        let stake = if difference.is_zero() { lacking } else { difference };
        let draft = case
            .draft(&rules::ORDER_PAID, what)
            .differs(
                format!("{sum} in {} coins", counted.len()),
                format!("{} in {} coins", f.paid, f.coins.len()),
            )
            .stake([stake]);
        case.find(draft, &depends, &[Mark::Payment]);
    }
    order.payment = Some(Payment {
        paid: f.paid,
        coins: listed,
    });
    selling::paid(order, ledger, case);
}
