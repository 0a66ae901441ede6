//! Every kind of wrong request at every endpoint: the status and code that it gets, in the order of checks that the
//! service promises, and no event. One table an endpoint; the first column says what is wrong.

#![allow(clippy::too_many_lines, reason = "a table is as long as its rows are many")]

use quittance::commands::{self, NewInstance};
use quittance_taler::{CoinPub, HashCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Coin, Options, Shop, coin, openapi};
use crate::tools::{count, lossy, other_hash, raw, respelt, token_file};

/// Longest body that is read.
const BODY_MAX: usize = 256 * 1024;
const ADMIN: &str = "secret-token:AAAAAAAAAAAAAAAAAAAAAAAAAA";
const AUDITOR: &str = "secret-token:BBBBBBBBBBBBBBBBBBBBBBBBBB";

/// What is wrong, where in the body, what stands there instead (`None`: nothing), and what it gets.
type Change<'a> = (&'a str, &'a str, Option<Value>, (u16, u64));

struct Case {
    what: String,
    head: String,
    body: Vec<u8>,
    expect: (u16, u64),
}

/// A request with its body's length.
fn case(what: &str, request: &str, auth: Option<&str>, body: &[u8], expect: (u16, u64)) -> Case {
    let auth = auth.map_or(String::new(), |auth| format!("authorization: {auth}\r\n"));
    let (method, path) = request.split_once(' ').unwrap();
    Case {
        what: what.to_owned(),
        head: format!(
            "{method} /{path} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n{auth}content-length: {}\r\n\r\n",
            body.len()
        ),
        body: body.to_vec(),
        expect,
    }
}

/// A shop with an order that is paid, one that is not, and a second instance.
struct Scene {
    shop: Shop,
    second_token: String,
    _admin: TempDir,
    paid: HashCode,
    open: HashCode,
    a: Coin,
    b: Coin,
}

