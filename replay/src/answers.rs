//! Rules of answers: what wallets were told is recomputed from the events before, member by member and then as a
//! whole, by the digest of the body.

use std::collections::{BTreeMap, BTreeSet};

use quittance_events::facts::{AbortAnswered, AnsweredRow, RefundAnswered, RefundDelivered};
use quittance_events::{RefundId, Seq, seal};
use quittance_taler::{Amount, CoinPub, Digest32};

use crate::approvals::second;
use crate::bodies::{self, Entry};
use crate::case::Case;
use crate::findings::Mark;
use crate::fold::{Answer, OrderFold, Refund, amount_of};
use crate::rules;

/// What an answer is about, for the rules that all answers share.
struct Told {
    as_of: Seq,
    body: Digest32,
    is_refund: bool,
    stake: Vec<Amount>,
    /// What the answer rests on.
    depends: Vec<Mark>,
}

/// A wallet's refund request was answered.
pub(crate) fn refund(order: &mut OrderFold, f: &RefundAnswered, case: &mut Case) {
    let currency = order.currency();
    let total = amount_of(currency, order.refunded_units());
    let mut depends = vec![answer_mark(f.body), Mark::Terms, Mark::Payment, Mark::Total];
    depends.extend(
        order
            .refunds()
            .map(|refund| Mark::Permission(refund.coin, refund.id)),
    );
    let told = Told {
        as_of: f.as_of,
        body: f.body,
        is_refund: true,
        stake: vec![f.refund_amount.unwrap_or(total)],
        depends: depends.clone(),
    };
    rests_on_latest(order, &told, case);
    if case.is_again {
        return;
    }

    let past = case.at().is_past(order.terms.wire_deadline_s);
    let payable = order
        .payment
        .as_ref()
        .is_some_and(|payment| !payment.paid.is_zero());
    let expected = match (payable, order.refunds().any(|refund| refund.requested), past) {
        (false, ..) => 204,
        (true, false, true) => 410,
        _ => 200,
    };
    if f.http_status != expected {
        let draft = case
            .draft(
                &rules::ANSWER_HTTP_STATUS,
                format!("the wallet was told {}", f.http_status),
            )
            .differs(expected, f.http_status)
            .stake(told.stake.iter().copied());
        case.find(draft, &depends, &[]);
        return;
    }
    if expected == 410 {
        compare_body(order, &told, bodies::gone_body(), case);
        return;
    }
    // What the sum comes to depends on totals and ids alone, not on what the exchange said.
    let served = f.refund_amount;
    if served != Some(total) {
        let difference = served.map_or(total, |served| {
            amount_of(currency, served.units().abs_diff(total.units()))
        });
        let draft = case
            .draft(&rules::ANSWER_REFUND_AMOUNT, "the wallet was told another sum")
            .differs(
                total,
                served.map_or_else(|| "none".to_owned(), |amount| amount.to_string()),
            )
            .stake([difference]);
        let root = case.find(draft, &[answer_mark(f.body), Mark::Terms, Mark::Total], &[]);
        taint_answer(case, root, f.body);
    }
    let entries: Vec<Entry> = order
        .refunds()
        .map(|refund| bodies::refund_entry(refund, past))
        .collect();
    compare_rows(
        order,
        f.rows.as_deref().unwrap_or_default(),
        &entries,
        f.body,
        case,
    );
    let body = bodies::refund_body(order, entries);
    compare_body(order, &told, body, case);
}

/// A finding about a member explains that the body as a whole differs, in this answer alone.
fn taint_answer(case: &mut Case, root: crate::findings::Root, body: Digest32) {
    case.marks.set(answer_mark(body), root);
}

/// An answer's digest in the place of a coin's key: both are 32 bytes and never meet.
fn answer_mark(body: Digest32) -> Mark {
    Mark::Coin(CoinPub::from_bytes(*body.as_bytes()))
}

