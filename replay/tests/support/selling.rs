//! A ledger of orders that were sold here, in both forms of deposits, written by the real writer.

use super::*;
use quittance_taler::deposit::{DepositTerms, DepositedCoin};
use quittance_taler::payto::PaytoUri;
use quittance_taler::{ClaimNonce, Digest32, EddsaPrivateKey, WireSalt};

/// Paid with two coins of which each is confirmed, refunded in part.
pub const SOLD: &str = "2026.325-SOLD";
/// Two wallets: the first cannot pay, the second does, and the first gets its coin back.
pub const RIVALS: &str = "2026.325-RIVALS";
/// Aborted while nobody knew whether its coins were deposited; they were.
pub const ASKED: &str = "2026.325-ASKED";
/// Paid with nothing.
pub const FREE: &str = "2026.325-FREE";
/// Claimed, and nothing else.
pub const CLAIMED: &str = "2026.325-CLAIMED";
/// Not even that.
pub const OFFERED: &str = "2026.325-OFFERED";
/// Taken back.
pub const GONE: &str = "2026.325-GONE";

/// What stays of `delivery_location` once it is forgotten.
pub const FORGOTTEN: &str =
    "8BNQM476K8JD8Y0V1Q9578M87TGQZ3E1296MT65AF7ZMRJ93881G9Z0TP3Z42VCXP10R0BS9RT1RMM3E61BT4GTAWBDYBCVG7DN6Q28";

pub const PAY_UNTIL: u64 = START_S + 3600;

pub fn account() -> (PaytoUri, WireSalt) {
    let uri = "payto://x-taler-bank/bank.example/shop?receiver-name=Shop";
    (uri.parse().unwrap(), WireSalt::from_bytes([7; 16]))
}

pub fn h_wire() -> HashCode {
    let (uri, salt) = account();
    uri.h_wire(&salt)
}

pub fn account_added() -> NewEvent {
    let (uri, salt) = account();
    let bytes = json!({"payto_uri": uri, "salt": salt});
    let facts = AccountAdded {
        h_wire: uri.h_wire(&salt),
        wire_method: uri.method(),
        by: None,
    };
    NewEvent::with(facts, AttachmentName::Account, taler_json::canonical(&bytes))
}

/// A coin that can sign.
pub fn purse(n: u8) -> EddsaPrivateKey {
    EddsaPrivateKey::from_bytes([0x80 | n; 32])
}

pub fn purse_pub(n: u8) -> CoinPub {
    CoinPub::from_bytes(purse(n).public_bytes())
}

pub fn nonce() -> ClaimNonce {
    ClaimNonce::from_bytes(secret(60).public_bytes())
}

/// The terms without nonce. What is sold can be forgotten.
pub fn offered_terms(order: &str, price: &str) -> serde_json::Value {
    let time = |s: u64| json!({"t_s": s});
    json!({
        "order_id": order, "amount": amount(price), "max_fee": "KUDOS:0.02", "timestamp": time(START_S),
        "summary": "a book", "delivery_location": {"street": "Elm Street"},
        "$forgettable": {"delivery_location": "0G2081040G2081040G2081040G2081040G2081040G2081040G20"},
        "pay_deadline": time(PAY_UNTIL), "refund_deadline": time(START_S + 10 * DAY_S),
        "wire_transfer_deadline": time(START_S + 20 * DAY_S),
        "merchant_pub": merchant().merchant_pub(), "merchant_base_url": "https://shop.example/",
        "h_wire": h_wire(), "wire_method": "x-taler-bank",
        "exchanges": [{"url": URL, "master_pub": master_pub(), "priority": 1}],
    })
}

pub fn exchanges() -> Vec<NamedExchange> {
    vec![NamedExchange {
        url: URL.into(),
        master_pub: master_pub(),
    }]
}

