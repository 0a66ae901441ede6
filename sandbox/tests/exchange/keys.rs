//! `/keys` and `/wire` in both protocols, read as a merchant reads them and compared with the recordings.

use quittance_sandbox::Protocol;
use quittance_taler::deposit::DepositLayout;
use quittance_taler::exchange_keys::{ExchangeKeys, LeftOut, WireFees};

use crate::*;

fn read(exchange: &Exchange, keys: &Reply) -> ExchangeKeys {
    let read = ExchangeKeys::read(&keys.body, &exchange.sandbox.master_pub()).unwrap();
    assert_eq!(read.left_out, LeftOut::default());
    read
}

#[tokio::test]
async fn the_master_key_signed_every_denomination_in_both_shapes() {
    let exchange = Exchange::start().await;
    let older = exchange.get("/keys").await;
    exchange
        .command("/sandbox/protocol", &json!({ "protocol": 23 }))
        .await;
    let newer = exchange.get("/keys").await;
    let (of_14, of_23) = (read(&exchange, &older), read(&exchange, &newer));
    assert_eq!(of_14.version.deposit_layout(), DepositLayout::PerCoin);
    assert_eq!(of_23.version.deposit_layout(), DepositLayout::PerBatch);
    assert_eq!(of_14.denominations().len(), 7);
    assert_eq!(of_23.denominations().len(), 7);
    for denomination in of_14.denominations() {
        assert_eq!(of_23.denomination(&denomination.h_denom), Some(denomination));
    }
    let (older, newer) = (older.json(), newer.json());
    for name in ["denoms", "eddsa_sig", "denominations_sig"] {
        assert!(newer.get(name).is_none(), "{name}");
    }
    // Each list of protocol 14 is enough by itself.
    for lacking in ["denoms", "denominations"] {
        let mut keys = older.clone();
        keys[lacking] = json!([]);
        let keys = serde_json::to_vec(&keys).unwrap();
        let keys = ExchangeKeys::read(&keys, &exchange.sandbox.master_pub()).unwrap();
        assert_eq!(keys.denominations().len(), 7, "{lacking}");
    }
    let recorded = recording("keys.body");
    for list in ["denoms", "denominations"] {
        assert_eq!(shape(&older[list]), shape(&recorded[list]), "{list}");
    }
    let refused = exchange
        .post("/sandbox/protocol", &json!({ "protocol": 17 }))
        .await;
    assert_eq!((refused.status, refused.code()), (400, 22));
}

#[tokio::test]
async fn wire_fees_are_in_wire_of_the_older_and_in_keys_of_the_newer_protocol() {
    let exchange = Exchange::start().await;
    let wire = exchange.get("/wire").await;
    let recorded = recording("wire.body");
    assert_eq!(
        shape(&wire.json()["accounts"][0]),
        shape(&recorded["accounts"][0])
    );
    assert_eq!(
        shape(&wire.json()["fees"]["x-taler-bank"][0]),
        shape(&recorded["fees"]["x-taler-bank"][0])
    );
    let currency = "TESTKUDOS".parse().unwrap();
    let of_14 = WireFees::read_wire(&wire.body, &exchange.sandbox.master_pub(), currency).unwrap();
    assert_eq!(of_14.unsigned, 0);
    assert!(read(&exchange, &exchange.get("/keys").await).wire_fees.is_none());

    exchange.sandbox.speak(Protocol::V23);
    let keys = exchange.get("/keys").await;
    let of_23 = read(&exchange, &keys).wire_fees.unwrap();
    assert_eq!(of_23, of_14);
    let now = Micros::from_s(NOW_S).unwrap();
    for method in ["iban", "x-taler-bank"] {
        assert_eq!(
            of_23.at(method, now).unwrap().wire_fee,
            "TESTKUDOS:0.01".parse().unwrap()
        );
    }
    assert_eq!(keys.json()["accounts"].as_array().unwrap().len(), 2);
    assert_eq!(exchange.get("/wire").await.status, 404);
}

#[tokio::test]
async fn older_denominations_stay_listed_and_their_coins_good() {
    let exchange = Exchange::start().await;
    let purse = exchange.sandbox.withdraw("TESTKUDOS:1".parse().unwrap()).unwrap();
    let older = purse.coins().next().unwrap().h_denom;
    exchange.now_s.fetch_add(86_400, Ordering::SeqCst);
    exchange.command("/sandbox/renew", &json!({})).await;
    let purse = exchange.sandbox.withdraw("TESTKUDOS:1".parse().unwrap()).unwrap();
    let newer = purse.coins().next().unwrap().h_denom;
    assert_ne!(older, newer);
    for protocol in [Protocol::V14, Protocol::V23] {
        exchange.sandbox.speak(protocol);
        let keys = read(&exchange, &exchange.get("/keys").await);
        assert_eq!(keys.denominations().len(), 14);
        for h_denom in [older, newer] {
            assert!(keys.denomination(&h_denom).is_some());
        }
    }
}
