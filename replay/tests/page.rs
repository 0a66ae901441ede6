//! The page of a dispute file: what it says, that a stranger's texts stay texts, that it is the same every time, and
//! how a browser without network reads it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;

use quittance_replay::dispute::page;
use quittance_replay::dispute::report::*;
use serde_json::Value;

fn digest(n: u64) -> String {
    format!("{n:0>51}G")
}

fn coin_pub(n: u64) -> String {
    format!("{n:0>8}{}", "ZC0DE".repeat(8).get(..40).unwrap()) + "KNPG"
}

fn at(n: u64) -> String {
    format!("2026-11-21T12:{:02}:{:02}.000250Z", n / 60 % 60, n % 60)
}

fn event(seq: u64, kind: &str, sentence: &str, standing: Standing, because: &str) -> EventPart {
    EventPart {
        seq,
        at: at(seq),
        kind: kind.into(),
        sentence: sentence.into(),
        standing,
        because: because.into(),
        digest: digest(seq),
        facts: vec![],
        attachments: vec![],
    }
}

fn permission(id: u64, amount: &str, outcome: Outcome) -> PermissionPart {
    let decided = matches!(outcome, Outcome::Confirmed | Outcome::Refused);
    PermissionPart {
        id,
        source: if id == 0 {
            PermissionSource::Abort
        } else {
            PermissionSource::Approval
        },
        amount: format!("KUDOS:{amount}"),
        approved_seq: 7,
        approved_at: at(7),
        execution_time: (id > 0).then(|| "2026-11-21T12:00:07Z".into()),
        merchant_signed: true,
        asked_at: (outcome != Outcome::NotAsked).then(|| at(8)),
        outcome,
        attempts: match outcome {
            Outcome::NotAsked => vec![],
            _ => vec![AttemptPart {
                seq: 9,
                at: at(9),
                attempt: 1,
                http_status: Some(503),
                result: "put off".into(),
            }],
        },
        decided_at: decided.then(|| at(10)),
        decided_seq: decided.then_some(10),
        confirmed_by: (outcome == Outcome::Confirmed).then(|| digest(5)),
    }
}

fn coin(n: u64, deposited: &str, permissions: Vec<PermissionPart>) -> CoinPart {
    CoinPart {
        coin_pub: coin_pub(n),
        deposit: Some(DepositPart {
            seq: 4,
            exchange_master_pub: digest(4),
            exchange_url: "https://exchange.example/".into(),
            amount_with_fee: format!("KUDOS:{deposited}"),
            deposit_fee: "KUDOS:0.01".into(),
            refund_fee: "KUDOS:0.01".into(),
        }),
        counted: true,
        aborted: permissions.iter().any(|p| p.id == 0),
        permissions,
    }
}

fn order() -> OrderPart {
    OrderPart {
        instance: "default".into(),
        id: "2026.325-01".into(),
        summary: Some("a book".into()),
        h_contract: digest(3).repeat(2),
        amount: "KUDOS:12.5".into(),
        made_at: "2026-11-21T12:00:00Z".into(),
        refund_deadline: "2026-12-11T12:00:00Z".into(),
        wire_deadline: "never".into(),
        merchant_pub: digest(2),
        exchanges: vec![ExchangePart {
            url: "https://exchange.example/".into(),
            master_pub: digest(4),
        }],
    }
}

fn audit() -> Audit {
    Audit {
        sound: true,
        sentence: "The whole ledger was replayed and every rule held.".into(),
        events: 700,
        signatures: 700,
        orders: 12,
        answers: 34,
        anchored: Some(700),
        findings: vec![],
        findings_elsewhere: 0,
    }
}

