//! Making and claiming orders.

use quittance_events::Facts;
use quittance_taler::{ClaimToken, EddsaSignature, contract_hash, message, wallets_lack};
use serde_json::{Value, json};

use crate::support::Shop;
use crate::support::selling::nonce;

fn boots(more: &Value) -> Value {
    let mut order = json!({"amount": "KUDOS:7", "summary": "boots", "fulfillment_message": "thanks"});
    for (name, value) in more.as_object().unwrap() {
        order[name] = value.clone();
    }
    order
}

#[tokio::test]
async fn an_order_is_made_once_and_claimed_by_one_wallet() {
    let mut shop = Shop::open_selling().await;
    let order = boots(
        &json!({"order_id": "mine", "extra": {"a": {"b": [1]}}, "never_heard_of": "kept",
                              "auto_refund": {"d_us": 5_000_000}}),
    );
    let delay = json!({"refund_delay": {"d_us": 3_600_000_000_u64}});
    let made = shop.order(&order, &delay).await.expect(200);
    assert_eq!(made["order_id"], "mine");
    let token = made["token"].as_str().unwrap();
    token.parse::<ClaimToken>().unwrap();
    // Asked again, also later, it is the same.
    shop.clock.advance_s(60);
    assert_eq!(shop.order(&order, &delay).await.expect(200), made);
    for (order, more) in [
        (order.clone(), json!({})),
        (boots(&json!({"order_id": "mine"})), delay.clone()),
    ] {
        assert_eq!(shop.order(&order, &more).await.error(), (409, 2503));
    }

    let wrong = "91JPRV3F5GG4EKJN41A62V35E8";
    for shown in [None, Some(wrong)] {
        assert_eq!(shop.claim("mine", 1, shown).await.error(), (404, 2300));
    }
    assert_eq!(shop.claim("nobodys", 1, Some(token)).await.error(), (404, 2300));
    let claimed = shop.claim("mine", 1, Some(token)).await.expect(200);
    let terms = &claimed["contract_terms"];
    assert_eq!(wallets_lack(terms), [] as [&str; 0]);
    assert_eq!(terms["nonce"], json!(nonce(1)));
    assert_eq!(terms["merchant_base_url"], "https://shop.example/");
    assert_eq!(terms["extra"], json!({"a": {"b": [1]}}));
    assert_eq!(terms["never_heard_of"], "kept");
    assert_eq!(terms["auto_refund"], json!({"d_us": 5_000_000}));
    let start = shop.clock.now_s() - 60;
    assert_eq!(terms["timestamp"], json!({"t_s": start}));
    assert_eq!(terms["refund_deadline"], json!({"t_s": start + 3600}));
    let sig: EddsaSignature = claimed["sig"].as_str().unwrap().parse().unwrap();
    let h_contract = contract_hash(terms).unwrap();
    assert!(shop.merchant_pub.verify(&message::contract(&h_contract), &sig));
    // The same wallet again gets the same, another nothing; the shop's repeat is still answered.
    assert_eq!(shop.claim("mine", 1, Some(token)).await.expect(200), claimed);
    assert_eq!(shop.claim("mine", 2, Some(token)).await.error(), (409, 2301));
    assert_eq!(shop.claim("mine", 1, None).await.error(), (404, 2300));
    assert_eq!(shop.order(&order, &delay).await.expect(200), made);

    shop.audit().await;
    shop.start().await;
    assert_eq!(shop.claim("mine", 1, Some(token)).await.expect(200), claimed);
    assert_eq!(shop.order(&order, &delay).await.expect(200), made);
    shop.audit().await;
    let events = shop.events();
    let of_order: Vec<_> = events
        .iter()
        .filter(|event| event.order.is_some())
        .map(|event| event.facts.kind())
        .collect();
    assert_eq!(of_order, ["order_created", "order_recorded", "order_claimed"]);
    let recorded = events.iter().find_map(|event| match &event.facts {
        Facts::OrderRecorded(facts) => Some(facts),
        _ => None,
    });
    assert_eq!(recorded.unwrap().h_contract, h_contract);
    // Nothing of the token is kept.
    let file = std::fs::read(shop.ledger()).unwrap();
    let bytes = token.parse::<ClaimToken>().unwrap();
    assert!(!file.windows(16).any(|window| window == bytes.as_bytes()));
    assert!(!file.windows(26).any(|window| window == token.as_bytes()));
}