fn compare_rows(
    order: &OrderFold,
    served: &[AnsweredRow],
    entries: &[Entry],
    body: Digest32,
    case: &mut Case,
) {
    let wanted: Vec<(&Refund, &Entry)> = order.refunds().zip(entries).collect();
    let names = |rows: &[AnsweredRow]| {
        rows.iter()
            .map(|row| (row.coin_pub, row.rtransaction_id))
            .collect::<Vec<_>>()
    };
    let expected: Vec<(CoinPub, RefundId)> = wanted
        .iter()
        .map(|(refund, _)| (refund.coin, refund.id))
        .collect();
    let found = names(served);
    if found != expected {
        let (want, have): (BTreeSet<_>, BTreeSet<_>) = (
            expected.iter().copied().collect(),
            found.iter().copied().collect(),
        );
        let differing: BTreeSet<_> = want.symmetric_difference(&have).copied().collect();
        let amounts = differing
            .iter()
            .filter_map(|(coin, id)| order.refund(coin, *id).map(|refund| refund.amount));
        let draft = case
            .draft(
                &rules::ANSWER_ROWS,
                "the wallet was told of other refunds than the order's, or in another order",
            )
            .differs(
                format!("{} refunds", expected.len()),
                format!("{} refunds", found.len()),
            )
            .stake(amounts);
        let permissions = differing.iter().map(|(coin, id)| Mark::Permission(*coin, *id));
        let depends: Vec<Mark> = [answer_mark(body)].into_iter().chain(permissions).collect();
        let root = case.find(draft, &depends, &[]);
        taint_answer(case, root, body);
    }
    let by_name: BTreeMap<(CoinPub, RefundId), (&Refund, &Entry)> = wanted
        .iter()
        .map(|(refund, entry)| ((refund.coin, refund.id), (*refund, *entry)))
        .collect();
    for row in served {
        let Some((refund, entry)) = by_name.get(&(row.coin_pub, row.rtransaction_id)) else {
            continue;
        };
        let permission = [answer_mark(body), Mark::Permission(refund.coin, refund.id)];
        let name = format!("coin {}, id {}", refund.coin, refund.id);
        if row.execution_s != refund.execution_s {
            let draft = case
                .draft(
                    &rules::ANSWER_EXECUTION_TIME,
                    format!("{name}: another execution_time was told"),
                )
                .differs(second(refund.execution_s), second(row.execution_s))
                .stake([refund.amount]);
            let root = case.find(draft, &permission, &[]);
            taint_answer(case, root, body);
        }
        if Some(row.exchange_status) != entry.status {
            let expected = entry.status.map_or_else(String::new, |status| status.to_string());
            let draft = case
                .draft(
                    &rules::ANSWER_EXCHANGE_STATUS,
                    format!("{name}: another status was told"),
                )
                .differs(expected, row.exchange_status)
                .stake([refund.amount]);
            let root = case.find(draft, &permission, &[]);
            taint_answer(case, root, body);
        }
    }
}

