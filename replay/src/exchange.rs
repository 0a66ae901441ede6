//! Rules of what exchanges said: keys, requested permissions, verdicts. A confirmation is followed from the terms'
//! exchanges over the master key and the signing key to the reply itself.

use quittance_events::facts::{ExchangeKeysSeen, ExchangeReplied, ExchangeUnreached, Verdict};
use quittance_events::ids::SAFE_INTEGER_MAX;
use quittance_events::{AttachmentName, RefundId};
use quittance_taler::time::TalerTimestamp;
use quittance_taler::{Amount, CoinPub, EddsaSignature, ExchangePub, MasterPub, json, message};
use serde::Deserialize;
use serde_json::Value;

use crate::case::{Case, SigningKeys};
use crate::findings::{Draft, Findings, Mark};
use crate::fold::{HandedOn, OrderFold, Said};
use crate::parts::Decision;
use crate::rules;

/// Longest reply, in raw bytes, that an answer hands on.
const HANDED_ON_MAX: usize = 16_384;

#[derive(Deserialize)]
struct KeysReply {
    master_public_key: MasterPub,
    #[serde(default, deserialize_with = "json::objects")]
    signkeys: Vec<KeysReplyKey>,
}

#[derive(Deserialize, PartialEq)]
struct KeysReplyKey {
    key: ExchangePub,
    stamp_start: TalerTimestamp,
    stamp_expire: TalerTimestamp,
    stamp_end: TalerTimestamp,
    master_sig: EddsaSignature,
}

/// An exchange told of its signing keys.
pub(crate) fn keys_seen(
    f: &ExchangeKeysSeen,
    decision: &Decision,
    known: &mut SigningKeys,
    findings: &mut Findings,
) {
    let told = decision
        .bytes(AttachmentName::Keys)
        .map(json::read_object::<KeysReply>);
    let mut first = decision.root.or(findings.all_orders);
    let mut wrong = |what: String| {
        let root = findings.add(Draft::new(&rules::EXCHANGE_KEYS, decision.first(), what), first);
        first = Some(root);
        root
    };
    match &told {
        Some(Err(e)) => {
            wrong(format!("the exchange's reply cannot be read: {e}"));
        }
        Some(Ok(told)) if told.master_public_key != f.master_pub => {
            wrong(format!(
                "the reply is of another exchange, {}",
                told.master_public_key
            ));
        }
        _ => {}
    }
    for key in &f.signkeys {
        let stands_there = told
            .as_ref()
            .and_then(|told| told.as_ref().ok())
            .is_none_or(|told| {
                told.signkeys.contains(&KeysReplyKey {
                    key: key.key,
                    stamp_start: TalerTimestamp(key.start_s),
                    stamp_expire: TalerTimestamp(key.expire_s),
                    stamp_end: TalerTimestamp(key.end_s),
                    master_sig: key.master_sig,
                })
            });
        if !known.learn(decision.first(), f.master_pub, key) {
            let root = wrong(format!(
                "the master key {} did not sign {}",
                f.master_pub, key.key
            ));
            known.refuse(key.key, root);
        } else if !stands_there {
            wrong(format!("the exchange's reply does not have the key {}", key.key));
        }
    }
}

#[derive(Deserialize)]
struct Confirmation {
    exchange_pub: ExchangePub,
    exchange_sig: EddsaSignature,
}

/// The `code` of a JSON object, where it is an integer that the format can hold. Read without the number rules: a
/// final refusal stays one whatever numbers its history has.
pub(crate) fn code_of(body: &[u8]) -> Option<u64> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.as_object()?
        .get("code")?
        .as_u64()
        .filter(|code| *code <= SAFE_INTEGER_MAX)
}

