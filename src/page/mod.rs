//! The page of an order for whoever opens its address in a browser: what it costs, how it stands, and the way into the
//! wallet. Pure functions of what is told here; they read no ledger and know no HTTP. No script, no resource but the
//! page itself; every text of shop or wallet is escaped by the template, and kept from turning the page's direction.

mod language;
mod qr;

use std::sync::LazyLock;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use quittance_taler::{Amount, Timestamp};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

use language::Words;
pub(crate) use language::{Language, wants_page};
use qr::Qr;

/// While something may change, a browser looks again after so many seconds: the payer sees soon that it worked, and a
/// page that is left open costs little.
const LOOK_AGAIN_S: u64 = 5;

/// Decimals that an amount is shown with at the least.
const DECIMALS_MIN: usize = 2;

const CSS: &str = include_str!("../../templates/order.css");

/// What the page may load and do: its own style, nothing else.
pub(crate) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(CSS));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// An order as its page tells of it.
pub(crate) struct OrderView<'a> {
    /// Its id.
    pub(crate) id: &'a str,
    /// Contract terms, with or without nonce: what they say for people is read from here.
    pub(crate) terms: &'a Value,
    /// What it costs.
    pub(crate) amount: Amount,
    /// How it stands.
    pub(crate) state: OrderState<'a>,
}

/// How an order stands, for a customer.
pub(crate) enum OrderState<'a> {
    /// Nobody has claimed it.
    Payable {
        /// Into the wallet.
        pay_uri: &'a str,
        /// Its pay deadline.
        until: Timestamp,
    },
    /// A wallet has; which one, a browser does not know.
    Claimed {
        /// That wallet goes on with it.
        pay_uri: &'a str,
        /// Its pay deadline.
        until: Timestamp,
    },
    /// Its pay deadline is past.
    Expired,
    /// And nothing is to be picked up.
    Paid,
    /// A wallet has to fetch it.
    RefundWaiting {
        /// Into the wallet.
        refund_uri: &'a str,
        /// What is not picked up yet.
        waiting: Amount,
    },
    /// All that was approved is picked up.
    Refunded {
        /// In all.
        refunded: Amount,
    },
}

/// Why there is no order to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No order of this name.
    Unknown,
    /// The address lacks what only the customer knows, or has it wrong.
    Forbidden,
    /// For another reason.
    Failed,
}

#[derive(Template)]
#[template(path = "order.html")]
struct Page<'a> {
    language: Language,
    words: &'static Words,
    css: &'static str,
    /// For tests and for shops that look at the page.
    state: &'static str,
    refresh: Option<u64>,
    shop: Option<&'a str>,
    heading: &'static str,
    order: Option<Shown<'a>>,
    lines: Vec<&'static str>,
    message: Option<&'a str>,
    action: Option<Action<'a>>,
}

struct Shown<'a> {
    id: &'a str,
    summary: &'a str,
    amount: String,
    facts: Vec<(&'static str, String)>,
}

/// Where the reader goes from here.
struct Action<'a> {
    address: &'a str,
    words: &'static str,
    scan: &'static str,
    qr: Option<Qr>,
}

impl<'a> Action<'a> {
    fn into_wallet(uri: &'a str, words: &'static str, scan: &'static str) -> Action<'a> {
        Action {
            address: uri,
            words,
            scan,
            qr: Qr::of(uri),
        }
    }

    fn plain(address: &'a str, words: &'static str) -> Action<'a> {
        Action {
            address,
            words,
            scan: "",
            qr: None,
        }
    }
}

/// The page of an order.
pub(crate) fn order_page(view: &OrderView<'_>, language: Language) -> String {
    let words = language.words();
    let mut page = Page::bare(language);
    let mut shown = Shown {
        id: view.id,
        summary: said(view.terms, "summary", language).unwrap_or_default(),
        amount: amount_text(&view.amount, language),
        facts: Vec::new(),
    };
    page.shop = view.terms["merchant"]["name"]
        .as_str()
        .filter(|name| !matches!(*name, "" | "default"));
    match &view.state {
        OrderState::Payable { pay_uri, until } => {
            (page.state, page.heading) = ("payable", words.pay);
            page.action = Some(Action::into_wallet(pay_uri, words.pay_here, words.scan));
            page.refresh = Some(LOOK_AGAIN_S);
            shown
                .facts
                .extend(time_text(*until).map(|time| (words.until, time)));
        }
        OrderState::Claimed { pay_uri, until } => {
            (page.state, page.heading) = ("claimed", words.claimed);
            page.lines = vec![words.claimed_further];
            page.action = Some(Action::plain(pay_uri, words.open_wallet));
            page.refresh = Some(LOOK_AGAIN_S);
            shown
                .facts
                .extend(time_text(*until).map(|time| (words.until, time)));
        }
        OrderState::Expired => {
            (page.state, page.heading) = ("expired", words.expired);
            page.lines = vec![words.expired_further];
        }
        OrderState::Paid => {
            (page.state, page.heading) = ("paid", words.paid);
            page.lines = vec![words.paid_further];
            page.fulfil(view.terms, language);
        }
        OrderState::RefundWaiting { refund_uri, waiting } => {
            (page.state, page.heading) = ("refund_waiting", words.refund);
            page.action = Some(Action::into_wallet(refund_uri, words.refund_here, words.scan));
            page.refresh = Some(LOOK_AGAIN_S);
            shown.facts.push((words.price, shown.amount));
            shown.amount = amount_text(waiting, language);
        }
        OrderState::Refunded { refunded } => {
            (page.state, page.heading) = ("refunded", words.refunded);
            page.lines = vec![words.refunded_further];
            page.fulfil(view.terms, language);
            let refunded = amount_text(refunded, language);
            shown.facts.push((words.refunded_in_all, refunded));
        }
    }
    page.order = Some(shown);
    page.text()
}

