//! Dispute files: of every kind of order, checked without the ledger, and found where anything in them was changed.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use quittance_events::facts::{ExchangeReplied, Verdict};
use quittance_events::{AttachmentName, Facts};
use quittance_replay::VerifyOptions;
use quittance_replay::dispute::report::{
    AttachmentState, DisputeReport, Outcome, PermissionSource, Standing,
};
use quittance_replay::dispute::{BundleReport, ExportError, ExportOptions, Redaction, check, export};
use quittance_taler::EddsaSignature;
use support::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

const ORDERS: [&str; 7] = [PAID, ABORTED, TAKEN_OVER, WIDE, WIDE_ABORT, LATE, UNTOUCHED];

fn options(ledger: &Path, order: &str, out: PathBuf) -> ExportOptions {
    ExportOptions {
        verify: VerifyOptions {
            ledger: ledger.join("ledger.sqlite3"),
            anchor: Some(ledger.join("ledger.anchor")),
            ledger_key: Some(ledger_key()),
            predecessor: None,
            exchange_keys: vec![],
            ..VerifyOptions::default()
        },
        instance: "default".into(),
        order: order.into(),
        redact: vec![],
        out,
    }
}

/// Exports an order and gives the file's bytes.
fn exported_with(ledger: &Path, order: &str, redact: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(ledger, order, dir.path().join("dispute.zip"));
    options.redact = redact.iter().map(|text| text.parse().unwrap()).collect();
    export(&options).unwrap();
    std::fs::read(&options.out).unwrap()
}

fn exported(order: &str) -> Vec<u8> {
    exported_with(sound(), order, &[])
}

fn judged(bytes: &[u8]) -> BundleReport {
    check(bytes, "dispute.zip", Some(&ledger_key())).unwrap()
}

fn entry(bytes: &[u8], name: &str) -> Vec<u8> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut content = Vec::new();
    archive.by_name(name).unwrap().read_to_end(&mut content).unwrap();
    content
}

fn told(bytes: &[u8]) -> DisputeReport {
    serde_json::from_slice(&entry(bytes, "report.json")).unwrap()
}

fn rules(report: &BundleReport) -> Vec<&str> {
    report
        .findings
        .iter()
        .map(|finding| finding.rule.as_str())
        .collect()
}

#[test]
fn every_kind_of_order_checks_without_its_ledger() {
    for order in ORDERS {
        let bytes = exported(order);
        let report = judged(&bytes);
        assert!(report.is_sound(), "{order}: {:#?}", report.findings);
        assert_eq!(
            (report.signatures, report.proven),
            (report.events, report.events),
            "{order}"
        );
        assert!(report.key_pinned);
        assert_eq!(report.order, Some(format!("default/{order}")));
        assert_eq!(bytes, exported(order), "{order}: equal input gives equal bytes");
    }
}

