//! Facts of selling, as the property tests make them up.
use super::*;

fn named() -> impl Strategy<Value = NamedExchange> {
    facts!(NamedExchange {
        url: text(),
        master_pub: master()
    })
}

fn nonce() -> impl Strategy<Value = ClaimNonce> {
    any::<[u8; 32]>().prop_map(ClaimNonce::from_bytes)
}

fn order_created() -> impl Strategy<Value = OrderCreated> {
    let times = (time(), time(), time(), time());
    let rest = (merchant(), vec(named(), 0..3), hash(), any::<bool>(), by());
    (amount(), times, rest).prop_map(|(amount, times, rest)| OrderCreated {
        amount,
        timestamp_s: times.0,
        pay_deadline_s: times.1,
        refund_deadline_s: times.2,
        wire_deadline_s: times.3,
        merchant_pub: rest.0,
        exchanges: rest.1,
        h_wire: rest.2,
        claim_token: rest.3,
        by: rest.4,
    })
}

fn deposit_requested() -> impl Strategy<Value = DepositRequested> {
    let one = facts!(DepositCoin {
        coin_pub: coin(),
        amount_with_fee: amount(),
        deposit_fee: amount(),
        refund_fee: amount(),
        h_denom: hash(),
        h_age_commitment: of(digest()),
        coin_sig: sig(),
    });
    facts!(DepositRequested {
        exchange_master_pub: master(),
        exchange_url: text(),
        layout: prop_oneof![Just(DepositForm::PerCoin), Just(DepositForm::PerBatch)],
        wallet_data_hash: of(hash()),
        coins: vec(one, 0..3),
        part: part(),
    })
}

/// Facts of the kind with this name; none where it is not of selling.
pub(super) fn facts(kind: &str) -> Option<BoxedStrategy<Facts>> {
    Some(match kind {
        "account_added" => facts!(AccountAdded {
            h_wire: hash(),
            wire_method: text(),
            by: of(by())
        })
        .prop_map(Facts::from)
        .boxed(),
        "account_closed" => facts!(AccountClosed {
            h_wire: hash(),
            by: of(by())
        })
        .prop_map(Facts::from)
        .boxed(),
        "order_created" => order_created().prop_map(Facts::from).boxed(),
        "order_claimed" => facts!(OrderClaimed {
            nonce: nonce(),
            contract_sig: sig()
        })
        .prop_map(Facts::from)
        .boxed(),
        "order_deleted" => by().prop_map(|by| OrderDeleted { by }.into()).boxed(),
        "terms_forgotten" => by().prop_map(|by| TermsForgotten { by }.into()).boxed(),
        "deposit_requested" => deposit_requested().prop_map(Facts::from).boxed(),
        "deposit_replied" => facts!(DepositReplied {
            batch: seq(),
            attempt: number(),
            http_status: any::<u16>(),
            error_code: of(number()),
            exchange_pub: of(exchange()),
            exchange_timestamp_s: of(time()),
            verdict: verdict(),
        })
        .prop_map(Facts::from)
        .boxed(),
        "deposit_unreached" => facts!(DepositUnreached {
            batch: seq(),
            attempt: number(),
            failure: failure()
        })
        .prop_map(Facts::from)
        .boxed(),
        "session_paid" => digest()
            .prop_map(|session| SessionPaid { session }.into())
            .boxed(),
        _ => return None,
    })
}
