//! Payments: whether coins may be deposited, what a reply records, and when the order is paid.

use std::sync::Arc;

use quittance_events::facts::{
    DepositCoin, DepositForm, DepositReplied, DepositUnreached, Failure, OrderClaimed, OrderCreated,
    PaymentCompleted, SessionPaid,
};
use quittance_events::order::AbortedCoin;
use quittance_events::{AttachmentName, Folded};
use quittance_taler::denomination::CoinSignature;
use quittance_taler::deposit::DepositTerms;
use quittance_taler::exchange_keys::ExchangeKeys;
use quittance_taler::payment::{PaidCoin, Price};
use quittance_taler::{ClaimNonce, Digest32, ErrorCode, json};
use serde_json::{Value, json};

use super::*;
use crate::decide::coins::{Checked, Share, Unfit, Wanted, check};
use crate::decide::pay::{Outcome, Payment, Standing, completed, decide, recorded as record, show, standing};
use crate::decide::{abort, deposits};
use crate::limits::{BATCHES_MAX, PAY_COINS_MAX, SESSIONS_MAX};

pub(super) const SECOND: &str = "https://second.example/";

pub(super) fn second_exchange() -> MasterPub {
    MasterPub::from_bytes([102; 32])
}

pub(super) fn price(amount: &str) -> Price {
    Price::new(kudos(amount), kudos("0.1"), None, None).unwrap()
}

fn event(seq: u64, facts: impl Into<Facts>) -> Event {
    Event {
        at_us: at(NOW_S - 60),
        attachments: BTreeMap::new(),
        facts: facts.into(),
        instance: Some(InstanceId::root()),
        ledger: "shop.example/test".into(),
        order: Some("boots".parse().unwrap()),
        prev: no_digest(),
        seq: Seq::new(seq).unwrap(),
        version: 4,
    }
}

pub(super) fn created(price: &str) -> OrderCreated {
    OrderCreated {
        amount: kudos(price),
        timestamp_s: second(NOW_S - 60),
        pay_deadline_s: second(NOW_S + 600),
        refund_deadline_s: second(NOW_S + 86_400),
        wire_deadline_s: second(WIRE_S),
        merchant_pub: merchant().merchant_pub(),
        exchanges: sold_terms(price).exchanges,
        h_wire: HashCode::from_bytes([8; 64]),
        claim_token: false,
        by: by(),
    }
}

fn sold_terms(price: &str) -> OrderRecorded {
    let mut terms = terms(price);
    terms.exchanges.push(NamedExchange {
        url: SECOND.into(),
        master_pub: second_exchange(),
    });
    terms.by = None;
    terms
}

pub(super) fn offered(price: &str) -> Folded {
    Folded::begin(&event(1, created(price))).unwrap()
}

/// An order that a wallet has claimed.
pub(super) fn sold(price: &str) -> Order {
    let mut folded = offered(price);
    let claim = OrderClaimed {
        nonce: ClaimNonce::from_bytes([5; 32]),
        contract_sig: merchant().sign(b"the contract"),
    };
    folded
        .apply(&event(2, sold_terms(price)), &no_digest(), None)
        .unwrap();
    folded.apply(&event(3, claim), &no_digest(), None).unwrap();
    folded.order().unwrap().as_ref().clone()
}

pub(super) fn folded(order: &Order) -> Folded {
    Folded::Recorded(Arc::new(order.clone()))
}

/// A coin of a payment; its signatures are looked at by none but [`check`].
pub(super) fn paid_coin(number: u8, value: &str, url: &str) -> PaidCoin {
    PaidCoin {
        coin_pub: coin(number),
        coin_sig: EddsaSignature::from_bytes([number; 64]),
        ub_sig: serde_json::from_value::<CoinSignature>(json!({"cipher": "RSA", "rsa_signature": "04"}))
            .unwrap(),
        h_denom: HashCode::from_bytes([number; 64]),
        contribution: kudos(value),
        exchange_url: url.into(),
        h_age_commitment: None,
    }
}

pub(super) fn payment(coins: Vec<PaidCoin>) -> Payment {
    Payment {
        coins,
        session: None,
        body: b"{}".to_vec(),
    }
}

