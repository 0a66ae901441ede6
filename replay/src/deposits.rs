//! Rules of deposits that were made here: what was asked of an exchange, what it said, and that exactly what it confirmed
//! is recorded. A confirmation is followed from the contract's exchanges over master key and signing key to the reply.

use quittance_events::AttachmentName;
use quittance_events::facts::{
    DepositCoin, DepositForm, DepositRecorded, DepositReplied, DepositRequested, DepositUnreached, Verdict,
};
use quittance_taler::contract::is_same_address;
use quittance_taler::deposit::{DepositReply, DepositTerms};
use quittance_taler::payment::{PaidCoin, PayRequest};
use quittance_taler::{Amount, EddsaSignature, ExchangePub, MasterPub, Timestamp};

use crate::case::Case;
use crate::exchange::{code_of, is_claim, verdict_of, verdict_word};
use crate::findings::Mark;
use crate::fold::OrderFold;
use crate::judge::Ledger;
use crate::owed::Owed;
use crate::rules::{self, Rule};
use crate::sold::{Batch, Named, deposited};

/// The exchange's code for a coin that was spent before.
const INSUFFICIENT_FUNDS: u64 = 1012;

/// Coins are about to be deposited.
pub(crate) fn requested(order: &mut OrderFold, f: &DepositRequested, ledger: Ledger, case: &mut Case) {
    let Some(sale) = &order.sale else { return };
    let request = case.decision.bytes(AttachmentName::Body).map(PayRequest::read);
    let named = request.as_ref().and_then(|request| request.as_ref().ok());
    let named = named.map(|request| {
        let coins = request.coins.iter().map(|coin| Named {
            coin_pub: coin.coin_pub,
            amount: coin.contribution,
            coin_sig: coin.coin_sig,
        });
        coins.collect()
    });
    let batch = Batch {
        seq: case.decision.first(),
        master: f.exchange_master_pub,
        url: f.exchange_url.clone(),
        form: f.layout,
        wallet_data_hash: f.wallet_data_hash,
        coins: f.coins.clone(),
        request: named,
        attempt: 0,
        decided: false,
        unsure: false,
        refused_otherwise: false,
        confirmed: None,
    };
    if !case.is_again {
        let terms = sale.deposit_terms(&order.terms, &batch);
        let is_late = case.at().is_past(sale.created.pay_deadline_s) && !ledger.taking_over;
        let is_named = |exchange: &quittance_events::facts::NamedExchange| {
            (exchange.master_pub, exchange.url.as_str()) == (f.exchange_master_pub, f.exchange_url.as_str())
        };
        let all = || f.coins.iter().map(|coin| coin.amount_with_fee);
        let mut wrong: Vec<(String, Vec<Amount>)> = Vec::new();
        if order.payment.is_some() {
            wrong.push(("the order is paid".to_owned(), all().collect()));
        }
        if is_late {
            wrong.push(("the pay deadline is past".to_owned(), all().collect()));
        }
        if !order.terms.exchanges.iter().any(is_named) {
            let what = format!("the terms do not name the exchange {}", f.exchange_url);
            wrong.push((what, all().collect()));
        }
        if let Some(Err(e)) = &request {
            wrong.push((
                format!("the wallet's request cannot be read: {e}"),
                all().collect(),
            ));
        }
        let request = request.and_then(Result::ok);
        for (place, coin) in f.coins.iter().enumerate() {
            if let Some(what) = misasked(order, f, place, request.as_ref()) {
                wrong.push((
                    format!("coin {}: {what}", coin.coin_pub),
                    vec![coin.amount_with_fee],
                ));
            }
        }
        for (what, stake) in wrong {
            let draft = case.draft(&rules::DEPOSIT_REQUESTED, what).stake(stake);
            case.find(draft, &[Mark::Terms, Mark::Payment], &[]);
        }
        for coin in &f.coins {
            if !terms.is_permitted(&deposited(coin), batch.layout()) {
                let text = format!("coin {} did not sign its deposit", coin.coin_pub);
                let mark = Mark::Coin(coin.coin_pub);
                let draft = case
                    .draft(&rules::DEPOSIT_SIGNATURE, text)
                    .stake([coin.amount_with_fee]);
                case.find(draft, &[Mark::Terms, mark], &[mark]);
            }
        }
    }
    if let Some(sale) = &mut order.sale {
        sale.batches.push(batch);
    }
}

