//! Instances opened, changed, closed and given other tokens while the service runs.

use std::os::unix::fs::PermissionsExt;

use quittance_events::facts::TokenScope;
use quittance_events::{Append, Event, Facts, InstanceId, NewEvent, Seq, Stream};
use quittance_taler::Timestamp;
use serde_json::{Value, json};

use super::support::{Options, Reply, Shop};

const TOKEN: &str = "secret-token:of-the-branch-in-the-harbour-1";
const OTHER: &str = "secret-token:of-the-branch-in-the-harbour-2";
const ADMIN: &str = "secret-token:who-runs-the-service-has-this";

fn branch() -> Value {
    json!({
        "id": "branch", "name": "Branch", "auth": {"method": "token", "token": TOKEN},
        "address": {"town": "Hamburg", "country": "DE"}, "jurisdiction": {"country": "DE"},
        "use_stefan": false, "default_pay_delay": {"d_us": 3_600_000_000_u64},
        "default_wire_transfer_delay": {"d_us": 7_200_000_000_u64}, "website": "https://branch.example/",
    })
}

async fn send(shop: &Shop, token: &str, method: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    shop.send(method, path, Some(token), body).await
}

async fn get(shop: &Shop, token: &str, path: &str) -> Reply {
    send(shop, token, "GET", path, &Value::Null).await
}