pub(super) fn deposit_coin(coin: &PaidCoin) -> DepositCoin {
    DepositCoin {
        coin_pub: coin.coin_pub,
        amount_with_fee: coin.contribution,
        deposit_fee: kudos("0.01"),
        refund_fee: kudos("0.01"),
        h_denom: coin.h_denom,
        h_age_commitment: None,
        coin_sig: coin.coin_sig,
    }
}

/// What [`check`] finds of coins in order.
pub(super) fn checked(order: &Order, payment: &Payment) -> Checked {
    let mut wanted: Vec<Wanted> = Vec::new();
    for (exchange, url) in [(exchange(), EXCHANGE), (second_exchange(), SECOND)] {
        let of_it = payment.coins.iter().filter(|coin| coin.exchange_url == url);
        let coins: Vec<DepositCoin> = of_it
            .filter(|coin| order.deposit(&coin.coin_pub).is_none())
            .map(deposit_coin)
            .collect();
        if !coins.is_empty() {
            wanted.push(Wanted {
                exchange,
                url: url.into(),
                layout: DepositForm::PerCoin,
                coins,
            });
        }
    }
    Checked { wanted }
}

pub(super) fn is_configured(exchange: &MasterPub) -> bool {
    *exchange != stranger()
}

pub(super) fn pay(order: &Order, payment: &Payment, amount: &str) -> Decided {
    let checked = checked(order, payment);
    decide(
        Some(&folded(order)),
        payment,
        &checked,
        &price(amount),
        is_configured,
        &merchant(),
        now(),
    )
}

/// The order's batch of this number, from 0.
pub(super) fn batch(order: &Order, number: usize) -> &quittance_events::sale::Batch {
    &order.sale.as_ref().unwrap().batches[number]
}

/// A reply of that verdict, whose signatures nobody looks at any more.
pub(super) fn reply(order: &Order, number: usize, attempt: u64, verdict: Verdict) -> Outcome {
    let batch = batch(order, number);
    let sig = EddsaSignature::from_bytes([3; 64]);
    let exchange_pub = ExchangePub::from_bytes([4; 32]);
    let (http_status, error_code, body) = match verdict {
        Verdict::Confirmed => {
            let sigs: Vec<Value> = batch
                .coins
                .iter()
                .map(|_| json!({ "exchange_sig": sig }))
                .collect();
            let at = TalerTimestamp(second(NOW_S));
            let body = json!({"exchange_timestamp": at, "exchange_pub": exchange_pub, "exchange_sigs": sigs});
            (200, None, body)
        }
        Verdict::Refused => (409, Some(1012), json!({"code": 1012})),
        _ => (500, None, json!({})),
    };
    let facts = DepositReplied {
        batch: batch.seq,
        attempt,
        http_status,
        error_code,
        exchange_pub: (verdict == Verdict::Confirmed).then_some(exchange_pub),
        exchange_timestamp_s: (verdict == Verdict::Confirmed).then(|| second(NOW_S)),
        verdict,
    };
    Outcome::Replied(facts, json::to_canonical(&body).unwrap())
}

pub(super) fn unreached(order: &Order, number: usize, attempt: u64) -> Outcome {
    Outcome::Unreached(DepositUnreached {
        batch: batch(order, number).seq,
        attempt,
        failure: Failure::Timeout,
    })
}

/// The order once an outcome is recorded, with what that completes.
pub(super) fn ended(order: &Order, outcome: &Outcome, payment: &Payment, amount: &str) -> Order {
    let order = after(order, &record(order, outcome, &merchant()));
    after(&order, &completed(&order, payment, &price(amount), &merchant()))
}

fn kinds(events: &[NewEvent]) -> Vec<&'static str> {
    events.iter().map(|event| event.facts.kind()).collect()
}

pub(super) fn code<T: std::fmt::Debug>(decided: Result<T, Refusal>) -> ErrorCode {
    decided.unwrap_err().code
}

pub(super) fn stand(order: Option<&Folded>, payment: &Payment, at: Micros) -> Result<Vec<Share>, ErrorCode> {
    standing(order, payment, is_configured, at)
        .map(|(_, shares)| shares)
        .map_err(|refusal| refusal.code)
}

/// Paid with coin 1, at one exchange.
pub(super) fn paid_order() -> (Order, Payment) {
    let order = sold("10");
    let payment = payment(vec![paid_coin(1, "10", EXCHANGE)]);
    let order = after(&order, &pay(&order, &payment, "10").unwrap());
    let order = ended(&order, &reply(&order, 0, 1, Verdict::Confirmed), &payment, "10");
    assert!(order.payment.is_some());
    (order, payment)
}