/// What is wrong with asking for a coin.
fn misasked(
    order: &OrderFold,
    f: &DepositRequested,
    place: usize,
    request: Option<&PayRequest>,
) -> Option<&'static str> {
    let (before, coin) = (&f.coins[..place], &f.coins[place]);
    let currency = order.currency();
    let as_named = request.map(|request| {
        request.coins.iter().find(|named| {
            (named.coin_pub, named.contribution, named.h_denom)
                == (coin.coin_pub, coin.amount_with_fee, coin.h_denom)
                && (named.coin_sig, named.h_age_commitment) == (coin.coin_sig, coin.h_age_commitment)
        })
    });
    // No signature of the coin's says at which exchange it is to be deposited.
    let is_elsewhere =
        |named: &PaidCoin| named_exchange(order, &named.exchange_url) != Some(f.exchange_master_pub);
    let asked = order.asked_of(&coin.coin_pub);
    let amounts = [coin.amount_with_fee, coin.deposit_fee, coin.refund_fee];
    if before.iter().any(|other| other.coin_pub == coin.coin_pub) {
        Some("it stands twice in the batch")
    } else if as_named.is_some_and(|named| named.is_none()) {
        Some("the wallet's request does not name it so")
    } else if as_named.flatten().is_some_and(is_elsewhere) {
        Some("the wallet's request names another exchange for it")
    } else if amounts.iter().any(|amount| amount.currency() != currency) {
        Some("it is not in the order's currency")
    } else if !order.counts(&coin.coin_pub) {
        Some("it is under an abort")
    } else if asked.is_some_and(|asked| asked != coin.amount_with_fee) {
        Some("it was asked for another amount before")
    } else {
        None
    }
}

/// The exchange that the terms name at this address.
fn named_exchange(order: &OrderFold, url: &str) -> Option<MasterPub> {
    let mut named = order.terms.exchanges.iter();
    let named = named.find(|exchange| is_same_address(&exchange.url, url))?;
    Some(named.master_pub)
}

/// The batch that an event speaks of, with its number of attempts brought up to date; tells where there is none that
/// waits for a reply.
fn known(order: &mut OrderFold, seq: u64, attempt: u64, case: &mut Case) -> Option<Batch> {
    let batch = order.sale.as_mut().and_then(|sale| sale.batch_mut(seq));
    let Some(batch) = batch else {
        let text = format!("event {seq} asks for no deposits of this order");
        let draft = case.draft(&rules::DEPOSIT_ASKED, text);
        case.find(draft, &[], &[]);
        return None;
    };
    let before = batch.attempt;
    batch.attempt = before.max(attempt);
    let batch = batch.clone();
    if attempt <= before {
        let draft = case
            .draft(
                &rules::EXCHANGE_ATTEMPT,
                format!("batch {seq}: attempt {attempt} follows {before}"),
            )
            .differs(format!("above {before}"), attempt)
            .stake(batch.coins.iter().map(|coin| coin.amount_with_fee));
        case.find(draft, &[], &[]);
    }
    if batch.decided {
        let text = format!("the exchange had decided on the batch of event {seq} already");
        let marks: Vec<Mark> = batch.coins.iter().map(|coin| Mark::Coin(coin.coin_pub)).collect();
        let draft = case
            .draft(&rules::DEPOSIT_ASKED, text)
            .stake(batch.coins.iter().map(|coin| coin.amount_with_fee));
        case.find(draft, &marks, &marks);
        return None;
    }
    Some(batch)
}

/// An exchange did not reply.
pub(crate) fn unreached(order: &mut OrderFold, f: &DepositUnreached, case: &mut Case) {
    let _batch = known(order, f.batch.get(), f.attempt, case);
    if let Some(batch) = order.sale.as_mut().and_then(|sale| sale.batch_mut(f.batch.get())) {
        batch.unsure = true;
    }
}