pub fn offer(order: &str, price: &str) -> NewEvent {
    let facts = OrderCreated {
        amount: amount(price),
        timestamp_s: second(START_S),
        pay_deadline_s: second(PAY_UNTIL),
        refund_deadline_s: second(START_S + 10 * DAY_S),
        wire_deadline_s: second(START_S + 20 * DAY_S),
        merchant_pub: merchant().merchant_pub(),
        exchanges: exchanges(),
        h_wire: h_wire(),
        claim_token: true,
        by: token(),
    };
    let terms = taler_json::canonical(&offered_terms(order, price));
    NewEvent::with(facts, AttachmentName::Terms, terms)
}

pub fn contract_terms(order: &str, price: &str) -> serde_json::Value {
    let mut terms = offered_terms(order, price);
    terms["nonce"] = json!(nonce());
    terms
}

/// The contract and its claim.
pub fn claim(order: &str, price: &str) -> Vec<NewEvent> {
    let terms = contract_terms(order, price);
    let h_contract = contract_hash(&terms).unwrap();
    let recorded = OrderRecorded {
        h_contract,
        amount: amount(price),
        timestamp_s: second(START_S),
        refund_deadline_s: second(START_S + 10 * DAY_S),
        wire_deadline_s: second(START_S + 20 * DAY_S),
        merchant_pub: merchant().merchant_pub(),
        exchanges: exchanges(),
        choice_index: None,
        by: None,
    };
    let claimed = OrderClaimed {
        nonce: nonce(),
        contract_sig: merchant().sign(&message::contract(&h_contract)),
    };
    vec![
        NewEvent::with(recorded, AttachmentName::Terms, taler_json::canonical(&terms)),
        NewEvent::bare(claimed),
    ]
}

pub fn forgotten_terms(order: &str, price: &str) -> NewEvent {
    let mut terms = contract_terms(order, price);
    let members = terms.as_object_mut().unwrap();
    members.remove("delivery_location");
    members.remove("$forgettable");
    terms["$forgotten"] = json!({"delivery_location": FORGOTTEN});
    NewEvent::with(
        TermsForgotten { by: token() },
        AttachmentName::Terms,
        taler_json::canonical(&terms),
    )
}

pub fn deposit_terms(order: &Order, wallet_data_hash: Option<HashCode>) -> DepositTerms {
    let terms = &order.terms;
    DepositTerms {
        h_contract: terms.h_contract,
        h_wire: h_wire(),
        merchant_pub: terms.merchant_pub,
        timestamp: terms.timestamp_s,
        refund_deadline: terms.refund_deadline_s,
        wire_transfer_deadline: terms.wire_deadline_s,
        wallet_data_hash,
    }
}

pub fn as_deposited(coin: &DepositCoin) -> DepositedCoin {
    DepositedCoin {
        coin_pub: coin.coin_pub,
        h_denom: coin.h_denom,
        h_age_commitment: coin.h_age_commitment,
        amount_with_fee: coin.amount_with_fee,
        deposit_fee: coin.deposit_fee,
        coin_sig: coin.coin_sig,
    }
}

/// Signs for a coin anew, after a change of what it signs.
pub fn sign_coin(terms: &DepositTerms, form: DepositForm, n: u8, coin: &mut DepositCoin) {
    let bare = as_deposited(coin);
    coin.coin_sig = match form {
        DepositForm::PerCoin => purse(n).sign(&terms.coin_message_2022(&bare)),
        DepositForm::PerBatch => purse(n).sign(&terms.coin_message_2023(&bare)),
    };
}

/// The wallet's request, as far as it is held against the batch.
pub fn pay_body(coins: &[DepositCoin]) -> Vec<u8> {
    let coins = coins.iter().map(|coin| {
        json!({"coin_pub": coin.coin_pub, "coin_sig": coin.coin_sig, "h_denom": coin.h_denom,
               "contribution": coin.amount_with_fee, "exchange_url": URL,
               "ub_sig": {"cipher": "RSA", "rsa_signature": "00"}})
    });
    let coins: Vec<_> = coins.collect();
    serde_json::to_vec(&json!({"coins": coins})).unwrap()
}