#[test]
fn only_an_order_that_was_sold_here_and_claimed_can_be_paid() {
    let payment = payment(vec![paid_coin(1, "10", EXCHANGE)]);
    let unknown = Err(ErrorCode::MerchantGenericOrderUnknown);
    assert_eq!(stand(None, &payment, now()), unknown);
    assert_eq!(stand(Some(&offered("10")), &payment, now()), unknown);
    assert_eq!(
        stand(Some(&folded(&recorded(terms("10")))), &payment, now()),
        unknown
    );
    let order = sold("10");
    assert_eq!(stand(Some(&folded(&order)), &payment, now()).unwrap().len(), 1);
    let deleted = quittance_events::facts::OrderDeleted { by: by() };
    let order = after(&order, &[NewEvent::bare(deleted)]);
    assert_eq!(stand(Some(&folded(&order)), &payment, now()), unknown);
}

#[test]
fn what_is_wrong_first_is_told_first() {
    let order = folded(&sold("10"));
    let good = paid_coin(1, "10", EXCHANGE);
    let late = at(NOW_S + 600);
    let foreign = |url: &str| PaidCoin {
        exchange_url: url.into(),
        ..good.clone()
    };
    let euros = PaidCoin {
        contribution: amount("EUR:10"),
        ..paid_coin(2, "10", EXCHANGE)
    };
    let many: Vec<PaidCoin> = (0..=PAY_COINS_MAX)
        .map(|number| paid_coin(u8::try_from(number).unwrap(), "1", EXCHANGE))
        .collect();
    let malformed = ErrorCode::GenericParameterMalformed;
    let untrusted = ErrorCode::MerchantGenericExchangeUntrusted;
    for (coins, at, code) in [
        (
            vec![good.clone(), good.clone()],
            late,
            ErrorCode::MerchantPostOrdersIdPayOfferExpired,
        ),
        (many, now(), malformed),
        (
            vec![good.clone(), foreign(STRANGER), good.clone()],
            now(),
            malformed,
        ),
        (vec![euros.clone(), foreign(STRANGER)], now(), untrusted),
        (vec![foreign("https://nobody.example/")], now(), untrusted),
        (vec![euros], now(), ErrorCode::MerchantGenericCurrencyMismatch),
    ] {
        assert_eq!(stand(Some(&order), &payment(coins), at), Err(code));
    }
    let just_in_time = Micros::new(late.get() - 1).unwrap();
    assert!(stand(Some(&order), &payment(vec![good]), just_in_time).is_ok());
}

#[test]
fn exchanges_get_their_coins_however_their_address_is_written() {
    let coins = vec![
        paid_coin(1, "1", "https://SECOND.example"),
        paid_coin(2, "2", EXCHANGE),
        paid_coin(3, "3", SECOND),
    ];
    let shares = stand(Some(&folded(&sold("6"))), &payment(coins), now()).unwrap();
    let share = |exchange, url: &str, coins| Share {
        exchange,
        url: url.into(),
        coins,
    };
    assert_eq!(
        shares,
        [
            share(second_exchange(), SECOND, vec![0, 2]),
            share(exchange(), EXCHANGE, vec![1])
        ]
    );
}

#[test]
fn a_batch_is_asked_for_at_each_exchange_with_the_request_behind_it() {
    let order = sold("10");
    let payment = payment(vec![paid_coin(1, "4", EXCHANGE), paid_coin(2, "6", SECOND)]);
    let events = pay(&order, &payment, "10").unwrap();
    assert_eq!(kinds(&events), ["deposit_requested", "deposit_requested"]);
    assert!(
        events
            .iter()
            .all(|event| event.attachments == [(AttachmentName::Body, b"{}".to_vec())])
    );
    let order = after(&order, &events);
    assert_eq!(batch(&order, 0).coins, [deposit_coin(&payment.coins[0])]);
    assert_eq!(batch(&order, 1).exchange_master_pub, second_exchange());
    // The same again asks for nothing new while no exchange has decided.
    assert_eq!(pay(&order, &payment, "10").unwrap(), []);
    let order = after(&order, &record(&order, &unreached(&order, 0, 1), &merchant()));
    assert_eq!(pay(&order, &payment, "10").unwrap(), []);
    // What was refused is asked anew: the coin may be good by now.
    let order = after(
        &order,
        &record(&order, &reply(&order, 1, 1, Verdict::Refused), &merchant()),
    );
    assert_eq!(
        kinds(&pay(&order, &payment, "10").unwrap()),
        ["deposit_requested"]
    );
}

