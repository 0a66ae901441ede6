//! What an exchange replies to a batch of deposits: two bytes of status, then the body. A batch is confirmed by its
//! exchange's signatures over its very coins and by nothing else, whatever the status; what is judged can be recorded
//! and read again.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use quittance::decide::coins::as_signed;
use quittance::decide::pay::{Outcome, recorded};
use quittance::exchange::Reply;
use quittance::exchange::deposit::{claimed, judge};
use quittance_events::book::Book;
use quittance_events::facts::{DepositForm, Verdict};
use quittance_events::ids::SAFE_INTEGER_MAX;
use quittance_events::sale::Batch;
use quittance_events::{Event, Order};
use quittance_fuzz::{bounded, exchange};
use quittance_taler::deposit::{DepositReply, DepositSignatures, DepositTerms, DepositedCoin};
use quittance_taler::{EddsaPrivateKey, EddsaSignature};

struct Scene {
    order: Order,
    terms: DepositTerms,
    book: Book,
    merchant: EddsaPrivateKey,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let order = exchange::sold();
    Scene {
        terms: exchange::terms(&order),
        order,
        book: exchange::book(),
        merchant: exchange::merchant(),
    }
});

/// Whether the exchange signed for all of these coins, in the batch's form.
fn is_signed(batch: &Batch, terms: &DepositTerms, reply: &DepositReply) -> bool {
    let (coins, at) = (as_signed(&batch.coins), reply.exchange_timestamp);
    let alone = |coin: &DepositedCoin, signature: &EddsaSignature| {
        let message = terms
            .confirmation_of_coin(at, coin)
            .expect("a fee below the amount");
        reply.exchange_pub.verify(&message, signature)
    };
    match (batch.layout, &reply.signatures, &coins[..]) {
        (DepositForm::PerCoin, DepositSignatures::PerCoin(signatures), coins) => {
            let mut pairs = coins.iter().zip(signatures);
            signatures.len() == coins.len() && pairs.all(|(coin, signature)| alone(coin, signature))
        }
        (DepositForm::PerCoin, DepositSignatures::One(signature), [coin]) => alone(coin, signature),
        (DepositForm::PerBatch, DepositSignatures::One(signature), coins) => {
            let message = terms
                .confirmation_of_batch(at, coins)
                .expect("coins of one currency");
            reply.exchange_pub.verify(&message, signature)
        }
        _ => false,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((status, body)) = data.split_first_chunk::<2>() else {
        return;
    };
    let Scene {
        order,
        terms,
        book,
        merchant,
    } = &*SCENE;
    let reply = Reply {
        http_status: u16::from_be_bytes(*status),
        body: body.to_vec(),
    };
    let batches = order.sale.iter().flat_map(|sale| &sale.batches);
    bounded(data.len(), 512, || {
        for batch in batches {
            let facts = judge(batch, terms, 1, &reply, book, exchange::now());
            let verdict = facts.verdict;
            let is_claim = reply.http_status == 200 || verdict == Verdict::Confirmed;
            let recorded_claim = claimed(&reply).filter(|_| is_claim);
            assert!(facts.error_code.is_none_or(|code| code <= SAFE_INTEGER_MAX));
            assert_eq!(
                facts.exchange_pub,
                recorded_claim.as_ref().map(|reply| reply.exchange_pub)
            );
            assert_eq!(
                facts.exchange_timestamp_s,
                recorded_claim.as_ref().map(|reply| reply.exchange_timestamp)
            );
            let is_proof = |reply: &DepositReply| {
                reply.exchange_pub == exchange::signing() && is_signed(batch, terms, reply)
            };
            assert_eq!(
                verdict == Verdict::Confirmed,
                claimed(&reply).as_ref().is_some_and(is_proof)
            );
            match verdict {
                Verdict::Confirmed => {}
                Verdict::Unproven => assert_eq!(reply.http_status, 200),
                Verdict::Refused => {
                    assert!((400..500).contains(&reply.http_status) && facts.error_code.is_some());
                }
                Verdict::Later => assert!(reply.http_status >= 400),
                Verdict::Malformed => assert_ne!(reply.http_status, 200),
            }
            let events = recorded(order, &Outcome::Replied(facts, reply.body.clone()), merchant);
            let after = order
                .preview(exchange::now(), &events)
                .expect("it fits the order");
            let is_deposited = verdict == Verdict::Confirmed;
            for coin in &batch.coins {
                assert_eq!(after.deposit(&coin.coin_pub).is_some(), is_deposited);
            }
            assert_eq!(
                after.deposits.len(),
                if is_deposited { batch.coins.len() } else { 0 }
            );
            for new in events {
                let event = exchange::event(new.facts);
                assert_eq!(
                    Event::parse_canonical(&event.canonical()).expect("as recorded"),
                    event
                );
            }
        }
    });
});