pub fn batch_of(
    order: &Order,
    form: DepositForm,
    data: Option<HashCode>,
    coins: &[(u8, &str)],
) -> DepositRequested {
    let terms = deposit_terms(order, data);
    let coins = coins.iter().map(|(n, value)| {
        let mut coin = DepositCoin {
            coin_pub: purse_pub(*n),
            amount_with_fee: amount(value),
            deposit_fee: amount("0.01"),
            refund_fee: amount("0.01"),
            h_denom: HashCode::from_bytes([9; 64]),
            h_age_commitment: None,
            coin_sig: EddsaSignature::from_bytes([0; 64]),
        };
        sign_coin(&terms, form, *n, &mut coin);
        coin
    });
    DepositRequested {
        exchange_master_pub: master_pub(),
        exchange_url: URL.into(),
        layout: form,
        wallet_data_hash: data,
        coins: coins.collect(),
        part: None,
    }
}

pub fn asking(facts: DepositRequested) -> NewEvent {
    let body = pay_body(&facts.coins);
    NewEvent::with(facts, AttachmentName::Body, body)
}

/// A batch's confirmation by the exchange's key of this number, and the deposits of the coins that are not there yet.
pub fn confirmed(order: &Order, batch: Seq, attempt: u64, signer: u8) -> Vec<NewEvent> {
    let sale = order.sale.as_ref().unwrap();
    let asked = sale.batches.iter().find(|known| known.seq == batch).unwrap();
    let terms = deposit_terms(order, asked.wallet_data_hash);
    let at = second(START_S + 60);
    let (key, exchange_pub) = (
        secret(signer),
        ExchangePub::from_bytes(secret(signer).public_bytes()),
    );
    let coins: Vec<DepositedCoin> = asked.coins.iter().map(as_deposited).collect();
    let one = terms
        .confirmation_of_batch(at, &coins)
        .map(|message| key.sign(&message))
        .unwrap();
    let signatures: Vec<EddsaSignature> = coins
        .iter()
        .map(|coin| match asked.layout {
            DepositForm::PerCoin => key.sign(&terms.confirmation_of_coin(at, coin).unwrap()),
            DepositForm::PerBatch => one,
        })
        .collect();
    let mut body = json!({"exchange_timestamp": {"t_s": at.seconds()}, "exchange_pub": exchange_pub});
    match asked.layout {
        DepositForm::PerCoin => {
            body["exchange_sigs"] = signatures
                .iter()
                .map(|sig| json!({"exchange_sig": sig}))
                .collect();
        }
        DepositForm::PerBatch => body["exchange_sig"] = json!(one),
    }
    let replied = DepositReplied {
        batch,
        attempt,
        http_status: 200,
        error_code: None,
        exchange_pub: Some(exchange_pub),
        exchange_timestamp_s: Some(at),
        verdict: Verdict::Confirmed,
    };
    let replied = NewEvent::with(replied, AttachmentName::Reply, body.to_string().into_bytes());
    let deposits = asked.coins.iter().zip(signatures);
    let deposits = deposits.filter(|(coin, _)| order.deposit(&coin.coin_pub).is_none());
    let deposits = deposits.map(|(coin, signature)| {
        NewEvent::bare(DepositRecorded {
            coin_pub: coin.coin_pub,
            exchange_master_pub: asked.exchange_master_pub,
            exchange_url: asked.exchange_url.clone(),
            amount_with_fee: coin.amount_with_fee,
            deposit_fee: coin.deposit_fee,
            refund_fee: coin.refund_fee,
            h_denom: Some(coin.h_denom),
            coin_sig: Some(coin.coin_sig),
            exchange_pub: Some(exchange_pub),
            exchange_sig: Some(signature),
            exchange_timestamp_s: Some(at),
            by: None,
        })
    });
    std::iter::once(replied).chain(deposits).collect()
}

