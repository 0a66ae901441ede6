//! The page for people, `report.html`: one file without script and without any outside resource, for screen and
//! paper. A pure function of the report; judges nothing beyond what the report says. Every text on it may come from a
//! stranger: all of it goes through [`Visible`], nothing of it becomes a link, and attachments are named, never
//! linked, since opening what a stranger sent is the reader's own decision.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::str::FromStr;

use askama::Template;
use askama::filters::Escaper;
use quittance_events::OrderId;
use quittance_taler::{Amount, Currency};

use super::drawing::{CoinMoney, Drawing, draw};
use super::report::{
    AttachmentPart, AttachmentState, CoinPart, DisputeReport, EventPart, FoundPart, Outcome,
    PermissionSource, Standing, Sums,
};

/// Characters of a coin's key that tell one coin of an order from another; as in the sentences of the timeline.
const COIN_SHOWN: usize = 8;
/// Characters of an amount that fit on a line of the table of sums.
const SUM_SHOWN: usize = 24;

/// The page.
#[must_use]
pub fn page(report: &DisputeReport) -> String {
    Page::of(report)
        .render()
        .expect("writing to a String cannot fail, and nothing else in the template can")
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    r: &'a DisputeReport,
    verdict: Verdict,
    running_title: String,
    /// What each mark means, in the report's words.
    marks: Vec<(Standing, &'a str)>,
    /// Lines of the rule that are about no single mark.
    further_rules: Vec<&'a str>,
    sections: [(&'static str, &'static str); 11],
    sums: Vec<SumRow<'a>>,
    drawing: Option<Drawing>,
    undrawn: &'static str,
    events: Vec<(&'a EventPart, bool)>,
    listed: BTreeSet<u64>,
    proofs: BTreeMap<u64, &'a str>,
    absent: Vec<(u64, &'a AttachmentPart)>,
    /// Events that rotated a key of the ledger.
    rotations: Vec<u64>,
}

/// A line of the table of sums.
struct SumRow<'a> {
    name: &'static str,
    words: &'static str,
    amount: &'a str,
    /// A part of the line without this mark above it.
    part: bool,
    long: bool,
}

impl<'a> Page<'a> {
    fn of(r: &'a DisputeReport) -> Page<'a> {
        let mut events: Vec<(&EventPart, bool)> = Vec::new();
        events.extend(r.timeline.iter().map(|event| (event, false)));
        events.extend(r.context.iter().map(|event| (event, true)));
        events.sort_by_key(|(event, _)| event.seq);
        let absent = events
            .iter()
            .flat_map(|(event, _)| event.attachments.iter().map(|a| (event.seq, a)))
            .filter(|(_, a)| !matches!(a.state, AttachmentState::Included | AttachmentState::Differs))
            .collect();
        let (drawing, undrawn) = match coins_money(&r.coins) {
            Some((currency, coins)) => (
                currency.and_then(|currency| draw(currency.as_str(), &coins)),
                "Nothing was deposited: there is no money to draw.",
            ),
            None => (
                None,
                "There is no drawing: the order's amounts are unreadable or of several currencies.",
            ),
        };
        let proofs = r
            .proofs
            .iter()
            .filter_map(|proof| Some((proof.seq, proof.file.as_deref()?)));
        let rotations = r
            .context
            .iter()
            .filter(|event| event.kind == "ledger_key_rotated");
        let (marks, further_rules) = rules(&r.standing_rule);
        Page {
            r,
            marks,
            further_rules,
            verdict: Verdict::of(r),
            running_title: running_title(&r.order.id),
            sections: SECTIONS,
            sums: sum_rows(&r.sums),
            drawing,
            undrawn,
            listed: events.iter().map(|(event, _)| event.seq).collect(),
            events,
            proofs: proofs.collect(),
            absent,
            rotations: rotations.map(|event| event.seq).collect(),
        }
    }
}

impl PermissionSource {
    fn words(self) -> &'static str {
        match self {
            PermissionSource::Approval => "a refund",
            PermissionSource::CarriedIn => "a refund taken over from elsewhere",
            PermissionSource::Abort => "an abort",
        }
    }
}

impl Outcome {
    fn words(self) -> &'static str {
        match self {
            Outcome::Confirmed => "confirmed",
            Outcome::Refused => "refused",
            Outcome::Open => "open",
            Outcome::NotAsked => "never asked for",
        }
    }
}

impl EventPart {
    /// Whose deed it was, as the event's kind has it.
    fn actor(&self) -> String {
        let who = match self.kind.as_str() {
            "abort_requested" => "the wallet",
            "exchange_replied" | "exchange_keys_seen" => "the exchange",
            "exchange_unreached" => "the shop's service (the exchange was silent)",
            "refund_requested" | "refund_answered" | "refund_delivered" | "abort_answered"
            | "abort_refused" | "abort_extended" | "webhook_delivered" | "webhook_given_up" => {
                "the shop's service"
            }
            "refund_carried_in" | "refund_approved" | "order_recorded" | "deposit_recorded"
            | "payment_completed" => "the shop",
            _ => "the ledger's operator",
        };
        let token = self.facts.iter().find_map(|fact| fact.strip_prefix("by: "));
        match token {
            Some(token) => format!("{who}, with token {token}"),
            None => who.to_owned(),
        }
    }
}

const SECTIONS: [(&str, &str); 11] = [
    ("verdict", "1. Verdict"),
    ("proves", "2. What this proves"),
    ("sums", "3. Sums"),
    ("timeline", "4. What happened"),
    ("coins", "5. Coins"),
    ("answers", "6. Answers"),
    ("keys", "7. Exchange keys"),
    ("events", "8. Events"),
    ("checkpoint", "9. Checkpoint"),
    ("leftout", "10. Not in this file"),
    ("check", "11. How to check it"),
];

/// The verdict in one sentence.
struct Verdict {
    /// `holds`, `broken`, or `elsewhere`: only other orders are concerned.
    class: &'static str,
    words: String,
}

impl Verdict {
    fn of(r: &DisputeReport) -> Verdict {
        let roots = |list: &[FoundPart]| list.iter().filter(|found| !found.consequence).count();
        let (here, audit) = (roots(&r.findings), roots(&r.audit.findings));
        let (class, words) = if here + audit > 0 {
            let words = format!(
                "RULES ARE BROKEN. Findings: {here} by this file alone, {audit} by the audit of the whole ledger."
            );
            ("broken", words)
        } else if r.audit.sound {
            let words = "NO RULE IS BROKEN, in this order or anywhere else in the ledger.";
            ("holds", words.to_owned())
        } else {
            let words = format!(
                "No rule is broken in this order, but the ledger is NOT SOUND: {} findings concern other orders.",
                r.audit.findings_elsewhere
            );
            ("elsewhere", words)
        };
        Verdict { class, words }
    }
}

/// The rule's lines by the mark that they begin with.
fn rules(lines: &[String]) -> (Vec<(Standing, &str)>, Vec<&str>) {
    let (mut marks, mut others) = (Vec::new(), Vec::new());
    for line in lines {
        let rest = |word: &str| line.strip_prefix(word)?.strip_prefix(": ");
        if let Some(rule) = rest("proven") {
            marks.push((Standing::Proven, rule));
        } else if let Some(rule) = rest("claimed") {
            marks.push((Standing::Claimed, rule));
        } else if let Some(rule) = rest("erased") {
            marks.push((Standing::Erased, rule));
        } else {
            others.push(line.as_str());
        }
    }
    (marks, others)
}

fn sum_rows(sums: &Sums) -> Vec<SumRow<'_>> {
    [
        ("paid", "Paid", &sums.paid, false),
        ("approved", "Refunds granted", &sums.approved, false),
        (
            "confirmed",
            "confirmed by the exchange's signature",
            &sums.confirmed,
            true,
        ),
        ("refused", "finally refused by the exchange", &sums.refused, true),
        ("open", "asked, not decided", &sums.open, true),
        ("not_asked", "never asked for", &sums.not_asked, true),
        (
            "given_back",
            "Deposits that aborts give back",
            &sums.given_back,
            false,
        ),
        (
            "given_back_confirmed",
            "confirmed by the exchange's signature",
            &sums.given_back_confirmed,
            true,
        ),
        (
            "given_back_refused",
            "finally refused by the exchange",
            &sums.given_back_refused,
            true,
        ),
        ("given_back_open", "not decided", &sums.given_back_open, true),
    ]
    .into_iter()
    .map(|(name, words, amount, part)| SumRow {
        name,
        words,
        amount,
        part,
        long: amount.chars().count() > SUM_SHOWN,
    })
    .collect()
}

