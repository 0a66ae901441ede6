//! The page as Debian's chromium reads it: its figures are those of `report.json`, nothing leaves it, and it prints.
//! `.ci/run` runs these tests; they need `apt-get install chromium` and no network.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use quittance_replay::dispute::report::{AttachmentState, DisputeReport, Outcome, PermissionSource};
use quittance_replay::dispute::{ExportOptions, export, page};
use quittance_taler::Amount;
use support::*;

/// Runs the browser on a page, and gives what it printed.
fn browse(page: &Path, option: &str) -> Vec<u8> {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
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
            "--no-pdf-header-footer",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(option)
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("chromium is installed: apt-get install chromium");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn dom_of(html: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.html");
    std::fs::write(&file, html).unwrap();
    String::from_utf8(browse(&file, "--dump-dom")).unwrap()
}

/// How many sheets the page takes, and whether all are A4.
fn sheets(html: &str) -> (usize, bool) {
    let dir = tempfile::tempdir().unwrap();
    let (file, pdf) = (dir.path().join("report.html"), dir.path().join("report.pdf"));
    std::fs::write(&file, html).unwrap();
    browse(&file, &format!("--print-to-pdf={}", pdf.display()));
    let bytes = std::fs::read(&pdf).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let pages = text.matches("/Type /Page\n").count();
    (pages, text.matches("/MediaBox [0 0 594.95").count() == pages)
}

/// A dispute file's page and report.
fn dispute_file(order: &str) -> (String, DisputeReport) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("dispute.zip");
    let mut options = ExportOptions {
        instance: "default".into(),
        order: order.into(),
        out: out.clone(),
        ..ExportOptions::default()
    };
    options.verify.ledger = sound().join("ledger.sqlite3");
    options.verify.anchor = Some(sound().join("ledger.anchor"));
    options.verify.ledger_key = Some(ledger_key());
    export(&options).unwrap();
    let mut zip = zip::ZipArchive::new(std::fs::File::open(&out).unwrap()).unwrap();
    let mut read = |name: &str| {
        let mut text = String::new();
        zip.by_name(name).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    let report = serde_json::from_str(&read("report.json")).unwrap();
    (read("report.html"), report)
}

/// Pairs of an attribute's value and the text of its element, in their order.
fn told<'a>(dom: &'a str, attribute: &str) -> Vec<(&'a str, &'a str)> {
    dom.split(&format!(" {attribute}=\""))
        .skip(1)
        .map(|rest| {
            let (value, rest) = rest.split_once('"').unwrap();
            let text = rest.split_once('>').unwrap().1;
            (value, text.split('<').next().unwrap().trim())
        })
        .collect()
}

fn values<'a>(dom: &'a str, attribute: &str) -> Vec<&'a str> {
    told(dom, attribute).into_iter().map(|(value, _)| value).collect()
}

fn units(text: &str) -> u128 {
    text.parse::<Amount>().unwrap().units()
}

fn assert_same_figures(dom: &str, report: &DisputeReport) {
    let s = &report.sums;
    let sums = [
        ("paid", &s.paid),
        ("approved", &s.approved),
        ("confirmed", &s.confirmed),
        ("refused", &s.refused),
        ("open", &s.open),
        ("not_asked", &s.not_asked),
        ("given_back", &s.given_back),
        ("given_back_confirmed", &s.given_back_confirmed),
        ("given_back_refused", &s.given_back_refused),
        ("given_back_open", &s.given_back_open),
    ];
    assert_eq!(
        told(dom, "data-sum"),
        sums.map(|(name, amount)| (name, amount.as_str()))
    );

    let mut events: Vec<_> = report.timeline.iter().chain(&report.context).collect();
    events.sort_by_key(|event| event.seq);
    let digests: Vec<(String, &str)> = events
        .iter()
        .map(|e| (e.seq.to_string(), e.digest.as_str()))
        .collect();
    let digests: Vec<(&str, &str)> = digests
        .iter()
        .map(|(seq, digest)| (seq.as_str(), *digest))
        .collect();
    assert_eq!(told(dom, "data-digest"), digests);
    assert_eq!(
        values(dom, "data-kind"),
        events.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>()
    );

    assert_eq!(
        values(dom, "data-coin"),
        report
            .coins
            .iter()
            .map(|c| c.coin_pub.as_str())
            .collect::<Vec<_>>()
    );
    let permissions: Vec<_> = report.coins.iter().flat_map(|coin| &coin.permissions).collect();
    let outcomes: Vec<&str> = permissions
        .iter()
        .map(|p| match p.outcome {
            Outcome::Confirmed => "confirmed",
            Outcome::Refused => "refused",
            Outcome::Open => "open",
            Outcome::NotAsked => "never asked for",
        })
        .collect();
    assert_eq!(values(dom, "data-result"), outcomes);
    let answers: Vec<String> = report.answers.iter().map(|a| a.seq.to_string()).collect();
    assert_eq!(values(dom, "data-answer"), answers);
    let keys: Vec<&str> = report.exchange_keys.iter().map(|k| k.key.as_str()).collect();
    assert_eq!(values(dom, "data-key"), keys);
    assert_eq!(values(dom, "data-verdict"), ["holds"]);
    assert!(dom.contains(&format!("<code id=\"root\">{}</code>", report.checkpoint.root)));
    assert!(dom.contains(&format!(
        "<code id=\"event-key\">{}</code>",
        report.ledger.event_key
    )));

    // The drawing agrees with the table: what is confirmed is drawn whole, and nothing is drawn that was not deposited.
    let drawn = told(dom, "data-outcome");
    let of = |class: &str| {
        drawn
            .iter()
            .find(|(name, _)| *name == class)
            .map_or(0, |(_, amount)| units(amount))
    };
    assert_eq!(of("refunded"), units(&s.confirmed));
    assert_eq!(of("given-back"), units(&s.given_back_confirmed));
    assert_eq!(
        of("open"),
        units(&s.open) + units(&s.not_asked) + units(&s.given_back_open)
    );
    let deposited: u128 = report
        .coins
        .iter()
        .filter_map(|coin| coin.deposit.as_ref())
        .map(|deposit| units(&deposit.amount_with_fee))
        .sum();
    assert_eq!(
        drawn.iter().map(|(_, amount)| units(amount)).sum::<u128>(),
        deposited
    );
}