#[test]
fn the_order_is_paid_in_the_commit_of_its_last_deposit() {
    let order = sold("10");
    let payment = payment(vec![paid_coin(1, "4", EXCHANGE), paid_coin(2, "6", SECOND)]);
    let order = after(&order, &pay(&order, &payment, "10").unwrap());
    let first = record(&order, &reply(&order, 1, 1, Verdict::Confirmed), &merchant());
    assert_eq!(kinds(&first), ["deposit_replied", "deposit_recorded"]);
    let order = after(&order, &first);
    assert_eq!(completed(&order, &payment, &price("10"), &merchant()), []);
    let order = after(
        &order,
        &record(&order, &reply(&order, 0, 1, Verdict::Confirmed), &merchant()),
    );
    let done = completed(&order, &payment, &price("10"), &merchant());
    let facts = PaymentCompleted {
        paid: kudos("10"),
        coins: vec![coin(2), coin(1)],
        part: None,
        by: None,
    };
    assert_eq!(done, [NewEvent::bare(facts)]);
    let deposit = order.deposit(&coin(1)).unwrap();
    assert_eq!(deposit.coin_sig, Some(payment.coins[0].coin_sig));
    assert_eq!(deposit.exchange_url, EXCHANGE);
    assert_eq!(deposit.exchange_timestamp_s, Some(second(NOW_S)));
    let order = after(&order, &done);
    assert_eq!(completed(&order, &payment, &price("10"), &merchant()), []);
}

#[test]
fn a_failed_try_leaves_what_was_deposited_to_the_next() {
    let order = sold("10");
    let first = payment(vec![paid_coin(1, "4", EXCHANGE), paid_coin(2, "6", SECOND)]);
    let order = after(&order, &pay(&order, &first, "10").unwrap());
    let order = ended(&order, &reply(&order, 0, 1, Verdict::Confirmed), &first, "10");
    let order = ended(&order, &reply(&order, 1, 1, Verdict::Refused), &first, "10");
    assert!(order.payment.is_none());
    let second = payment(vec![paid_coin(1, "4", EXCHANGE), paid_coin(3, "6", SECOND)]);
    let events = pay(&order, &second, "10").unwrap();
    assert_eq!(kinds(&events), ["deposit_requested"]);
    let order = after(&order, &events);
    assert_eq!(batch(&order, 2).coins, [deposit_coin(&second.coins[1])]);
    let order = ended(&order, &reply(&order, 2, 1, Verdict::Confirmed), &second, "10");
    assert_eq!(order.payment.unwrap().coins, [coin(1), coin(3)].into());
    assert_eq!(order.aborts, []);
}

#[test]
fn deposits_of_another_try_go_back_before_the_payment_completes() {
    let order = sold("10");
    let theirs = payment(vec![paid_coin(1, "4", EXCHANGE), paid_coin(2, "6", SECOND)]);
    let order = after(&order, &pay(&order, &theirs, "10").unwrap());
    let order = ended(&order, &reply(&order, 0, 1, Verdict::Confirmed), &theirs, "10");
    let order = ended(&order, &unreached(&order, 1, 1), &theirs, "10");
    let mine = payment(vec![paid_coin(3, "10", EXCHANGE)]);
    let order = after(&order, &pay(&order, &mine, "10").unwrap());
    let order = after(
        &order,
        &record(&order, &reply(&order, 2, 1, Verdict::Confirmed), &merchant()),
    );
    let done = completed(&order, &mine, &price("10"), &merchant());
    assert_eq!(kinds(&done), ["abort_extended", "payment_completed"]);
    let order = after(&order, &done);
    // Whether coin 2 was deposited is unknown; if so, it goes back.
    let open: Vec<_> = order.open_permissions().map(|(coin, _)| coin).collect();
    assert_eq!(open, [coin(1), coin(2)]);
    assert_eq!(order.payment.as_ref().unwrap().paid, kudos("10"));
    assert_eq!(order.exchange_of(&coin(2)), Some(second_exchange()));
    // Their wallet is told so, and its abort is none after the payment.
    assert_eq!(
        code(pay(&order, &theirs, "10")),
        ErrorCode::MerchantPostOrdersIdPayAlreadyPaid
    );
    let request = abort::AbortRequest {
        h_contract: hash(),
        coins: vec![coin(1), coin(2)],
        body: Vec::new(),
    };
    assert_eq!(abort::decide(Some(&order), &request, &merchant()).unwrap(), []);
}