/// The page of an order that somebody else has, where the shop sells the same again.
pub(crate) fn elsewhere_page(reorder_url: &str, language: Language) -> String {
    let words = language.words();
    let mut page = Page::bare(language);
    (page.state, page.heading) = ("elsewhere", words.elsewhere);
    page.action = web_address(reorder_url).map(|_| Action::plain(reorder_url, words.order_anew));
    page.text()
}

/// The page where there is none of an order.
pub(crate) fn trouble_page(trouble: Trouble, language: Language) -> String {
    let words = language.words();
    let mut page = Page::bare(language);
    let (state, heading, further) = match trouble {
        Trouble::Unknown => ("unknown", words.unknown, words.address_further),
        Trouble::Forbidden => ("forbidden", words.forbidden, words.address_further),
        Trouble::Failed => ("failed", words.failed, words.failed_further),
    };
    (page.state, page.heading, page.lines) = (state, heading, vec![further]);
    page.text()
}

impl<'a> Page<'a> {
    fn bare(language: Language) -> Page<'a> {
        Page {
            language,
            words: language.words(),
            css: CSS,
            state: "",
            refresh: None,
            shop: None,
            heading: "",
            order: None,
            lines: Vec::new(),
            message: None,
            action: None,
        }
    }

    /// What the shop has for those who paid: its word, or its address.
    fn fulfil(&mut self, terms: &'a Value, language: Language) {
        self.message = said(terms, "fulfillment_message", language);
        let address = terms["fulfillment_url"]
            .as_str()
            .filter(|url| web_address(url).is_some());
        self.action = address.map(|url| Action::plain(url, language.words().to_shop));
    }

    fn text(&self) -> String {
        self.render()
            .expect("writing to a String cannot fail, and nothing else in the template can")
    }
}

/// A text of the contract, in the reader's language where the shop gave it so.
fn said<'a>(terms: &'a Value, member: &str, language: Language) -> Option<&'a str> {
    let translated = terms[format!("{member}_i18n")].as_object().and_then(|texts| {
        let tag = language.tag();
        let is_it = |name: &str| name.split(['_', '-']).next() == Some(tag);
        texts
            .get(tag)
            .or_else(|| Some(texts.iter().find(|(name, _)| is_it(name))?.1))
    });
    translated
        .and_then(Value::as_str)
        .or_else(|| terms[member].as_str())
}

/// Contracts may hold addresses of any scheme; of scripts and files a page makes no link.
pub(crate) fn web_address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

fn amount_text(amount: &Amount, language: Language) -> String {
    let decimals = format!("{:08}", amount.fraction());
    let kept = decimals.trim_end_matches('0').len().max(DECIMALS_MIN);
    let (value, mark, currency) = (amount.value(), language.decimal_mark(), amount.currency());
    format!("{value}{mark}{}\u{a0}{currency}", &decimals[..kept])
}