#[tokio::test]
async fn ids_are_made_like_talers_and_tokens_only_where_wanted() {
    let mut shop = Shop::open_selling().await;
    let order = boots(&json!({"fulfillment_url": "https://shop.example/${ORDER_ID}"}));
    let (first, second) = (
        shop.order(&order, &json!({})).await.expect(200),
        shop.order(&order, &json!({"create_token": false}))
            .await
            .expect(200),
    );
    let id = first["order_id"].as_str().unwrap();
    assert!(id.starts_with("2026.325-") && id.len() == 22, "{id}");
    let open = second["order_id"].as_str().unwrap();
    assert_ne!(id, open);
    assert!(second.get("token").is_none());
    let claimed = shop.claim(open, 1, None).await.expect(200);
    let url = format!("https://shop.example/{open}");
    assert_eq!(claimed["contract_terms"]["fulfillment_url"], *url);
    // Two at once are one.
    let order = boots(&json!({"order_id": "twice", "x": {"y": 1, "$forgettable": {"y": true}}}));
    let no_more = json!({});
    let (one, other) = tokio::join!(shop.order(&order, &no_more), shop.order(&order, &no_more));
    assert_eq!(one.expect(200), other.expect(200));
    let token = shop.order(&order, &no_more).await.expect(200)["token"].clone();
    let claimed = shop.claim("twice", 1, token.as_str()).await.expect(200);
    assert!(claimed["contract_terms"]["x"]["$forgettable"]["y"].is_string());
    shop.audit().await;
}

#[tokio::test]
async fn what_cannot_be_sold_is_refused_with_talers_code() {
    let mut shop = Shop::open().await;
    let none = json!({});
    assert_eq!(shop.order(&boots(&none), &none).await.error(), (404, 2500));
    shop.open_account().await;
    let now = shop.clock.now_s();
    let at = |seconds: u64| json!({"t_s": seconds});
    let method = json!({"payment_target": "iban"});
    assert_eq!(shop.order(&boots(&none), &method).await.error(), (404, 2500));
    for (order, error) in [
        (json!({"amount": "EUR:1"}), (409, 2024)),
        (json!({"order_id": "a/b"}), (400, 2502)),
        (json!({"order_id": ".."}), (400, 2502)),
        (json!({"nonce": "x"}), (400, 2502)),
        (json!({"summary": ""}), (400, 2502)),
        (json!({"minimum_age": 18}), (501, 76)),
        (
            json!({"refund_deadline": at(now + 9), "wire_transfer_deadline": at(now + 8)}),
            (400, 2504),
        ),
        (json!({"delivery_date": at(now - 1)}), (400, 2505)),
        (json!({"wire_transfer_deadline": {"t_s": "never"}}), (400, 2506)),
        (json!({"pay_deadline": at(now - 1)}), (400, 2507)),
        (
            json!({"timestamp": at(now - 9), "refund_deadline": at(now - 1)}),
            (400, 2508),
        ),
    ] {
        assert_eq!(shop.order(&boots(&order), &none).await.error(), error, "{order}");
    }
    let broken = shop.send("POST", "private/orders", Some(&shop.token), b"{".to_vec());
    assert_eq!(broken.await.error(), (400, 22));
    let nobody = shop.send("POST", "private/orders", None, b"{}".to_vec());
    assert_eq!(nobody.await.error(), (401, 40));
    let claim = shop.post("orders/x/claim", &json!({"nonce": "x"})).await;
    assert_eq!(claim.error(), (400, 22));
    shop.audit().await;
}

#[tokio::test]
async fn nobody_claims_after_the_pay_deadline_but_who_has_claimed_gets_his_contract() {
    let mut shop = Shop::open_selling().await;
    let (early, late) = (
        shop.offer("early", "KUDOS:1").await,
        shop.offer("late", "KUDOS:1").await,
    );
    let claimed = shop.claim("early", 1, Some(&early)).await.expect(200);
    let deadline = claimed["contract_terms"]["pay_deadline"]["t_s"].as_u64().unwrap();
    shop.clock.set_s(deadline);
    assert_eq!(shop.claim("late", 1, Some(&late)).await.error(), (410, 2161));
    assert_eq!(shop.claim("early", 1, Some(&early)).await.expect(200), claimed);
    assert_eq!(shop.claim("early", 2, Some(&early)).await.error(), (409, 2301));
    shop.audit().await;
}

#[tokio::test]
async fn what_is_sold_here_cannot_be_told_and_the_other_way_round() {
    let mut shop = Shop::open_selling().await;
    shop.offer("offered", "KUDOS:7").await;
    let (_, terms, _) = shop.sold("sold", "KUDOS:7").await;
    let told = shop.terms("offered", "KUDOS:7", 86_400, 172_800);
    for terms in [&told, &terms] {
        let body = json!({ "contract_terms": terms });
        let reply = shop.post_private("private/ledger/orders", &body).await;
        assert_eq!(reply.error(), (409, 2503), "{}", reply.text());
    }
    assert_eq!(shop.tell("offered", &[], false).await.error(), (404, 2005));
    assert_eq!(shop.tell("sold", &[], false).await.error(), (409, 56));
    shop.record_order(&shop.terms("told", "KUDOS:7", 86_400, 172_800))
        .await;
    let order = boots(&json!({"order_id": "told"}));
    assert_eq!(shop.order(&order, &json!({})).await.error(), (409, 2503));
    assert_eq!(shop.claim("told", 1, None).await.error(), (404, 2300));
    shop.audit().await;
}
