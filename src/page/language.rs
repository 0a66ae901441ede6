//! The reader's language, and all that pages say in it: one table, a line a text, English, German and French side by
//! side. Another language is another column.

use std::cmp::Ordering;

/// What pages are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Language {
    #[default]
    English,
    German,
    French,
}

macro_rules! words {
    ($($name:ident: $english:literal, $german:literal, $french:literal;)*) => {
        /// The table's column of one language.
        pub(super) struct Words {
            $( pub(super) $name: &'static str, )*
        }

        const ENGLISH: Words = Words { $( $name: $english, )* };
        const GERMAN: Words = Words { $( $name: $german, )* };
        const FRENCH: Words = Words { $( $name: $french, )* };
    };
}

words! {
    pay: "Please pay", "Bitte bezahlen", "À payer";
    pay_here: "Pay with GNU Taler", "Mit GNU Taler bezahlen", "Payer avec GNU Taler";
    scan: "Or scan this code with the wallet on your phone:",
        "Oder scannen Sie diesen Code mit dem Wallet auf Ihrem Telefon:",
        "Ou scannez ce code avec le portefeuille de votre téléphone :";
    waits: "This page updates by itself.", "Diese Seite aktualisiert sich von selbst.",
        "Cette page se met à jour d’elle-même.";
    claimed: "A wallet has taken this order", "Ein Wallet hat diese Bestellung übernommen",
        "Un portefeuille a pris cette commande";
    claimed_further: "Confirm the payment there. If that is not your wallet, ask the shop for a new order.",
        "Bestätigen Sie dort die Zahlung. Ist es nicht Ihr Wallet, bitten Sie den Händler um eine neue Bestellung.",
        "Confirmez-y le paiement. Si ce n’est pas votre portefeuille, demandez une nouvelle commande au commerçant.";
    elsewhere: "This order is somebody else’s", "Diese Bestellung gehört jemand anderem",
        "Cette commande est celle de quelqu’un d’autre";
    order_anew: "Order anew", "Neu bestellen", "Commander à nouveau";
    open_wallet: "Open the wallet", "Wallet öffnen", "Ouvrir le portefeuille";
    paid: "Paid", "Bezahlt", "Payé";
    paid_further: "Thank you. The shop has your payment.", "Danke. Der Händler hat Ihre Zahlung.",
        "Merci. Le commerçant a reçu votre paiement.";
    to_shop: "Continue to the shop", "Weiter zum Händler", "Continuer vers la boutique";
    refund: "A refund is waiting for you", "Eine Erstattung wartet auf Sie", "Un remboursement vous attend";
    refund_here: "Accept the refund with GNU Taler", "Erstattung mit GNU Taler annehmen",
        "Accepter le remboursement avec GNU Taler";
    refunded: "Refunded", "Erstattet", "Remboursé";
    refunded_further: "The wallet that paid has picked up the refund.",
        "Das Wallet, das bezahlt hat, hat die Erstattung abgeholt.",
        "Le portefeuille qui a payé a récupéré le remboursement.";
    expired: "This order can no longer be paid", "Diese Bestellung kann nicht mehr bezahlt werden",
        "Cette commande ne peut plus être payée";
    expired_further: "Its time is over. Ask the shop for a new order.",
        "Ihre Zeit ist abgelaufen. Bitten Sie den Händler um eine neue Bestellung.",
        "Son délai est écoulé. Demandez une nouvelle commande au commerçant.";
    unknown: "There is no such order", "Diese Bestellung gibt es nicht", "Cette commande n’existe pas";
    forbidden: "This address does not open the order", "Diese Adresse öffnet die Bestellung nicht",
        "Cette adresse n’ouvre pas la commande";
    address_further: "Use the whole address that the shop gave you.",
        "Verwenden Sie die ganze Adresse, die der Händler Ihnen gegeben hat.",
        "Utilisez l’adresse complète que le commerçant vous a donnée.";
    failed: "That did not work", "Das hat nicht geklappt", "Cela n’a pas fonctionné";
    failed_further: "Please try again in a moment.", "Bitte versuchen Sie es gleich noch einmal.",
        "Veuillez réessayer dans un instant.";
    order: "Order", "Bestellung", "Commande";
    until: "Payable until", "Zahlbar bis", "Payable jusqu’au";
    price: "Price", "Preis", "Prix";
    refunded_in_all: "Refunded in all", "Insgesamt erstattet", "Remboursé au total";
    qr_code: "QR code", "QR-Code", "Code QR";
}

impl Language {
    /// As documents and requests name it.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::German => "de",
            Language::French => "fr",
        }
    }

    /// What stands between a whole number and its fraction.
    pub(super) fn decimal_mark(self) -> char {
        if self == Language::English { '.' } else { ',' }
    }

    pub(super) fn words(self) -> &'static Words {
        match self {
            Language::English => &ENGLISH,
            Language::German => &GERMAN,
            Language::French => &FRENCH,
        }
    }

    /// Which of ours an `Accept-Language` (RFC 9110, 12.5.4) likes best; of equals the first. English where it likes none.
    pub(crate) fn wanted(accepted: &str) -> Language {
        let mut best = (Language::default(), 0);
        for (range, weight) in weighted(accepted) {
            let language = match range.split('-').next().unwrap_or_default() {
                "en" | "*" => Language::English,
                "de" => Language::German,
                "fr" => Language::French,
                _ => continue,
            };
            if weight > best.1 {
                best = (language, weight);
            }
        }
        best.0
    }
}

