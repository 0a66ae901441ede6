//! Members of a contract that the shop has forgotten.

use quittance_events::{Facts, InstanceId};
use quittance_replay::VerifyOptions;
use quittance_replay::dispute::{ExportOptions, check, export};
use quittance_taler::contract_hash;
use quittance_taler::forget::ForgetPath;
use serde_json::{Value, json};

use crate::support::{Reply, Shop};

const STREET: &str = "twelve Elm Street behind the mill";
const DESCRIPTION: &str = "boots for a person with six toes";

async fn forget(shop: &Shop, id: &str, fields: &[&str]) -> Reply {
    let body = json!({ "fields": fields }).to_string().into_bytes();
    let path = format!("private/orders/{id}/forget");
    shop.send("PATCH", &path, Some(&shop.token), body).await
}

/// An order with an address and two products that can be forgotten.
fn order(id: &str) -> Value {
    json!({
        "order_id": id, "amount": "KUDOS:7", "summary": "boots", "fulfillment_url": "https://shop.example/thanks",
        "delivery_location": {"address_lines": [STREET], "country": "LU"},
        "products": [
            {"description": DESCRIPTION, "$forgettable": {"description": true}},
            {"description": "laces", "product_name": "laces"},
        ],
        "extra": {"deep": {"note": "left at the neighbour's", "$forgettable": {"note": true}}},
        "$forgettable": {"delivery_location": true},
    })
}

/// Offers and claims such an order: its token and its terms.
async fn sold(shop: &Shop, id: &str) -> (String, Value) {
    let made = shop.order(&order(id), &json!({})).await.expect(200);
    let token = made["token"].as_str().unwrap().to_owned();
    let claimed = shop.claim(id, 1, Some(&token)).await.expect(200);
    (token, claimed["contract_terms"].clone())
}

