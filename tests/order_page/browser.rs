//! The page as Debian's chromium shows it. `.ci/run` runs these tests; they need `apt-get install chromium` and no network.
//! With `QUITTANCE_PICTURES=FOLDER` they leave pictures of every state there, as a phone and as a desk shows it.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use tokio::net::TcpListener;

use crate::support::Shop;

/// Widths and heights of a small phone and of a desk.
const SCREENS: [(&str, &str); 2] = [("phone", "360,760"), ("desk", "1280,900")];

async fn browse(url: &str, language: &str, screen: &str, option: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new("chromium");
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--hide-scrollbars",
        ])
        .arg(format!("--accept-lang={language}"))
        .arg(format!("--window-size={screen}"))
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(option)
        .arg(url);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap();
    let output = output.expect("chromium is installed: apt-get install chromium");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    assert!(!errors.contains("Content Security Policy"), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The page as the browser has it in each language.
async fn look(shop: &Shop, path: &str, state: &str, headings: [&str; 3]) {
    let url = format!("http://{}/{path}", shop.app().addr());
    for (language, heading) in ["en", "de", "fr"].into_iter().zip(headings) {
        let dom = browse(&url, language, SCREENS[0].1, "--dump-dom").await;
        assert!(dom.contains(&format!("<h1>{heading}</h1>")), "{dom}");
        assert!(dom.contains(&format!("data-state=\"{state}\"")), "{dom}");
    }
    if let Some(folder) = std::env::var_os("QUITTANCE_PICTURES") {
        for (name, screen) in SCREENS {
            let picture = PathBuf::from(&folder).join(format!("{state}-{name}.png"));
            let option = format!("--screenshot={}", picture.display());
            browse(&url, "de", screen, &option).await;
        }
    }
}

#[tokio::test]
#[ignore = "needs chromium; .ci/run runs it"]
async fn the_browser_shows_every_state_in_every_language() {
    let mut shop = Shop::open_selling().await;
    let order = json!({"order_id": "mine", "amount": "KUDOS:7.5", "summary": "Wandern: ein Paar Stiefel, Größe 43",
                       "fulfillment_message": "thanks"});
    let made = shop.order(&order, &json!({})).await.expect(200);
    let token = made["token"].as_str().unwrap();
    let path = format!("orders/mine?token={token}");
    look(
        &shop,
        &path,
        "payable",
        ["Please pay", "Bitte bezahlen", "À payer"],
    )
    .await;
    shop.claim("mine", 1, Some(token)).await.expect(200);
    let headings = [
        "A wallet has taken this order",
        "Ein Wallet hat diese Bestellung übernommen",
        "Un portefeuille a pris cette commande",
    ];
    look(&shop, &path, "claimed", headings).await;

    let (token, terms, hash) = shop.sold("paid", "KUDOS:10").await;
    shop.pay_terms(&terms, "").await.expect(200);
    let paid = format!("orders/paid?token={token}");
    look(&shop, &paid, "paid", ["Paid", "Bezahlt", "Payé"]).await;
    shop.approve("paid", "KUDOS:4").await.expect(200);
    let headings = [
        "A refund is waiting for you",
        "Eine Erstattung wartet auf Sie",
        "Un remboursement vous attend",
    ];
    look(&shop, &paid, "refund_waiting", headings).await;
    shop.fetch("paid", hash).await.expect(200);
    shop.until("the delivery is recorded", async || {
        shop.status("paid", hash).await.expect(200)["refund_pending"] == false
    })
    .await;
    look(&shop, &paid, "refunded", ["Refunded", "Erstattet", "Remboursé"]).await;

    shop.clock.advance_s(40 * 86_400);
    let headings = [
        "This order can no longer be paid",
        "Diese Bestellung kann nicht mehr bezahlt werden",
        "Cette commande ne peut plus être payée",
    ];
    look(&shop, &path, "expired", headings).await;
    let headings = [
        "There is no such order",
        "Diese Bestellung gibt es nicht",
        "Cette commande n’existe pas",
    ];
    look(&shop, "orders/none", "unknown", headings).await;
    shop.stop().await;
}

#[tokio::test]
#[ignore = "needs chromium; .ci/run runs it"]
async fn no_request_leaves_the_page() {
    let mut shop = Shop::open_selling().await;
    let ear = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", ear.local_addr().unwrap());
    let bait = format!(
        "</style></title><img src=\"{url}i\"><script src=\"{url}s\"></script><script>fetch('{url}f')</script>\
         <link rel=\"stylesheet\" href=\"{url}l\"><style>@import '{url}m'; body {{ background: url({url}b) }}</style>\
         <iframe src=\"{url}r\"></iframe><meta http-equiv=\"refresh\" content=\"0; {url}\">"
    );
    let order = json!({"order_id": "bait", "amount": "KUDOS:1", "summary": bait, "fulfillment_message": bait,
                       "fulfillment_url": url});
    let made = shop.order(&order, &json!({})).await.expect(200);
    let path = format!("orders/bait?token={}", made["token"].as_str().unwrap());
    let page = format!("http://{}/{path}", shop.app().addr());
    let dom = browse(&page, "en", SCREENS[1].1, "--dump-dom").await;
    assert!(dom.contains("Please pay"));
    let nobody = tokio::time::timeout(std::time::Duration::from_millis(300), ear.accept()).await;
    nobody.expect_err("a text of the shop became a request");
    shop.stop().await;
}