fn timeline() -> Vec<EventPart> {
    let reason = AttachmentPart {
        name: "reason".into(),
        state: AttachmentState::Included,
        digest: digest(70),
        size: Some(8),
        file: Some("attachments/7-reason".into()),
        text: Some("returned".into()),
    };
    let absent = |state| AttachmentPart {
        name: "reply".into(),
        state,
        digest: digest(71),
        size: None,
        file: None,
        text: None,
    };
    let mut approved = event(
        7,
        "refund_approved",
        "refund approved, total now KUDOS:5",
        Standing::Proven,
        "the merchant's signatures over its permissions verify",
    );
    approved.facts = vec!["by: tk1".into(), "total: KUDOS:5".into()];
    approved.attachments = vec![reason];
    let mut put_off = event(
        9,
        "exchange_replied",
        "the exchange put off KUDOS:3",
        Standing::Erased,
        "its reply is erased",
    );
    put_off.attachments = vec![absent(AttachmentState::Erased)];
    let mut confirmed = event(
        10,
        "exchange_replied",
        "the exchange confirmed KUDOS:3",
        Standing::Proven,
        "the exchange's signature verifies",
    );
    confirmed.attachments = vec![absent(AttachmentState::Redacted)];
    let claimed = "only the shop's word";
    vec![
        event(
            3,
            "order_recorded",
            "order recorded: KUDOS:12.5",
            Standing::Claimed,
            claimed,
        ),
        event(
            4,
            "deposit_recorded",
            "deposit of KUDOS:10",
            Standing::Claimed,
            claimed,
        ),
        approved,
        event(
            8,
            "refund_requested",
            "about to ask the exchange for the first time",
            Standing::Claimed,
            claimed,
        ),
        put_off,
        confirmed,
        event(
            11,
            "refund_answered",
            "refund request answered 200",
            Standing::Claimed,
            claimed,
        ),
    ]
}

fn coins() -> Vec<CoinPart> {
    vec![
        coin(
            1,
            "10",
            vec![
                permission(1, "3", Outcome::Confirmed),
                permission(2, "2", Outcome::Open),
                permission(3, "1", Outcome::Refused),
                permission(4, "1", Outcome::NotAsked),
            ],
        ),
        coin(2, "2.5", vec![permission(0, "2.5", Outcome::Confirmed)]),
        CoinPart {
            coin_pub: coin_pub(3),
            deposit: None,
            counted: false,
            aborted: true,
            permissions: vec![],
        },
    ]
}

fn answers() -> Vec<AnswerPart> {
    vec![AnswerPart {
        seq: 11,
        at: at(11),
        to: "refund".into(),
        http_status: 200,
        refund_amount: Some("KUDOS:7".into()),
        as_of: 10,
        body: digest(111),
        rebuilt: None,
        receipt: format!("shop.example/quittance 11 {} {}", digest(11), digest(111)),
        delivered_at: Some(at(12)),
    }]
}

/// An order with one of everything that the page tells apart.
fn report() -> DisputeReport {
    DisputeReport {
        format: REPORT_FORMAT,
        made_by: "quittance-replay".into(),
        ledger: Ledger {
            origin: "shop.example/quittance".into(),
            event_key: "shop.example/quittance+1234abcd+AQID".into(),
            checkpoint_key: "shop.example/quittance+5678abcd+AQIE".into(),
            key_pinned: true,
        },
        order: order(),
        audit: audit(),
        findings: vec![],
        notes: vec![NotePart {
            seq: Some(9),
            text: "an attachment is erased".into(),
        }],
        sums: Sums {
            paid: "KUDOS:12.5".into(),
            approved: "KUDOS:7".into(),
            confirmed: "KUDOS:3".into(),
            refused: "KUDOS:1".into(),
            open: "KUDOS:2".into(),
            not_asked: "KUDOS:1".into(),
            given_back: "KUDOS:2.5".into(),
            given_back_confirmed: "KUDOS:2.5".into(),
            given_back_refused: "KUDOS:0".into(),
            given_back_open: "KUDOS:0".into(),
        },
        timeline: timeline(),
        context: vec![event(
            1,
            "ledger_opened",
            "the ledger was opened",
            Standing::Claimed,
            "only the shop's word",
        )],
        coins: coins(),
        answers: answers(),
        checkpoint: CheckpointPart {
            size: 700,
            root: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into(),
            cosigners: vec![],
            unproven: 0,
        },
        proofs: [1, 3, 4, 7, 8, 9, 10, 11]
            .into_iter()
            .map(|seq| ProofPart {
                seq,
                file: Some(format!("proofs/{seq}.tlog-proof")),
            })
            .collect(),
        exchange_keys: vec![KeyPart {
            key: digest(5),
            master_pub: digest(4),
            start: "2026-11-20T12:00:00Z".into(),
            expire: "2026-12-21T12:00:00Z".into(),
            end: "2027-12-21T12:00:00Z".into(),
            seen_seq: 2,
        }],
        standing_rule: vec![
            "proven: follows from a signature that was verified".into(),
            "claimed: only the word of the shop".into(),
            "erased: its bytes are gone".into(),
        ],
    }
}