#[test]
fn a_paid_order_is_paid_again_by_the_same_coins_only_and_not_after_a_refund() {
    let (order, payment_made) = paid_order();
    assert!(matches!(
        standing(
            Some(&folded(&order)),
            &payment_made,
            is_configured,
            at(NOW_S + 10_000)
        )
        .unwrap()
        .0,
        Standing::Paid(..)
    ));
    let other_sig = PaidCoin {
        coin_sig: EddsaSignature::from_bytes([9; 64]),
        ..payment_made.coins[0].clone()
    };
    for coins in [
        vec![],
        vec![other_sig],
        vec![paid_coin(1, "9", EXCHANGE)],
        vec![paid_coin(2, "10", EXCHANGE)],
    ] {
        assert_eq!(
            stand(Some(&folded(&order)), &payment(coins), now()),
            Err(ErrorCode::MerchantPostOrdersIdPayAlreadyPaid)
        );
    }
    // A coin whose abort was refused counts, whoever names it; who names none is nobody to it.
    let mut given_back = order.clone();
    given_back.aborts.push(AbortedCoin {
        coin_pub: coin(1),
        permission: None,
        outcome: quittance_events::order::Outcome::default(),
    });
    assert_eq!(
        stand(Some(&folded(&given_back)), &payment(vec![]), now()),
        Err(ErrorCode::MerchantPostOrdersIdPayAlreadyPaid)
    );
    let refunded = after(&order, &approve(&order, "KUDOS:1").unwrap());
    assert_eq!(
        stand(Some(&folded(&refunded)), &payment_made, now()),
        Err(ErrorCode::MerchantPostOrdersIdPayReplayAfterRefund)
    );
    assert_eq!(
        stand(
            Some(&folded(&refunded)),
            &payment(vec![paid_coin(2, "10", EXCHANGE)]),
            now()
        ),
        Err(ErrorCode::MerchantPostOrdersIdPayAlreadyPaid)
    );
}

#[test]
fn a_session_is_recorded_once_and_only_so_many() {
    let (order, mut again) = paid_order();
    let session = |number: u8| Digest32::from_bytes([number; 32]);
    again.session = Some(session(1));
    let facts = NewEvent::bare(SessionPaid { session: session(1) });
    let events = decide(
        Some(&folded(&order)),
        &again,
        &Checked { wanted: Vec::new() },
        &price("10"),
        is_configured,
        &merchant(),
        now(),
    );
    assert_eq!(events.unwrap(), [facts]);
    let sig = merchant().sign(&message::payment_ok(&hash()));
    let shown = |order: &Order, number| show(Some(&folded(order)), &hash(), &sig, Some(session(number)));
    let mut order = order;
    for number in 0..SESSIONS_MAX {
        let number = u8::try_from(number).unwrap();
        let events = shown(&order, number).unwrap();
        order = after(&order, &events);
        assert_eq!(shown(&order, number).unwrap(), []);
    }
    assert_eq!(code(shown(&order, 200)), ErrorCode::GenericParameterMalformed);
    // Who pays again with what has paid is told so all the same.
    again.session = Some(session(200));
    assert_eq!(pay(&order, &again, "10").unwrap(), []);
    let order = folded(&order);
    let other = HashCode::from_bytes([1; 64]);
    assert_eq!(
        code(show(Some(&order), &other, &sig, None)),
        ErrorCode::MerchantPostOrdersIdPaidContractHashMismatch
    );
    let forged = EddsaPrivateKey::from_bytes([6; 32]).sign(&message::payment_ok(&hash()));
    let invalid = ErrorCode::MerchantPostOrdersIdPaidCoinSignatureInvalid;
    assert_eq!(code(show(Some(&order), &hash(), &forged, None)), invalid);
    assert_eq!(
        code(show(Some(&folded(&sold("10"))), &hash(), &sig, None)),
        invalid
    );
    assert_eq!(
        code(show(None, &hash(), &sig, None)),
        ErrorCode::MerchantGenericOrderUnknown
    );
}

