//! The documents know every metric and every log line, and none that does not exist: read from the sources and from the
//! output of a run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use quittance_sandbox::witness::Witness;

use crate::scraped::{Scraped, watched};
use crate::support::{NOON_S, Options, Shop, TestClock, coin};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// Names of metrics in a text.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("quittance_"));
    ours.map(str::to_owned).collect()
}

/// Names that a reading has, as a rule or a table may call them.
async fn existing(shop: &Shop) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut families = BTreeSet::new();
    let mut samples = BTreeSet::new();
    for (family, kind) in Scraped::of(shop).await.types() {
        let (told, suffixes): (String, &[&str]) = match kind.as_str() {
            "counter" => (format!("{family}_total"), &["_total"]),
            "info" => (format!("{family}_info"), &["_info"]),
            "histogram" => (family.clone(), &["_bucket", "_sum", "_count"]),
            _ => (family.clone(), &[""]),
        };
        samples.extend(suffixes.iter().map(|suffix| format!("{family}{suffix}")));
        families.insert(told);
    }
    (families, samples)
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_metric_exists() {
    // A metric shows once there is something to tell: a request, a call to an exchange.
    let witness = Witness::start(1, TestClock::at_s(NOON_S).clock()).await.unwrap();
    let (url, vkey) = (witness.url(), witness.vkey());
    let options = watched();
    let mut shop = Shop::open_with(Options {
        more_config: format!(
            "[quittance-witness-1]\nURL = {url}\nVKEY = {vkey}\n{}",
            options.more_config
        ),
        ..options
    })
    .await;
    let a = coin(1, "KUDOS:10", "KUDOS:0.2");
    let hash = shop.sell("order", "KUDOS:10", &[a], true).await;
    shop.approve("order", "KUDOS:4").await.expect(200);
    shop.fetch("order", hash).await.expect(200);
    shop.until("a request to the witness", async || {
        Scraped::of(&shop).await.has("witness_requests_total", &[])
    })
    .await;
    let (families, samples) = existing(&shop).await;
    let operating = document("operating.md");
    let rows = operating.lines().filter(|line| line.starts_with("| `quittance_"));
    let table: BTreeSet<String> = rows
        .map(|row| row.split('`').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(table, families);
    let known: BTreeSet<String> = families.union(&samples).cloned().collect();
    for name in ["operating.md", "logging.md", "performance.md", "architecture.md"] {
        let strange: Vec<String> = named(&document(name)).difference(&known).cloned().collect();
        assert!(strange.is_empty(), "{name}: {strange:?}");
    }
    let rules = document("alerts.yml");
    let strange: Vec<String> = named(&rules).difference(&samples).cloned().collect();
    assert!(strange.is_empty(), "alerts.yml: {strange:?}");
    shop.stop().await;
}

#[test]
fn every_alert_is_explained_and_every_explained_alert_exists() {
    let rules = document("alerts.yml");
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let operating = document("operating.md");
    let rows = operating.lines().filter(|line| line.starts_with("| `Quittance"));
    let explained: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    assert_eq!(explained, alerts);
    for (alert, rule) in alerts.iter().zip(rules.split("- alert: ").skip(1)) {
        assert!(rule.contains("expr: "), "{alert}");
        let severity = if rule.contains("severity: page") {
            "page"
        } else {
            "ticket"
        };
        let row = format!("| `{alert}` | {severity} |");
        assert!(operating.contains(&row) && rule.contains(severity), "{row}");
    }
}

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The message of a line, from what stands behind a macro's opening parenthesis: its last text. What is filled in is `…`.
fn message(call: &str) -> String {
    let mut last = String::new();
    let mut depth = 1;
    let mut text: Option<String> = None;
    for character in call.chars() {
        match (&mut text, character) {
            (Some(text_so_far), '"') => {
                last = std::mem::take(text_so_far);
                text = None;
            }
            (Some(text_so_far), character) => text_so_far.push(character),
            (None, '"') => text = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            break;
        }
    }
    last.replace("{}", "…")
}

#[test]
fn every_line_is_documented_at_its_level_and_every_documented_line_exists() {
    let mut files = Vec::new();
    for folder in ["src", "events/src", "tlog/src", "taler/src"] {
        sources(&root().join(folder), &mut files);
    }
    let mut written = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for level in LEVELS {
            for call in text.split(&format!("tracing::{level}!(")).skip(1) {
                let message = message(call);
                assert!(
                    !message.is_empty(),
                    "{}: a line without a message",
                    file.display()
                );
                written.insert((level, message));
            }
        }
    }
    assert!(written.len() > 20, "{written:?}");
    let logging = document("logging.md");
    let mut documented = BTreeSet::new();
    for section in logging.split("\n### ").skip(1) {
        let (level, rows) = section.split_once('\n').unwrap();
        let level = LEVELS.into_iter().find(|known| *known == level).unwrap();
        for row in rows.lines().filter(|line| line.starts_with("| `")) {
            let line = row.trim_start_matches("| `").split("` |").next().unwrap();
            documented.insert((level, line.to_owned()));
        }
    }
    let missing: Vec<_> = written.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&written).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "not in docs/logging.md: {missing:?}\nnot in the sources: {invented:?}"
    );
}