/// `None` for never.
fn time_text(time: Timestamp) -> Option<String> {
    let seconds = i64::try_from(time.seconds()?).ok()?;
    let time: DateTime<Utc> = DateTime::from_timestamp(seconds, 0)?;
    Some(time.format("%Y-%m-%d %H:%M UTC").to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn view<'a>(terms: &'a Value, state: OrderState<'a>) -> OrderView<'a> {
        OrderView {
            id: "2026.325-A",
            terms,
            amount: "KUDOS:7.5".parse().unwrap(),
            state,
        }
    }

    fn states(uri: &str) -> Vec<OrderState<'_>> {
        let amount: Amount = "KUDOS:1.25".parse().unwrap();
        let until = Timestamp::from_s(1_795_226_400).unwrap();
        vec![
            OrderState::Payable { pay_uri: uri, until },
            OrderState::Claimed { pay_uri: uri, until },
            OrderState::Expired,
            OrderState::Paid,
            OrderState::RefundWaiting {
                refund_uri: uri,
                waiting: amount,
            },
            OrderState::Refunded { refunded: amount },
        ]
    }

    fn tags(page: &str) -> Vec<&str> {
        page.split('<')
            .skip(1)
            .map(|rest| rest.split(['>', ' ']).next().unwrap())
            .collect()
    }

    #[test]
    fn each_state_says_its_own_in_each_language() {
        let terms = json!({
            "summary": "boots", "summary_i18n": {"de": "Stiefel", "fr_CH": "bottes"},
            "fulfillment_url": "https://shop.example/thanks?a=1&b=2", "merchant": {"name": "Shoe & Co"},
        });
        for (language, summary, amount) in [
            (Language::English, "boots", "7.50\u{a0}KUDOS"),
            (Language::German, "Stiefel", "7,50\u{a0}KUDOS"),
            (Language::French, "bottes", "7,50\u{a0}KUDOS"),
        ] {
            let pages = states("taler://pay/shop.example/o/?c=X").into_iter();
            let pages: Vec<String> = pages
                .map(|state| order_page(&view(&terms, state), language))
                .collect();
            let words = language.words();
            let headings = [
                words.pay,
                words.claimed,
                words.expired,
                words.paid,
                words.refund,
                words.refunded,
            ];
            for (page, heading) in pages.iter().zip(headings) {
                assert!(page.contains(&format!("<h1>{heading}</h1>")), "{page}");
                assert!(page.contains(&format!("<bdi>{summary}</bdi>")), "{page}");
                assert!(page.contains(amount) && page.contains("Shoe &#38; Co"), "{page}");
                assert!(page.contains(&format!("<html lang=\"{}\">", language.tag())));
            }
            let has = |what: &str| pages.iter().map(|page| page.contains(what)).collect::<Vec<_>>();
            let link = "href=\"taler://pay/shop.example/o/?c=X\"";
            assert_eq!(has(link), [true, true, false, false, true, false]);
            assert_eq!(has("<svg"), [true, false, false, false, true, false]);
            assert_eq!(
                has("http-equiv=\"refresh\""),
                [true, true, false, false, true, false]
            );
            assert_eq!(
                has("https://shop.example/thanks?a=1&#38;b=2"),
                [false, false, false, true, false, true]
            );
            assert_eq!(
                has("2026-11-21 02:00 UTC"),
                [true, true, false, false, false, false]
            );
            for trouble in [Trouble::Unknown, Trouble::Forbidden, Trouble::Failed] {
                assert!(!trouble_page(trouble, language).contains("boots"));
            }
        }
    }

    #[test]
    fn amounts_keep_what_they_have() {
        for (amount, text) in [
            ("KUDOS:7", "7.00"),
            ("KUDOS:0.1", "0.10"),
            ("KUDOS:1.00000001", "1.00000001"),
        ] {
            let amount = amount_text(&amount.parse().unwrap(), Language::English);
            assert_eq!(amount, format!("{text}\u{a0}KUDOS"));
        }
    }

    #[test]
    fn only_web_addresses_become_links() {
        for url in [
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "//shop.example",
            "",
            "taler://x",
        ] {
            let terms = json!({"summary": "x", "fulfillment_url": url});
            let page = order_page(&view(&terms, OrderState::Paid), Language::English);
            assert!(!page.contains("href="), "{url}");
        }
    }

    proptest! {
        // Each case draws codes, which is slow without optimisation.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_text_becomes_markup(
            text in "[<>&\"'/=a-z \\n\u{202e}{}%!-]{0,40}", bait in prop::sample::select(vec![
                "</style><script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "'-->{{ 7*7 }}", "]]>", "&lt;",
            ]),
        ) {
            let text = format!("{text}{bait}");
            let plain = json!({
                "summary": "x", "fulfillment_message": "x", "merchant": {"name": "x"}, "fulfillment_url": "https://x/",
            });
            let baited = json!({
                "summary": text, "fulfillment_message": text, "merchant": {"name": text},
                "fulfillment_url": format!("https://x/{text}"),
            });
            let of = |terms, id, uri| -> Vec<String> {
                let pages = states(uri).into_iter();
                pages.map(|state| order_page(&OrderView { id, ..view(terms, state) }, Language::French)).collect()
            };
            // The same tags, whatever the texts say.
            for (page, same) in of(&baited, &text, &text).iter().zip(of(&plain, "x", "x")) {
                prop_assert_eq!(tags(page), tags(&same));
                prop_assert!(!page.contains("'-->") && !page.contains("\"><img"));
            }
        }
    }
}
