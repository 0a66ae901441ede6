//! `quittance import`: what it records, what it skips and says, that it changes nothing the second time, and that wallets
//! and auditors see no difference from what the intake was told.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod program;

use std::io::Cursor;

use quittance::app::StartError;
use quittance::import::{Summary, Watch, import};
use quittance::refusal::RequestError;
use quittance_events::{Facts, TokenId};
use quittance_taler::{HashCode, contract_hash};
use serde_json::{Value, json};
use support::{Coin, Shop, coin};

/// What an import said of lines that it skipped.
#[derive(Default)]
struct Said(Vec<(u64, Option<String>, String)>);

impl Watch for Said {
    fn skipped(&mut self, line: u64, order: Option<&str>, reason: &str) {
        self.0.push((line, order.map(str::to_owned), reason.to_owned()));
    }

    fn went_on(&mut self, _bytes: u64, _summary: &Summary) {}
}

/// A line of an import.
fn line(shop: &Shop, terms: &Value, coins: &[Coin], paid: bool) -> Value {
    json!({"contract_terms": terms, "deposits": shop.told(coins), "paid": paid})
}

fn lines(lines: &[Value]) -> String {
    lines.iter().map(|line| line.to_string() + "\n").collect()
}

async fn try_run(shop: &mut Shop, text: String, dry_run: bool) -> (Result<Summary, StartError>, Said) {
    shop.stop().await;
    let (config, clock) = (shop.config.clone(), shop.clock.clock());
    let run = move || {
        let mut said = Said::default();
        let done = import(&config, &clock, Cursor::new(text), dry_run, &mut said);
        (done, said)
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn run(shop: &mut Shop, text: String) -> (Summary, Said) {
    let (done, said) = try_run(shop, text, false).await;
    (done.unwrap(), said)
}

/// Nothing was skipped.
async fn run_well(shop: &mut Shop, text: String) -> Summary {
    let (summary, said) = run(shop, text).await;
    assert_eq!(said.0, [], "{summary:?}");
    summary
}

fn hash(terms: &Value) -> HashCode {
    contract_hash(terms).unwrap()
}

fn terms(shop: &Shop, id: &str) -> Value {
    shop.terms(id, "KUDOS:10", 86_400, 172_800)
}

fn coins() -> [Coin; 2] {
    [coin(1, "KUDOS:10", "KUDOS:0.2"), coin(2, "KUDOS:5", "KUDOS:0.1")]
}

#[tokio::test]
async fn wallets_and_auditors_see_an_imported_order_as_any_other() {
    let mut shop = Shop::open().await;
    let [whole, half] = coins();
    let mut refunded = line(
        &shop,
        &terms(&shop, "refunded"),
        std::slice::from_ref(&whole),
        true,
    );
    refunded["refunds"] = json!([{"coin_pub": whole.coin_pub, "rtransaction_id": 1, "amount": "KUDOS:2",
                                  "execution_time": {"t_s": shop.clock.now_s() - 60}}]);
    let paid = line(&shop, &terms(&shop, "paid"), std::slice::from_ref(&whole), true);
    let unpaid = line(&shop, &terms(&shop, "half"), std::slice::from_ref(&half), false);
    let text = lines(&[refunded, paid, unpaid]);
    let summary = run_well(&mut shop, text).await;
    let expected = Summary {
        lines: 3,
        recorded: 3,
        orders: 3,
        deposits: 3,
        payments: 2,
        refunds: 1,
        ..Summary::default()
    };
    assert_eq!(summary, expected);
    let by = |facts: &Facts| match facts {
        Facts::OrderRecorded(f) => f.by.clone(),
        Facts::DepositRecorded(f) => f.by.clone(),
        Facts::PaymentCompleted(f) => f.by.clone(),
        Facts::RefundCarriedIn(f) => Some(f.by.clone()),
        _ => None,
    };
    let told: Vec<TokenId> = shop
        .events()
        .iter()
        .filter_map(|event| by(&event.facts))
        .collect();
    assert_eq!(told, vec![TokenId::of_import(); 9]);

    shop.start().await;
    for id in ["refunded", "paid"] {
        shop.book(hash(&terms(&shop, id)), std::slice::from_ref(&whole));
    }
    shop.book(hash(&terms(&shop, "half")), std::slice::from_ref(&half));
    shop.approve("paid", "KUDOS:4").await.expect(200);
    for (id, amount) in [("paid", "KUDOS:4"), ("refunded", "KUDOS:2")] {
        let reply = shop.fetch(id, hash(&terms(&shop, id))).await;
        shop.check_receipt(&reply);
        let body = reply.expect(200);
        assert_eq!(
            (&body["refund_amount"], &body["refunds"][0]["type"]),
            (&json!(amount), &json!("success"))
        );
    }
    let reply = shop
        .abort("half", hash(&terms(&shop, "half")), std::slice::from_ref(&half))
        .await;
    assert_eq!(reply.expect(200)["refunds"][0]["type"], "success");
    shop.audit().await;
}

#[tokio::test]
async fn again_it_changes_nothing_whoever_told_it_first() {
    let mut shop = Shop::open().await;
    let [whole, half] = coins();
    shop.sell("told", "KUDOS:10", std::slice::from_ref(&whole), true)
        .await;
    let text = lines(&[
        line(&shop, &terms(&shop, "told"), std::slice::from_ref(&whole), true),
        line(&shop, &terms(&shop, "new"), std::slice::from_ref(&half), false),
    ]);
    let summary = run_well(&mut shop, text.clone()).await;
    assert_eq!((summary.known, summary.recorded), (1, 1));
    let before = shop.events().len();
    let summary = run_well(&mut shop, text).await;
    assert_eq!((summary.known, summary.recorded, summary.orders), (2, 0, 0));
    assert_eq!(shop.events().len(), before);

    // By the intake, too.
    shop.start().await;
    let same = terms(&shop, "new");
    assert_eq!(shop.record_order(&same).await, hash(&same));
    let reply = shop.tell("new", std::slice::from_ref(&half), false).await;
    assert_eq!(reply.expect(200), json!({"deposits": 1, "paid": false}));
    shop.stop().await;
    assert_eq!(shop.events().len(), before);
    shop.audit().await;
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one line for each thing that can be wrong")]
async fn what_is_wrong_is_skipped_and_named_and_all_else_is_recorded() {
    let mut shop = Shop::open().await;
    let [whole, half] = coins();
    shop.sell("told", "KUDOS:10", std::slice::from_ref(&half), false)
        .await;
    let good = |shop: &Shop, id: &str| line(shop, &terms(shop, id), std::slice::from_ref(&whole), true);
    let with = |shop: &Shop, id: &str, member: &str, value: Value| {
        let mut terms = terms(shop, id);
        terms[member] = value;
        line(shop, &terms, std::slice::from_ref(&whole), true).to_string()
    };
    let other_key = json!("F80MFRG8HVH6R9CQ47KRFQSJP3T6DBJ4K1D9B703RJY3Z39TBMJ0");
    let deposit = |shop: &Shop, id: &str, member: &str, value: Value| {
        let mut line = good(shop, id);
        line["deposits"][0][member] = value;
        line.to_string()
    };
    let elsewhere = {
        let mut line = good(&shop, "elsewhere");
        line["instance"] = json!("nobody");
        line.to_string()
    };
    let not_its_digest = {
        let mut terms = terms(&shop, "digest");
        terms["$forgettable"] = json!({"summary": "a salt"});
        terms["$forgotten"] = json!({"summary": "0".repeat(103)});
        line(&shop, &terms, std::slice::from_ref(&whole), true).to_string()
    };
    let half_line = |id: &str, paid| line(&shop, &terms(&shop, id), std::slice::from_ref(&half), paid);
    let refund = {
        let mut line = good(&shop, "refund");
        line["refunds"] = json!([{"coin_pub": whole.coin_pub, "rtransaction_id": 1, "amount": "KUDOS:11",
                                  "execution_time": {"t_s": 5}}]);
        line.to_string()
    };
    let mut as_root = good(&shop, "as-root");
    as_root["instance"] = json!("admin");
    as_root["a member of tomorrow"] = json!([1.5]);
    let none = None;
    let cases: Vec<(String, Option<Option<&str>>, &str)> = vec![
        (good(&shop, "first").to_string(), none, ""),
        ("{".into(), Some(None), "it is no JSON"),
        ("[]".into(), Some(None), "expected a JSON object"),
        (String::new(), none, ""),
        (
            "{\"contract_terms\": {\"order_id\": \"\u{fffd}\u{1b}[31m\"}}".into(),
            Some(None),
            "it is no JSON",
        ),
        (
            json!({"contract_terms": terms(&shop, "no-coins"), "paid": true}).to_string(),
            Some(Some("no-coins")),
            "missing field `deposits`",
        ),
        (
            json!({"contract_terms": {"order_id": "no-terms"}, "deposits": [], "paid": true}).to_string(),
            Some(Some("no-terms")),
            "2502 ",
        ),
        (
            with(&shop, "a float", "summary", json!(1.5)),
            Some(Some("a float")),
            "2502 ",
        ),
        (
            with(&shop, "a/b", "summary", json!("slash")),
            Some(Some("a/b")),
            "2502 ",
        ),
        (
            with(&shop, "foreign", "merchant_pub", other_key),
            Some(Some("default/foreign")),
            "merchant_pub is not this instance's key",
        ),
        (
            with(&shop, "money", "amount", json!("EUR:10")),
            Some(Some("default/money")),
            "2024 ",
        ),
        (
            with(&shop, "told", "summary", json!("shoes")),
            Some(Some("default/told")),
            "2503 ",
        ),
        (
            deposit(&shop, "exchange", "exchange_url", json!("https://x.example/")),
            Some(Some("default/exchange")),
            "2025 ",
        ),
        (
            deposit(&shop, "nothing", "amount_with_fee", json!("KUDOS:0")),
            Some(Some("default/nothing")),
            "a deposit of nothing",
        ),
        (
            deposit(&shop, "coin", "coin_pub", json!("ABC")),
            Some(Some("coin")),
            "",
        ),
        (
            {
                let mut line = half_line("told", false);
                line["deposits"][0]["refund_fee"] = json!("KUDOS:0.3");
                line.to_string()
            },
            Some(Some("default/told")),
            "56 ",
        ),
        (
            half_line("not-enough", true).to_string(),
            Some(Some("default/not-enough")),
            "its order and deposits are recorded",
        ),
        (refund, Some(Some("default/refund")), "56 "),
        (elsewhere, Some(Some("nobody/elsewhere")), "2000 "),
        (
            format!("{{\"x\": \"{}\"}}", "x".repeat(600_000)),
            Some(None),
            "longer than 524288 bytes",
        ),
        (as_root.to_string(), none, ""),
        (not_its_digest, Some(Some("digest")), "2502 "),
    ];
    let text: String = cases.iter().map(|(line, ..)| line.clone() + "\n").collect();
    let (summary, said) = run(&mut shop, text.clone()).await;
    let wrong = || {
        (1..)
            .zip(&cases)
            .filter_map(|(number, (_, wrong, reason))| Some((number, (*wrong)?, reason)))
    };
    assert_eq!(said.0.len(), wrong().count(), "{:#?}", said.0);
    for ((number, order, words), (line, named, reason)) in wrong().zip(&said.0) {
        assert_eq!((number, order), (*line, named.as_deref()), "{reason}");
        assert!(
            reason.contains(*words),
            "line {line}: {words:?} is not in {reason}"
        );
    }
    let expected = Summary {
        lines: 21,
        recorded: 2,
        skipped: 19,
        orders: 3,
        deposits: 3,
        payments: 2,
        ..Summary::default()
    };
    assert_eq!(summary, expected);
    // Again: what is wrong stays wrong, and nothing is recorded twice.
    let before = shop.events().len();
    let (summary, again) = run(&mut shop, text).await;
    assert_eq!((summary.known, summary.skipped, again.0), (2, 19, said.0));
    assert_eq!(shop.events().len(), before);
    shop.audit().await;
}

#[tokio::test]
async fn lines_of_one_order_are_taken_one_after_the_other() {
    let mut shop = Shop::open().await;
    let [whole, half] = coins();
    let terms = shop.terms("one", "KUDOS:15", 86_400, 172_800);
    let mut conflict = line(&shop, &terms, std::slice::from_ref(&half), false);
    conflict["deposits"][0]["deposit_fee"] = json!("KUDOS:0.4");
    let text = lines(&[
        line(&shop, &terms, std::slice::from_ref(&half), false),
        line(&shop, &terms, std::slice::from_ref(&half), true),
        conflict,
        line(&shop, &terms, std::slice::from_ref(&whole), true),
        line(&shop, &terms, &[], true),
    ]);
    let (dry, said) = try_run(&mut shop, text.clone(), true).await;
    let dry = dry.unwrap();
    assert_eq!((dry.recorded, dry.unjudged, dry.orders), (1, 4, 1));
    assert_eq!(said.0.len(), 4);
    let (summary, said) = run(&mut shop, text).await;
    let skipped: Vec<u64> = said.0.iter().map(|(line, ..)| *line).collect();
    assert_eq!((summary.recorded, summary.known, skipped), (2, 1, vec![2, 3]));
    let kinds = shop.kinds();
    let last = &kinds[kinds.len() - 4..];
    assert_eq!(
        last,
        [
            "order_recorded",
            "deposit_recorded",
            "deposit_recorded",
            "payment_completed"
        ]
    );
    shop.audit().await;
}

#[tokio::test]
async fn thousands_of_orders_need_few_commits_and_a_dry_run_none() {
    const ORDERS: u64 = 2100;
    let mut shop = Shop::open().await;
    let [whole, _] = coins();
    let text: String = (0..ORDERS)
        .map(|number| {
            let terms = terms(&shop, &format!("order-{number}"));
            line(&shop, &terms, std::slice::from_ref(&whole), true).to_string() + "\n"
        })
        .collect();
    let before = {
        shop.stop().await;
        shop.events().len()
    };
    let (dry, said) = try_run(&mut shop, text.clone(), true).await;
    assert_eq!(said.0, []);
    let dry = dry.unwrap();
    assert_eq!(shop.events().len(), before);
    assert_eq!(run_well(&mut shop, text).await, dry);
    assert_eq!((dry.recorded, dry.payments), (ORDERS, ORDERS));
    assert_eq!(
        shop.audit().await.checked.events,
        u64::try_from(before).unwrap() + 3 * ORDERS
    );
}

#[tokio::test]
async fn an_auditor_who_looks_for_tokens_takes_the_operators_import_for_what_it_is() {
    let mut shop = Shop::open().await;
    let made = shop
        .post_private("private/token", &json!({"scope": "orders"}))
        .await;
    made.expect(200);
    let [whole, _] = coins();
    let mut imported = line(&shop, &terms(&shop, "later"), std::slice::from_ref(&whole), true);
    imported["refunds"] = json!([{"coin_pub": whole.coin_pub, "rtransaction_id": 1, "amount": "KUDOS:2",
                                  "execution_time": {"t_s": shop.clock.now_s() - 60}}]);
    run_well(&mut shop, lines(&[imported])).await;
    shop.audit().await;
}

#[tokio::test]
async fn it_stops_where_going_on_would_do_harm() {
    let mut shop = Shop::open().await;
    let [whole, _] = coins();
    let text = lines(&[line(
        &shop,
        &terms(&shop, "a"),
        std::slice::from_ref(&whole),
        true,
    )]);
    shop.stop().await;
    let before = shop.events().len();
    let reserve = std::mem::replace(&mut shop.config.disk_reserve, u64::MAX);
    let (done, _) = try_run(&mut shop, text.clone(), false).await;
    assert!(
        matches!(done, Err(StartError::Request(RequestError::DiskLow))),
        "{done:?}"
    );
    shop.config.disk_reserve = reserve;
    shop.clock.set_s(support::NOON_S - 120);
    let (done, _) = try_run(&mut shop, text.clone(), false).await;
    assert!(done.unwrap_err().to_string().contains("clock-correct"));
    assert_eq!(shop.events().len(), before);
    shop.clock.set_s(support::NOON_S);
    // What is there already costs no room.
    run_well(&mut shop, text.clone()).await;
    shop.config.disk_reserve = u64::MAX;
    assert_eq!(run_well(&mut shop, text).await.known, 1);
}

#[tokio::test]
async fn orders_that_are_sold_here_are_not_told_of() {
    let mut shop = Shop::open_selling().await;
    let [whole, _] = coins();
    shop.offer("offered", "KUDOS:10").await;
    let (_, sold, _) = shop.sold("sold", "KUDOS:10").await;
    let text = lines(&[
        line(
            &shop,
            &terms(&shop, "offered"),
            std::slice::from_ref(&whole),
            true,
        ),
        line(&shop, &sold, &[], false),
    ]);
    shop.stop().await;
    let before = shop.events().len();
    let (summary, said) = run(&mut shop, text).await;
    assert_eq!((summary.skipped, summary.recorded, summary.known), (2, 0, 0));
    for (.., reason) in &said.0 {
        assert!(reason.starts_with("2503 "), "{reason}");
    }
    assert_eq!(shop.events().len(), before);
    shop.audit().await;
}
