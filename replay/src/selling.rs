//! Rules of orders that were sold here, but for their deposits: the offer, its claim, its end, what was forgotten of its
//! terms, and what its payment must cover.

use std::collections::BTreeSet;

use quittance_events::facts::{OrderClaimed, OrderCreated, OrderRecorded};
use quittance_events::seal::{SALT_LEN, attachment_digest};
use quittance_events::{AttachmentName, Facts, RefundId};
use quittance_taler::{Amount, Currency, Digest32, TalerTimestamp, json, message};
use serde_json::Value;

use crate::case::Case;
use crate::findings::Mark;
use crate::fold::{OrderFold, amount_of, units};
use crate::instances;
use crate::judge::Ledger;
use crate::orders;
use crate::owed::Owed;
use crate::rules::{self, Rule};
use crate::sold::{Named, Sale, Stage, Unjudged, contract_of};

/// Digest of terms, to compare them without keeping them.
fn digest(terms: &Value) -> Digest32 {
    attachment_digest(&[0; SALT_LEN], &json::canonical(terms))
}

/// The terms behind an event, where they are there and can be read; what is wrong with them another rule tells.
fn terms_of(case: &Case) -> Option<Value> {
    json::parse_strict(case.decision.bytes(AttachmentName::Terms)?).ok()
}

/// Deposit fees that the merchant bears, where the terms say it in the order's currency.
fn max_fee(terms: &Value, currency: Currency) -> Option<Amount> {
    let fee: Amount = terms.get("max_fee")?.as_str()?.parse().ok()?;
    (fee.currency() == currency).then_some(fee)
}