/// An exchange replied.
pub(crate) fn replied(order: &mut OrderFold, f: &DepositReplied, case: &mut Case) {
    case.checked.exchange_replies += 1;
    let Some(batch) = known(order, f.batch.get(), f.attempt, case) else {
        return;
    };
    let body = case.decision.bytes(AttachmentName::Reply);
    let recorded_proof = f.exchange_pub.zip(f.exchange_timestamp_s);
    let reply = body.and_then(|body| DepositReply::read(body).ok());
    let proof = match (&reply, body) {
        (Some(reply), _) => Some((reply.exchange_pub, reply.exchange_timestamp)),
        (None, Some(_)) => None,
        // The signatures themselves stand with the deposits.
        (None, None) => recorded_proof,
    };
    let code = body.map_or(f.error_code, code_of);
    let why_not = match (proof, order.sale.as_ref()) {
        (Some((key, _)), Some(sale)) => {
            let terms = sale.deposit_terms(&order.terms, &batch);
            unconfirmed(order, &batch, &terms, key, reply.as_ref(), case)
        }
        _ => Some("the reply holds no confirmation"),
    };
    // Without its bytes a claim with a good key is what it was taken for: its signatures stand with the deposits, if anywhere.
    let is_proven = why_not.is_none() && (body.is_some() || f.verdict == Verdict::Confirmed);
    let verdict = verdict_of(f.http_status, code, is_proven);
    let proof = proof.filter(|_| is_claim(f.http_status, verdict));
    let stake: Vec<Amount> = batch.coins.iter().map(|coin| coin.amount_with_fee).collect();
    let marks: Vec<Mark> = batch.coins.iter().map(|coin| Mark::Coin(coin.coin_pub)).collect();
    if verdict != f.verdict || code != f.error_code || proof != recorded_proof {
        let (rule, text): (&'static Rule, _) = match why_not {
            Some(why) if f.verdict == Verdict::Confirmed => (
                &rules::DEPOSIT_CONFIRMED,
                format!("recorded as confirmed, but {why}"),
            ),
            _ => (&rules::DEPOSIT_VERDICT, "the reply says otherwise".to_owned()),
        };
        let tell = |verdict: Verdict, code: Option<u64>| {
            let code = code.map_or_else(String::new, |code| format!(" with code {code}"));
            format!("{}{code}", verdict_word(verdict))
        };
        let draft = case
            .draft(rule, text)
            .differs(tell(verdict, code), tell(f.verdict, f.error_code))
            .stake(stake.iter().copied());
        let by_key = recorded_proof.and_then(|(key, _)| case.signing_keys.refusal(&key));
        let depends = [&marks[..], &[Mark::Terms]].concat();
        case.find_caused(by_key, draft, &depends, &marks);
    }
    if f.verdict == Verdict::Confirmed {
        pinned(batch.master, &stake, &marks, case);
        let first = case.decision.first();
        order.owed.push(Owed::Completed(first, batch.seq));
        for coin in &batch.coins {
            if order.deposit(&coin.coin_pub).is_none() {
                order.owed.push(Owed::Deposit(first, coin.coin_pub));
            }
        }
    }
    let is_decided = verdict.is_conclusive() || f.verdict.is_conclusive();
    if let Some(batch) = order.sale.as_mut().and_then(|sale| sale.batch_mut(f.batch.get())) {
        batch.decided |= is_decided;
        batch.unsure |= is_unsure(f);
        batch.refused_otherwise = is_refused_otherwise(f);
        if f.verdict == Verdict::Confirmed {
            batch.confirmed = proof.or(recorded_proof);
        }
    }
}

/// Whether an attempt up to this one may have been taken and not confirmed: not every attempt is recorded.
pub(crate) fn is_unsure(f: &DepositReplied) -> bool {
    f.attempt > 1 || !f.verdict.is_conclusive()
}

/// Whether it is a refusal that does not say that the coins were not taken before, as that of a coin spent before does.
pub(crate) fn is_refused_otherwise(f: &DepositReplied) -> bool {
    f.verdict == Verdict::Refused && f.error_code != Some(INSUFFICIENT_FUNDS)
}