pub fn refused(batch: Seq, attempt: u64, status: u16, body: &str, verdict: Verdict) -> NewEvent {
    let code = serde_json::from_str::<serde_json::Value>(body)
        .ok()
        .and_then(|body| body.get("code")?.as_u64());
    let facts = DepositReplied {
        batch,
        attempt,
        http_status: status,
        error_code: code,
        exchange_pub: None,
        exchange_timestamp_s: None,
        verdict,
    };
    NewEvent::with(facts, AttachmentName::Reply, body.as_bytes().to_vec())
}

/// A payment that nobody told of.
pub fn completed(coins: &[(u8, &str)]) -> NewEvent {
    let mut event = payment(coins.iter().map(|(n, value)| (purse_pub(*n), amount(value))));
    if let Facts::PaymentCompleted(f) = &mut event.facts {
        f.by = None;
    }
    event
}

pub fn given_back(order: &Order, n: u8, value: &str) -> NewEvent {
    let coins = vec![ExtendedCoin {
        coin_pub: purse_pub(n),
        amount: amount(value),
        merchant_sig: permit(&order.terms.h_contract, purse_pub(n), 0, amount(value)),
    }];
    NewEvent::bare(AbortExtended {
        coins,
        part: None,
        by: None,
    })
}

impl World {
    /// An instance with an account, and an exchange's keys.
    pub fn selling() -> World {
        let mut w = World::open();
        let mine = Stream::Ledger(Some(InstanceId::root()));
        w.append(mine, vec![account_added()]);
        let life = signing_key(5, START_S - DAY_S, START_S + 30 * DAY_S);
        w.own(keys_seen(vec![life]));
        w
    }

    pub fn sold(&mut self, order: &str, price: &str) {
        self.tell(order, vec![offer(order, price)]);
        self.tell(order, claim(order, price));
    }

    /// Asks for a batch; gives its number.
    pub fn ask(
        &mut self,
        order: &str,
        form: DepositForm,
        data: Option<HashCode>,
        coins: &[(u8, &str)],
    ) -> Seq {
        let facts = batch_of(&self.order(order), form, data, coins);
        self.tell(order, vec![asking(facts)]);
        self.order(order).sale.unwrap().batches.last().unwrap().seq
    }

    pub fn lost(&mut self, order: &str, batch: Seq, attempt: u64) {
        let failure = Failure::Timeout;
        let facts = DepositUnreached {
            batch,
            attempt,
            failure,
        };
        self.tell(order, vec![NewEvent::bare(facts)]);
    }
}