#[test]
fn the_report_tells_the_whole_story() {
    let bytes = exported(PAID);
    let report = told(&bytes);
    let sums = &report.sums;
    assert_eq!(
        [
            &sums.paid,
            &sums.approved,
            &sums.confirmed,
            &sums.refused,
            &sums.open,
            &sums.not_asked
        ],
        [
            "KUDOS:12.5",
            "KUDOS:11",
            "KUDOS:10",
            "KUDOS:1",
            "KUDOS:0",
            "KUDOS:0"
        ]
    );
    assert_eq!(report.timeline.len(), 27);
    assert!(report.audit.sound && report.findings.is_empty());
    let standing = |kind: &str| {
        let of_kind = report.timeline.iter().filter(|event| event.kind == kind);
        of_kind.map(|event| event.standing).collect::<Vec<_>>()
    };
    assert_eq!(standing("refund_approved"), [Standing::Proven; 2]);
    assert_eq!(standing("order_recorded"), [Standing::Claimed]);
    // Two confirmations stand; whatever else the exchange said is the shop's word.
    let proven = standing("exchange_replied")
        .into_iter()
        .filter(|s| *s == Standing::Proven)
        .count();
    assert_eq!(proven, 2);
    let [first, second, third] = [(0, 0), (0, 1), (1, 0)].map(|(c, p)| &report.coins[c].permissions[p]);
    assert_eq!(
        [first.outcome, second.outcome, third.outcome],
        [Outcome::Confirmed, Outcome::Confirmed, Outcome::Refused]
    );
    assert!(first.merchant_signed && second.attempts.len() == 4);
    assert_eq!(
        first.confirmed_by.as_deref(),
        Some(signing_pub().to_string().as_str())
    );
    assert_eq!(third.confirmed_by, None);
    assert!(report.answers.iter().all(|answer| answer.rebuilt == Some(true)));
    assert_eq!(
        report
            .answers
            .iter()
            .filter(|answer| answer.delivered_at.is_some())
            .count(),
        2
    );
    assert!(
        report.answers[0]
            .receipt
            .starts_with(&format!("{ORIGIN} {} ", report.answers[0].seq))
    );
    assert_eq!(report.exchange_keys.len(), 1);
    assert_eq!(report.checkpoint.unproven, 0);
    assert_eq!(report.order.summary.as_deref(), Some("a book"));

    let aborted = told(&exported(ABORTED));
    let sums = &aborted.sums;
    assert_eq!(
        [
            &sums.given_back,
            &sums.given_back_confirmed,
            &sums.given_back_refused,
            &sums.given_back_open
        ],
        ["KUDOS:15", "KUDOS:9", "KUDOS:5", "KUDOS:1"]
    );
    // A coin that only the abort names is listed without a deposit.
    assert!(
        aborted
            .coins
            .iter()
            .any(|coin| coin.deposit.is_none() && coin.aborted && coin.permissions.is_empty())
    );
    let taken_over = told(&exported(TAKEN_OVER));
    let sources: Vec<_> = taken_over.coins[0]
        .permissions
        .iter()
        .map(|p| (p.id, p.source, p.outcome))
        .collect();
    assert_eq!(
        sources,
        [
            (7, PermissionSource::CarriedIn, Outcome::Confirmed),
            (8, PermissionSource::Approval, Outcome::NotAsked)
        ]
    );
    assert_eq!(
        told(&exported(UNTOUCHED))
            .context
            .iter()
            .filter(|e| e.kind == "clock_corrected")
            .count(),
        1
    );
}

/// The data that others read: a change of it is a change of the format.
#[test]
fn report_and_table_are_as_they_were() {
    // Salts are drawn at random, so that digests and what is signed over them differ from run to run.
    let bytes = exported(PAID);
    let report = String::from_utf8(entry(&bytes, "report.json")).unwrap();
    let hidden: Vec<String> = report.lines().map(hidden).collect();
    insta::assert_snapshot!("report", hidden.join("\n"));
    insta::assert_snapshot!(
        "refunds",
        String::from_utf8(entry(&bytes, "refunds.csv")).unwrap()
    );
}

fn hidden(line: &str) -> String {
    let Some((name, value)) = line.split_once(": ") else {
        return line.to_owned();
    };
    match name.trim() {
        "\"digest\"" | "\"root\"" | "\"made_by\"" => format!("{name}: (digest)"),
        "\"receipt\"" => {
            let mut words: Vec<&str> = value.split(' ').collect();
            words[2] = "(digest)";
            format!("{name}: {}", words.join(" "))
        }
        _ => line.to_owned(),
    }
}