/// Whether an `Accept` (RFC 9110, 12.5.1) likes a page better than JSON: browsers name pages, wallets and shops do not.
pub(crate) fn wants_page(accepted: &str) -> bool {
    let weight = |media: &str| {
        weighted(accepted)
            .find(|(range, _)| range == media)
            .map(|(_, weight)| weight)
    };
    let page = weight("text/html").unwrap_or(0);
    page > 0 && page.cmp(&weight("application/json").unwrap_or(0)) == Ordering::Greater
}

/// The elements of a list with weights, in thousandths, in lower case. A weight that is none is nothing.
fn weighted(list: &str) -> impl Iterator<Item = (String, u32)> {
    list.split(',').map(|element| {
        let mut parts = element.split(';').map(|part| part.trim().to_ascii_lowercase());
        let range = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| Some(part.strip_prefix("q=")?.to_owned()));
        (
            range,
            weight.map_or(1000, |weight| thousandths(&weight).unwrap_or(0)),
        )
    })
}

fn thousandths(weight: &str) -> Option<u32> {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 3 {
        return None;
    }
    let all: u32 = format!("{whole}{fraction:0<3}").parse().ok()?;
    (all <= 1000).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_one_that_is_liked_best() {
        for (accepted, language) in [
            ("", Language::English),
            ("de", Language::German),
            ("de-CH, fr;q=0.9", Language::German),
            ("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", Language::French),
            ("en;q=0.2,DE;q=0.3", Language::German),
            ("it,es;q=0.9", Language::English),
            ("it, fr;q=0.1", Language::French),
            ("de;q=0, fr;q=0.001", Language::French),
            ("de;q=2, fr;q=nan", Language::English),
            ("*, de;q=0.5", Language::English),
            ("deutsch", Language::English),
        ] {
            assert_eq!(Language::wanted(accepted), language, "{accepted}");
        }
    }

    #[test]
    fn a_page_is_for_those_who_ask_for_one() {
        for (accepted, page) in [
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
                true,
            ),
            ("text/html", true),
            ("application/json;q=0.9, text/html", true),
            ("", false),
            ("*/*", false),
            ("text/*", false),
            ("application/json", false),
            ("application/json, text/plain, */*", false),
            ("application/json, text/html", false),
            ("text/html;q=0", false),
        ] {
            assert_eq!(wants_page(accepted), page, "{accepted}");
        }
    }
}