#[test]
fn an_order_of_nothing_is_paid_by_no_coins() {
    let order = sold("0");
    let mut nothing = payment(Vec::new());
    nothing.session = Some(Digest32::from_bytes([1; 32]));
    let events = pay(&order, &nothing, "0").unwrap();
    assert_eq!(kinds(&events), ["payment_completed", "session_paid"]);
    let order = after(&order, &events);
    assert_eq!(order.payment.as_ref().unwrap().paid, kudos("0"));
    assert_eq!(pay(&order, &nothing, "0").unwrap(), []);
}

#[test]
fn attempts_are_recorded_at_powers_of_two_and_when_they_decide() {
    let order = sold("10");
    let payment = payment(vec![paid_coin(1, "10", EXCHANGE)]);
    let order = after(&order, &pay(&order, &payment, "10").unwrap());
    for attempt in 1..20 {
        let is_power = u64::is_power_of_two(attempt);
        let missed = record(&order, &unreached(&order, 0, attempt), &merchant());
        assert_eq!(missed.len(), usize::from(is_power));
        let later = record(&order, &reply(&order, 0, attempt, Verdict::Later), &merchant());
        assert_eq!(later.len(), usize::from(is_power));
    }
    let refused = record(&order, &reply(&order, 0, 3, Verdict::Refused), &merchant());
    assert_eq!(kinds(&refused), ["deposit_replied"]);
    let order = after(&order, &refused);
    assert_eq!(
        record(&order, &reply(&order, 0, 4, Verdict::Confirmed), &merchant()),
        []
    );
}

#[test]
fn an_order_takes_only_so_many_batches() {
    let mut order = sold("10");
    let payment = payment(vec![paid_coin(1, "10", EXCHANGE)]);
    for number in 0..BATCHES_MAX {
        order = after(&order, &pay(&order, &payment, "10").unwrap());
        order = after(
            &order,
            &record(&order, &reply(&order, number, 1, Verdict::Refused), &merchant()),
        );
    }
    assert_eq!(refused(pay(&order, &payment, "10")), (400, 26));
}

#[test]
fn the_intake_tells_nothing_of_an_order_that_is_sold_here() {
    let request = deposits::DepositsRequest {
        deposits: vec![told(1, "10", "0.01")],
        paid: true,
        refunds: Vec::new(),
    };
    let decided = deposits::decide(Some(&sold("10")), &request, is_configured, &merchant(), &by());
    let refusal = decided.unwrap_err();
    assert_eq!(
        (refusal.code, refusal.http_status),
        (ErrorCode::GenericDbInvariantFailure, Some(409))
    );
}

/// A recorded deposit of two coins, with the exchange's `/keys` of that day.
pub(super) struct Recorded {
    pub(super) order: Order,
    pub(super) payment: Payment,
    terms: DepositTerms,
    pub(super) keys: Arc<ExchangeKeys>,
    pub(super) master: MasterPub,
    pub(super) at: Micros,
}

