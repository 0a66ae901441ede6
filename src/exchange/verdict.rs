//! Judges an exchange's reply: what it proves about a permission. Pure. A confirmation counts only with a signature
//! under a key that the exchange's master key signed and that was valid then, because a wallet will rely on it and
//! an auditor will ask for it. Specification: Taler's exchange API, `POST /coins/$COIN_PUB/refund`, message 1038.

use quittance_events::book::Book;
use quittance_events::facts::{ExchangeReplied, Verdict};
use quittance_events::ids::SAFE_INTEGER_MAX;
use quittance_events::{Order, RefundId};
use quittance_taler::json::read_object;
use quittance_taler::{CoinPub, EddsaSignature, ExchangePub, Micros, message};
use serde::Deserialize;
use serde_json::Value;

use super::Reply;

#[derive(Deserialize)]
struct Confirmation {
    exchange_pub: ExchangePub,
    exchange_sig: EddsaSignature,
}

/// Who signed, and what, where a reply has the form of a confirmation, under whatever status: nobody signs that.
#[must_use]
pub fn claimed_proof(reply: &Reply) -> Option<(ExchangePub, EddsaSignature)> {
    let confirmation: Confirmation = read_object(&reply.body).ok()?;
    Some((confirmation.exchange_pub, confirmation.exchange_sig))
}

/// The `code` of a JSON object, where it is a number that a code can be.
#[must_use]
pub fn error_code(body: &[u8]) -> Option<u64> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.as_object()?
        .get("code")?
        .as_u64()
        .filter(|code| *code <= SAFE_INTEGER_MAX)
}

/// What a reply of this status and code proves, with a confirmation that verifies or without. What is signed counts under
/// any status: a proxy's word does not undo the exchange's.
pub(super) fn verdict_of(http_status: u16, error_code: Option<u64>, is_proof: bool) -> Verdict {
    match (http_status, error_code) {
        _ if is_proof => Verdict::Confirmed,
        (200, _) => Verdict::Unproven,
        (408 | 425 | 429 | 451 | 500..=599, _) => Verdict::Later,
        (400..=499, Some(_)) => Verdict::Refused,
        _ => Verdict::Malformed,
    }
}

/// Whether what has the form of a confirmation is recorded as one: under another status than 200 only where it proves
/// something. Exchanges sign refusals, too.
pub(super) fn is_claim(http_status: u16, verdict: Verdict) -> bool {
    http_status == 200 || verdict == Verdict::Confirmed
}

/// What the reply proves about the order's permission, as of `at`.
#[must_use]
pub fn judge(
    order: &Order,
    (coin, id): (CoinPub, RefundId),
    attempt: u64,
    reply: &Reply,
    book: &Book,
    at: Micros,
) -> ExchangeReplied {
    let status = reply.http_status;
    let code = error_code(&reply.body);
    let proof = claimed_proof(reply);
    let is_proof = proof.is_some_and(|proof| confirms(order, coin, id, proof, book, at));
    let verdict = verdict_of(status, code, is_proof);
    let proof = proof.filter(|_| is_claim(status, verdict));
    ExchangeReplied {
        coin_pub: coin,
        rtransaction_id: id,
        attempt,
        http_status: status,
        error_code: code,
        exchange_pub: proof.map(|(key, _)| key),
        exchange_sig: proof.map(|(_, sig)| sig),
        verdict,
    }
}