/// An exchange replied.
pub(crate) fn replied(order: &mut OrderFold, f: &ExchangeReplied, case: &mut Case) {
    case.checked.exchange_replies += 1;
    if f.verdict.is_conclusive() {
        order.open.remove(&(f.coin_pub, f.rtransaction_id));
    }
    let permission = Mark::Permission(f.coin_pub, f.rtransaction_id);
    let Some(amount) = known_permission(order, f.coin_pub, f.rtransaction_id, case) else {
        return;
    };
    attempts(order, (f.coin_pub, f.rtransaction_id), f.attempt, amount, case);

    let body = case.decision.bytes(AttachmentName::Reply);
    let recorded_proof = f.exchange_pub.zip(f.exchange_sig);
    let proof = match body {
        Some(body) => json::read_object::<Confirmation>(body)
            .ok()
            .map(|c| (c.exchange_pub, c.exchange_sig)),
        None => recorded_proof,
    };
    let code = body.map_or(f.error_code, code_of);
    let why_not = proof.map_or(Some("the reply holds no confirmation"), |proof| {
        unconfirmed(order, f, amount, proof, case)
    });
    let verdict = verdict_of(f.http_status, code, why_not.is_none());
    let proof = proof.filter(|_| is_claim(f.http_status, verdict));
    let depends = [Mark::Terms, Mark::Coin(f.coin_pub), permission];
    if verdict != f.verdict || code != f.error_code || proof != recorded_proof {
        let rule = if f.verdict == Verdict::Confirmed {
            &rules::EXCHANGE_CONFIRMED
        } else {
            &rules::EXCHANGE_VERDICT
        };
        let text = match (f.verdict, why_not) {
            (Verdict::Confirmed, Some(why)) => {
                format!("coin {}, id {}: {why}", f.coin_pub, f.rtransaction_id)
            }
            _ => format!(
                "coin {}, id {}: the reply says otherwise",
                f.coin_pub, f.rtransaction_id
            ),
        };
        let tell = |verdict: Verdict, code: Option<u64>| {
            format!(
                "{}{}",
                verdict_word(verdict),
                code.map_or_else(String::new, |code| format!(" with code {code}"))
            )
        };
        let draft = case
            .draft(rule, text)
            .differs(tell(verdict, code), tell(f.verdict, f.error_code))
            .stake([amount]);
        let by_key = recorded_proof.and_then(|(key, _)| case.signing_keys.refusal(&key));
        case.find_caused(by_key, draft, &depends, &[permission]);
    }
    if verdict == Verdict::Confirmed {
        pinned(order, f.coin_pub, amount, permission, case);
    }
    order.handed_on += body.map_or(0, <[u8]>::len).min(HANDED_ON_MAX);
    let handed_on = body.map_or(HandedOn::Gone, handed_on);
    let said = match (verdict, proof) {
        (Verdict::Confirmed, Some((key, signature))) => Said::Confirmed(key, signature),
        _ => Said::Replied {
            http_status: f.http_status,
            error_code: code,
            verdict,
            handed_on,
        },
    };
    settle(order, (f.coin_pub, f.rtransaction_id), amount, said, case);
}

/// Whether what has the form of a confirmation is recorded as one: under another status than 200 only if it is proven.
pub(crate) fn is_claim(http_status: u16, verdict: Verdict) -> bool {
    http_status == 200 || verdict == Verdict::Confirmed
}

/// What a reply proves: its confirmation if there is one, whatever the status, which nobody signs; without one what status
/// and code say.
pub(crate) fn verdict_of(http_status: u16, code: Option<u64>, is_proven: bool) -> Verdict {
    match (http_status, code) {
        _ if is_proven => Verdict::Confirmed,
        (200, _) => Verdict::Unproven,
        (408 | 425 | 429 | 451 | 500..=599, _) => Verdict::Later,
        (400..=499, Some(_)) => Verdict::Refused,
        _ => Verdict::Malformed,
    }
}

pub(crate) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Confirmed => "confirmed",
        Verdict::Refused => "refused",
        Verdict::Later => "later",
        Verdict::Unproven => "unproven",
        Verdict::Malformed => "malformed",
    }
}

/// Why this is no confirmation; nothing where it is one.
fn unconfirmed(
    order: &OrderFold,
    f: &ExchangeReplied,
    amount: Amount,
    (key, signature): (ExchangePub, EddsaSignature),
    case: &Case,
) -> Option<&'static str> {
    let Some(master) = &order.exchange_of(&f.coin_pub) else {
        return Some("no deposit says at which exchange");
    };
    let terms = &order.terms;
    if !terms
        .exchanges
        .iter()
        .any(|exchange| exchange.master_pub == *master)
    {
        return Some("the terms do not name the exchange");
    }
    if !case
        .signing_keys
        .valid_at(master, &key, case.decision.first(), case.at())
    {
        return Some(
            "the signing key was not known by then as one that the exchange's master key signed for that time",
        );
    }
    let message = message::refund_confirmation(
        &terms.h_contract,
        &f.coin_pub,
        &terms.merchant_pub,
        f.rtransaction_id.get(),
        &amount,
    );
    (!key.verify(&message, &signature)).then_some("the signature is not the key's over this refund")
}

