//! Rules of orders that were sold here, but for their deposits: the offer, its claim, its end, what was forgotten of its
//! terms, and what its payment must cover.

use quittance_events::facts::{OrderClaimed, OrderCreated, OrderRecorded};
use quittance_events::seal::{SALT_LEN, attachment_digest};
use quittance_events::{AttachmentName, Facts};
use quittance_taler::{Amount, Digest32, TalerTimestamp, json, message};
use serde_json::Value;

use crate::case::Case;
use crate::findings::Mark;
use crate::fold::{OrderFold, amount_of, units};
use crate::judge::Ledger;
use crate::orders;
use crate::owed::Owed;
use crate::rules::{self, Rule};
use crate::sold::{Sale, Stage, Unjudged, contract_of};

/// Digest of terms, to compare them without keeping them.
fn digest(terms: &Value) -> Digest32 {
    attachment_digest(&[0; SALT_LEN], &json::canonical(terms))
}

/// The terms behind an event, where they are there and can be read; what is wrong with them another rule tells.
fn terms_of(case: &Case) -> Option<Value> {
    json::parse_strict(case.decision.bytes(AttachmentName::Terms)?).ok()
}

fn max_fee(terms: &Value) -> Option<Amount> {
    terms.get("max_fee")?.as_str()?.parse().ok()
}

/// An offer: the state that it makes.
pub(crate) fn created(f: &OrderCreated, ledger: Ledger, case: &mut Case) -> Sale {
    let terms = terms_of(case);
    let sale = Sale::new(f.clone(), terms.as_ref().map(digest));
    if case.is_again {
        return sale;
    }
    orders::agree(&contract_of(f), false, case);
    if let Some(terms) = &terms {
        of_offer(f, terms, case);
        if terms.get("nonce").is_some() {
            wrong(
                &rules::ORDER_TERMS,
                "an offer's terms have a nonce",
                f.amount,
                case,
            );
        }
    }
    // A successor opens its instances, and their accounts, after the orders that it takes over.
    if !ledger.taking_over && !case.accounts.is_open(&case.key.instance, &f.h_wire) {
        wrong(
            &rules::ORDER_ACCOUNT,
            "the instance has no open account of this h_wire",
            f.amount,
            case,
        );
    }
    sale
}

fn wrong(rule: &'static Rule, what: impl Into<String>, amount: Amount, case: &mut Case) {
    let draft = case.draft(rule, what).stake([amount]);
    case.find(draft, &[Mark::Terms], &[Mark::Terms]);
}

/// What only an offer's facts repeat of the terms.
fn of_offer(f: &OrderCreated, terms: &Value, case: &mut Case) {
    let deadline = terms
        .get("pay_deadline")
        .and_then(|value| serde_json::from_value::<TalerTimestamp>(value.clone()).ok());
    let h_wire = terms.get("h_wire").and_then(Value::as_str);
    for (what, agrees) in [
        (
            "pay_deadline",
            deadline.map(|deadline| deadline.0) == Some(f.pay_deadline_s),
        ),
        (
            "h_wire",
            h_wire.and_then(|text| text.parse().ok()) == Some(f.h_wire),
        ),
    ] {
        if !agrees {
            let text = format!("the terms have another {what} than is recorded");
            wrong(&rules::ORDER_TERMS, text, f.amount, case);
        }
    }
}