fn nonce(terms: &Value) -> Option<&str> {
    terms.get("nonce")?.as_str()
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
    instances::judge(&f.merchant_pub, f.amount, ledger, case);
    // A successor opens its instances, and their accounts, after the orders that it takes over.
    if !ledger.taking_over && !case.accounts.was_open(&case.key.instance, &f.h_wire, case.at()) {
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

/// What only an offer's facts repeat of the terms, its own or its contract's.
fn of_offer(f: &OrderCreated, terms: &Value, case: &mut Case) {
    let deadline = terms
        .get("pay_deadline")
        .and_then(|value| serde_json::from_value::<TalerTimestamp>(value.clone()).ok());
    let h_wire = terms.get("h_wire").and_then(Value::as_str);
    if max_fee(terms, f.amount.currency()).is_none() {
        let text = format!(
            "the terms do not say in {} which fees the merchant bears",
            f.amount.currency()
        );
        wrong(&rules::ORDER_TERMS, text, f.amount, case);
    }
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
    if let Some(members) = bare.as_mut().and_then(Value::as_object_mut) {
        members.remove("nonce");
    }
    if !case.is_again {
        orders::recorded(f, case);
        // An offer whose terms are there was held to them, and the contract is held to those.
        if let (Some(terms), None) = (&terms, sale.offered) {
            of_offer(&sale.created, terms, case);
        }
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
        if terms.as_ref().is_some_and(|terms| nonce(terms).is_none()) {
            let text = "the contract terms have no nonce";
            wrong(&rules::ORDER_CLAIMED, text, f.amount, case);
        }
    }
    sale.stage = Stage::Recorded(first);
    sale.nonce = terms.as_ref().and_then(nonce).map(ToOwned::to_owned);
    sale.max_fee = terms
        .as_ref()
        .and_then(|terms| max_fee(terms, f.amount.currency()));
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
    // Terms that are erased or forgotten later are held to the claim's.
    let in_terms = sale.nonce.replace(f.nonce.to_string());
    order.owed.retain(|owed| *owed != Owed::Claim(contract));
    if case.is_again {
        return;
    }
    let terms = &order.terms;
    let message = message::contract(&terms.h_contract);
    let what = if contract + 1 != case.decision.first() || order.last_at != case.at() {
        Some("it does not stand right behind the contract that it claims")
    } else if in_terms.is_some_and(|nonce| nonce != f.nonce.to_string()) {
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
            if nonce(terms) != sale.nonce.as_deref() {
                let text = "the nonce that the order was claimed with is not in the terms";
                wrong(&rules::ORDER_FORGOTTEN, text, order.terms.amount, case);
            }
        }
    }
    let currency = order.currency();
    let max_fee = terms_of(case).as_ref().and_then(|terms| max_fee(terms, currency));
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

/// Whether a payment leaves nobody's coins behind, and covers the deposit fees that the merchant does not bear.
pub(crate) fn paid(order: &mut OrderFold, ledger: Ledger, case: &mut Case) {
    // A batch that is taken over may look open though its exchange had decided it.
    if !case.is_again && !ledger.taking_over {
        left_behind(order, case);
    }
    let first = case.decision.first();
    let currency = order.currency();
    order
        .owed
        .retain(|owed| !matches!(owed, Owed::Payment(..) | Owed::Completed(..)));
    if !case.is_again && !is_asked_at_once(order) {
        let text = "no request of a wallet names all coins that the payment counts: either one was made of coins that were \
                    deposited by then, which leaves no trace, or coins of two wallets were added up";
        case.note(text);
    }
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

/// Coins that an exchange may have taken for another try at the payment: nobody else would ask for them back any more.
fn left_behind(order: &OrderFold, case: &mut Case) {
    let batches = order.sale.iter().flat_map(|sale| &sale.batches);
    let open = batches.filter(|batch| batch.is_in_question());
    let mut told = BTreeSet::new();
    for asked in open.flat_map(|batch| &batch.coins) {
        let coin = asked.coin_pub;
        let is_settled = order.deposit(&coin).is_some() || order.aborted.contains_key(&coin);
        if is_settled || !told.insert(coin) {
            continue;
        }
        let text = format!(
            "coin {coin}: its exchange may have taken it, the payment does not count it, and it is not given back"
        );
        let draft = case
            .draft(&rules::ABORT_EXTENDED, text)
            .stake([asked.amount_with_fee]);
        let permission = Mark::Permission(coin, RefundId::ABORT);
        case.find(
            draft,
            &[Mark::Coin(coin), Mark::Payment, permission],
            &[permission],
        );
    }
}

/// Whether one wallet asked for all that its payment counts, as far as can be known. A coin whose abort the exchange refused
/// counts whoever named it.
fn is_asked_at_once(order: &OrderFold) -> bool {
    let (Some(payment), Some(sale)) = (&order.payment, &order.sale) else {
        return true;
    };
    let coins = payment.coins.iter();
    let counted: Vec<_> = coins.filter(|coin| !order.aborted.contains_key(*coin)).collect();
    // Of requests that are erased, or were left in the ledger before this one, nothing is known.
    let is_known = sale.batches.iter().all(|batch| batch.request.is_some())
        && counted.iter().all(|coin| sale.asked(coin).next().is_some());
    let has_all = |request: &Vec<Named>| {
        let named: BTreeSet<_> = request.iter().map(|named| &named.coin_pub).collect();
        counted.iter().all(|coin| named.contains(*coin))
    };
    let mut requests = sale.batches.iter().filter_map(|batch| batch.request.as_ref());
    !is_known || counted.is_empty() || requests.any(has_all)
}

/// Whether the wallet's request behind this batch pays the order, which is not paid: all its coins are deposited as it has
/// them, none is under an abort, and they are enough.
pub(crate) fn pays(order: &OrderFold, batch: u64) -> bool {
    let batch = order
        .sale
        .as_ref()
        .and_then(|sale| sale.batches.iter().find(|known| known.seq == batch));
    let max_fee = order.sale.as_ref().and_then(|sale| sale.max_fee);
    let (Some(max_fee), Some(request)) = (max_fee, batch.and_then(|batch| batch.request.as_ref())) else {
        return false;
    };
    let deposited = |named: &Named| {
        let deposit = &order.deposit(&named.coin_pub)?.facts;
        let is_alike = deposit.amount_with_fee == named.amount && deposit.coin_sig == Some(named.coin_sig);
        (is_alike && order.counts(&named.coin_pub)).then_some((named.amount, deposit.deposit_fee))
    };
    let Some(coins) = request.iter().map(deposited).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let (amounts, fees): (Vec<_>, Vec<_>) = coins.into_iter().unzip();
    let (paid, fees) = (units(order.currency(), amounts), units(order.currency(), fees));
    order.payment.is_none() && paid >= needed(order, max_fee, fees)
}

/// What a payment must come to whose deposits cost so much.
fn needed(order: &OrderFold, max_fee: Amount, fees: u128) -> u128 {
    (order.terms.amount.units() + fees.saturating_sub(max_fee.units())).max(fees)
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