/// The permission's amount; tells where nothing was requested.
fn known_permission(order: &OrderFold, coin: CoinPub, id: RefundId, case: &mut Case) -> Option<Amount> {
    let permission = Mark::Permission(coin, id);
    let requested = order.requested_amount(&coin, id);
    if requested.is_none() {
        let draft = case
            .draft(
                &rules::EXCHANGE_REQUESTED,
                format!("coin {coin}, id {id} was not requested before"),
            )
            .stake(order.refund(&coin, id).map(|refund| refund.amount));
        case.find(draft, &[permission], &[permission]);
    }
    requested
}

fn attempts(
    order: &mut OrderFold,
    (coin, id): (CoinPub, RefundId),
    attempt: u64,
    amount: Amount,
    case: &mut Case,
) {
    let Some(standing) = order.standing_mut(&coin, id) else {
        return;
    };
    let before = standing.attempt;
    standing.attempt = before.max(attempt);
    if attempt <= before {
        let draft = case
            .draft(
                &rules::EXCHANGE_ATTEMPT,
                format!("coin {coin}, id {id}: attempt {attempt} follows {before}"),
            )
            .differs(format!("above {before}"), attempt)
            .stake([amount]);
        case.find(draft, &[Mark::Permission(coin, id)], &[]);
    }
}

/// The last recorded attempt speaks, and what is decided stays decided.
fn settle(
    order: &mut OrderFold,
    (coin, id): (CoinPub, RefundId),
    amount: Amount,
    said: Said,
    case: &mut Case,
) {
    let is_deposited = order.deposit(&coin).is_some();
    let said_at = case.decision.first();
    let Some(standing) = order.standing_mut(&coin, id) else {
        return;
    };
    if standing.is_decided() {
        return;
    }
    (standing.said, standing.said_at) = (said, said_at);
    if standing.is_confirmed() {
        let money = case.money(amount);
        let sum = if id == RefundId::ABORT {
            &mut money.aborted_confirmed
        } else {
            &mut money.confirmed
        };
        sum.add(amount);
    }
    if is_deposited
        && order
            .standing_mut(&coin, id)
            .is_some_and(|standing| standing.has_no_deposit())
    {
        case.note(format!(
            "the exchange says that it knows no deposit of coin {coin} (id {id}), of which a deposit of {} is recorded",
            order.deposited(&coin).map_or_else(String::new, |amount| amount.to_string())
        ));
    }
}

fn pinned(order: &OrderFold, coin: CoinPub, amount: Amount, permission: Mark, case: &mut Case) {
    let Some(master) = order.exchange_of(&coin) else {
        return;
    };
    if !case.exchange_keys.is_empty() && !case.exchange_keys.contains(&master) {
        let text = format!("the confirming exchange {master} is none of those given");
        let draft = case.draft(&rules::EXCHANGE_PINNED, text).stake([amount]);
        case.find(draft, &[permission], &[]);
    }
}

fn handed_on(body: &[u8]) -> HandedOn {
    if body.len() > HANDED_ON_MAX {
        return HandedOn::Nothing;
    }
    match json::parse_strict(body) {
        Ok(value @ Value::Object(_)) => HandedOn::Object(value),
        _ => HandedOn::Nothing,
    }
}

/// An exchange did not reply.
pub(crate) fn unreached(order: &mut OrderFold, f: &ExchangeUnreached, case: &mut Case) {
    let Some(amount) = known_permission(order, f.coin_pub, f.rtransaction_id, case) else {
        return;
    };
    attempts(order, (f.coin_pub, f.rtransaction_id), f.attempt, amount, case);
    settle(
        order,
        (f.coin_pub, f.rtransaction_id),
        amount,
        Said::Unreached(f.failure),
        case,
    );
}