/// The text between the tags, the style left out, references resolved.
fn text_of(html: &str) -> String {
    let body = &html[html.find("</head>").unwrap()..];
    let mut text = String::new();
    for piece in body.split('<').skip(1) {
        text.push_str(piece.split_once('>').unwrap().1);
    }
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

/// The names of the tags in their order, with the style left out.
fn skeleton(html: &str) -> Vec<&str> {
    let after_style = &html[html.find("</style>").unwrap()..];
    let tag = |piece: &'_ str| piece.find([' ', '>', '\n']).unwrap_or(piece.len());
    after_style
        .split('<')
        .skip(1)
        .map(|piece| &piece[..tag(piece)])
        .collect()
}

/// The values of an attribute, in their order.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    html.split(&start)
        .skip(1)
        .map(|rest| rest.split_once('"').unwrap().0)
        .collect()
}

/// Members of the report that are words of the program.
const OWN_WORDS: [&str; 4] = ["standing", "state", "source", "outcome"];

/// Visits every text of the report that may come from a stranger.
fn texts(value: &mut Value, visit: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(entries) => entries.iter_mut().for_each(|entry| texts(entry, visit)),
        Value::Object(members) => members
            .iter_mut()
            .filter(|(name, _)| !OWN_WORDS.contains(&name.as_str()))
            .for_each(|(_, member)| texts(member, visit)),
        _ => {}
    }
}

/// The report with every text changed.
fn changed(report: &DisputeReport, mut change: impl FnMut(&mut String)) -> DisputeReport {
    let mut value = serde_json::to_value(report).unwrap();
    texts(&mut value, &mut change);
    serde_json::from_value(value).unwrap()
}

fn finding(text: &str, consequence: bool) -> FoundPart {
    FoundPart {
        rule: "refund.total".into(),
        grade: "major".into(),
        seq: Some(7),
        text: text.into(),
        expected: "KUDOS:4".into(),
        found: "KUDOS:5".into(),
        at_stake: vec!["KUDOS:1".into()],
        consequence,
    }
}

/// The report with everything in it that a sound one lacks.
fn broken() -> DisputeReport {
    let mut report = report();
    report.ledger.key_pinned = false;
    report.audit.sound = false;
    report.audit.findings = vec![finding("the total does not add up", false)];
    report.findings = vec![
        finding("the total is beyond the rows", false),
        finding("the answer tells it", true),
    ];
    report.audit.anchored = None;
    report.checkpoint.unproven = 1;
    report.checkpoint.cosigners = vec!["witness.example/w1".into()];
    report.proofs.last_mut().unwrap().file = None;
    report.timeline[2].attachments[0].state = AttachmentState::Differs;
    report.timeline[4].attachments[0].state = AttachmentState::Missing;
    report.coins[0].permissions[0].merchant_signed = false;
    report.answers[0].rebuilt = Some(false);
    report.standing_rule.push("a further rule".into());
    report
}

#[test]
fn the_page_is_as_it_was() {
    insta::assert_snapshot!("sound", page(&report()));
    insta::assert_snapshot!("broken", page(&broken()));
}

#[test]
fn every_text_of_the_report_is_on_the_page() {
    for report in [report(), broken()] {
        let html = page(&report);
        let shown = text_of(&html).to_lowercase();
        let mut count = 0;
        changed(&report, |text| {
            let second = text.get(..19).map(|time| time.replace('T', " ").to_lowercase());
            let told = text.to_lowercase();
            let rule = told.split_once(": ").map(|(_, rule)| rule);
            assert!(
                shown.contains(&told)
                    || second.is_some_and(|time| shown.contains(&time))
                    || rule.is_some_and(|rule| shown.contains(rule)),
                "not on the page: {text}"
            );
            count += 1;
        });
        assert!(count > 130, "only {count} texts were looked for");
    }
}