impl Scene {
    async fn new() -> Scene {
        let admin = TempDir::new().unwrap();
        let file = token_file(admin.path(), "admin.token", ADMIN);
        let auditors = token_file(admin.path(), "auditor.token", AUDITOR);
        let more_config = format!(
            "[quittance]\nADMIN_TOKEN_FILE = {}\nAUDITOR_TOKEN_FILE = {}\n",
            file.display(),
            auditors.display()
        );
        let mut shop = Shop::open_with(Options {
            more_config,
            ..Options::default()
        })
        .await;
        shop.stop().await;
        let (config, clock) = (shop.config.clone(), shop.clock.clock());
        let second_token = tokio::task::spawn_blocking(move || {
            let new = NewInstance {
                id: "second".parse().unwrap(),
                name: None,
                merchant_key: None,
                token_file: None,
            };
            commands::add_instance(&config, &clock, &new).unwrap().unwrap()
        })
        .await
        .unwrap();
        shop.start().await;
        let (a, b) = (coin(1, "KUDOS:10", "KUDOS:0.2"), coin(2, "KUDOS:5", "KUDOS:0.1"));
        let paid = shop
            .sell("paid", "KUDOS:10", std::slice::from_ref(&a), true)
            .await;
        let open = shop
            .sell("open", "KUDOS:10", std::slice::from_ref(&b), false)
            .await;
        Scene {
            shop,
            second_token,
            _admin: admin,
            paid,
            open,
            a,
            b,
        }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.shop.token)
    }

    /// Sends all of it: each request gets what it should, an error has a code, a hint and nothing secret, and no
    /// event is recorded.
    async fn refuse(&self, cases: Vec<Case>) {
        let mut before = count(&self.shop);
        let mut wrong = Vec::new();
        for Case {
            what,
            head,
            body,
            expect,
        } in cases
        {
            let (status, reply) = raw(self.shop.app().addr(), &[head.as_bytes(), &body].concat()).await;
            let json: Value = serde_json::from_slice(&reply).unwrap_or_default();
            let mut line = head.split(' ');
            openapi::check(
                line.next().unwrap(),
                line.next().unwrap(),
                status,
                Some("application/json"),
                &reply,
            );
            let recorded = count(&self.shop) - before;
            before += recorded;
            let is_told = json["hint"].as_str().is_some_and(|hint| !hint.is_empty());
            if (status, json["code"].as_u64()) != (expect.0, Some(expect.1)) || !is_told || recorded > 0 {
                wrong.push(format!(
                    "{what}: {} {}\n  expected {expect:?}, got {status} {}, {recorded} events",
                    head.lines().next().unwrap(),
                    lossy(&body),
                    lossy(&reply)
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// What all endpoints have in common. `request` as `POST path`; `body` is one that would pass.
    fn shared(&self, request: &str, body: &Value) -> Vec<Case> {
        let (method, path) = request.split_once(' ').unwrap();
        let is_private = path.starts_with("private/");
        let bearer = self.bearer();
        let auth = is_private.then_some(bearer.as_str());
        let body = body.to_string().into_bytes();
        let foreign = format!("Bearer {}", self.second_token);
        let admin = format!("Bearer {ADMIN}");
        let auditor = format!("Bearer {AUDITOR}");
        let mut cases = Vec::new();
        for wrong in ["GET", "POST", "PUT", "DELETE", "PATCH", "TRACE"]
            .iter()
            .filter(|wrong| **wrong != method)
        {
            // Method before token.
            cases.push(case("method", &format!("{wrong} {path}"), None, b"", (405, 20)));
            cases.push(case(
                "method",
                &format!("{wrong} instances/second/{path}"),
                None,
                b"",
                (405, 20),
            ));
        }
        cases.push(case(
            "method before path",
            &format!("PUT {path}/x/y"),
            None,
            b"",
            (405, 20),
        ));
        let bare = path.split('?').next().unwrap();
        for unknown in [
            format!("{bare}/"),
            format!("{bare}/x"),
            format!("x/{bare}"),
            format!("/{bare}"),
            format!("instances//x/{bare}"),
            format!("instances/a/b/{bare}"),
        ] {
            cases.push(case("path", &format!("{method} {unknown}"), None, b"", (404, 21)));
        }
        let unknown_instance = format!("{method} instances/nobody/{path}");
        if is_private {
            cases.extend([
                case("no token", request, None, &body, (401, 40)),
                case(
                    "another scheme",
                    request,
                    Some("Basic c2VjcmV0LXRva2VuOg=="),
                    &body,
                    (401, 40),
                ),
                case("a scheme alone", request, Some("Bearer"), &body, (401, 40)),
                case(
                    "a token without scheme",
                    request,
                    Some(&self.shop.token),
                    &body,
                    (401, 40),
                ),
                case(
                    "wrong token",
                    request,
                    Some("Bearer secret-token:AAAAAAAAAAAAAAAAAAAAAAAAAB"),
                    &body,
                    (401, 41),
                ),
                case(
                    "half a token",
                    request,
                    Some(&bearer[..bearer.len() - 1]),
                    &body,
                    (401, 41),
                ),
                case(
                    "another instance's token",
                    request,
                    Some(&foreign),
                    &body,
                    (401, 41),
                ),
                case("an auditor's token", request, Some(&auditor), &body, (403, 16)),
                case(
                    "token of the root at another",
                    &format!("{method} instances/second/{path}"),
                    auth,
                    &body,
                    (401, 41),
                ),
                case("no token, no instance", &unknown_instance, None, &body, (401, 40)),
                case(
                    "wrong token, no instance",
                    &unknown_instance,
                    Some(&foreign),
                    &body,
                    (401, 41),
                ),
                case("no instance", &unknown_instance, Some(&admin), &body, (404, 2000)),
                case(
                    "token before size",
                    request,
                    None,
                    &vec![b' '; BODY_MAX + 1],
                    (401, 40),
                ),
            ]);
        } else {
            cases.push(case("no instance", &unknown_instance, None, &body, (404, 2000)));
        }
        cases.push(case(
            "no possible instance",
            &unknown_instance.replace("nobody", "%2e%2e"),
            is_private.then_some(admin.as_str()),
            &body,
            (404, 2000),
        ));
        cases.push(case(
            "instance before size",
            &unknown_instance,
            is_private.then_some(admin.as_str()),
            &vec![b' '; BODY_MAX + 1],
            (404, 2000),
        ));
        // Too long: told by its length before anything is read; or found out on the way.
        let mut told = case("size told", request, auth, &vec![b' '; BODY_MAX + 1], (413, 32));
        told.body.clear();
        cases.push(told);
        let mut chunked = case("size not told", request, auth, b"", (413, 32));
        chunked.head = chunked
            .head
            .replace("content-length: 0", "transfer-encoding: chunked");
        chunked.body = format!("8000\r\n{}\r\n", " ".repeat(0x8000))
            .repeat(9)
            .into_bytes();
        cases.push(chunked);
        if method == "POST" {
            let mut array = b"[".to_vec();
            array.extend(&body);
            array.push(b']');
            for (what, body) in [
                ("no body", &b""[..]),
                ("no JSON", b"h_contract=1"),
                ("half of it", &body[..body.len() - 1]),
                ("more than one", &[body.as_slice(), b"{}"].concat()),
                ("not UTF-8", b"{\"\xff\":1}"),
                ("null", b"null"),
                ("a text", b"\"{}\""),
                ("a list", &array),
                ("an empty list", b"[]"),
                ("an empty object", b"{}"),
                ("as long as it may be", &vec![b' '; BODY_MAX]),
                ("too deep", "[".repeat(5000).as_bytes()),
            ] {
                cases.push(case(what, request, auth, body, (400, 22)));
            }
        }
        cases
    }

    /// Bodies made from a good one by changes to single members.
    fn changed(&self, request: &str, good: &Value, changes: &[Change]) -> Vec<Case> {
        let bearer = self.bearer();
        let auth = request.contains(" private/").then_some(bearer.as_str());
        let change = |(what, pointer, value, expect): &Change| {
            let mut body = good.clone();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let parent = body.pointer_mut(parent).unwrap();
            match (value, parent) {
                (Some(value), parent) => match parent {
                    Value::Array(items) => items[name.parse::<usize>().unwrap()] = value.clone(),
                    parent => parent[name] = value.clone(),
                },
                (None, parent) => assert!(parent.as_object_mut().unwrap().remove(name).is_some()),
            }
            case(
                &format!("{what} at {pointer}"),
                request,
                auth,
                body.to_string().as_bytes(),
                *expect,
            )
        };
        changes.iter().map(change).collect()
    }
}

/// Names of orders that are none, or not there; as they stand in a path.
const NO_ORDERS: [&str; 12] = [
    "nobody",
    "OPEN",
    "a%2Fb",
    "%2e%2e",
    "%20open",
    "open%00",
    "%FF%FE",
    "%",
    "%zz",
    "\u{e4}",
    "o;p=e&n",
    "%3Copen%3E",
];

/// Every path to an order that does not exist.
fn unknown_orders(request: &str, auth: Option<&str>, body: &Value, expect: (u16, u64)) -> Vec<Case> {
    let body = if request.starts_with("GET") {
        String::new()
    } else {
        body.to_string()
    };
    let long = "x".repeat(65);
    let names = NO_ORDERS.iter().copied().chain([long.as_str(), ""]);
    names
        .map(|name| {
            // Beyond ASCII a request target is written in percent-encoding.
            let name = if name.is_ascii() {
                name.to_owned()
            } else {
                "%C3%A4".to_owned()
            };
            case(
                "order",
                &request.replace("ORDER", &name),
                auth,
                body.as_bytes(),
                expect,
            )
        })
        .collect()
}

const NO_JSON: (u16, u64) = (400, 22);

/// What is no 32 bytes of base32, and no text at all.
fn no_keys(pointer: &'static str, good: &str) -> Vec<Change<'static>> {
    vec![
        ("missing", pointer, None, NO_JSON),
        ("null", pointer, Some(Value::Null), NO_JSON),
        ("a number", pointer, Some(json!(7)), NO_JSON),
        ("a list", pointer, Some(json!([good])), NO_JSON),
        ("empty", pointer, Some(json!("")), NO_JSON),
        ("a symbol short", pointer, Some(json!(&good[1..])), NO_JSON),
        ("a symbol long", pointer, Some(json!(format!("0{good}"))), NO_JSON),
        (
            "no symbol of base32",
            pointer,
            Some(json!(format!("*{}", &good[1..]))),
            NO_JSON,
        ),
        (
            "a blank",
            pointer,
            Some(json!(format!(" {}", &good[1..]))),
            NO_JSON,
        ),
        (
            "beyond ASCII",
            pointer,
            Some(json!(format!("\u{e4}{}", &good[2..]))),
            NO_JSON,
        ),
    ]
}

fn no_amounts(pointer: &'static str) -> Vec<Change<'static>> {
    let bad = [
        "",
        "10",
        "KUDOS",
        "KUDOS:",
        "KUDOS:1.",
        "KUDOS:.1",
        "KUDOS:-1",
        "KUDOS:1.123456789",
        " KUDOS:1",
        "KUDOS:1e3",
        "KUDOS:4503599627370497",
        "kudos:1",
        "KUDOSKUDOSKUDOS:1",
    ];
    let mut changes: Vec<_> = bad
        .iter()
        .map(|bad| ("no amount", pointer, Some(json!(bad)), NO_JSON))
        .collect();
    changes.push(("a number", pointer, Some(json!(1)), NO_JSON));
    changes.push((
        "an object",
        pointer,
        Some(json!({"currency": "KUDOS", "value": 1})),
        NO_JSON,
    ));
    changes
}

#[tokio::test]
async fn abort() {
    let mut scene = Scene::new().await;
    let request = "POST orders/open/abort";
    let url = scene.shop.sandbox.base_url();
    let b = scene.b.coin_pub;
    let named = |coin: &str| json!({"coin_pub": coin, "contribution": "KUDOS:5", "exchange_url": url});
    let good = json!({"h_contract": scene.open, "coins": [named(&b.to_string())]});
    let body = |coins: Vec<Value>| json!({"h_contract": scene.open, "coins": coins});
    let many = (0..513u16)
        .map(|n| {
            let mut bytes = [9; 32];
            bytes[..2].copy_from_slice(&n.to_be_bytes());
            named(&CoinPub::from_bytes(bytes).to_string())
        })
        .collect();

    scene.refuse(scene.shared(request, &good)).await;
    let mut changes = no_keys("/h_contract", &scene.open.to_string());
    changes.extend(no_keys("/coins/0/coin_pub", &b.to_string()));
    changes.extend(no_amounts("/coins/0/contribution"));
    changes.extend([
        ("absent", "/coins", None, NO_JSON),
        ("null", "/coins", Some(Value::Null), NO_JSON),
        (
            "an object",
            "/coins",
            Some(json!({"0": named(&b.to_string())})),
            NO_JSON,
        ),
        ("no object in it", "/coins/0", Some(json!(b)), NO_JSON),
        ("null in it", "/coins/0", Some(Value::Null), NO_JSON),
        ("currency", "/coins/0/contribution", Some(json!("EUR:5")), NO_JSON),
        ("absent", "/coins/0/exchange_url", None, NO_JSON),
        ("null", "/coins/0/exchange_url", Some(Value::Null), NO_JSON),
        ("a number", "/coins/0/exchange_url", Some(json!(1)), NO_JSON),
        (
            "no URL",
            "/coins/0/exchange_url",
            Some(json!("exchange.example")),
            NO_JSON,
        ),
        (
            "another schema",
            "/coins/0/exchange_url",
            Some(json!("ftp://exchange.example/")),
            NO_JSON,
        ),
        ("empty", "/coins", Some(json!([])), (400, 2256)),
        (
            "twice",
            "/coins",
            Some(json!([named(&b.to_string()), named(&b.to_string())])),
            (400, 26),
        ),
        (
            "twice in other words",
            "/coins",
            Some(json!([named(&b.to_string()), named(&respelt(&b))])),
            (400, 26),
        ),
        ("too many", "/coins", Some(Value::Array(many)), (400, 26)),
        (
            "another contract",
            "/h_contract",
            Some(json!(scene.paid)),
            (403, 2255),
        ),
        (
            "no contract",
            "/h_contract",
            Some(json!(other_hash())),
            (403, 2255),
        ),
    ]);
    scene.refuse(scene.changed(request, &good, &changes)).await;
    scene
        .refuse(unknown_orders(
            "POST orders/ORDER/abort",
            None,
            &good,
            (404, 2253),
        ))
        .await;
    // What is wrong in several ways is told in this order.
    let bad_twice = |coin: &str| json!({"h_contract": other_hash(), "coins": [named(coin), named(coin)]});
    scene
        .refuse(vec![
            case(
                "form before all",
                "POST orders/nobody/abort",
                None,
                b"{\"coins\":[]}",
                NO_JSON,
            ),
            case(
                "form before twice",
                request,
                None,
                bad_twice("short").to_string().as_bytes(),
                NO_JSON,
            ),
            case(
                "empty before order",
                "POST orders/nobody/abort",
                None,
                body(vec![]).to_string().as_bytes(),
                (400, 2256),
            ),
            case(
                "twice before order",
                "POST orders/nobody/abort",
                None,
                bad_twice(&b.to_string()).to_string().as_bytes(),
                (400, 26),
            ),
            case(
                "order before contract",
                "POST instances/second/orders/open/abort",
                None,
                good.to_string().as_bytes(),
                (404, 2253),
            ),
            case(
                "contract before paid",
                "POST orders/paid/abort",
                None,
                good.to_string().as_bytes(),
                (403, 2255),
            ),
            case(
                "a member twice",
                request,
                None,
                format!(
                    "{{\"h_contract\":\"{0}\",\"h_contract\":\"{0}\",\"coins\":[]}}",
                    scene.open
                )
                .as_bytes(),
                NO_JSON,
            ),
        ])
        .await;
    scene.shop.audit().await;
}

#[tokio::test]
async fn refund() {
    let mut scene = Scene::new().await;
    let request = "POST orders/paid/refund";
    let good = json!({"h_contract": scene.paid});
    scene.refuse(scene.shared(request, &good)).await;
    let mut changes = no_keys("/h_contract", &scene.paid.to_string());
    changes.push((
        "another contract",
        "/h_contract",
        Some(json!(scene.open)),
        (403, 2009),
    ));
    scene.refuse(scene.changed(request, &good, &changes)).await;
    scene
        .refuse(unknown_orders(
            "POST orders/ORDER/refund",
            None,
            &good,
            (404, 2005),
        ))
        .await;
    let wrong = json!({"h_contract": other_hash()}).to_string();
    scene
        .refuse(vec![
            case(
                "form before order",
                "POST orders/nobody/refund",
                None,
                b"{}",
                NO_JSON,
            ),
            case(
                "contract before unpaid",
                "POST orders/open/refund",
                None,
                wrong.as_bytes(),
                (403, 2009),
            ),
            case(
                "another instance's order",
                "POST instances/second/orders/paid/refund",
                None,
                good.to_string().as_bytes(),
                (404, 2005),
            ),
        ])
        .await;
    scene.shop.audit().await;
}

#[tokio::test]
async fn status_and_config() {
    let mut scene = Scene::new().await;
    let paid = scene.paid.to_string();
    scene
        .refuse(scene.shared(&format!("GET orders/paid?h_contract={paid}"), &Value::Null))
        .await;
    scene.refuse(scene.shared("GET config", &Value::Null)).await;
    let get = |what: &str, path: &str, expect| case(what, &format!("GET {path}"), None, b"", expect);
    scene
        .refuse(vec![
            get("no hash", "orders/paid", (403, 2105)),
            get(
                "other parameters only",
                "orders/paid?token=91JPRV3F5GG4EKJN41A62V35E8&timeout_ms=1",
                (403, 2105),
            ),
            get("token", "orders/paid?token=x", (400, 26)),
            get("timeout", "orders/paid?timeout_ms=x", (400, 26)),
            get("foreign refund", "orders/paid?refund=EUR:1", (400, 26)),
            get("empty", "orders/paid?h_contract=", (400, 26)),
            get(
                "short",
                &format!("orders/paid?h_contract={}", &paid[1..]),
                (400, 26),
            ),
            get("long", &format!("orders/paid?h_contract={paid}0"), (400, 26)),
            get(
                "no base32",
                &format!("orders/paid?h_contract=*{}", &paid[1..]),
                (400, 26),
            ),
            get("broken encoding", "orders/paid?h_contract=%zz", (400, 26)),
            get("form before order", "orders/nobody?h_contract=x", (400, 26)),
            get("order before no hash", "orders/nobody", (404, 2005)),
            get(
                "another contract",
                &format!("orders/paid?h_contract={}", scene.open),
                (403, 2106),
            ),
            get(
                "contract before unpaid",
                &format!("orders/open?h_contract={paid}"),
                (403, 2106),
            ),
            get(
                "another instance's order",
                &format!("instances/second/orders/paid?h_contract={paid}"),
                (404, 2005),
            ),
        ])
        .await;
    let request = format!("GET orders/ORDER?h_contract={paid}");
    scene
        .refuse(unknown_orders(&request, None, &Value::Null, (404, 2005)))
        .await;
    scene.shop.audit().await;
}

#[tokio::test]
async fn files_of_the_ledger() {
    let mut scene = Scene::new().await;
    let size = count(&scene.shop);
    let public = ["ledger/checkpoint", "ledger/tile/0/000.p/1"];
    let entries = "ledger/tile/entries/000.p/1";
    let (root, admin, auditor) = (
        scene.bearer(),
        format!("Bearer {ADMIN}"),
        format!("Bearer {AUDITOR}"),
    );
    let mut cases = Vec::new();
    for path in public.iter().chain([&entries]) {
        for wrong in ["POST", "PUT", "DELETE", "TRACE"] {
            cases.push(case("method", &format!("{wrong} {path}"), None, b"", (405, 20)));
        }
        for unknown in [
            format!("{path}/"),
            format!("{path}/x"),
            format!("/{path}"),
            format!("private/{path}"),
            format!("instances/default/{path}"),
            format!("instances/second/{path}"),
            format!("instances/nobody/{path}"),
        ] {
            cases.push(case(
                "path",
                &format!("GET {unknown}"),
                Some(&auditor),
                b"",
                (404, 21),
            ));
        }
        let (request, long) = (format!("GET {path}"), vec![b' '; BODY_MAX + 1]);
        let mut told = case("size told", &request, Some(&auditor), &long, (413, 32));
        told.body.clear();
        cases.push(told);
    }
    for unknown in [
        "ledger",
        "ledger/",
        "ledger/tile",
        "ledger/tile/0",
        "ledger/tile/0/0",
        "ledger/tile/0/0000",
        "ledger/tile/00/000",
        "ledger/tile/-0/000",
        "ledger/tile/+0/000",
        "ledger/tile/x/000",
        "ledger/tile/0/x000/000",
        "ledger/tile/0/001/x000",
        "ledger/tile/0/000.p/",
        "ledger/tile/0/000.p/0",
        "ledger/tile/0/000.p/01",
        "ledger/tile/0/000.p/256",
        "ledger/tile/0/000.p/1/1",
        "ledger/tile/0/000.p%2F1",
        "ledger/tile/%30/000",
        "ledger/tile/64/000",
        "ledger/tile/0/x999/x999/x999/x999/x999/x999/999",
        "ledger/tile/entries",
        "ledger/tile/entries/0",
        "ledger/checkpoint.txt",
    ] {
        cases.push(case(
            "no such form",
            &format!("GET {unknown}"),
            None,
            b"",
            (404, 21),
        ));
        cases.push(case(
            "form before its method",
            &format!("POST {unknown}"),
            None,
            b"",
            (404, 21),
        ));
    }
    cases.push(case(
        "a method that nothing has",
        "PUT ledger/x",
        None,
        b"",
        (405, 20),
    ));
    for beyond in [
        "000".to_owned(),
        format!("000.p/{}", size + 1),
        "000.p/255".to_owned(),
        "001.p/1".to_owned(),
        "x999/999".to_owned(),
    ] {
        let (tile, bundle) = (
            format!("GET ledger/tile/0/{beyond}"),
            format!("GET ledger/tile/entries/{beyond}"),
        );
        cases.push(case("beyond", &tile, None, b"", (404, 21)));
        cases.push(case("beyond", &bundle, Some(&auditor), b"", (404, 21)));
        cases.push(case("token before what is there", &bundle, None, b"", (401, 40)));
    }
    cases.push(case(
        "a level up",
        "GET ledger/tile/1/000.p/1",
        None,
        b"",
        (404, 21),
    ));
    let request = format!("GET {entries}");
    for (what, auth, expect) in [
        ("no token", None, (401, 40)),
        ("another scheme", Some("Basic c2VjcmV0LXRva2VuOg=="), (401, 40)),
        ("a scheme alone", Some("Bearer"), (401, 40)),
        ("a token without scheme", Some(AUDITOR), (401, 40)),
        ("half a token", Some(&auditor[..auditor.len() - 1]), (401, 41)),
        ("an instance's token", Some(root.as_str()), (403, 16)),
    ] {
        cases.push(case(what, &request, auth, b"", expect));
    }
    cases.push(case(
        "token before size",
        &request,
        None,
        &vec![b' '; BODY_MAX + 1],
        (401, 40),
    ));
    scene.refuse(cases).await;

    for auth in [&auditor, &admin] {
        let good = case("", &request, Some(auth), b"", (200, 0));
        let (status, reply) = raw(scene.shop.app().addr(), good.head.as_bytes()).await;
        assert_eq!(status, 200, "{}", lossy(&reply));
    }
    scene.shop.audit().await;
    // Without any such token in the configuration nobody has the entries.
    let mut shop = Shop::open().await;
    for (token, expect) in [(AUDITOR, (401, 41)), (shop.token.as_str(), (403, 16))] {
        assert_eq!(
            shop.send("GET", entries, Some(token), Vec::new()).await.error(),
            expect
        );
    }
    assert_eq!(shop.get(entries).await.error(), (401, 40));
    shop.stop().await;
}

#[tokio::test]
async fn approval() {
    let mut scene = Scene::new().await;
    let bearer = scene.bearer();
    let request = "POST private/orders/paid/refund";
    let good = json!({"refund": "KUDOS:1", "reason": "returned"});
    scene.refuse(scene.shared(request, &good)).await;
    let mut changes = no_amounts("/refund");
    changes.extend([
        ("absent", "/refund", None, NO_JSON),
        ("absent", "/reason", None, NO_JSON),
        ("null", "/reason", Some(Value::Null), NO_JSON),
        ("a number", "/reason", Some(json!(1)), NO_JSON),
        ("a list", "/reason", Some(json!(["returned"])), NO_JSON),
        ("currency", "/refund", Some(json!("EUR:1")), (409, 2024)),
        (
            "more than was paid",
            "/refund",
            Some(json!("KUDOS:10.00000001")),
            (409, 2530),
        ),
        ("below the fee", "/refund", Some(json!("KUDOS:0.1")), (409, 2530)),
    ]);
    scene.refuse(scene.changed(request, &good, &changes)).await;
    let orders = unknown_orders(
        "POST private/orders/ORDER/refund",
        Some(&bearer),
        &good,
        (404, 2005),
    );
    scene.refuse(orders).await;
    let foreign = format!("Bearer {}", scene.second_token);
    let euro = json!({"refund": "EUR:1", "reason": ""}).to_string();
    scene
        .refuse(vec![
            case(
                "unpaid",
                "POST private/orders/open/refund",
                Some(&bearer),
                good.to_string().as_bytes(),
                (409, 2531),
            ),
            case(
                "currency before unpaid",
                "POST private/orders/open/refund",
                Some(&bearer),
                euro.as_bytes(),
                (409, 2024),
            ),
            case(
                "order before currency",
                "POST private/orders/nobody/refund",
                Some(&bearer),
                euro.as_bytes(),
                (404, 2005),
            ),
            case(
                "another instance's order",
                "POST instances/second/private/orders/paid/refund",
                Some(&foreign),
                good.to_string().as_bytes(),
                (404, 2005),
            ),
        ])
        .await;
    scene.shop.audit().await;
}

#[tokio::test]
async fn intake_of_orders() {
    const NO_TERMS: (u16, u64) = (400, 2502);
    let mut scene = Scene::new().await;
    let bearer = scene.bearer();
    let request = "POST private/ledger/orders";
    let good = json!({"contract_terms": scene.shop.terms("new", "KUDOS:10", 86_400, 172_800)});
    scene.refuse(scene.shared(request, &good)).await;
    let mut changes = vec![
        ("absent", "/contract_terms", None, NO_JSON),
        ("null", "/contract_terms", Some(Value::Null), NO_TERMS),
        ("a text", "/contract_terms", Some(json!("{}")), NO_TERMS),
        (
            "a list",
            "/contract_terms",
            Some(json!([good["contract_terms"]])),
            NO_TERMS,
        ),
        ("empty", "/contract_terms", Some(json!({})), NO_TERMS),
        ("a text", "/choice_index", Some(json!("0")), NO_JSON),
        ("negative", "/choice_index", Some(json!(-1)), NO_JSON),
        ("no integer", "/choice_index", Some(json!(0.5)), NO_JSON),
        ("without choices", "/choice_index", Some(json!(0)), NO_TERMS),
        (
            "without an index",
            "/contract_terms/version",
            Some(json!(1)),
            NO_TERMS,
        ),
        (
            "a version to come",
            "/contract_terms/version",
            Some(json!(2)),
            NO_TERMS,
        ),
        (
            "a float",
            "/contract_terms/products",
            Some(json!([{"quantity": 1.5}])),
            NO_TERMS,
        ),
        (
            "beyond 2^53-1",
            "/contract_terms/products",
            Some(json!([9_007_199_254_740_992u64])),
            NO_TERMS,
        ),
        (
            "a member that cannot be hashed",
            "/contract_terms/products",
            Some(json!([{"de-DE": 1}])),
            NO_TERMS,
        ),
        (
            "a salt of nothing",
            "/contract_terms/$forgettable",
            Some(json!({"nothing": "SALT"})),
            NO_TERMS,
        ),
        (
            "another merchant",
            "/contract_terms/merchant_pub",
            Some(json!(scene.a.coin_pub)),
            NO_TERMS,
        ),
        (
            "currency",
            "/contract_terms/amount",
            Some(json!("EUR:10")),
            (409, 2024),
        ),
        (
            "none to pay at",
            "/contract_terms/exchanges",
            Some(json!([])),
            NO_TERMS,
        ),
        (
            "no URL",
            "/contract_terms/exchanges/0/url",
            Some(json!("exchange")),
            NO_TERMS,
        ),
        (
            "another schema",
            "/contract_terms/exchanges/0/url",
            Some(json!("ftp://exchange.example/")),
            NO_TERMS,
        ),
        (
            "short",
            "/contract_terms/exchanges/0/master_pub",
            Some(json!("ABC")),
            NO_TERMS,
        ),
        (
            "old form of time",
            "/contract_terms/timestamp",
            Some(json!({"t_ms": 1000})),
            NO_TERMS,
        ),
        (
            "bare number",
            "/contract_terms/timestamp",
            Some(json!(1000)),
            NO_TERMS,
        ),
        (
            "negative",
            "/contract_terms/timestamp",
            Some(json!({"t_s": -1})),
            NO_TERMS,
        ),
        (
            "too far",
            "/contract_terms/timestamp",
            Some(json!({"t_s": 9_007_199_254_740_991u64})),
            NO_TERMS,
        ),
        (
            "neither number nor never",
            "/contract_terms/timestamp",
            Some(json!({"t_s": "later"})),
            NO_TERMS,
        ),
        ("a number", "/contract_terms/order_id", Some(json!(7)), NO_TERMS),
    ];
    for name in [
        "",
        "a/b",
        "a b",
        "..",
        ".",
        "\u{e4}",
        "a%2Fb",
        "a\u{0}",
        &"x".repeat(65),
    ] {
        changes.push((
            "order id",
            "/contract_terms/order_id",
            Some(json!(name)),
            NO_TERMS,
        ));
    }
    for member in [
        "/contract_terms/order_id",
        "/contract_terms/amount",
        "/contract_terms/timestamp",
        "/contract_terms/refund_deadline",
        "/contract_terms/wire_transfer_deadline",
        "/contract_terms/merchant_pub",
        "/contract_terms/exchanges",
        "/contract_terms/exchanges/0/url",
        "/contract_terms/exchanges/0/master_pub",
    ] {
        changes.push(("absent", member, None, NO_TERMS));
        changes.push(("null", member, Some(Value::Null), NO_TERMS));
    }
    changes.extend(
        no_amounts("/contract_terms/amount")
            .into_iter()
            .map(|(what, at, value, _)| (what, at, value, NO_TERMS)),
    );
    scene.refuse(scene.changed(request, &good, &changes)).await;

    let text = good["contract_terms"].to_string();
    let twice = text.replacen('{', "{\"summary\":\"sandals\",", 1);
    let exponent = text.replacen('{', "{\"weight\":1e3,", 1);
    let mut other = good.clone();
    other["contract_terms"]["order_id"] = json!("paid");
    other["contract_terms"]["summary"] = json!("sandals");
    let mut choices = scene.shop.terms("new", "KUDOS:10", 86_400, 172_800);
    choices["version"] = json!(1);
    choices["choices"] = json!([{"amount": "KUDOS:1"}]);
    scene
        .refuse(vec![
            case(
                "a member twice",
                request,
                Some(&bearer),
                format!("{{\"contract_terms\":{twice}}}").as_bytes(),
                NO_TERMS,
            ),
            case(
                "a number in another form",
                request,
                Some(&bearer),
                format!("{{\"contract_terms\":{exponent}}}").as_bytes(),
                NO_TERMS,
            ),
            case(
                "other terms",
                request,
                Some(&bearer),
                other.to_string().as_bytes(),
                (409, 2503),
            ),
            case(
                "beyond the choices",
                request,
                Some(&bearer),
                json!({"contract_terms": choices, "choice_index": 1})
                    .to_string()
                    .as_bytes(),
                NO_TERMS,
            ),
        ])
        .await;
    scene.shop.audit().await;
}

#[tokio::test]
async fn intake_of_deposits() {
    let mut scene = Scene::new().await;
    let bearer = scene.bearer();
    let request = "POST private/ledger/orders/open/deposits";
    let new = coin(3, "KUDOS:1", "KUDOS:0.1");
    let good = json!({"deposits": scene.shop.told(std::slice::from_ref(&new)), "paid": false});
    let key = new.coin_pub.to_string();
    scene.refuse(scene.shared(request, &good)).await;

    let many = (0..513u16)
        .map(|n| {
            let mut told = good["deposits"][0].clone();
            let mut bytes = [9; 32];
            bytes[..2].copy_from_slice(&n.to_be_bytes());
            told["coin_pub"] = json!(CoinPub::from_bytes(bytes));
            told
        })
        .collect();
    // The recorded coin in other words and with another amount.
    let mut conflicting = scene.shop.told(std::slice::from_ref(&scene.b))[0].clone();
    conflicting["coin_pub"] = json!(respelt(&scene.b.coin_pub));
    conflicting["amount_with_fee"] = json!("KUDOS:4");
    let mut twice = good["deposits"][0].clone();
    twice["coin_pub"] = json!(respelt(&new.coin_pub));
    twice["refund_fee"] = json!("KUDOS:0.2");
    let both = json!([good["deposits"][0], conflicting]);
    let hash = scene.open.to_string();
    let sig = hash.clone();

    let mut changes = no_keys("/deposits/0/coin_pub", &key);
    for amount in [
        "/deposits/0/amount_with_fee",
        "/deposits/0/deposit_fee",
        "/deposits/0/refund_fee",
    ] {
        changes.extend(no_amounts(amount));
        changes.push(("absent", amount, None, NO_JSON));
        changes.push(("null", amount, Some(Value::Null), NO_JSON));
        changes.push(("currency", amount, Some(json!("EUR:1")), (409, 2024)));
    }
    changes.extend([
        ("absent", "/deposits", None, NO_JSON),
        ("null", "/deposits", Some(Value::Null), NO_JSON),
        (
            "an object",
            "/deposits",
            Some(good["deposits"][0].clone()),
            NO_JSON,
        ),
        ("a text in it", "/deposits/0", Some(json!(key)), NO_JSON),
        ("absent", "/paid", None, NO_JSON),
        ("null", "/paid", Some(Value::Null), NO_JSON),
        ("a text", "/paid", Some(json!("true")), NO_JSON),
        ("a number", "/paid", Some(json!(1)), NO_JSON),
        ("absent", "/deposits/0/exchange_url", None, NO_JSON),
        ("a number", "/deposits/0/exchange_url", Some(json!(1)), NO_JSON),
        (
            "a denomination's hash of 32 bytes",
            "/deposits/0/h_denom",
            Some(json!(key)),
            NO_JSON,
        ),
        (
            "a coin's signature of 63 bytes",
            "/deposits/0/coin_sig",
            Some(json!(sig[2..])),
            NO_JSON,
        ),
        (
            "an exchange's key of 64 bytes",
            "/deposits/0/exchange_pub",
            Some(json!(hash)),
            NO_JSON,
        ),
        (
            "an exchange's signature, no text",
            "/deposits/0/exchange_sig",
            Some(json!(1)),
            NO_JSON,
        ),
        (
            "a bare number",
            "/deposits/0/exchange_timestamp",
            Some(json!(1)),
            NO_JSON,
        ),
        (
            "negative",
            "/deposits/0/exchange_timestamp",
            Some(json!({"t_s": -1})),
            NO_JSON,
        ),
        ("a text", "/refunds", Some(json!("none")), NO_JSON),
        ("nothing in it", "/refunds", Some(json!([{}])), NO_JSON),
        (
            "nothing deposited",
            "/deposits/0/amount_with_fee",
            Some(json!("KUDOS:0")),
            (400, 26),
        ),
        (
            "no exchange",
            "/deposits/0/exchange_url",
            Some(json!("no URL")),
            (400, 2025),
        ),
        (
            "not in the terms",
            "/deposits/0/exchange_url",
            Some(json!("http://127.0.0.1:1/")),
            (400, 2025),
        ),
        ("too many", "/deposits", Some(Value::Array(many)), (400, 26)),
        ("another deposit", "/deposits", Some(both), (409, 56)),
        (
            "twice, not alike",
            "/deposits",
            Some(json!([good["deposits"][0], twice])),
            (409, 56),
        ),
        (
            "too much for an amount",
            "/deposits/0/amount_with_fee",
            Some(json!("KUDOS:4503599627370496")),
            (400, 26),
        ),
    ]);
    scene.refuse(scene.changed(request, &good, &changes)).await;
    let orders = unknown_orders(
        "POST private/ledger/orders/ORDER/deposits",
        Some(&bearer),
        &good,
        (404, 2005),
    );
    scene.refuse(orders).await;
    let foreign = format!("Bearer {}", scene.second_token);
    scene
        .refuse(vec![case(
            "another instance's order",
            "POST instances/second/private/ledger/orders/open/deposits",
            Some(&foreign),
            good.to_string().as_bytes(),
            (404, 2005),
        )])
        .await;

    // Named in the terms, but not configured.
    let mut terms = scene.shop.terms("abroad", "KUDOS:1", 86_400, 172_800);
    terms["exchanges"] = json!([{"url": "https://abroad.example/", "master_pub": scene.a.coin_pub}]);
    scene.shop.record_order(&terms).await;
    let told = good
        .to_string()
        .replace(&scene.shop.sandbox.base_url(), "https://abroad.example/");
    scene
        .refuse(vec![case(
            "not configured",
            "POST private/ledger/orders/abroad/deposits",
            Some(&bearer),
            told.as_bytes(),
            (400, 2025),
        )])
        .await;
    scene.shop.audit().await;
}

#[tokio::test]
async fn refunds_made_elsewhere() {
    let mut scene = Scene::new().await;
    let request = "POST private/ledger/orders/paid/deposits";
    let a = scene.a.coin_pub;
    let good = json!({"deposits": [], "paid": true, "refunds": [
        {"coin_pub": a, "rtransaction_id": 1, "amount": "KUDOS:1", "execution_time": {"t_s": 1_795_000_000}}
    ]});
    let mut changes = no_keys("/refunds/0/coin_pub", &a.to_string());
    changes.extend(no_amounts("/refunds/0/amount"));
    changes.extend([
        ("absent", "/refunds/0/rtransaction_id", None, NO_JSON),
        ("negative", "/refunds/0/rtransaction_id", Some(json!(-1)), NO_JSON),
        ("a text", "/refunds/0/rtransaction_id", Some(json!("1")), NO_JSON),
        (
            "no integer",
            "/refunds/0/rtransaction_id",
            Some(json!(1.5)),
            NO_JSON,
        ),
        // Beyond the integers that JSON is sure of: no number of ours, so a matter of form.
        (
            "beyond 2^53-1",
            "/refunds/0/rtransaction_id",
            Some(json!(9_007_199_254_740_992u64)),
            NO_JSON,
        ),
        ("absent", "/refunds/0/execution_time", None, NO_JSON),
        (
            "a bare number",
            "/refunds/0/execution_time",
            Some(json!(1)),
            NO_JSON,
        ),
        ("currency", "/refunds/0/amount", Some(json!("EUR:1")), (409, 2024)),
        (
            "never",
            "/refunds/0/execution_time",
            Some(json!({"t_s": "never"})),
            (400, 26),
        ),
        (
            "an abort's id",
            "/refunds/0/rtransaction_id",
            Some(json!(0)),
            (409, 56),
        ),
        ("nothing", "/refunds/0/amount", Some(json!("KUDOS:0")), (409, 56)),
        (
            "more than the deposit",
            "/refunds/0/amount",
            Some(json!("KUDOS:10.00000001")),
            (409, 56),
        ),
        (
            "unknown coin",
            "/refunds/0/coin_pub",
            Some(json!(scene.b.coin_pub)),
            (409, 56),
        ),
    ]);
    scene.refuse(scene.changed(request, &good, &changes)).await;
    let mut unpaid = good.clone();
    unpaid["refunds"][0]["coin_pub"] = json!(scene.b.coin_pub);
    unpaid["paid"] = json!(false);
    let bearer = scene.bearer();
    scene
        .refuse(vec![case(
            "unpaid",
            "POST private/ledger/orders/open/deposits",
            Some(&bearer),
            unpaid.to_string().as_bytes(),
            (409, 56),
        )])
        .await;
    scene.shop.audit().await;
}

/// An object's members as a list, in the order in which the service happens to read them, is no object.
#[tokio::test]
async fn lists_are_no_objects() {
    let mut scene = Scene::new().await;
    let bearer = scene.bearer();
    let url = scene.shop.sandbox.base_url();
    let (a, b) = (scene.a.coin_pub, scene.b.coin_pub);
    let terms = scene.shop.terms("new", "KUDOS:10", 86_400, 172_800);
    let with = |member: &str, value: Value| {
        let mut terms = terms.clone();
        terms[member] = value;
        json!({"contract_terms": terms})
    };
    let coin = json!({"coin_pub": b, "contribution": "KUDOS:5", "exchange_url": url});
    let told = scene.shop.told(&[scene.a.clone()])[0].clone();
    let listed = json!([
        a, url, "KUDOS:1", "KUDOS:0", "KUDOS:0", null, null, null, null, null
    ]);
    let refund =
        json!({"coin_pub": a, "rtransaction_id": 1, "amount": "KUDOS:1", "execution_time": {"t_s": 5}});
    let deposits = "POST private/ledger/orders/open/deposits";
    let refunds = "POST private/ledger/orders/paid/deposits";
    let orders = "POST private/ledger/orders";
    let cases = [
        ("POST orders/open/abort", json!([scene.open, [coin]]), NO_JSON),
        (
            "POST orders/open/abort",
            json!({"h_contract": scene.open, "coins": [[b, null, url]]}),
            NO_JSON,
        ),
        ("POST orders/paid/refund", json!([scene.paid]), NO_JSON),
        (
            "POST private/orders/paid/refund",
            json!(["KUDOS:1", "returned"]),
            NO_JSON,
        ),
        (orders, json!([terms, null]), NO_JSON),
        (
            orders,
            with("exchanges", json!([[url, scene.shop.sandbox.master_pub()]])),
            (400, 2502),
        ),
        (orders, with("timestamp", json!([5])), (400, 2502)),
        (deposits, json!([[told], false, []]), NO_JSON),
        (deposits, json!({"deposits": [listed], "paid": false}), NO_JSON),
        (
            refunds,
            json!({"deposits": [], "paid": true, "refunds": [[a, 1, "KUDOS:1", {"t_s": 5}]]}),
            NO_JSON,
        ),
        (refunds, json!([[], true, [refund]]), NO_JSON),
    ];
    let cases = cases.map(|(request, body, expect)| {
        let auth = request.contains(" private/").then_some(bearer.as_str());
        case("a list", request, auth, body.to_string().as_bytes(), expect)
    });
    scene.refuse(cases.into()).await;
    scene.shop.audit().await;
}