/// Zips as an adversary could: any entries, with right checksums.
fn zipped(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default())
        .system(zip::System::Unix)
        .unix_permissions(0o644);
    for (name, content) in entries {
        zip.start_file(name.as_str(), options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn entries(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    (0..archive.len())
        .map(|index| {
            let mut file = archive.by_index(index).unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            (file.name().unwrap().into_owned(), content)
        })
        .collect()
}

/// One byte of any entry changed by somebody who also mends the zip's checksum: found, but for what only the exporter
/// knows. Every entry's first and last and some bytes between.
#[test]
fn a_changed_byte_in_any_file_is_found() {
    let bytes = exported(UNTOUCHED);
    let original = entries(&bytes);
    assert_eq!(zipped(&original), bytes, "the test zips as the exporter does");
    let mut kinds = BTreeSet::new();
    for (index, (name, content)) in original.iter().enumerate() {
        let step = 1.max(content.len() / 6);
        kinds.insert(name.split(['/', '.']).next().unwrap().to_owned());
        for place in (0..content.len()).step_by(step).chain([content.len() - 1]) {
            let mut changed = original.clone();
            changed[index].1[place] ^= 1;
            let found = check(&zipped(&changed), "changed", Some(&ledger_key()));
            let is_claim = name == "report.json" && is_claim(content, place);
            assert!(
                is_claim || found.is_err() || !found.unwrap().is_sound(),
                "{name}, byte {place}"
            );
        }
    }
    let expected = [
        "README",
        "attachments",
        "checkpoint",
        "events",
        "proofs",
        "refunds",
        "report",
    ];
    assert!(kinds.iter().map(String::as_str).eq(expected), "{kinds:?}");
}

/// Whether this byte of `report.json` is within the exporter's own word.
fn is_claim(report: &[u8], place: usize) -> bool {
    let text = std::str::from_utf8(report).unwrap();
    let at = |needle: &str| text.find(needle).unwrap();
    let line = |name: &str| at(name)..at(name) + text[at(name)..].find('\n').unwrap();
    line("\"key_pinned\"").contains(&place)
        || line("\"made_by\"").contains(&place)
        || (at("\"audit\": {")..at("\n  \"findings\": [")).contains(&place)
}

/// Bytes of the zip itself, checksums not mended: every one of a small file's structures.
#[test]
fn a_changed_byte_of_the_zip_is_found() {
    let bytes = exported(UNTOUCHED);
    let directory = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let places = (0..directory)
        .step_by(directory / 150)
        .chain((directory..bytes.len()).step_by(11));
    for place in places.chain(bytes.len() - 22..bytes.len()) {
        let mut changed = bytes.clone();
        changed[place] ^= 0x10;
        let found = check(&changed, "changed", Some(&ledger_key()));
        assert!(
            found.is_err() || !found.unwrap().is_sound(),
            "byte {place} of {}",
            bytes.len()
        );
    }
    for extra in [&b"x"[..], b"PK\x05\x06"] {
        let longer = [&bytes, extra].concat();
        let found = check(&longer, "longer", None);
        assert!(
            found.is_err() || !found.unwrap().is_sound(),
            "{extra:?} at the end"
        );
        let longer = [extra, &bytes].concat();
        let found = check(&longer, "longer", None);
        assert!(
            found.is_err() || !found.unwrap().is_sound(),
            "{extra:?} at the beginning"
        );
    }
}

#[test]
fn what_is_taken_out_or_put_in_is_found() {
    let bytes = exported(PAID);
    let original = entries(&bytes);
    let last = told(&bytes).timeline.last().unwrap().seq;
    for (index, (name, _)) in original.iter().enumerate() {
        // What the reader loses with the last event is what no file can prove; the rest of it still tells.
        let mut changed = original.clone();
        changed.remove(index);
        let found = check(&zipped(&changed), "changed", Some(&ledger_key())).unwrap();
        assert!(!found.is_sound(), "{name} of {last}");
    }
    for foreign in [
        "events/0.json",
        "events/017.json",
        "notes.txt",
        "attachments/4-terms.txt",
    ] {
        let mut changed = original.clone();
        changed.push((foreign.to_owned(), b"{}".to_vec()));
        assert!(!judged(&zipped(&changed)).is_sound(), "{foreign}");
    }
    // An event of another order.
    let other = entries(&exported(LATE));
    let mut changed = original.clone();
    changed.extend(
        other
            .into_iter()
            .filter(|(name, _)| !original.iter().any(|(n, _)| n == name)),
    );
    assert_eq!(rules(&judged(&zipped(&changed))), ["bundle.story"]);
    assert!(check(b"no zip", "file", None).is_err());
}

/// An event of the middle left out, and all the rest of the file made anew to fit, as only the exporter could.
#[test]
fn an_omission_shows_where_numbers_do_not_fit() {
    let mut events = sound_events();
    let at = nth(&events, PAID, "refund_approved", 0);
    // A whole ledger without it is what an exporter who leaves it out would have to claim.
    take_out(&mut events, at);
    let forged = forge(events);
    let out = forged.dir.path().join("dispute.zip");
    let made = export(&options(forged.dir.path(), PAID, out.clone())).unwrap();
    assert!(!made.sound && made.findings > 0);
    let report = judged(&std::fs::read(out).unwrap());
    assert!(rules(&report).contains(&"bundle.audit"), "{:?}", rules(&report));
    assert!(
        rules(&report).iter().any(|rule| rule.starts_with("approval.")),
        "{:?}",
        rules(&report)
    );
}

#[test]
fn another_key_is_told() {
    let foreign = quittance_events::ledger::vkey(
        ORIGIN,
        &quittance_taler::Digest32::from_bytes(secret(9).public_bytes()),
    );
    let report = check(&exported(PAID), "file", Some(&foreign.unwrap())).unwrap();
    assert_eq!(rules(&report), ["log.key"]);
    assert!(!check(&exported(PAID), "file", None).unwrap().key_pinned);
}

#[test]
fn what_is_left_out_leaves_its_digest() {
    let whole = told(&exported(PAID));
    let replied = whole.timeline.iter().filter(|e| e.kind == "exchange_replied");
    let later = replied
        .clone()
        .find(|e| e.sentence.contains("finally refused"))
        .unwrap()
        .seq;
    let (approved, recorded) = (
        whole
            .timeline
            .iter()
            .find(|e| e.kind == "refund_approved")
            .unwrap(),
        whole.timeline[0].seq,
    );
    let redact = [
        format!("{}:reason", approved.seq),
        format!("{later}:reply"),
        format!("{recorded}:terms"),
    ];
    let bytes = exported_with(sound(), PAID, &redact.each_ref().map(String::as_str));
    let report = judged(&bytes);
    assert!(report.is_sound(), "{:#?}", report.findings);
    let told = told(&bytes);
    let event = told.timeline.iter().find(|e| e.seq == approved.seq).unwrap();
    let attachment = &event.attachments[0];
    assert_eq!(
        (attachment.state, attachment.size, &attachment.text),
        (AttachmentState::Redacted, None, &None)
    );
    assert_eq!(attachment.digest, approved.attachments[0].digest);
    // The merchant's signature needs no reason.
    assert_eq!(event.standing, Standing::Proven);
    assert_eq!(told.order.summary, None);
    assert!(
        told.answers.iter().any(|answer| answer.rebuilt.is_none()),
        "an answer hands on the reply"
    );
    let word = String::from_utf8(entry(
        &bytes,
        &format!("attachments/{}-reason.redacted", approved.seq),
    ))
    .unwrap();
    assert!(
        word.contains(&attachment.digest) && word.contains("left out"),
        "{word}"
    );
    assert!(
        !bytes.windows(8).any(|w| w == b"returned")
            || whole
                .timeline
                .iter()
                .filter(|e| e.kind == "refund_approved")
                .count()
                > 1
    );

    for nothing in [
        format!("{}:terms", approved.seq),
        "1:reason".to_owned(),
        "9999:reply".to_owned(),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(sound(), PAID, dir.path().join("dispute.zip"));
        options.redact = vec![nothing.parse().unwrap()];
        assert!(
            matches!(export(&options), Err(ExportError::NothingToRedact(_))),
            "{nothing}"
        );
        assert!(!options.out.exists());
    }
    assert!("4:nonsense".parse::<Redaction>().is_err() && "x:terms".parse::<Redaction>().is_err());
}

/// Bytes and salt gone from the ledger: the file says so, and what rests on them is no longer checked.
#[test]
fn what_is_erased_is_told_as_such() {
    let events = sound_events();
    let place = nth(&events, PAID, "refund_approved", 0);
    let seq = u64::try_from(place).unwrap() + 1;
    let state = |told: &DisputeReport| {
        let event = told.timeline.iter().find(|event| event.seq == seq).unwrap();
        event.attachments[0].state
    };

    let lawful = continued();
    let paths = paths(lawful.dir.path());
    let erasure = erase_of(
        &paths,
        keys().into(),
        place,
        AttachmentName::Reason,
        after(&events),
    );
    let bytes = exported_with(lawful.dir.path(), PAID, &[]);
    let report = judged(&bytes);
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert_eq!(report.proven, report.events);
    let story = told(&bytes);
    assert_eq!(state(&story), AttachmentState::Erased);
    let last = story.timeline.last().unwrap();
    assert_eq!((last.seq, last.standing), (erasure.get(), Standing::Claimed));
    assert_eq!(
        last.sentence,
        format!("attachment reason of event {seq} was erased")
    );
    assert!(entry(&bytes, &format!("attachments/{seq}-reason.erased")).starts_with(b"The attachment"));

    // No event says that it was erased, and the tool says that.
    let silent = continued();
    tampered(&silent.ledger(), |conn| {
        conn.execute(
            "UPDATE attachment SET salt = NULL, bytes = NULL WHERE seq = ?1",
            [i64::try_from(seq).unwrap()],
        )
        .unwrap();
    });
    let bytes = exported_with(silent.dir.path(), PAID, &[]);
    assert_eq!(state(&told(&bytes)), AttachmentState::Erased);
    let report = judged(&bytes);
    assert!(
        rules(&report).contains(&"log.attachments"),
        "{:?}",
        rules(&report)
    );
}

/// Erasures may be of the events that an order rests on, newer than it, and of the reason of a correction that only
/// another erasure calls for: each comes with what it needs to be judged.
#[test]
fn erasures_of_what_an_order_rests_on_are_in_its_file() {
    let forged = continued();
    let events = sound_events();
    let of_kind = |kind: &str| events.iter().position(|(event, _)| event.facts.kind() == kind);
    let (seen, corrected) = (
        of_kind("exchange_keys_seen").unwrap(),
        of_kind("clock_corrected").unwrap(),
    );
    let paths = paths(forged.dir.path());
    let erase = |place: usize, name, s| {
        let at = after(&events).plus_s(s);
        erase_of(&paths, keys().into(), place, name, at)
    };
    let erasures = [
        erase(seen, AttachmentName::Keys, 1),
        erase(corrected, AttachmentName::Reason, 2),
    ];
    for order in [PAID, UNTOUCHED] {
        let bytes = exported_with(forged.dir.path(), order, &[]);
        let report = judged(&bytes);
        assert!(report.is_sound(), "{order}: {:#?}", report.findings);
        let context = told(&bytes).context;
        let of_kind = |kind: &str| context.iter().filter(|event| event.kind == kind).count();
        assert_eq!(
            ["attachment_erased", "clock_corrected", "format_raised"].map(of_kind),
            [2, 1, 1],
            "{order}"
        );
        assert!(
            erasures
                .iter()
                .all(|seq| context.iter().any(|event| event.seq == seq.get()))
        );
    }
}

/// A story with both keys rotated in its middle.
fn rotated() -> tempfile::TempDir {
    let mut world = World::open();
    world.own(keys_seen(vec![signing_key(
        5,
        START_S - DAY_S,
        START_S + 30 * DAY_S,
    )]));
    world.record(PAID, "10", 20);
    world.pay(PAID, &[(1, "10")]);
    world.approve(PAID, &[(1, 1, "3")]);
    let mut world = world.rotated();
    world.request(PAID, &[(1, 1)]);
    world.confirm(PAID, 1, 1, 1);
    world.answer_refund(PAID);
    world.finish()
}

#[test]
fn an_order_over_a_rotation_checks_under_the_first_key() {
    let dir = rotated();
    let bytes = exported_with(dir.path(), PAID, &[]);
    let report = judged(&bytes);
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert_eq!((report.signatures, report.proven), (report.events, report.events));
    assert_eq!(report.event_key, Some(ledger_key().to_string()));
    let story = told(&bytes);
    assert_eq!(story.ledger.event_key, ledger_key().to_string());
    assert_eq!(story.ledger.checkpoint_key, signer(72).verifier().to_string());
    let rotations: Vec<&str> = story
        .context
        .iter()
        .filter(|event| event.kind == "ledger_key_rotated")
        .map(|event| event.sentence.as_str())
        .collect();
    let new = quittance_events::ledger::vkey(ORIGIN, &event_key(71).public().key()).unwrap();
    let by = "authorised by the event key in force before";
    assert!(
        rotations.contains(
            &format!("the ledger's key was rotated: {new} signs events from this one on, {by}").as_str()
        ),
        "{rotations:?}"
    );
    let checkpoints = format!(
        "{} signs checkpoints from this size on, {by}",
        signer(72).verifier()
    );
    assert!(
        rotations.iter().any(|told| told.ends_with(&checkpoints)),
        "{rotations:?}"
    );
    let page = String::from_utf8(entry(&bytes, "report.html")).unwrap();
    assert!(page.contains(&new.to_string()) && page.contains("That is the ledger's first key"));

    // The reader may bring the new key as well; the file says the same. A foreign one is told.
    let report = check(&bytes, "file", Some(&new)).unwrap();
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert_eq!(report.event_key, Some(new.to_string()));
    let foreign = quittance_events::ledger::vkey(ORIGIN, &event_key(73).public().key()).unwrap();
    assert_eq!(
        rules(&check(&bytes, "file", Some(&foreign)).unwrap()),
        ["log.key"]
    );
    assert!(check(&bytes, "file", None).unwrap().is_sound());

    // Without the rotations, what follows is under a key that nobody let in.
    let mut without = entries(&bytes);
    for event in story
        .context
        .iter()
        .filter(|event| event.kind == "ledger_key_rotated")
    {
        let of_event = [
            format!("events/{}.json", event.seq),
            format!("events/{}.sig", event.seq),
            format!("proofs/{}.tlog-proof", event.seq),
        ];
        without.retain(|(name, _)| !of_event.contains(name));
    }
    let report = judged(&zipped(&without));
    assert!(rules(&report).contains(&"log.signature"), "{:?}", rules(&report));
}

/// The order was over when the keys were rotated: the checkpoint is by the new one all the same.
#[test]
fn a_rotation_after_the_order_is_in_its_file() {
    let forged = continued();
    let events = sound_events();
    let paths = paths(forged.dir.path());
    rotate_both(&paths, after(&events));
    // And an erasure under the new key.
    let place = nth(&events, PAID, "refund_approved", 0);
    let at = after(&events).plus_s(1);
    erase_of(&paths, ring(&[71], &[72]), place, AttachmentName::Reason, at);
    for order in [PAID, LATE] {
        let bytes = exported_with(forged.dir.path(), order, &[]);
        let report = judged(&bytes);
        assert!(report.is_sound(), "{order}: {:#?}", report.findings);
        assert_eq!(report.proven, report.events, "{order}");
        let story = told(&bytes);
        assert_eq!(
            story.ledger.checkpoint_key,
            signer(72).verifier().to_string(),
            "{order}"
        );
        let rotations = story.context.iter();
        let rotations = rotations.filter(|event| event.kind == "ledger_key_rotated");
        assert_eq!(rotations.count(), 2, "{order}");
    }
}

/// A confirmation that no exchange signed: the file tells of it, and of the money at stake.
#[test]
fn what_the_shop_invented_is_found_without_the_ledger() {
    let mut events = sound_events();
    let at = place(&events, PAID, |facts| {
        matches!(
            facts,
            Facts::ExchangeReplied(ExchangeReplied {
                verdict: Verdict::Confirmed,
                ..
            })
        )
    });
    let forged_sig = EddsaSignature::from_bytes([7; 64]);
    for facts in [&mut events[at].0.facts.clone(), &mut events[at].1.facts] {
        if let Facts::ExchangeReplied(f) = facts {
            f.exchange_sig = Some(forged_sig);
        }
    }
    if let Facts::ExchangeReplied(f) = &mut events[at].0.facts {
        f.exchange_sig = Some(forged_sig);
        let body = serde_json::json!({"exchange_pub": f.exchange_pub, "exchange_sig": f.exchange_sig});
        events[at].1.attachments[0].1 = body.to_string().into_bytes();
    }
    let forged = forge(events);
    let out = forged.dir.path().join("dispute.zip");
    export(&options(forged.dir.path(), PAID, out.clone())).unwrap();
    let bytes = std::fs::read(out).unwrap();
    let report = judged(&bytes);
    let finding = report
        .findings
        .iter()
        .find(|finding| finding.rule == "exchange.confirmed")
        .unwrap();
    assert_eq!(
        (finding.seq, finding.at_stake.as_slice()),
        (Some(u64::try_from(at).unwrap() + 1), &["KUDOS:3".to_owned()][..])
    );
    let told = told(&bytes);
    let event = told
        .timeline
        .iter()
        .find(|e| e.seq == u64::try_from(at).unwrap() + 1)
        .unwrap();
    assert_eq!(event.standing, Standing::Claimed);
    assert_eq!(told.sums.confirmed, "KUDOS:7");
}

/// Events that came after the last checkpoint are in the file, signed and without a proof, and the file says so.
#[test]
fn events_behind_the_checkpoint_have_no_proof_yet() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ledger.sqlite3", "ledger.anchor"] {
        std::fs::copy(sound().join(name), dir.path().join(name)).unwrap();
    }
    let checkpoints = |conn: &rusqlite::Connection| -> Vec<i64> {
        let mut statement = conn.prepare("SELECT size FROM checkpoint ORDER BY size").unwrap();
        statement
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    };
    let ledger = dir.path().join("ledger.sqlite3");
    let events = sound_events();
    let last = nth(&events, UNTOUCHED, "refund_answered", 0);
    let mut kept = 0;
    tampered(&ledger, |conn| {
        let sizes = checkpoints(conn);
        kept = *sizes
            .iter()
            .rev()
            .find(|size| **size <= i64::try_from(last).unwrap())
            .unwrap();
        conn.execute("DELETE FROM checkpoint WHERE size > ?1", [kept])
            .unwrap();
    });
    let out = dir.path().join("dispute.zip");
    let mut options = options(dir.path(), UNTOUCHED, out.clone());
    options.verify.anchor = None;
    let made = export(&options).unwrap();
    assert!(made.unproven > 0 && made.sound, "{made:?}");
    let bytes = std::fs::read(out).unwrap();
    let report = judged(&bytes);
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert_eq!(report.proven + made.unproven, report.events);
    assert!(
        report.notes.iter().any(|note| note.text.contains("no proof yet")),
        "{:?}",
        report.notes
    );
    assert!(told(&bytes).proofs.iter().any(|proof| proof.file.is_none()));
}