/// Why this event has no place in the order as it stands, and the rule that says so.
pub(crate) fn misplaced(order: &OrderFold, facts: &Facts) -> Option<(&'static Rule, String)> {
    let kind = facts.kind();
    let Some(sale) = &order.sale else {
        return match facts {
            Facts::OrderClaimed(_) => {
                Some((&rules::ORDER_CLAIMED, "the order was not offered here".to_owned()))
            }
            Facts::OrderDeleted(_)
            | Facts::DepositRequested(_)
            | Facts::DepositReplied(_)
            | Facts::DepositUnreached(_)
            | Facts::SessionPaid(_) => Some((
                &rules::ORDER_BEGIN,
                format!("a {kind} of an order that was not sold here"),
            )),
            _ => None,
        };
    };
    if matches!(facts, Facts::AttachmentErased(_)) {
        return None;
    }
    if sale.deleted {
        let text = format!("a {kind} of an order that was taken back");
        return Some((&rules::ORDER_DELETED, text));
    }
    match (sale.stage, facts) {
        (Stage::Offered, Facts::OrderRecorded(_) | Facts::OrderDeleted(_)) => None,
        (Stage::Offered, Facts::OrderCreated(_)) => {
            Some((&rules::ORDER_BEGIN, "the order is offered already".to_owned()))
        }
        (Stage::Offered, _) => Some((
            &rules::ORDER_BEGIN,
            format!("a {kind} before a wallet has claimed the order"),
        )),
        (Stage::Claimed, Facts::OrderClaimed(_)) => Some((
            &rules::ORDER_CLAIMED,
            "it does not stand right behind the contract that it claims".to_owned(),
        )),
        // Whether the claim stands right behind the contract shows with the claim, or with the end of the commit.
        _ => None,
    }
}

/// An offer gets its contract: the terms offered, and a nonce.
pub(crate) fn recorded(order: &mut OrderFold, f: &OrderRecorded, case: &mut Case) {
    let terms = terms_of(case);
    let Some(sale) = &mut order.sale else { return };
    let first = case.decision.first();
    let mut bare = terms.clone();
    let nonce = bare
        .as_mut()
        .and_then(Value::as_object_mut)
        .and_then(|members| members.remove("nonce"));
    if !case.is_again {
        orders::recorded(f, case);
        let expected = OrderRecorded {
            h_contract: f.h_contract,
            ..contract_of(&sale.created)
        };
        if *f != expected {
            let text = "the contract's facts are not those of the offer";
            wrong(&rules::ORDER_CLAIMED, text, f.amount, case);
        }
        let differs = bare.as_ref().map(digest).zip(sale.offered);
        if differs.is_some_and(|(terms, offered)| terms != offered) {
            let text = "the contract terms are not those offered and a nonce";
            wrong(&rules::ORDER_CLAIMED, text, f.amount, case);
        }
    }
    sale.stage = Stage::Recorded(first);
    sale.nonce = nonce.and_then(|nonce| Some(nonce.as_str()?.to_owned()));
    sale.max_fee = terms.as_ref().and_then(max_fee);
    order.terms = f.clone();
    order.terms_at.push(first);
    order.owed.push(Owed::Claim(first));
}

/// A wallet's claim.
pub(crate) fn claimed(order: &mut OrderFold, f: &OrderClaimed, case: &mut Case) {
    let Some(sale) = &mut order.sale else { return };
    let Stage::Recorded(contract) = sale.stage else {
        return;
    };
    sale.stage = Stage::Claimed;
    order.owed.retain(|owed| *owed != Owed::Claim(contract));
    if case.is_again {
        return;
    }
    let terms = &order.terms;
    let message = message::contract(&terms.h_contract);
    let what = if contract + 1 != case.decision.first() || order.last_at != case.at() {
        Some("it does not stand right behind the contract that it claims")
    } else if sale
        .nonce
        .as_ref()
        .is_some_and(|nonce| *nonce != f.nonce.to_string())
    {
        Some("the contract terms have another nonce")
    } else if !terms.merchant_pub.verify(&message, &f.contract_sig) {
        Some("the merchant did not sign the contract")
    } else {
        None
    };
    if let Some(what) = what {
        wrong(&rules::ORDER_CLAIMED, what, terms.amount, case);
    }
}