/// A wallet's abort was answered.
pub(crate) fn abort(order: &mut OrderFold, f: &AbortAnswered, case: &mut Case) {
    let coins: Vec<CoinPub> = f.coins.iter().map(|coin| coin.coin_pub).collect();
    let depends: Vec<Mark> = [answer_mark(f.body), Mark::Terms]
        .into_iter()
        .chain(
            coins
                .iter()
                .flat_map(|coin| [Mark::Coin(*coin), Mark::Permission(*coin, RefundId::ABORT)]),
        )
        .collect();
    let stake: Vec<Amount> = coins
        .iter()
        .filter_map(|coin| order.aborted.get(coin)?.amount)
        .collect();
    let told = Told {
        as_of: f.as_of,
        body: f.body,
        is_refund: false,
        stake,
        depends,
    };
    rests_on_latest(order, &told, case);
    if case.is_again {
        return;
    }

    let distinct: BTreeSet<&CoinPub> = coins.iter().collect();
    let foreign: Vec<&CoinPub> = coins
        .iter()
        .filter(|coin| !order.aborted.contains_key(coin))
        .collect();
    if distinct.len() < coins.len() || !foreign.is_empty() {
        let draft = case
            .draft(
                &rules::ANSWER_COINS,
                "the answer tells of a coin under no abort, or of one twice",
            )
            .stake(foreign.iter().filter_map(|coin| order.deposited(coin)));
        let root = case.find(draft, &told.depends, &[]);
        taint_answer(case, root, f.body);
    }
    if f.http_status != 200 || !coins.iter().any(|coin| bodies::is_conclusive(order, coin)) {
        let draft = case
            .draft(
                &rules::ANSWER_HTTP_STATUS,
                "no coin of the abort was decided, so the wallet was not to be told 200",
            )
            .stake(told.stake.iter().copied());
        let root = case.find(draft, &told.depends, &[]);
        taint_answer(case, root, f.body);
    }
    let entries: Vec<Entry> = coins
        .iter()
        .map(|coin| bodies::abort_entry(order, coin, f.mode))
        .collect();
    for (coin, entry) in f.coins.iter().zip(&entries) {
        if (coin.kind, coin.exchange_status) != (entry.kind, entry.status) {
            let text = format!("coin {}: another type or status was told", coin.coin_pub);
            let draft = case
                .draft(&rules::ANSWER_EXCHANGE_STATUS, text)
                .differs(
                    format!("{:?} {:?}", entry.kind, entry.status),
                    format!("{:?} {:?}", coin.kind, coin.exchange_status),
                )
                .stake(order.deposited(&coin.coin_pub));
            let marks = [
                answer_mark(f.body),
                Mark::Coin(coin.coin_pub),
                Mark::Permission(coin.coin_pub, RefundId::ABORT),
            ];
            let root = case.find(draft, &marks, &[]);
            taint_answer(case, root, f.body);
        }
    }
    let body = bodies::abort_body(entries);
    compare_body(order, &told, body, case);
}

/// Rules that all answers share but the body's: the state it rests on, and once for each.
fn rests_on_latest(order: &mut OrderFold, told: &Told, case: &mut Case) {
    let as_of = told.as_of.get();
    if as_of != order.moved {
        let draft = case
            .draft(
                &rules::ANSWER_AS_OF,
                "the answer rests on another state than the order's latest",
            )
            .differs(format!("event {}", order.moved), format!("event {as_of}"))
            .stake(told.stake.iter().copied());
        let root = case.find(draft, &[], &[]);
        taint_answer(case, root, told.body);
    }
    if order
        .answers
        .iter()
        .any(|answer| answer.as_of == as_of && answer.body == told.body)
    {
        let draft = case.draft(
            &rules::ANSWER_ONCE,
            "the same answer on the same state is recorded already",
        );
        case.find(draft, &[], &[]);
    }
    order.answers.push(Answer {
        seq: case.decision.last,
        as_of,
        body: told.body,
        is_refund: told.is_refund,
        delivered: false,
    });
}

fn compare_body(order: &OrderFold, told: &Told, body: Option<Vec<u8>>, case: &mut Case) {
    let Some(body) = body else {
        case.checked.answers_not_checkable += 1;
        case.note("the body of this answer is not checkable: erased (it hands on an exchange's reply whose bytes are gone)");
        return;
    };
    case.checked.answers += 1;
    let digest = seal::answer_digest(&body);
    if digest != told.body {
        let draft = case
            .draft(
                &rules::ANSWER_BODY,
                format!("order {}: the wallet was served another body", order.key),
            )
            .differs(digest, told.body)
            .stake(told.stake.iter().copied());
        case.find(draft, &told.depends, &[]);
    }
}

/// An answer's last byte went out.
pub(crate) fn delivered(order: &mut OrderFold, f: &RefundDelivered, case: &mut Case) {
    let answer = order
        .answers
        .iter_mut()
        .find(|answer| answer.seq == f.answer.get() && answer.is_refund);
    match answer {
        Some(answer) if !answer.delivered => answer.delivered = true,
        _ => {
            let text = format!(
                "event {} is no refund's answer of this order that was not delivered yet",
                f.answer
            );
            let draft = case.draft(&rules::ANSWER_DELIVERED, text);
            case.find(draft, &[], &[]);
        }
    }
}