#[test]
fn nothing_is_overwritten_and_nothing_is_made_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("dispute.zip");
    std::fs::write(&out, "mine").unwrap();
    let error = export(&options(sound(), PAID, out.clone())).unwrap_err();
    assert!(matches!(error, ExportError::Write { .. }), "{error}");
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    for order in ["none", "not/an/id"] {
        let out = dir.path().join("other.zip");
        assert!(
            matches!(
                export(&options(sound(), order, out.clone())),
                Err(ExportError::Unusable(_))
            ),
            "{order}"
        );
        assert!(!out.exists());
    }
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quittance-replay"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_commands_say_what_they_did() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (ledger, key) = (sound().join("ledger.sqlite3"), ledger_key().to_string());
    let ledger = ledger.to_str().unwrap();
    let file = path("dispute.zip");
    let arguments = [
        "export",
        ledger,
        "--order",
        PAID,
        "--ledger-key",
        &key,
        "-o",
        &file,
    ];
    let (code, out, err) = run(&arguments);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("Every rule held for all 337 events"), "{out}");
    assert!(told(&std::fs::read(&file).unwrap()).ledger.key_pinned);
    let (code, _, err) = run(&arguments);
    assert_eq!(code, Some(2));
    assert!(err.contains("exists already"), "{err}");

    let (code, out, _) = run(&["verify-bundle", &file, "--ledger-key", &key]);
    assert_eq!(code, Some(0), "{out}");
    for expected in [
        "SOUND",
        "as given by the reader",
        "It cannot prove",
        "no event of the order was left out",
    ] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    let (code, out, _) = run(&["verify-bundle", &file, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, report["key_pinned"].as_bool(), report["order"].as_str()),
        (Some(0), Some(false), Some("default/2026.325-01"))
    );

    let mut changed = entries(&std::fs::read(&file).unwrap());
    let table = changed
        .iter_mut()
        .find(|(name, _)| name == "refunds.csv")
        .unwrap();
    table.1 = String::from_utf8(table.1.clone())
        .unwrap()
        .replace("confirmed", "refused")
        .into_bytes();
    std::fs::write(path("changed.zip"), zipped(&changed)).unwrap();
    let (code, out, _) = run(&["verify-bundle", &path("changed.zip")]);
    assert_eq!(code, Some(1));
    assert!(
        out.contains("bundle.derived") && out.contains("refunds.csv") && out.contains("FINDINGS: 1"),
        "{out}"
    );
    std::fs::write(path("no.zip"), "no zip").unwrap();
    assert_eq!(run(&["verify-bundle", &path("no.zip")]).0, Some(2));
    assert_eq!(run(&["verify-bundle", &path("missing.zip")]).0, Some(2));
    for usage in [
        &["export", ledger][..],
        &["export", ledger, "--order", PAID],
        &["export", ledger, "--csv", "--from", "2026-11-01"],
        &[
            "export",
            ledger,
            "--csv",
            "--from",
            "2026-11-01",
            "--to",
            "yesterday",
        ],
        &[
            "export", ledger, "--order", PAID, "-o", "x", "--redact", "nonsense",
        ],
        &["export", ledger, "--order", "none", "-o", "x"],
    ] {
        assert_eq!(run(usage).0, Some(2), "{usage:?}");
    }
}