/// Why this is no confirmation; nothing where it is one, as far as the bytes are there.
fn unconfirmed(
    order: &OrderFold,
    batch: &Batch,
    terms: &DepositTerms,
    key: ExchangePub,
    reply: Option<&DepositReply>,
    case: &Case,
) -> Option<&'static str> {
    let mut exchanges = order.terms.exchanges.iter();
    if !exchanges.any(|exchange| exchange.master_pub == batch.master) {
        return Some("the terms do not name the exchange");
    }
    let first = case.decision.first();
    if !case.signing_keys.valid_at(&batch.master, &key, first, case.at()) {
        return Some(
            "the signing key was not known by then as one that the exchange's master key signed for that time",
        );
    }
    let layout = reply.map(|reply| terms.confirmed_layout(&batch.deposited(), reply));
    match layout {
        None => None,
        Some(layout) if layout == Some(batch.layout()) => None,
        Some(_) => Some("the signatures are not the key's over these deposits"),
    }
}

fn pinned(master: MasterPub, stake: &[Amount], marks: &[Mark], case: &mut Case) {
    if !case.exchange_keys.is_empty() && !case.exchange_keys.contains(&master) {
        let text = format!("the confirming exchange {master} is none of those given");
        let draft = case
            .draft(&rules::EXCHANGE_PINNED, text)
            .stake(stake.iter().copied());
        case.find(draft, marks, &[]);
    }
}

/// A coin's deposit is recorded.
pub(crate) fn recorded(order: &mut OrderFold, f: &DepositRecorded, ledger: Ledger, case: &mut Case) {
    // What exchanges confirmed is not repeated in a successor, whose own word the deposit is then.
    if ledger.taking_over {
        return;
    }
    let owed = order
        .owed
        .iter()
        .position(|owed| matches!(owed, Owed::Deposit(_, coin) if *coin == f.coin_pub));
    let wrong = match owed {
        None => Some("no reply of this commit confirms it"),
        Some(place) => {
            order.owed.remove(place);
            if case.is_again { None } else { unlike(order, f) }
        }
    };
    if let Some(what) = wrong {
        let coin = Mark::Coin(f.coin_pub);
        let text = format!("coin {}: {what}", f.coin_pub);
        let draft = case
            .draft(&rules::DEPOSIT_CONFIRMED, text)
            .stake([f.amount_with_fee]);
        case.find(draft, &[Mark::Terms, coin], &[coin]);
    }
}

/// How the deposit differs from what was asked and confirmed.
fn unlike(order: &OrderFold, f: &DepositRecorded) -> Option<&'static str> {
    let sale = order.sale.as_ref()?;
    let confirmed = sale
        .asked(&f.coin_pub)
        .find_map(|(batch, coin)| Some((batch, coin, batch.confirmed?)));
    let Some((batch, coin, (key, at))) = confirmed else {
        return Some("no batch with it is confirmed");
    };
    let expected = DepositRecorded {
        coin_pub: coin.coin_pub,
        exchange_master_pub: batch.master,
        exchange_url: batch.url.clone(),
        amount_with_fee: coin.amount_with_fee,
        deposit_fee: coin.deposit_fee,
        refund_fee: coin.refund_fee,
        h_denom: Some(coin.h_denom),
        coin_sig: Some(coin.coin_sig),
        exchange_pub: Some(key),
        exchange_sig: f.exchange_sig,
        exchange_timestamp_s: Some(at),
        by: None,
    };
    if *f != expected {
        return Some("it is not what was asked and confirmed");
    }
    let terms = sale.deposit_terms(&order.terms, batch);
    let is_signed = f
        .exchange_sig
        .is_some_and(|signature| signed(&terms, batch, coin, (key, at), &signature));
    (!is_signed).then_some("its confirmation is not signed by the exchange's key")
}

fn signed(
    terms: &DepositTerms,
    batch: &Batch,
    coin: &DepositCoin,
    (key, at): (ExchangePub, Timestamp),
    signature: &EddsaSignature,
) -> bool {
    match batch.form {
        DepositForm::PerCoin => terms
            .confirmation_of_coin(at, &deposited(coin))
            .is_ok_and(|message| key.verify(&message, signature)),
        DepositForm::PerBatch => terms
            .confirmation_of_batch(at, &batch.deposited())
            .is_ok_and(|message| key.verify(&message, signature)),
    }
}