#[test]
fn nothing_on_the_page_leads_out_of_it() {
    for report in [report(), broken()] {
        let html = page(&report);
        let policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
                      style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">";
        assert_eq!(html.matches(policy).count(), 1);
        assert!(html.find(policy).unwrap() < html.find("<style>").unwrap());
        for never in [
            "<script",
            "<link",
            "<img",
            "<iframe",
            "<object",
            "src=",
            "url(",
            "@import",
            "javascript:",
        ] {
            assert!(!html.contains(never), "{never}");
        }
        let ids = attributes(&html, "id");
        let unique: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), unique.len(), "an id stands twice");
        let links = attributes(&html, "href");
        assert!(links.len() > 30);
        for link in links {
            let target = link.strip_prefix('#').unwrap();
            assert!(unique.contains(target), "{link} leads nowhere");
        }
    }
}

#[test]
fn readers_of_the_screen_find_their_way() {
    let html = page(&broken());
    assert!(html.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"));
    let tags = skeleton(&html);
    let headings: Vec<u8> = tags
        .iter()
        .filter_map(|tag| match tag.as_bytes() {
            [b'h', level @ b'1'..=b'6'] => Some(*level),
            _ => None,
        })
        .collect();
    assert_eq!(tags.iter().filter(|tag| **tag == "h1").count(), 1);
    assert_eq!(headings[0], b'1');
    assert!(
        headings.windows(2).all(|pair| pair[1] <= pair[0] + 1),
        "{headings:?}"
    );
    let heads = html.matches("<th ").count();
    assert!(heads > 20);
    assert_eq!(
        html.matches("<th scope=").count(),
        heads,
        "a head of a table has no scope"
    );
    let open = |name: &str| tags.iter().filter(|tag| **tag == name).count();
    for name in [
        "div", "span", "section", "table", "tbody", "tr", "td", "th", "dl", "dd", "p", "ul", "li", "svg",
        "text", "code",
    ] {
        assert_eq!(open(name), open(&format!("/{name}")), "{name}");
    }
    assert!(html.contains("<svg viewBox=\"0 0 3900 "));
    assert!(html.contains("role=\"img\" aria-labelledby=\"drawing-title drawing-words\">"));
}

#[test]
fn each_verdict_says_so_in_words() {
    let verdict = |report: &DisputeReport| {
        let html = page(report);
        let text = text_of(&html);
        let class = attributes(&html, "data-verdict")[0].to_owned();
        (class, text)
    };
    let (class, text) = verdict(&report());
    assert_eq!(class, "holds");
    assert!(text.contains("NO RULE IS BROKEN, in this order or anywhere else in the ledger."));
    assert!(!text.contains("not pinned") && !text.contains("newer than the checkpoint"));

    let (class, text) = verdict(&broken());
    assert_eq!(class, "broken");
    for words in [
        "RULES ARE BROKEN. Findings: 1 by this file alone, 1 by the audit of the whole ledger.",
        "Follows from it: the answer tells it",
        "The ledger's key is not pinned:",
        "Events below that are newer than the checkpoint, and so have no proof yet: 1.",
        "no proof: newer than the checkpoint",
        "the merchant's signature does NOT verify",
        "NOT as sealed",
        "MISSING: neither there nor accounted for",
        "DIFFERS from what was recorded",
        "no anchor held",
        "witness.example/w1",
    ] {
        assert!(text.contains(words), "{words}");
    }

    let mut elsewhere = report();
    elsewhere.audit.sound = false;
    elsewhere.audit.findings_elsewhere = 3;
    let (class, text) = verdict(&elsewhere);
    assert_eq!(class, "elsewhere");
    assert!(text.contains("the ledger is NOT SOUND: 3 findings concern other orders."));
}

#[test]
fn what_is_absent_is_listed_and_nothing_else() {
    let text = text_of(&page(&report()));
    let listed = text.split("10. What is not in this file").nth(1).unwrap();
    let listed = listed.split("11. How to check it yourself").next().unwrap();
    assert!(
        listed.contains("event 9: reply: erased from the ledger; the digest remains"),
        "{listed}"
    );
    assert!(
        listed.contains("event 10: reply: left out of this file by whoever made it"),
        "{listed}"
    );
    assert!(!listed.contains("reason"), "{listed}");

    let mut whole = report();
    whole
        .timeline
        .iter_mut()
        .for_each(|event| event.attachments.clear());
    assert!(text_of(&page(&whole)).contains("The bytes behind every event listed are in it."));
}

/// What a hostile exchange, shop or customer could write.
const HOSTILE: &str = "</style></td></table><script>alert(1)</script><img src=x onerror=alert(2)>\"' onload=x \
                       &lt;b&gt; {{ 7*7 }} \u{202e}gnp.exe\u{2066}\u{200b}\u{feff}\u{0}\u{1b}[31m\u{85}\u{e0041}\u{ad}\u{a0}\
                       \u{2028}\t\r";

#[test]
fn hostile_texts_stay_texts() {
    for benign in [report(), broken()] {
        // Amounts stay, so that the drawing is drawn from coins with hostile names.
        let hostile = changed(&benign, |text| {
            let is_rule = ["proven: ", "claimed: ", "erased: "]
                .iter()
                .any(|mark| text.starts_with(mark));
            if !text.starts_with("KUDOS:") && !is_rule {
                *text = format!("{HOSTILE}{text}");
            }
        });
        let html = page(&hostile);
        let plain = page(&benign);
        assert_eq!(skeleton(&html), skeleton(&plain), "a text became a tag");
        assert!(!html.contains("<script") && !html.contains("onerror=alert(2)>"));
        // The text that ends up in the style sheet is given up for one that cannot.
        let style = |html: &str| {
            html.split("</style>")
                .next()
                .unwrap()
                .split("<style>")
                .nth(1)
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            style(&html),
            style(&plain).replace("Dispute file, order 2026.325-01", "Dispute file")
        );
        for c in html.chars() {
            assert!(!c.is_control() || c == '\n', "{c:?}");
            assert!(
                !"\u{202e}\u{2066}\u{200b}\u{feff}\u{e0041}\u{ad}\u{a0}\u{2028}".contains(c),
                "{c:?}"
            );
        }
        let text = text_of(&html);
        for shown in [
            "[U+202E]gnp.exe[U+2066][U+200B][U+FEFF][U+0000][U+001B][31m[U+0085][U+E0041][U+00AD][U+00A0][U+2028][U+0009][U+000D]",
            "&lt;b&gt; {{ 7*7 }}",
            "<script>alert(1)</script>",
        ] {
            assert!(text.contains(shown), "{shown}");
        }
    }
}

#[test]
fn unreadable_amounts_leave_the_drawing_out_and_say_so() {
    for wrong in ["KUDOS:-1", "EUR:1", "<b>", ""] {
        let mut report = report();
        report.coins[0].permissions[0].amount = wrong.into();
        let html = page(&report);
        assert!(!html.contains("<svg"), "{wrong}");
        assert!(text_of(&html).contains("There is no drawing: the order's amounts are unreadable"));
    }
    let mut report = report();
    report.coins.clear();
    let text = text_of(&page(&report));
    assert!(text.contains("Nothing was deposited: there is no money to draw."));
    assert!(text.contains("No coin was deposited for this order"));
}

#[test]
fn letters_of_every_script_stay_as_they_are() {
    let mut report = report();
    let said = "Prüfung: возврат, 返金, إرجاع 5 €\nzweite Zeile";
    report.order.summary = Some(said.into());
    assert!(page(&report).contains(&format!(
        "<blockquote class=\"said\" dir=\"auto\">{said}</blockquote>"
    )));
}

#[test]
fn sixty_coins_are_all_in_the_table() {
    let mut report = report();
    report.coins = (0..60)
        .map(|n| {
            coin(
                n,
                &format!("{}.5", n + 1),
                vec![permission(1, "0.5", Outcome::Confirmed)],
            )
        })
        .collect();
    let html = page(&report);
    assert_eq!(attributes(&html, "data-coin").len(), 60);
    let text = text_of(&html);
    assert!(text.contains("53 other coins"));
    assert!(text.contains("KUDOS:1860 deposited with 60 coins."));
}