fn confirms(
    order: &Order,
    coin: CoinPub,
    id: RefundId,
    (key, sig): (ExchangePub, EddsaSignature),
    book: &Book,
    at: Micros,
) -> bool {
    let amount = match id {
        RefundId::ABORT => order
            .aborted(&coin)
            .and_then(|aborted| aborted.permission)
            .map(|(amount, _)| amount),
        id => order.row(&coin, id).map(|row| row.amount),
    };
    let (Some(amount), Some(exchange)) = (amount, order.exchange_of(&coin)) else {
        return false;
    };
    let terms = &order.terms;
    let message =
        message::refund_confirmation(&terms.h_contract, &coin, &terms.merchant_pub, id.get(), &amount);
    book.signkey_valid(&exchange, &key, at) && key.verify(&message, &sig)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::BTreeMap;

    use quittance_events::facts::PermissionName;
    use quittance_events::facts::{
        AbortCoin, AbortCoinState, AbortRequested, ApprovedRow, DepositRecorded, ExchangeKeysSeen,
        NamedExchange, OrderRecorded, RefundApproved, RefundRequested, SignKey,
    };
    use quittance_events::seal::no_digest;
    use quittance_events::{Event, Facts, InstanceId, NewEvent, Seq};
    use quittance_taler::{Amount, EddsaPrivateKey, HashCode, MasterPub, Timestamp};
    use serde_json::json;

    use super::*;

    const NOW_S: u64 = 1_795_226_400;
    /// The signing key's life.
    const START_S: u64 = NOW_S - 100_000;
    const EXPIRE_S: u64 = NOW_S + 100_000;
    const HOUR_S: u64 = 3600;

    fn key(number: u8) -> EddsaPrivateKey {
        EddsaPrivateKey::from_bytes([number; 32])
    }

    fn master() -> MasterPub {
        MasterPub::from_bytes(key(1).public_bytes())
    }

    fn signing() -> ExchangePub {
        ExchangePub::from_bytes(key(2).public_bytes())
    }

    fn coin() -> CoinPub {
        CoinPub::from_bytes(key(3).public_bytes())
    }

    fn second(seconds: u64) -> Timestamp {
        Timestamp::from_s(seconds).unwrap()
    }

    fn at(seconds: u64) -> Micros {
        Micros::from_s(seconds).unwrap()
    }

    fn kudos(number: &str) -> Amount {
        format!("KUDOS:{number}").parse().unwrap()
    }

    fn event(facts: impl Into<Facts>) -> Event {
        Event {
            at_us: at(NOW_S),
            attachments: BTreeMap::new(),
            facts: facts.into(),
            instance: Some(InstanceId::root()),
            ledger: "shop.example/test".into(),
            order: Some("boots".parse().unwrap()),
            prev: no_digest(),
            seq: Seq::FIRST,
            version: quittance_events::event::FIRST_VERSION,
        }
    }

    /// A coin of 10 with an abort (id 0, all of it) and an approved permission (id 1, over 4).
    fn order() -> Order {
        let order = Order::begin(&event(OrderRecorded {
            h_contract: HashCode::from_bytes([9; 64]),
            amount: kudos("10"),
            timestamp_s: second(NOW_S),
            refund_deadline_s: second(NOW_S + 10),
            wire_deadline_s: second(NOW_S + 20),
            merchant_pub: key(4).merchant_pub(),
            exchanges: vec![NamedExchange {
                url: "https://exchange.example/".into(),
                master_pub: master(),
            }],
            choice_index: None,
            by: None,
        }));
        // What the merchant signed does not count here: the exchange's signature does.
        let merchant_sig = key(4).sign(b"a permission");
        let events = [
            NewEvent::bare(DepositRecorded {
                coin_pub: coin(),
                exchange_master_pub: master(),
                exchange_url: "https://exchange.example/".into(),
                amount_with_fee: kudos("10"),
                deposit_fee: kudos("0"),
                refund_fee: kudos("0"),
                h_denom: None,
                coin_sig: None,
                exchange_pub: None,
                exchange_sig: None,
                exchange_timestamp_s: None,
                by: None,
            }),
            NewEvent::bare(AbortRequested {
                coins: vec![AbortCoin {
                    coin_pub: coin(),
                    state: AbortCoinState::Deposited,
                    amount: Some(kudos("10")),
                    merchant_sig: Some(merchant_sig),
                }],
                part: None,
            }),
            NewEvent::bare(RefundApproved {
                total: kudos("4"),
                execution_s: second(NOW_S),
                rows: vec![ApprovedRow {
                    coin_pub: coin(),
                    rtransaction_id: id(1),
                    amount: kudos("4"),
                    merchant_sig,
                }],
                part: None,
                by: "shop".parse().unwrap(),
            }),
            NewEvent::bare(RefundRequested {
                rows: vec![PermissionName {
                    coin_pub: coin(),
                    rtransaction_id: id(1),
                }],
                part: None,
            }),
        ];
        order.unwrap().preview(at(NOW_S), &events).unwrap()
    }

    fn id(number: u64) -> RefundId {
        RefundId::new(number).unwrap()
    }

    /// The exchange's keys as the ledger has them: one signing key, under this master key.
    fn book_of(master_pub: MasterPub) -> Book {
        let mut book = Book::default();
        let (start_s, expire_s, end_s) = (second(START_S), second(EXPIRE_S), second(EXPIRE_S + 1_000_000));
        let master_sig = key(1).sign(&message::signing_key_validity(
            start_s,
            expire_s,
            end_s,
            &signing(),
        ));
        book.apply(&event(ExchangeKeysSeen {
            master_pub,
            url: "https://exchange.example/".into(),
            signkeys: vec![SignKey {
                key: signing(),
                start_s,
                expire_s,
                end_s,
                master_sig,
            }],
        }));
        book
    }

    fn reply(http_status: u16, body: impl AsRef<[u8]>) -> Reply {
        Reply {
            http_status,
            body: body.as_ref().to_vec(),
        }
    }

    /// A confirmation by this key of what it says.
    fn confirmation(signer: &EddsaPrivateKey, id: u64, amount: &Amount) -> Reply {
        let order = order();
        let (terms, coin) = (&order.terms, coin());
        let message = message::refund_confirmation(&terms.h_contract, &coin, &terms.merchant_pub, id, amount);
        let exchange_pub = ExchangePub::from_bytes(signer.public_bytes());
        let body = json!({"exchange_pub": exchange_pub, "exchange_sig": signer.sign(&message), "more": 1});
        reply(200, body.to_string())
    }

    fn verdict_at(id: RefundId, reply: &Reply, book: &Book, at: Micros) -> Verdict {
        judge(&order(), (coin(), id), 1, reply, book, at).verdict
    }

    fn verdict(reply: &Reply) -> Verdict {
        verdict_at(RefundId::ABORT, reply, &book_of(master()), at(NOW_S))
    }

    #[test]
    fn a_valid_signature_confirms_a_permission_of_either_sort() {
        let book = book_of(master());
        for (permission, amount) in [(RefundId::ABORT, kudos("10")), (id(1), kudos("4"))] {
            let reply = confirmation(&key(2), permission.get(), &amount);
            let facts = judge(&order(), (coin(), permission), 3, &reply, &book, at(NOW_S));
            assert_eq!(facts.verdict, Verdict::Confirmed);
            assert_eq!(
                (facts.coin_pub, facts.rtransaction_id, facts.attempt),
                (coin(), permission, 3)
            );
            assert_eq!((facts.http_status, facts.error_code), (200, None));
            assert_eq!(facts.exchange_pub.zip(facts.exchange_sig), claimed_proof(&reply));
            assert_eq!(facts.exchange_pub, Some(signing()));
        }
    }

    #[test]
    fn a_confirmation_of_anything_else_proves_nothing() {
        let book = book_of(master());
        let abort = confirmation(&key(2), 0, &kudos("10"));
        let other_master = book_of(MasterPub::from_bytes(key(8).public_bytes()));
        for (what, permission, reply, book) in [
            ("another id", id(1), &abort, &book),
            (
                "another amount",
                RefundId::ABORT,
                &confirmation(&key(2), 0, &kudos("9")),
                &book,
            ),
            (
                "a key that nobody vouches for",
                RefundId::ABORT,
                &confirmation(&key(7), 0, &kudos("10")),
                &book,
            ),
            (
                "the master key itself",
                RefundId::ABORT,
                &confirmation(&key(1), 0, &kudos("10")),
                &book,
            ),
            ("another exchange's key", RefundId::ABORT, &abort, &other_master),
            ("no keys at all", RefundId::ABORT, &abort, &Book::default()),
            (
                "no such permission",
                id(2),
                &confirmation(&key(2), 2, &kudos("4")),
                &book,
            ),
        ] {
            assert_eq!(
                verdict_at(permission, reply, book, at(NOW_S)),
                Verdict::Unproven,
                "{what}"
            );
        }
        // The claim is kept, so that an auditor sees what was claimed.
        let unknown = confirmation(&key(7), 0, &kudos("10"));
        let facts = judge(&order(), (coin(), RefundId::ABORT), 1, &unknown, &book, at(NOW_S));
        assert_eq!(
            facts.exchange_pub,
            Some(ExchangePub::from_bytes(key(7).public_bytes()))
        );
        let other = CoinPub::from_bytes([5; 32]);
        let facts = judge(&order(), (other, RefundId::ABORT), 1, &abort, &book, at(NOW_S));
        assert_eq!(facts.verdict, Verdict::Unproven);
    }

    #[test]
    fn a_signing_key_is_valid_from_an_hour_before_its_start_until_an_hour_after_its_expiry() {
        let reply = confirmation(&key(2), 0, &kudos("10"));
        let before = |seconds: u64| Micros::new(seconds * 1_000_000 - 1).unwrap();
        for (time, expected) in [
            (before(START_S - HOUR_S), Verdict::Unproven),
            (at(START_S - HOUR_S), Verdict::Confirmed),
            (at(START_S), Verdict::Confirmed),
            (at(EXPIRE_S), Verdict::Confirmed),
            (before(EXPIRE_S + HOUR_S), Verdict::Confirmed),
            (at(EXPIRE_S + HOUR_S), Verdict::Unproven),
        ] {
            assert_eq!(
                verdict_at(RefundId::ABORT, &reply, &book_of(master()), time),
                expected,
                "{time:?}"
            );
        }
    }

    #[test]
    fn a_200_without_the_form_of_a_proof_is_unproven_whatever_it_says() {
        let good = confirmation(&key(2), 0, &kudos("10")).body;
        for body in [
            b"".to_vec(),
            b"\x00\xff{".to_vec(),
            b"{}".to_vec(),
            b"[]".to_vec(),
            b"{\"code\":1501}".to_vec(),
            b"{\"exchange_pub\":\"short\",\"exchange_sig\":\"short\"}".to_vec(),
            json!({"exchange_pub": signing()}).to_string().into_bytes(),
            good[..good.len() / 2].to_vec(),
        ] {
            assert_eq!(
                verdict(&reply(200, &body)),
                Verdict::Unproven,
                "{}",
                String::from_utf8_lossy(&body)
            );
        }
        let spoilt = {
            let mut sig = *claimed_proof(&reply(200, &good)).unwrap().1.as_bytes();
            sig[3] ^= 4;
            json!({"exchange_pub": signing(), "exchange_sig": EddsaSignature::from_bytes(sig)}).to_string()
        };
        assert_eq!(verdict(&reply(200, spoilt)), Verdict::Unproven);
    }

    #[test]
    fn a_final_4xx_with_a_code_refuses() {
        for status in [400, 403, 404, 409, 410, 424, 499] {
            let facts = judge(
                &order(),
                (coin(), RefundId::ABORT),
                1,
                &reply(status, "{\"code\":1501,\"hint\":\"no\"}"),
                &book_of(master()),
                at(NOW_S),
            );
            assert_eq!(
                (facts.verdict, facts.error_code),
                (Verdict::Refused, Some(1501)),
                "{status}"
            );
            assert_eq!((facts.exchange_pub, facts.exchange_sig), (None, None));
        }
        assert_eq!(verdict(&reply(404, "{\"code\":0}")), Verdict::Refused);
        assert_eq!(
            verdict(&reply(404, "{\"code\":9007199254740991}")),
            Verdict::Refused
        );
    }

    #[test]
    fn a_4xx_without_a_numeric_code_is_malformed() {
        for body in [
            "",
            "<html>404</html>",
            "{}",
            "[1501]",
            "1501",
            "\"code\"",
            "{\"code\":\"1501\"}",
            "{\"code\":null}",
            "{\"code\":-1}",
            "{\"code\":1.5}",
            // Beyond the integers that every reader of JSON keeps.
            "{\"code\":9007199254740992}",
            "{\"code\":1501",
        ] {
            let facts = judge(
                &order(),
                (coin(), RefundId::ABORT),
                1,
                &reply(404, body),
                &book_of(master()),
                at(NOW_S),
            );
            assert_eq!(
                (facts.verdict, facts.error_code),
                (Verdict::Malformed, None),
                "{body}"
            );
        }
    }

    #[test]
    fn what_may_pass_is_later_with_a_code_or_without() {
        for status in [408, 425, 429, 451, 500, 501, 502, 503, 504, 599] {
            for body in ["{\"code\":1501}", "<html>", ""] {
                assert_eq!(verdict(&reply(status, body)), Verdict::Later, "{status} {body}");
            }
        }
        let facts = judge(
            &order(),
            (coin(), RefundId::ABORT),
            1,
            &reply(503, "{\"code\":53}"),
            &book_of(master()),
            at(NOW_S),
        );
        assert_eq!(facts.error_code, Some(53));
    }

    #[test]
    fn all_else_is_malformed() {
        for status in [100, 201, 204, 206, 299, 300, 301, 302, 304, 307, 399, 600, 999] {
            for body in [&b"{\"code\":1501}"[..], b""] {
                assert_eq!(verdict(&reply(status, body)), Verdict::Malformed, "{status}");
            }
        }
    }

    #[test]
    fn a_good_proof_confirms_under_any_status() {
        let book = book_of(master());
        for (signer, is_good) in [(2, true), (7, false)] {
            let body = confirmation(&key(signer), 0, &kudos("10")).body;
            for status in [100, 201, 204, 302, 404, 409, 429, 500, 503, 999] {
                let reply = reply(status, &body);
                let facts = judge(&order(), (coin(), RefundId::ABORT), 1, &reply, &book, at(NOW_S));
                assert_eq!(facts.verdict == Verdict::Confirmed, is_good, "{status}");
                // What proves nothing is not recorded.
                let recorded = facts.exchange_pub.zip(facts.exchange_sig);
                assert_eq!(recorded, claimed_proof(&reply).filter(|_| is_good), "{status}");
            }
        }
    }
}