/// Whether the ledger's files have this text.
fn holds(shop: &Shop, text: &str) -> bool {
    ["", "-wal"].into_iter().any(|suffix| {
        let mut path = shop.ledger().into_os_string();
        path.push(suffix);
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// The order's file for a dispute. The service must be stopped.
fn exported(shop: &Shop, id: &str) -> Vec<u8> {
    let options = ExportOptions {
        verify: VerifyOptions {
            ledger: shop.ledger(),
            anchor: Some(shop.config.anchor.clone()),
            ledger_key: Some(shop.vkey.parse().unwrap()),
            ..VerifyOptions::default()
        },
        instance: InstanceId::root().as_str().to_owned(),
        order: id.to_owned(),
        redact: Vec::new(),
        out: shop.ledger().with_file_name("dispute.zip"),
    };
    export(&options).unwrap();
    std::fs::read(&options.out).unwrap()
}

#[tokio::test]
async fn what_is_forgotten_is_gone_and_the_order_goes_on() {
    let mut shop = Shop::open_selling().await;
    let (token, terms) = sold(&shop, "boots").await;
    let hash = contract_hash(&terms).unwrap();
    assert!(holds(&shop, STREET));
    let fields = ["$.delivery_location", "$.products[0].description"];
    assert_eq!(forget(&shop, "boots", &fields).await.expect(200), json!({}));
    // At once, while it is served.
    assert!(!holds(&shop, STREET) && !holds(&shop, DESCRIPTION));
    for _ in 0..2 {
        assert_eq!(forget(&shop, "boots", &fields).await.status, 204);
        let claimed = shop.claim("boots", 1, Some(&token)).await.expect(200);
        let left = &claimed["contract_terms"];
        assert_eq!(contract_hash(left).unwrap(), hash);
        assert!(left["$forgotten"]["delivery_location"].is_string());
        for gone in ["delivery_location", "$forgettable"] {
            assert_eq!(left.get(gone), None);
        }
        assert!(left["products"][0].get("description").is_none());
        assert_eq!(left["extra"]["deep"]["note"], terms["extra"]["deep"]["note"]);
        let state = shop.get_private("private/orders/boots").await.expect(200);
        assert_eq!(&state["contract_terms"], left);
        shop.stop().await;
        shop.start().await;
    }
    shop.pay_terms(&terms, "").await.expect(200);
    assert_eq!(
        forget(&shop, "boots", &["$.extra.deep.note", fields[0]])
            .await
            .status,
        200
    );
    assert!(!holds(&shop, "left at the neighbour's"));
    shop.approve("boots", "KUDOS:1").await.expect(200);
    shop.fetch("boots", hash).await.expect(200);
    shop.status("boots", hash).await.expect(200);
    let listed = shop.get_private("private/orders").await.expect(200);
    assert_eq!(listed["orders"][0]["summary"], "boots");
    let report = shop.audit().await;
    assert_eq!(report.checked.erased, 3);
    let kinds = shop.kinds();
    let of = |kind: &str| kinds.iter().filter(|other| **other == kind).count();
    assert_eq!((of("terms_forgotten"), of("attachment_erased")), (2, 3));
    let bundle = check(&exported(&shop, "boots"), "dispute.zip", None).unwrap();
    assert!(bundle.is_sound(), "{:#?}", bundle.findings);
    // The offer made once more cannot be compared with what is gone.
    shop.start().await;
    assert_eq!(shop.order(&order("boots"), &json!({})).await.error(), (409, 2503));
}

#[tokio::test]
async fn what_cannot_be_forgotten_is_refused_and_stays() {
    let mut shop = Shop::open_selling().await;
    let mut special = order("boots");
    special["$forgettable"]["max_fee"] = true.into();
    special["max_fee"] = "KUDOS:1".into();
    let made = shop.order(&special, &json!({})).await.expect(200);
    let path_of_no_offer = forget(&shop, "boots", &["$.delivery_location"]).await;
    assert_eq!(path_of_no_offer.error(), (404, 2005));
    shop.claim("boots", 1, made["token"].as_str()).await.expect(200);
    for malformed in [
        "delivery_location",
        "$",
        "$.",
        "$.products[0]",
        "$.products[x].a",
        "$.a b",
    ] {
        let fields = ["$.delivery_location", malformed];
        assert_eq!(forget(&shop, "boots", &fields).await.error(), (400, 2510));
    }
    let many = vec!["$.delivery_location"; 101];
    assert_eq!(forget(&shop, "boots", &many).await.error(), (400, 2510));
    for kept in [
        "$.summary",
        "$.products[*].description",
        "$.delivery_location.country",
        "$.max_fee",
    ] {
        let fields = [kept, "$.delivery_location"];
        assert_eq!(forget(&shop, "boots", &fields).await.error(), (409, 2511));
    }
    let body = b"{\"fields\": [1]}".to_vec();
    let path = "private/orders/boots/forget";
    let sent = shop.send("PATCH", path, Some(&shop.token), body).await;
    assert_eq!(sent.error(), (400, 22));
    assert_eq!(
        shop.send("PATCH", path, None, b"{}".to_vec()).await.error(),
        (401, 40)
    );
    // What is not there needs no forgetting.
    for nothing in [&[][..], &["$.nobody", "$.products[9].description", "$.summary.x"]] {
        assert_eq!(forget(&shop, "boots", nothing).await.status, 204);
    }
    assert!(holds(&shop, STREET));
    assert_eq!(forget(&shop, "nobodys", &["$.a"]).await.error(), (404, 2005));
    let forced = shop.delete_private("private/orders/boots?force=yes").await;
    assert_eq!(forced.status, 204);
    let fields = ["$.delivery_location"];
    assert_eq!(forget(&shop, "boots", &fields).await.error(), (404, 2005));
    shop.audit().await;
    assert!(!shop.kinds().contains(&"terms_forgotten"));
}

#[tokio::test]
async fn a_told_order_is_forgotten_too_and_may_be_told_again() {
    let mut shop = Shop::open().await;
    let mut terms = shop.terms("boots", "KUDOS:7", 86_400, 172_800);
    terms["delivery_location"] = STREET.into();
    terms["$forgettable"] = json!({"delivery_location": "a salt of the shop's"});
    let hash = shop.record_order(&terms).await;
    let fields = ["$.delivery_location"];
    assert_eq!(forget(&shop, "boots", &fields).await.status, 200);
    assert!(!holds(&shop, STREET));
    let state = shop.get_private("private/orders/boots").await.expect(200);
    assert_eq!(contract_hash(&state["contract_terms"]).unwrap(), hash);
    assert_eq!(shop.record_order(&terms).await, hash);
    assert!(!holds(&shop, STREET));
    assert_eq!(forget(&shop, "boots", &fields).await.status, 204);
    let report = shop.audit().await;
    assert_eq!(report.checked.erased, 1);
}

/// The hash would stand for what the digest stands for, and the terms say something else.
#[tokio::test]
async fn what_is_not_its_digest_is_refused() {
    let mut shop = Shop::open_selling().await;
    let salt = "a salt of the shop's";
    let path: ForgetPath = "$.delivery_location".parse().unwrap();
    let both = |mut terms: Value, read: &str, hashed: &str| {
        terms["$forgettable"] = json!({ "delivery_location": salt });
        terms["delivery_location"] = hashed.into();
        let left = quittance_taler::forget::forget(&terms, std::slice::from_ref(&path));
        terms["$forgotten"] = left.unwrap().unwrap()["$forgotten"].clone();
        terms["delivery_location"] = read.into();
        terms
    };
    let told = shop.terms("told", "KUDOS:7", 86_400, 172_800);
    let body = json!({"contract_terms": both(told.clone(), "Oak Street", STREET)});
    let refused = shop.post_private("private/ledger/orders", &body).await;
    assert_eq!(refused.error(), (400, 2502));
    let order = json!({"order_id": "offered", "amount": "KUDOS:7", "summary": "boots",
                       "fulfillment_url": "https://shop.example/thanks"});
    let offered = both(order.clone(), "Oak Street", STREET);
    assert_eq!(shop.order(&offered, &json!({})).await.error(), (400, 2502));
    // With its own digest it says nothing new.
    shop.record_order(&both(told, STREET, STREET)).await;
    let offered = both(order, STREET, STREET);
    shop.order(&offered, &json!({})).await.expect(200);
    shop.audit().await;
    let kinds = shop.kinds();
    let orders = kinds
        .iter()
        .filter(|kind| ["order_recorded", "order_created"].contains(*kind));
    assert_eq!(orders.count(), 2);
}

#[tokio::test]
async fn while_somebody_reads_the_ledger_it_goes_when_he_is_done() {
    let mut shop = Shop::open_selling().await;
    sold(&shop, "boots").await;
    let reader = rusqlite::Connection::open(shop.ledger()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM event").unwrap();
    assert_eq!(forget(&shop, "boots", &["$.delivery_location"]).await.status, 200);
    assert!(holds(&shop, STREET));
    reader.execute_batch("COMMIT").unwrap();
    shop.until("the text is gone", async || !holds(&shop, STREET))
        .await;
    shop.audit().await;
}

/// Rows that SQLite moves between pages leave no copy behind.
#[tokio::test]
async fn nothing_is_left_of_many() {
    let mut shop = Shop::open_selling().await;
    let secret = |number: usize| {
        format!(
            "secret number {number} of the customer, {}",
            "x".repeat(number * 61)
        )
    };
    for number in 0..24 {
        let id = format!("boots-{number}");
        let mut order = order(&id);
        order["delivery_location"] = secret(number).into();
        let made = shop.order(&order, &json!({})).await.expect(200);
        shop.claim(&id, 1, made["token"].as_str()).await.expect(200);
    }
    for number in (0..24).step_by(2).chain((1..24).step_by(2)) {
        let id = format!("boots-{number}");
        assert_eq!(forget(&shop, &id, &["$.delivery_location"]).await.status, 200);
    }
    for number in 0..24 {
        assert!(!holds(&shop, &format!("secret number {number} of")), "{number}");
    }
    shop.audit().await;
    let events = shop.events();
    let forgotten = events
        .iter()
        .filter(|event| matches!(event.facts, Facts::TermsForgotten(_)));
    assert_eq!(forgotten.count(), 24);
}

#[tokio::test]
async fn two_at_once_are_both_forgotten() {
    let mut shop = Shop::open_selling().await;
    sold(&shop, "boots").await;
    let (one, other) = tokio::join!(
        forget(&shop, "boots", &["$.delivery_location"]),
        forget(
            &shop,
            "boots",
            &["$.products[*].description", "$.products[0].description"]
        ),
    );
    assert_eq!((one.status, other.status), (200, 409));
    let (one, other, same) = tokio::join!(
        forget(&shop, "boots", &["$.products[0].description"]),
        forget(&shop, "boots", &["$.extra.deep.note"]),
        forget(&shop, "boots", &["$.extra.deep.note"]),
    );
    let mut statuses = [other.status, same.status];
    statuses.sort_unstable();
    assert_eq!((one.status, statuses), (200, [200, 204]));
    for text in [STREET, DESCRIPTION, "left at the neighbour's"] {
        assert!(!holds(&shop, text), "{text}");
    }
    shop.audit().await;
}