/// What became of each coin's money; `None` where the amounts cannot be read or added.
fn coins_money(coins: &[CoinPart]) -> Option<(Option<Currency>, Vec<CoinMoney>)> {
    let mut currency: Option<Currency> = None;
    let mut units = |text: &str| -> Option<u128> {
        let amount = Amount::from_str(text).ok()?;
        (*currency.get_or_insert(amount.currency()) == amount.currency()).then(|| amount.units())
    };
    let mut all = Vec::with_capacity(coins.len());
    for coin in coins {
        let mut money = CoinMoney {
            name: format!(
                "coin {}",
                coin.coin_pub.chars().take(COIN_SHOWN).collect::<String>()
            ),
            ..CoinMoney::default()
        };
        if let Some(deposit) = &coin.deposit {
            money.deposited = units(&deposit.amount_with_fee)?;
        }
        for permission in &coin.permissions {
            let sum = match (permission.outcome, permission.source) {
                (Outcome::Confirmed, PermissionSource::Abort) => &mut money.given_back,
                (Outcome::Confirmed, _) => &mut money.refunded,
                (Outcome::Refused, _) => &mut money.refused,
                (Outcome::Open | Outcome::NotAsked, _) => &mut money.open,
            };
            *sum = sum.checked_add(units(&permission.amount)?)?;
        }
        all.push(money);
    }
    Some((currency, all))
}