#[test]
fn the_accountant_gets_a_line_a_permission() {
    let ledger = sound().join("ledger.sqlite3");
    let ledger = ledger.to_str().unwrap();
    let list = |from: &str, to: &str| run(&["export", ledger, "--csv", "--from", from, "--to", to]);
    let (code, out, err) = list("2026-11-21", "2026-11-21");
    assert_eq!(code, Some(0), "{err}");
    let mut reader = csv::Reader::from_reader(out.as_bytes());
    let mut column = |name: &str| {
        reader
            .headers()
            .unwrap()
            .iter()
            .position(|header| header == name)
            .unwrap()
    };
    let [order, source, amount, outcome] = [1, 2, 6, 12];
    assert_eq!(
        [
            column("order"),
            column("source"),
            column("amount"),
            column("outcome")
        ],
        [order, source, amount, outcome]
    );
    let lines: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
    let of = |id: &str| lines.iter().filter(|line| &line[order] == id).count();
    assert_eq!(
        [PAID, ABORTED, TAKEN_OVER, WIDE, WIDE_ABORT, LATE].map(of),
        [3, 5, 2, 250, 0, 1]
    );
    // The sums are those that the audit comes to.
    let sum = |fits: &dyn Fn(&csv::StringRecord) -> bool| {
        let amounts = lines
            .iter()
            .filter(|line| fits(line))
            .map(|line| support::amount(&line[amount]));
        quittance_taler::sum(support::amount("0").currency(), amounts)
            .unwrap()
            .to_string()
    };
    assert_eq!(sum(&|line| &line[source] == "abort"), "KUDOS:15");
    assert_eq!(
        sum(&|line| &line[source] == "abort" && &line[outcome] == "confirmed"),
        "KUDOS:9"
    );
    assert_eq!(
        sum(&|line| &line[source] != "abort" && &line[outcome] == "confirmed"),
        "KUDOS:12"
    );

    let (_, later, _) = list("2026-11-22", "2026-11-30");
    assert_eq!(
        later.lines().count(),
        2,
        "the refund of after the clock was put right: {later}"
    );
    let (_, none, _) = list("2020-01-01", "2020-12-31");
    assert_eq!(none.lines().count(), 1, "{none}");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("list.csv");
    let arguments = [
        "export",
        ledger,
        "--csv",
        "--from",
        "2026-11-21",
        "--to",
        "2026-11-21",
        "-o",
        file.to_str().unwrap(),
    ];
    assert_eq!(run(&arguments).0, Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), out);
    assert_eq!(run(&arguments).0, Some(2), "never overwritten");
}