fn tell_sold(w: &mut World) {
    let coins = [(1, "6"), (2, "4.02")];
    w.sold(SOLD, "10");
    let batch = w.ask(SOLD, DepositForm::PerCoin, None, &coins);
    w.lost(SOLD, batch, 1);
    w.tell(
        SOLD,
        vec![refused(batch, 2, 503, r#"{"code":60}"#, Verdict::Later)],
    );
    let mut events = confirmed(&w.order(SOLD), batch, 4, 5);
    events.push(completed(&coins));
    w.tell(SOLD, events);
    let session = Digest32::from_bytes([1; 32]);
    w.tell(SOLD, vec![NewEvent::bare(SessionPaid { session })]);
    let row = ApprovedRow {
        coin_pub: purse_pub(1),
        rtransaction_id: refund_id(1),
        amount: amount("3"),
        merchant_sig: permit(&w.order(SOLD).terms.h_contract, purse_pub(1), 1, amount("3")),
    };
    let facts = RefundApproved {
        total: amount("3"),
        execution_s: w.now.plus_s(1).floor_s(),
        rows: vec![row],
        part: None,
        by: token(),
    };
    w.tell(
        SOLD,
        vec![NewEvent::with(facts, AttachmentName::Reason, b"torn".to_vec())],
    );
    w.answer_refund(SOLD);
}

fn tell_rivals(w: &mut World) {
    let data = Some(HashCode::from_bytes([3; 64]));
    w.sold(RIVALS, "10");
    let first = w.ask(RIVALS, DepositForm::PerBatch, data, &[(11, "5")]);
    let events = confirmed(&w.order(RIVALS), first, 1, 5);
    w.tell(RIVALS, events);
    let spent = w.ask(RIVALS, DepositForm::PerBatch, data, &[(12, "5")]);
    let history = r#"{"code":1201,"hint":"double spent","history":[]}"#;
    w.tell(RIVALS, vec![refused(spent, 1, 409, history, Verdict::Refused)]);
    let second = w.ask(RIVALS, DepositForm::PerBatch, None, &[(13, "8"), (14, "2")]);
    let order = w.order(RIVALS);
    let mut events = confirmed(&order, second, 1, 5);
    events.push(given_back(&order, 11, "5"));
    events.push(completed(&[(13, "8"), (14, "2")]));
    w.tell(RIVALS, events);
}

fn tell_asked(w: &mut World) {
    w.sold(ASKED, "10");
    let batch = w.ask(ASKED, DepositForm::PerBatch, None, &[(21, "5"), (22, "3")]);
    w.lost(ASKED, batch, 1);
    let event = abort_in_question(&w.order(ASKED), &[(21, Some("5")), (23, None)]);
    w.tell(ASKED, vec![event]);
    let events = confirmed(&w.order(ASKED), batch, 2, 5);
    w.tell(ASKED, events);
    let order = w.order(ASKED);
    let message = message::refund_confirmation(
        &order.terms.h_contract,
        &purse_pub(21),
        &order.terms.merchant_pub,
        0,
        &amount("5"),
    );
    let facts = ExchangeReplied {
        coin_pub: purse_pub(21),
        rtransaction_id: refund_id(0),
        attempt: 1,
        http_status: 200,
        error_code: None,
        exchange_pub: Some(signing_pub()),
        exchange_sig: Some(secret(5).sign(&message)),
        verdict: Verdict::Confirmed,
    };
    let body = json!({"exchange_pub": facts.exchange_pub, "exchange_sig": facts.exchange_sig}).to_string();
    w.tell(
        ASKED,
        vec![NewEvent::with(facts, AttachmentName::Reply, body.into_bytes())],
    );
}

/// An abort of coins that are asked for with this amount, and of others.
pub fn abort_in_question(order: &Order, coins: &[(u8, Option<&str>)]) -> NewEvent {
    let request: Vec<_> = coins
        .iter()
        .map(|(n, _)| json!({"coin_pub": purse_pub(*n), "contribution": "KUDOS:1", "exchange_url": URL}))
        .collect();
    let h_contract = order.terms.h_contract;
    let body = json!({"h_contract": h_contract, "coins": request}).to_string();
    let coins = coins.iter().map(|(n, asked)| AbortCoin {
        coin_pub: purse_pub(*n),
        state: match asked {
            Some(_) => AbortCoinState::Asked,
            None => AbortCoinState::Undeposited,
        },
        amount: asked.map(amount),
        merchant_sig: asked.map(|value| permit(&h_contract, purse_pub(*n), 0, amount(value))),
    });
    let facts = AbortRequested {
        coins: coins.collect(),
        part: None,
    };
    NewEvent::with(facts, AttachmentName::Body, body.into_bytes())
}

fn tell_shop() -> TempDir {
    let mut w = World::selling();
    tell_sold(&mut w);
    tell_rivals(&mut w);
    tell_asked(&mut w);
    w.sold(FREE, "0");
    w.tell(FREE, vec![completed(&[])]);
    w.sold(CLAIMED, "1");
    w.tell(OFFERED, vec![offer(OFFERED, "2")]);
    w.tell(GONE, vec![offer(GONE, "3")]);
    w.tell(GONE, vec![NewEvent::bare(OrderDeleted { by: token() })]);
    w.finish()
}

/// The sound ledger of sold orders; nobody changes it.
pub fn shop() -> &'static Path {
    static SHOP: OnceLock<TempDir> = OnceLock::new();
    SHOP.get_or_init(tell_shop).path()
}

/// A copy of its events.
pub fn shop_events() -> Events {
    static EVENTS: OnceLock<Events> = OnceLock::new();
    EVENTS
        .get_or_init(|| events_of(&shop().join("ledger.sqlite3")))
        .clone()
}