/// The shop takes the order back.
pub(crate) fn deleted(order: &mut OrderFold, case: &mut Case) {
    let Some(sale) = &mut order.sale else { return };
    sale.deleted = true;
    let open = sale.batches.iter().filter(|batch| batch.is_in_question());
    let asked: Vec<Amount> = open
        .flat_map(|batch| batch.coins.iter().map(|coin| coin.amount_with_fee))
        .collect();
    let deposits = order.deposits.iter();
    let deposited: Vec<Amount> = deposits.map(|deposit| deposit.facts.amount_with_fee).collect();
    let (what, stake) = if let Some(payment) = &order.payment {
        ("the order is paid", vec![payment.paid])
    } else if !deposited.is_empty() {
        ("coins were deposited for it", deposited)
    } else if !asked.is_empty() {
        ("an exchange may have taken coins for it", asked)
    } else if !order.aborted.is_empty() {
        ("a wallet has aborted it", Vec::new())
    } else {
        return;
    };
    let draft = case.draft(&rules::ORDER_DELETED, what).stake(stake);
    case.find(draft, &[Mark::Terms, Mark::Payment], &[]);
}

/// Members of the terms were forgotten.
pub(crate) fn forgotten(order: &mut OrderFold, case: &mut Case) {
    let first = case.decision.first();
    if !case.is_again {
        for (what, expected, found) in orders::differences(&order.terms, true, case) {
            let draft = case
                .draft(&rules::ORDER_FORGOTTEN, what)
                .differs(expected, found)
                .stake([order.terms.amount]);
            case.find(draft, &[Mark::Terms], &[Mark::Terms]);
        }
        let terms = terms_of(case);
        if let (Some(terms), Some(sale)) = (&terms, &order.sale) {
            of_offer(&sale.created, terms, case);
        }
    }
    let max_fee = terms_of(case).as_ref().and_then(max_fee);
    let unjudged = order.sale.as_mut().and_then(|sale| {
        sale.max_fee = sale.max_fee.or(max_fee);
        sale.max_fee.and(sale.unjudged.take())
    });
    if let Some(unjudged) = unjudged {
        fees(order, unjudged, case);
    }
    let before = std::mem::replace(&mut order.terms_at, vec![first]);
    order
        .owed
        .extend(before.into_iter().map(|terms| Owed::Erased(first, terms)));
}

/// Whether a payment covers the deposit fees that the merchant does not bear.
pub(crate) fn paid(order: &mut OrderFold, case: &mut Case) {
    let first = case.decision.first();
    let currency = order.currency();
    order.owed.retain(|owed| !matches!(owed, Owed::Payment(..)));
    let Some(payment) = &order.payment else { return };
    let fees_of = |coin| order.deposit(coin).map(|deposit| deposit.facts.deposit_fee);
    let unjudged = Unjudged {
        seq: first,
        paid: payment.paid.units(),
        fees: units(currency, payment.coins.iter().filter_map(fees_of)),
    };
    let Some(sale) = &mut order.sale else { return };
    if sale.max_fee.is_some() {
        fees(order, unjudged, case);
    } else {
        sale.unjudged = Some(unjudged);
    }
}

fn fees(order: &OrderFold, payment: Unjudged, case: &mut Case) {
    let Some(max_fee) = order.sale.as_ref().and_then(|sale| sale.max_fee) else {
        return;
    };
    // What is lacking of the amount itself, the rule of payments tells.
    let amount = order.terms.amount.units();
    let needed = amount + payment.fees.saturating_sub(max_fee.units());
    let lacking = needed.max(payment.fees).saturating_sub(payment.paid.max(amount));
    if case.is_again || lacking == 0 {
        return;
    }
    let currency = order.currency();
    let lacking = amount_of(currency, lacking);
    let draft = case
        .draft(
            &rules::ORDER_FEES,
            format!(
                "the payment of event {} does not cover the deposit fees beyond {max_fee}",
                payment.seq
            ),
        )
        .differs(
            format!("at least {}", amount_of(currency, needed)),
            amount_of(currency, payment.paid),
        )
        .stake([lacking]);
    case.find(draft, &[Mark::Terms, Mark::Payment], &[Mark::Payment]);
}

/// A wallet showed that the order is paid.
pub(crate) fn session(order: &OrderFold, case: &mut Case) {
    if order.payment.is_none() {
        let draft = case.draft(&rules::ORDER_SESSION, "the order is not paid");
        case.find(draft, &[Mark::Payment], &[]);
    }
}