/// The evidence stays as it is, and a ledger that comes with its WAL is read with it.
#[test]
fn a_copy_of_a_running_service_is_exported_with_its_wal() {
    let mut world = World::open();
    world.record("running", "1", 20);
    world.pay("running", &[(1, "1")]);
    world.approve("running", &[(1, 1, "0.5")]);
    let dir = tempfile::tempdir().unwrap();
    for name in ["ledger.anchor", "ledger.sqlite3", "ledger.sqlite3-wal"] {
        std::fs::copy(world.dir.path().join(name), dir.path().join(name)).unwrap();
    }
    let files = || std::fs::read_dir(dir.path()).unwrap().count();
    let before = files();
    let bytes = exported_with(dir.path(), "running", &[]);
    assert_eq!(files(), before);
    assert!(judged(&bytes).is_sound());
    assert_eq!(told(&bytes).sums.not_asked, "KUDOS:0.5");
}

/// The guide names every finding of a dispute file, every column of the tables and every sort of entry.
#[test]
fn the_guide_says_what_there_is() {
    let guide = include_str!("../../docs/disputes.md");
    let code = include_str!("../src/dispute/check.rs");
    let in_quotes = |text: &str| -> BTreeSet<String> {
        let found = text.split('"').filter(|word| word.starts_with("bundle."));
        found.map(ToOwned::to_owned).collect()
    };
    let in_guide: BTreeSet<String> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `bundle.")?.split('`').next())
        .map(|name| format!("bundle.{name}"))
        .collect();
    assert_eq!(in_quotes(code), in_guide);
    let bytes = exported(PAID);
    let table = String::from_utf8(entry(&bytes, "refunds.csv")).unwrap();
    for column in table.lines().next().unwrap().split(',') {
        assert!(guide.contains(&format!("`{column}`")), "{column}");
    }
    let readme = String::from_utf8(entry(&bytes, "README.txt")).unwrap();
    for (name, _) in entries(&bytes) {
        let sort = match name.split_once('/') {
            None => name.clone(),
            Some((folder, file)) => {
                let end = file.trim_start_matches(|c: char| c.is_ascii_digit());
                let end = if end.starts_with('-') { "-NAME" } else { end };
                format!("{folder}/SEQ{end}")
            }
        };
        assert!(guide.contains(&sort), "{name}: {sort} is not in the guide");
        assert!(
            sort == "README.txt" || readme.contains(&sort),
            "{name}: {sort} is not in README.txt"
        );
    }
    assert!(!guide.contains("tamper-proof"));
}