pub(super) fn fixture(name: &str) -> Value {
    let path = format!("{}/taler/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub(super) fn recording() -> Recorded {
    let capture = fixture("deposit-batch-two-coins.json");
    let keys = fixture("keys.body.json");
    let master: MasterPub = serde_json::from_value(keys["master_public_key"].clone()).unwrap();
    let keys = ExchangeKeys::read(keys.to_string().as_bytes(), &master).unwrap();
    let terms = quittance_taler::payment::PaymentTerms::read(&capture["contract_terms"]).unwrap();
    let coins = capture["request"]["body"]["coins"].as_array().unwrap();
    let coins = coins.iter().map(|coin| {
        json!({
            "coin_pub": coin["coin_pub"], "coin_sig": coin["coin_sig"], "ub_sig": coin["ub_sig"],
            "h_denom": coin["denom_pub_hash"], "contribution": coin["contribution"],
            "exchange_url": terms.contract.exchanges[0].url,
        })
    });
    let body = json!({"coins": coins.collect::<Vec<_>>(), "session_id": ""});
    let payment = Payment::read(body.to_string().as_bytes()).unwrap();
    let currency = terms.contract.amount.currency();
    let mut order = sold("10");
    Arc::make_mut(&mut order.terms).amount = Amount::zero(currency);
    Recorded {
        payment,
        terms: terms.deposit_terms(None),
        keys: Arc::new(keys),
        master,
        at: Micros::from_s(terms.contract.timestamp.seconds().unwrap() + 10).unwrap(),
        order,
    }
}

impl Recorded {
    fn price(&self, amount: &str) -> Price {
        let currency = self.order.currency();
        let parse = |number: &str| format!("{currency}:{number}").parse().unwrap();
        Price::new(parse(amount), parse("0"), None, None).unwrap()
    }

    pub(super) fn check(&self, payment: &Payment, amount: &str, at: Micros) -> Result<Checked, Unfit> {
        let share = Share {
            exchange: self.master,
            url: EXCHANGE.into(),
            coins: (0..payment.coins.len()).collect(),
        };
        let keys = |_: &MasterPub| Some(Arc::clone(&self.keys));
        check(
            &self.order,
            payment,
            &[share],
            &self.terms,
            &self.price(amount),
            keys,
            at,
        )
    }
}

#[test]
fn recorded_coins_pass_and_anything_changed_in_them_does_not() {
    let recording = recording();
    let good = &recording.payment;
    let checked = recording.check(good, "1", recording.at).unwrap();
    assert_eq!(checked.wanted.len(), 1);
    assert_eq!(checked.wanted[0].coins.len(), good.coins.len());
    assert_eq!(checked.wanted[0].layout, DepositForm::PerCoin);
    let with = |change: &dyn Fn(&mut PaidCoin)| {
        let mut payment = good.clone();
        change(&mut payment.coins[0]);
        payment
    };
    let currency = recording.order.currency();
    let amount = |number: &str| format!("{currency}:{number}").parse::<Amount>().unwrap();
    let other_ub = good.coins[1].ub_sig.clone();
    for (what, payment, code, looks) in [
        (
            "an unknown denomination",
            with(&|coin| coin.h_denom = HashCode::from_bytes([1; 64])),
            ErrorCode::MerchantPostOrdersIdPayDenominationKeyNotFound,
            true,
        ),
        (
            "a signature over another amount",
            with(&|coin| coin.contribution = amount("0.5")),
            ErrorCode::MerchantPostOrdersIdPayCoinSignatureInvalid,
            true,
        ),
        (
            "a signature for another coin",
            with(&|coin| coin.coin_pub = good.coins[1].coin_pub),
            ErrorCode::MerchantPostOrdersIdPayCoinSignatureInvalid,
            true,
        ),
        (
            "another coin's denomination signature",
            with(&|coin| coin.ub_sig = other_ub.clone()),
            ErrorCode::GenericParameterMalformed,
            false,
        ),
        (
            "nothing",
            with(&|coin| coin.contribution = amount("0")),
            ErrorCode::GenericParameterMalformed,
            false,
        ),
        (
            "more than it is worth",
            with(&|coin| coin.contribution = amount("1000")),
            ErrorCode::GenericParameterMalformed,
            false,
        ),
    ] {
        let unfit = recording.check(&payment, "1", recording.at).unwrap_err();
        assert_eq!(
            (unfit.refusal.code, unfit.look_again.is_some()),
            (code, looks),
            "{what}"
        );
    }
    let long_after = Micros::from_s(recording.at.get() / 1_000_000 + 100 * 365 * 86_400).unwrap();
    let unfit = recording.check(good, "1", long_after).unwrap_err();
    assert_eq!(
        unfit.refusal.code,
        ErrorCode::MerchantPostOrdersIdPayDenominationDepositExpired
    );
    let short = recording.check(good, "1000", recording.at).unwrap_err();
    assert_eq!(
        short.refusal.code,
        ErrorCode::MerchantPostOrdersIdPayPaymentInsufficient
    );
}

#[test]
fn a_coin_is_never_asked_for_two_amounts() {
    let mut recording = recording();
    let one = sold("10");
    let other = PaidCoin {
        coin_pub: recording.payment.coins[0].coin_pub,
        ..paid_coin(1, "10", EXCHANGE)
    };
    let asked = payment(vec![other]);
    recording.order.sale = after(&one, &pay(&one, &asked, "10").unwrap()).sale;
    let unfit = recording
        .check(&recording.payment, "1", recording.at)
        .unwrap_err();
    assert_eq!(
        (unfit.refusal.code, unfit.refusal.http_status),
        (ErrorCode::GenericDbInvariantFailure, Some(409))
    );
}