const INSTANCES: &str = "management/instances";

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one life, whose parts rest on each other")]
async fn an_instance_lives_while_the_service_runs() {
    let mut shop = Shop::open().await;
    let root = shop.token.clone();
    let open = async |body: &Value| send(&shop, &root, "POST", INSTANCES, body).await;
    assert_eq!(
        get(&shop, TOKEN, "instances/branch/private").await.error(),
        (401, 41)
    );
    assert_eq!(shop.get("instances/branch/config").await.error(), (404, 2000));
    assert_eq!(open(&branch()).await.status, 204);
    assert_eq!(open(&branch()).await.status, 204, "the same again");
    for (member, value) in [
        ("name", json!("Another")),
        ("use_stefan", json!(true)),
        ("auth", json!({"method": "token", "token": OTHER})),
        ("auth", json!({"method": "external"})),
    ] {
        let mut other = branch();
        other[member] = value;
        assert_eq!(open(&other).await.error(), (409, 2600), "{member}");
    }
    shop.get("instances/branch/config").await.expect(200);
    let told = get(&shop, TOKEN, "instances/branch/private").await.expect(200);
    assert_eq!(
        told,
        get(&shop, &root, "management/instances/branch").await.expect(200)
    );
    let mut expected = branch();
    for gone in ["id", "auth"] {
        expected.as_object_mut().unwrap().remove(gone);
    }
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(told[member], *value, "{member}");
    }
    assert_eq!(told["auth"], json!({"method": "token"}));
    let list = get(&shop, &root, INSTANCES).await.expect(200);
    let ids: Vec<_> = list["instances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["id"])
        .collect();
    assert_eq!(ids, [&json!("branch"), &json!("default")]);
    let key = shop.config.keys.join("instance-branch.key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // It has accounts of its own.
    let account = json!({"payto_uri": "payto://x-taler-bank/bank.example/branch?receiver-name=Branch"});
    let made = send(
        &shop,
        TOKEN,
        "POST",
        "instances/branch/private/accounts",
        &account,
    )
    .await;
    made.expect(200);
    let accounts = get(&shop, &root, "private/accounts").await.expect(200);
    assert_eq!(accounts["accounts"], json!([]));

    // Changed by itself, then by the manager; what is not said stays, but for how to reach it.
    let change = json!({"name": "Harbour", "default_refund_delay": {"d_us": "forever"}});
    assert_eq!(
        send(&shop, TOKEN, "PATCH", "instances/branch/private", &change)
            .await
            .status,
        204
    );
    let path = "management/instances/branch";
    let told = get(&shop, &root, path).await.expect(200);
    assert_eq!(told["name"], "Harbour");
    assert_eq!(told["default_refund_delay"], json!({"d_us": "forever"}));
    assert_eq!(told["default_pay_delay"], branch()["default_pay_delay"]);
    assert_eq!(told["address"], branch()["address"]);
    assert_eq!(told.get("website"), None);
    let change = json!({"name": "Quay", "address": {"address_lines": ["Kai 1"]}});
    assert_eq!(send(&shop, &root, "PATCH", path, &change).await.status, 204);

    // All of it is there after a restart, and what orders will show of it.
    shop.stop().await;
    shop.start().await;
    let told = get(&shop, TOKEN, "instances/branch/private").await.expect(200);
    assert_eq!(told["name"], "Quay");
    let instance = shop
        .app()
        .service
        .instances
        .get(&"branch".parse().unwrap())
        .unwrap();
    assert_eq!(
        instance.shown(),
        json!({"name": "Quay", "address": {"address_lines": ["Kai 1"]}, "jurisdiction": {"country": "DE"}})
    );
    assert_eq!(
        instance.base_url.as_str(),
        "https://shop.example/instances/branch/"
    );

    // Closed: nobody gets in, not even after a restart; opened again it has its old key.
    let closed = send(
        &shop,
        TOKEN,
        "DELETE",
        "instances/branch/private?purge=YES",
        &Value::Null,
    )
    .await;
    assert_eq!(closed.status, 204);
    for restarted in [false, true] {
        if restarted {
            shop.stop().await;
            shop.start().await;
        }
        assert_eq!(
            get(&shop, TOKEN, "instances/branch/private").await.error(),
            (401, 41)
        );
        assert_eq!(shop.get("instances/branch/config").await.error(), (404, 2000));
        assert_eq!(get(&shop, &root, path).await.error(), (404, 2000));
        assert_eq!(
            send(&shop, &root, "DELETE", path, &Value::Null).await.error(),
            (404, 2000)
        );
    }
    assert_eq!(send(&shop, &root, "POST", INSTANCES, &branch()).await.status, 204);
    let again = get(&shop, TOKEN, "instances/branch/private").await.expect(200);
    assert_eq!(again["merchant_pub"], told["merchant_pub"]);
    shop.audit().await;
    let told: Vec<_> = shop
        .events()
        .into_iter()
        .filter(|event| event.instance == Some("branch".parse().unwrap()))
        .filter_map(|event| match &event.facts {
            Facts::InstanceAdded(f) => Some((event.facts.kind(), f.by.is_some())),
            Facts::InstanceClosed(f) => Some((event.facts.kind(), f.by.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        [
            ("instance_added", true),
            ("instance_closed", true),
            ("instance_added", true)
        ]
    );
}

#[tokio::test]
async fn an_instance_that_was_recorded_and_could_not_be_opened_is_opened_by_the_same_again() {
    let mut shop = Shop::open().await;
    let root = shop.token.clone();
    let path = "management/instances/branch";
    let open = async |shop: &Shop, body: &Value| send(shop, &root, "POST", INSTANCES, body).await;
    assert_eq!(open(&shop, &branch()).await.status, 204);
    assert_eq!(send(&shop, &root, "DELETE", path, &Value::Null).await.status, 204);
    // As a try leaves it whose file cannot be read once its event is in the ledger.
    let ledger = &shop.app().service.ledger;
    let (events, _) = ledger
        .events_of_kinds(Seq::NONE, 1000, &["instance_added"])
        .unwrap();
    let added = events.last().unwrap();
    let append = Append {
        stream: Stream::Ledger(added.instance.clone()),
        at: (shop.clock.clock())(),
        events: vec![NewEvent::bare(added.facts.clone())],
    };
    ledger.append(append).await.unwrap();
    assert_eq!(get(&shop, &root, path).await.error(), (404, 2000));

    // What it is to be called may have changed since.
    let mut body = branch();
    body["name"] = json!("Quay");
    assert_eq!(open(&shop, &body).await.status, 204);
    assert_eq!(open(&shop, &body).await.status, 204, "the same again");
    assert_eq!(open(&shop, &branch()).await.error(), (409, 2600));
    for restarted in [false, true] {
        if restarted {
            shop.stop().await;
            shop.start().await;
        }
        let told = get(&shop, TOKEN, "instances/branch/private").await.expect(200);
        assert_eq!(told["name"], "Quay");
    }
    // A key that another has is refused all the same.
    let key = |id: &str| shop.config.keys.join(format!("instance-{id}.key"));
    std::fs::copy(key("branch"), key("third")).unwrap();
    body["id"] = json!("third");
    assert_eq!(open(&shop, &body).await.error(), (409, 2600));
    shop.audit().await;
    let added = |event: &Event| {
        event.instance == Some("branch".parse().unwrap()) && event.facts.kind() == "instance_added"
    };
    let count = shop.events().into_iter().filter(added).count();
    assert_eq!(count, 2, "the one that was recorded stands");
}

#[tokio::test]
async fn another_token_ends_the_one_that_was_set_and_no_other() {
    let mut shop = Shop::open().await;
    let root = shop.token.clone();
    let made = super::token(&shop, TokenScope::All, Timestamp::NEVER);
    let set = async |token: &str, auth: Value| send(&shop, token, "POST", "private/auth", &auth).await;
    for (auth, error) in [
        (json!({"method": "token"}), (400, 2602)),
        (
            json!({"method": "token", "token": "secret-token:short"}),
            (400, 2602),
        ),
        (
            json!({"method": "token", "token": "of-the-branch-in-the-harbour-1"}),
            (400, 2602),
        ),
        (json!({"method": "password", "token": TOKEN}), (400, 2602)),
        (json!({"method": "external", "token": TOKEN}), (400, 2602)),
        (json!({"token": TOKEN}), (400, 22)),
    ] {
        assert_eq!(set(&root, auth.clone()).await.error(), error, "{auth}");
    }
    assert_eq!(
        set(&root, json!({"method": "token", "token": TOKEN}))
            .await
            .status,
        204
    );
    assert_eq!(get(&shop, &root, "private").await.error(), (401, 41));
    get(&shop, TOKEN, "private").await.expect(200);
    get(&shop, &made, "private").await.expect(200);
    // Set by its manager under either of its paths.
    let auth = json!({"method": "token", "token": OTHER});
    let path = "management/instances/default/auth";
    assert_eq!(send(&shop, TOKEN, "POST", path, &auth).await.status, 204);
    assert_eq!(
        send(&shop, OTHER, "POST", path, &auth).await.status,
        204,
        "the same again"
    );
    assert_eq!(get(&shop, TOKEN, "private").await.error(), (401, 41));
    get(&shop, OTHER, "private").await.expect(200);
    assert_eq!(set(OTHER, json!({"method": "external"})).await.status, 204);
    assert_eq!(get(&shop, OTHER, "private").await.error(), (401, 41));
    get(&shop, &made, "private").await.expect(200);
    // Nothing of it is undone by a restart.
    shop.stop().await;
    shop.start().await;
    for gone in [root.as_str(), TOKEN, OTHER] {
        assert_eq!(get(&shop, gone, "private").await.error(), (401, 41));
    }
    shop.audit().await;
}

#[tokio::test]
async fn who_may_not_and_what_is_no_instance() {
    let shop = Shop::open().await;
    let root = shop.token.clone();
    assert_eq!(send(&shop, &root, "POST", INSTANCES, &branch()).await.status, 204);
    let reader = super::token(&shop, TokenScope::Read, Timestamp::NEVER);
    for (token, error) in [(&reader[..], (403, 16)), (TOKEN, (401, 41))] {
        assert_eq!(get(&shop, token, INSTANCES).await.error(), error);
        let path = "management/instances/branch";
        for (method, path, body) in [
            ("POST", INSTANCES, branch()),
            ("GET", path, Value::Null),
            ("PATCH", path, json!({"name": "x"})),
            ("DELETE", path, Value::Null),
            (
                "POST",
                "management/instances/branch/auth",
                json!({"method": "external"}),
            ),
        ] {
            assert_eq!(
                send(&shop, token, method, path, &body).await.error(),
                error,
                "{method} {path}"
            );
        }
    }
    get(&shop, &reader, "private").await.expect(200);
    for (method, path, body) in [
        ("PATCH", "private", json!({"name": "x"})),
        ("DELETE", "private", Value::Null),
        ("POST", "private/auth", json!({"method": "external"})),
    ] {
        assert_eq!(
            send(&shop, &reader, method, path, &body).await.error(),
            (403, 16),
            "{method} {path}"
        );
        assert_eq!(shop.send(method, path, None, Vec::new()).await.error(), (401, 40));
    }
    for (member, value, error) in [
        ("id", json!("a/b"), (400, 26)),
        ("id", json!(""), (400, 26)),
        ("id", json!(7), (400, 22)),
        ("name", json!(""), (400, 26)),
        ("website", json!("x".repeat(16 * 1024)), (400, 26)),
        ("address", json!([]), (400, 22)),
        ("address", json!({"town": 7}), (400, 22)),
        ("auth", json!([]), (400, 22)),
        (
            "auth",
            json!({"method": "token", "token": "secret-token:x"}),
            (400, 2601),
        ),
        ("auth", json!({"method": "token"}), (400, 2601)),
        ("default_pay_delay", json!({"d_us": -1}), (400, 22)),
        ("default_pay_delay", json!({"d_us": "never"}), (400, 22)),
    ] {
        let mut body = branch();
        body["id"] = json!("third");
        body[member] = value.clone();
        assert_eq!(
            send(&shop, &root, "POST", INSTANCES, &body).await.error(),
            error,
            "{member} {value}"
        );
    }
    // Other names of the root instance, which is open with other settings.
    for name in ["default", "admin"] {
        let mut body = branch();
        body["id"] = json!(name);
        assert_eq!(
            send(&shop, &root, "POST", INSTANCES, &body).await.error(),
            (409, 2600)
        );
        get(&shop, &root, &format!("management/instances/{name}"))
            .await
            .expect(200);
    }
    for path in ["management/instances/none", "management/instances/.."] {
        assert_eq!(get(&shop, &root, path).await.error(), (404, 2000), "{path}");
    }
    assert_eq!(
        get(&shop, &root, "instances/branch/management/instances")
            .await
            .error(),
        (404, 21)
    );
}

#[tokio::test]
async fn the_services_own_token_opens_the_first_instance() {
    let mut shop = Shop::open_with(Options::default()).await;
    let file = shop.folder.path().join("admin.token");
    std::fs::write(&file, ADMIN).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    shop.stop().await;
    shop.config.admin_token_file = Some(file);
    shop.start().await;
    let path = "management/instances/default";
    assert_eq!(send(&shop, ADMIN, "DELETE", path, &Value::Null).await.status, 204);
    assert_eq!(get(&shop, &shop.token, INSTANCES).await.error(), (401, 41));
    assert_eq!(
        get(&shop, ADMIN, INSTANCES).await.expect(200),
        json!({"instances": []})
    );
    let mut body = branch();
    (body["id"], body["auth"]) = (json!("admin"), json!({"method": "external"}));
    assert_eq!(send(&shop, ADMIN, "POST", INSTANCES, &body).await.status, 204);
    let told = get(&shop, ADMIN, "private").await.expect(200);
    assert_eq!(
        (&told["name"], &told["auth"]["method"]),
        (&json!("Branch"), &json!("external"))
    );
    let ids = shop.app().service.instances.all();
    assert_eq!(ids.keys().collect::<Vec<_>>(), [&InstanceId::root()]);
    shop.audit().await;
}