const ORDERS: [&str; 7] = [PAID, ABORTED, TAKEN_OVER, WIDE, WIDE_ABORT, LATE, UNTOUCHED];

#[test]
#[ignore = "needs chromium; .ci/run runs it"]
fn the_browser_reads_the_figures_of_the_report() {
    let mut sources = BTreeSet::new();
    for order in ORDERS {
        let (html, report) = dispute_file(order);
        assert_eq!(html, page(&report), "the file's page is not that of its report");
        assert_same_figures(&dom_of(&html), &report);
        for permission in report.coins.iter().flat_map(|coin| &coin.permissions) {
            sources.insert(match permission.source {
                PermissionSource::Approval => "approval",
                PermissionSource::CarriedIn => "carried in",
                PermissionSource::Abort => "abort",
            });
        }
    }
    assert_eq!(
        sources.len(),
        3,
        "the orders tell every kind of permission: {sources:?}"
    );
}

#[test]
#[ignore = "needs chromium; .ci/run runs it"]
fn it_prints_on_a_sane_number_of_sheets() {
    for order in ORDERS {
        let (html, _) = dispute_file(order);
        let (count, all_a4) = sheets(&html);
        assert!(all_a4, "{order}: a sheet is not A4");
        // Counted in lines of about a hundred characters, seventy on a sheet; tables and headings take their room.
        let lines = html.len() / 100;
        let most = 5 + lines / 35;
        assert!(
            count >= 3 && count <= most,
            "{order}: {count} sheets for {lines} lines"
        );
    }
}

/// An address on loopback that pages could call, and what came in there.
struct Ear {
    url: String,
    address: SocketAddr,
    heard: JoinHandle<(usize, usize)>,
}

impl Ear {
    fn open() -> Ear {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = std::thread::spawn(move || {
            let (mut connections, mut bytes) = (0, 0);
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                let mut buffer = [0; 4096];
                match stream.read(&mut buffer) {
                    Ok(read) if buffer.starts_with(b"that is all") && read > 0 => break,
                    Ok(read) => bytes += read,
                    Err(_) => {}
                }
                connections += 1;
            }
            (connections, bytes)
        });
        let url = format!("http://{address}/");
        Ear { url, address, heard }
    }

    /// Connections and bytes of requests while a browser showed the page.
    fn heard_of(self, html: &str) -> (usize, usize) {
        dom_of(html);
        let mut last = TcpStream::connect(self.address).unwrap();
        last.write_all(b"that is all").unwrap();
        self.heard.join().unwrap()
    }
}

#[test]
#[ignore = "needs chromium; .ci/run runs it"]
fn no_request_leaves_the_page() {
    let bait = |ear: &Ear| {
        let url = &ear.url;
        format!(
            "</style></title><img src=\"{url}i\"><script src=\"{url}s\"></script><script>fetch('{url}f')</script>\
             <link rel=\"stylesheet\" href=\"{url}l\"><style>@import '{url}m'; body {{ background: url({url}b) }}</style>\
             <iframe src=\"{url}r\"></iframe><object data=\"{url}o\"></object><svg><image href=\"{url}v\"/></svg>"
        )
    };
    let (html, mut report) = dispute_file(PAID);

    // Every text that a stranger may write, through the escaper.
    let escaped = Ear::open();
    let baited = bait(&escaped);
    report.order.id.clone_from(&baited);
    report.order.summary = Some(baited.clone());
    report.ledger.origin.clone_from(&baited);
    for exchange in &mut report.order.exchanges {
        exchange.url.clone_from(&baited);
    }
    for coin in &mut report.coins {
        coin.coin_pub = format!("{baited}{}", coin.coin_pub);
        coin.deposit
            .iter_mut()
            .for_each(|deposit| deposit.exchange_url.clone_from(&baited));
    }
    for event in &mut report.timeline {
        event.sentence.push_str(&baited);
        event.facts.push(baited.clone());
        for attachment in &mut event.attachments {
            attachment.state = AttachmentState::Included;
            attachment.text = Some(baited.clone());
        }
    }
    for permission in report.coins.iter_mut().flat_map(|coin| &mut coin.permissions) {
        permission
            .attempts
            .iter_mut()
            .for_each(|attempt| attempt.result.clone_from(&baited));
    }
    assert_eq!(
        escaped.heard_of(&page(&report)),
        (0, 0),
        "a text became a resource"
    );

    // The same, raw: were the escaper to fail, the policy still lets no request out. (Chromium may open a connection
    // for a frame that it then does not load; nothing is sent on it.)
    let raw = Ear::open();
    let raw_html = html.replace("</main>", &format!("{}</main>", bait(&raw)));
    assert_ne!(raw_html, html);
    assert_eq!(raw.heard_of(&raw_html).1, 0, "the policy let a request out");

    // And without the policy, to know that this test would have heard it.
    let open = Ear::open();
    let open_html = html.replace("</main>", &format!("{}</main>", bait(&open)));
    let open_html = open_html.replace("http-equiv=\"Content-Security-Policy\"", "name=\"nothing\"");
    assert!(
        open.heard_of(&open_html).1 > 0,
        "this test hears no request even where there is one"
    );
}