/// What stands at the foot of each printed page. It stands in the style sheet, where nothing can be escaped: only an
/// id in the form that ids have gets there.
fn running_title(id: &str) -> String {
    match OrderId::from_str(id) {
        Ok(id) => format!("Dispute file, order {id}"),
        Err(_) => "Dispute file".to_owned(),
    }
}

/// A time to the second, without the letters that RFC 3339 puts between; whatever else it is, as it is.
fn second(time: &str) -> String {
    match (time.get(..10), time.get(10..11), time.get(11..19)) {
        (Some(day), Some("T"), Some(clock)) if time.ends_with('Z') => format!("{day} {clock}"),
        _ => time.to_owned(),
    }
}

/// The escaper of the page: text stays text, and shows every character that it holds. HTML's own characters become
/// references; characters that are invisible or turn the direction of their neighbours become their number in
/// brackets, so that no text can pose as another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visible;

impl Escaper for Visible {
    fn write_escaped_str<W: Write>(&self, mut dest: W, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => dest.write_str("&amp;")?,
                '<' => dest.write_str("&lt;")?,
                '>' => dest.write_str("&gt;")?,
                '"' => dest.write_str("&quot;")?,
                '\'' => dest.write_str("&#39;")?,
                '\n' => dest.write_char(c)?,
                c if hides(c) => write!(dest, "[U+{:04X}]", u32::from(c))?,
                c => dest.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Controls, marks of direction, separators of lines, and what Unicode calls ignorable by default
/// (`Default_Ignorable_Code_Point`), blanks that are no space among them.
fn hides(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}
