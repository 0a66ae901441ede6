//! Lays out the drawing of where an order's money went: bars for the coins on the left, bars for what became of them
//! on the right, bands between them as wide as the money is. Everything is whole numbers: amounts in units of 10^-8,
//! coordinates in tenths of a pixel. It draws what it is given and judges nothing; the words and the numbers beside
//! the bars carry the meaning, the colours only help. The SVG itself stands in the page's template.

use std::cmp::Reverse;

use crate::report::Sum;

/// Left bars; with more coins the smallest share the last bar, so that every bar can carry its label.
const BARS_MAX: usize = 8;
/// Width of the drawing.
const WIDTH: u32 = 3_900;
/// Where the left bars begin; left of it stand their labels.
const LEFT: u32 = 1_180;
/// Where the right bars begin.
const RIGHT: u32 = 2_540;
/// Width of a bar.
const BAR: u32 = 120;
/// Height of all money together.
const MONEY: u32 = 2_200;
/// Height that a label of two lines needs.
const LABEL: u32 = 340;
/// Between two bars.
const GAP: u32 = 80;
/// Around the drawing.
const MARGIN: u32 = 40;
/// A band thinner than this is drawn as a hairline of this width, so that no money is invisible.
const HAIRLINE: u32 = 8;
/// Characters of an amount that fit beside a bar in the usual letters, and in smaller ones; the longest amount fits in
/// the smallest.
const AMOUNT_SHOWN: [usize; 2] = [15, 21];

/// What became of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Kept,
    Refunded,
    GivenBack,
    Open,
    Refused,
}

impl Outcome {
    /// From the top of the drawing to its end.
    pub(super) const ALL: [Outcome; 5] = [
        Outcome::Kept,
        Outcome::Refunded,
        Outcome::GivenBack,
        Outcome::Open,
        Outcome::Refused,
    ];

    pub(super) fn class(self) -> &'static str {
        match self {
            Outcome::Kept => "kept",
            Outcome::Refunded => "refunded",
            Outcome::GivenBack => "given-back",
            Outcome::Open => "open",
            Outcome::Refused => "refused",
        }
    }

    /// As the end of a sentence about an amount.
    fn sentence(self) -> &'static str {
        match self {
            Outcome::Kept => "stays with the merchant",
            Outcome::Refunded => "is refunded, as an exchange's signature confirms",
            Outcome::GivenBack => "is given back after an abort, as an exchange's signature confirms",
            Outcome::Open => "is granted to the customer without a decision of the exchange so far",
            Outcome::Refused => "was granted to the customer and finally refused by the exchange",
        }
    }

    /// Short enough for the label beside a bar.
    pub(super) fn name(self) -> &'static str {
        match self {
            Outcome::Kept => "stays with merchant",
            Outcome::Refunded => "refunded, confirmed",
            Outcome::GivenBack => "given back by abort",
            Outcome::Open => "granted, undecided",
            Outcome::Refused => "refused by exchange",
        }
    }
}

/// One coin's money, in units of 10^-8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CoinMoney {
    /// The coin as the drawing names it.
    pub(super) name: String,
    pub(super) deposited: u128,
    pub(super) refunded: u128,
    pub(super) given_back: u128,
    pub(super) open: u128,
    pub(super) refused: u128,
}

impl CoinMoney {
    /// Splits the deposit among the outcomes; whether what was permitted goes beyond it. A refused permission moves
    /// nothing, so the same money may be permitted again: it takes only what the others leave.
    fn split(&self) -> (Split, bool) {
        let mut left = self.deposited;
        let mut take = |wanted: u128| {
            let taken = wanted.min(left);
            left -= taken;
            taken
        };
        let refunded = take(self.refunded);
        let given_back = take(self.given_back);
        let open = take(self.open);
        let beyond = (refunded, given_back, open) != (self.refunded, self.given_back, self.open);
        let refused = take(self.refused);
        // In the order of `Outcome::ALL`.
        ([left, refunded, given_back, open, refused], beyond)
    }
}

type Split = [u128; 5];

/// A bar with its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) class: &'static str,
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) height: u32,
    pub(super) label_x: u32,
    pub(super) label_y: u32,
    pub(super) amount_y: u32,
    pub(super) name: String,
    pub(super) amount: String,
    /// The amount's letters: `usual`, `smaller` or `smallest`.
    pub(super) letters: &'static str,
    /// In units of 10^-8.
    pub(super) units: u128,
}

/// Money on its way from a left bar to a right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Band {
    pub(super) class: &'static str,
    pub(super) path: String,
    /// Drawn as a hairline.
    pub(super) thin: bool,
    /// What it shows, in words.
    pub(super) words: String,
}

/// The drawing, ready for the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drawing {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) bar: u32,
    pub(super) hairline: u32,
    pub(super) coins: Vec<Bar>,
    pub(super) outcomes: Vec<Bar>,
    pub(super) bands: Vec<Band>,
    /// The whole drawing in words.
    pub(super) words: String,
}

/// Amount of so many units of 10^-8, also beyond Taler's greatest amount.
pub(super) fn money(currency: &str, units: u128) -> String {
    format!("{currency}:{}", Sum(units).text())
}

/// Draws; `None` where nothing was deposited.
pub(super) fn draw(currency: &str, coins: &[CoinMoney]) -> Option<Drawing> {
    let coins: Vec<&CoinMoney> = coins.iter().filter(|coin| coin.deposited > 0).collect();
    let (rows, beyond) = rows(&coins);
    let total: u128 = rows.iter().map(Row::total).sum();
    if total == 0 {
        return None;
    }
    let sums: Split = std::array::from_fn(|o| rows.iter().map(|row| row.split[o]).sum());

    let left: Vec<u128> = rows.iter().map(Row::total).collect();
    let shown: Vec<usize> = (0..sums.len()).filter(|o| sums[*o] > 0).collect();
    let right: Vec<u128> = shown.iter().map(|o| sums[*o]).collect();
    let (left, left_end) = column(&left, total);
    let (right, right_end) = column(&right, total);
    let height = left_end.max(right_end) + MARGIN;
    // The lower column stands in the middle of the higher one.
    let (left_down, right_down) = (
        (height - MARGIN - left_end) / 2,
        (height - MARGIN - right_end) / 2,
    );

    let bar = |class, at_left, place: &Place, down: u32, name: String, units| {
        let amount = money(currency, units);
        Bar {
            class,
            x: if at_left { LEFT } else { RIGHT },
            y: place.y + down,
            height: place.height.max(HAIRLINE),
            label_x: if at_left { LEFT - 80 } else { RIGHT + BAR + 80 },
            label_y: place.middle + down - 35,
            amount_y: place.middle + down + 110,
            name,
            letters: letters(&amount),
            amount,
            units,
        }
    };
    let coin_bars = rows
        .iter()
        .zip(&left)
        .map(|(row, place)| bar("coin", true, place, left_down, row.name.clone(), row.total()));
    let outcome_bars = shown.iter().zip(&right).map(|(o, place)| {
        let outcome = Outcome::ALL[*o];
        bar(
            outcome.class(),
            false,
            place,
            right_down,
            outcome.name().to_owned(),
            sums[*o],
        )
    });

    let mut bands = Vec::new();
    let mut arrived: Split = [0; 5];
    for (row, from) in rows.iter().zip(&left) {
        let mut gone = 0;
        for (o, to) in shown.iter().zip(&right) {
            let units = row.split[*o];
            if units == 0 {
                continue;
            }
            let start = span(from.y + left_down, gone, units, total);
            let end = span(to.y + right_down, arrived[*o], units, total);
            gone += units;
            arrived[*o] += units;
            let outcome = Outcome::ALL[*o];
            bands.push(Band {
                class: outcome.class(),
                path: path(start, end),
                thin: start.1 - start.0 < HAIRLINE || end.1 - end.0 < HAIRLINE,
                words: format!("{}: {} {}", row.name, money(currency, units), outcome.sentence()),
            });
        }
    }
    Some(Drawing {
        width: WIDTH,
        height,
        bar: BAR,
        hairline: HAIRLINE,
        coins: coin_bars.collect(),
        outcomes: outcome_bars.collect(),
        bands,
        words: words(currency, &coins, total, &sums, beyond),
    })
}

/// A left bar's money.
struct Row {
    name: String,
    split: Split,
}

impl Row {
    fn total(&self) -> u128 {
        self.split.iter().sum()
    }
}

/// One row a coin, in their order; of too many, the smallest together at the end.
fn rows(coins: &[&CoinMoney]) -> (Vec<Row>, bool) {
    let mut by_size: Vec<usize> = (0..coins.len()).collect();
    by_size.sort_by_key(|i| (Reverse(coins[*i].deposited), *i));
    let alone = if coins.len() > BARS_MAX {
        BARS_MAX - 1
    } else {
        coins.len()
    };
    let mut large = by_size[..alone].to_vec();
    large.sort_unstable();
    let mut beyond = false;
    let mut split_of = |i: usize| {
        let (split, more) = coins[i].split();
        beyond |= more;
        split
    };
    let mut rows: Vec<Row> = large
        .iter()
        .map(|i| Row {
            name: coins[*i].name.clone(),
            split: split_of(*i),
        })
        .collect();
    let small = &by_size[alone..];
    if !small.is_empty() {
        let mut split: Split = [0; 5];
        for i in small {
            for (sum, units) in split.iter_mut().zip(split_of(*i)) {
                *sum += units;
            }
        }
        rows.push(Row {
            name: format!("{} other coins", small.len()),
            split,
        });
    }
    (rows, beyond)
}

fn letters(amount: &str) -> &'static str {
    match amount.chars().count() {
        shown if shown <= AMOUNT_SHOWN[0] => "usual",
        shown if shown <= AMOUNT_SHOWN[1] => "smaller",
        _ => "smallest",
    }
}

/// Where a bar stands in its column.
struct Place {
    y: u32,
    height: u32,
    middle: u32,
}

/// Places bars below each other, each with room for its label; and where the column ends.
fn column(amounts: &[u128], total: u128) -> (Vec<Place>, u32) {
    let mut y = MARGIN;
    let mut places = Vec::with_capacity(amounts.len());
    for amount in amounts {
        let height = scaled(*amount, total);
        let room = height.max(LABEL);
        places.push(Place {
            y: y + (room - height) / 2,
            height,
            middle: y + room / 2,
        });
        y += room + GAP;
    }
    (places, y - GAP)
}

/// The height of so much money.
fn scaled(amount: u128, total: u128) -> u32 {
    let height = amount.saturating_mul(u128::from(MONEY)) / total;
    u32::try_from(height).map_or(MONEY, |height| height.min(MONEY))
}

/// Upper and lower edge of a band in a bar. Both are scaled from the bar's top, so that roundings do not add up.
fn span(top: u32, before: u128, units: u128, total: u128) -> (u32, u32) {
    (
        top + scaled(before, total),
        top + scaled(before.saturating_add(units), total),
    )
}

fn path(start: (u32, u32), end: (u32, u32)) -> String {
    let (from, to) = (LEFT + BAR, RIGHT);
    let middle = u32::midpoint(from, to);
    format!(
        "M{from} {}C{middle} {1} {middle} {2} {to} {2}L{to} {3}C{middle} {3} {middle} {4} {from} {4}Z",
        start.0, start.0, end.0, end.1, start.1
    )
}

fn words(currency: &str, coins: &[&CoinMoney], total: u128, sums: &Split, beyond: bool) -> String {
    let parts: Vec<String> = Outcome::ALL
        .iter()
        .zip(sums)
        .filter(|(_, units)| **units > 0)
        .map(|(outcome, units)| format!("{} {}", money(currency, *units), outcome.sentence()))
        .collect();
    let (number, plural) = (coins.len(), if coins.len() == 1 { "" } else { "s" });
    let total = money(currency, total);
    let mut text = format!(
        "{total} deposited with {number} coin{plural}. Of it: {}.",
        parts.join("; ")
    );
    if beyond {
        text.push_str(" More was permitted than was deposited; what goes beyond is not drawn.");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    const ONE: u128 = 100_000_000;

    fn coin(n: usize, deposited: u128) -> CoinMoney {
        CoinMoney {
            name: format!("coin {n}"),
            deposited,
            ..CoinMoney::default()
        }
    }

    /// No two bars of a column share a place, everything is within the drawing, labels do not touch.
    fn assert_legible(drawing: &Drawing) {
        for column in [&drawing.coins, &drawing.outcomes] {
            for pair in column.windows(2) {
                assert!(pair[0].y + pair[0].height <= pair[1].y, "{pair:?}");
                assert!(pair[1].label_y - pair[0].label_y >= LABEL, "{pair:?}");
            }
            for bar in column {
                assert!(bar.y + bar.height <= drawing.height, "{bar:?}");
                assert!(bar.amount_y <= drawing.height && bar.label_y >= 100, "{bar:?}");
            }
        }
    }

    #[test]
    fn one_coin_untouched_is_one_band() {
        let drawing = draw("KUDOS", &[coin(1, 5 * ONE)]).unwrap();
        assert_legible(&drawing);
        assert_eq!((drawing.coins.len(), drawing.outcomes.len()), (1, 1));
        assert_eq!(drawing.bands.len(), 1);
        assert_eq!(drawing.outcomes[0].class, "kept");
        assert_eq!(drawing.coins[0].height, MONEY);
        assert_eq!(
            drawing.words,
            "KUDOS:5 deposited with 1 coin. Of it: KUDOS:5 stays with the merchant."
        );
    }

    #[test]
    fn widths_are_in_proportion_and_sums_agree() {
        let coins = [
            CoinMoney {
                refunded: 3 * ONE,
                open: 2 * ONE,
                ..coin(1, 10 * ONE)
            },
            CoinMoney {
                refused: ONE,
                given_back: ONE,
                ..coin(2, 10 * ONE)
            },
        ];
        let drawing = draw("KUDOS", &coins).unwrap();
        assert_legible(&drawing);
        assert_eq!(drawing.coins[0].height, drawing.coins[1].height);
        let sum = |bars: &[Bar]| bars.iter().map(|bar| bar.units).sum::<u128>();
        assert_eq!(sum(&drawing.coins), 20 * ONE);
        assert_eq!(sum(&drawing.outcomes), 20 * ONE);
        let heights: Vec<(&str, u32)> = drawing
            .outcomes
            .iter()
            .map(|bar| (bar.class, bar.height))
            .collect();
        assert_eq!(
            heights,
            [
                ("kept", MONEY * 13 / 20),
                ("refunded", MONEY * 3 / 20),
                ("given-back", MONEY / 20),
                ("open", MONEY * 2 / 20),
                ("refused", MONEY / 20)
            ]
        );
        assert_eq!(drawing.bands.len(), 6);
    }

    #[test]
    fn sixty_coins_share_a_bar_and_nothing_is_lost() {
        let coins: Vec<CoinMoney> = (0..60_usize)
            .map(|n| coin(n, ONE + u128::try_from((n * 7) % 60).unwrap()))
            .collect();
        let drawing = draw("KUDOS", &coins).unwrap();
        assert_legible(&drawing);
        assert_eq!(drawing.coins.len(), BARS_MAX);
        assert_eq!(drawing.coins[BARS_MAX - 1].name, "53 other coins");
        let drawn: u128 = drawing.coins.iter().map(|bar| bar.units).sum();
        assert_eq!(drawn, coins.iter().map(|coin| coin.deposited).sum());
        let alone = |name: &str| drawing.coins.iter().any(|bar| bar.name == name);
        let largest = coins.iter().max_by_key(|coin| coin.deposited).unwrap();
        assert!(alone(&largest.name));
    }

    #[test]
    fn exactly_as_many_coins_as_bars_stand_alone() {
        let coins: Vec<CoinMoney> = (0..BARS_MAX).map(|n| coin(n, ONE)).collect();
        let drawing = draw("KUDOS", &coins).unwrap();
        assert_legible(&drawing);
        assert_eq!(drawing.coins[BARS_MAX - 1].name, format!("coin {}", BARS_MAX - 1));
    }

    #[test]
    fn a_sliver_beside_the_greatest_amount_is_a_hairline() {
        let greatest = (1_u128 << 52) * ONE;
        let coins = [
            coin(1, greatest),
            CoinMoney {
                refunded: 1,
                ..coin(2, 1)
            },
        ];
        let drawing = draw("ABCDEFGHIJK", &coins).unwrap();
        assert_legible(&drawing);
        assert!(drawing.bands[1].thin && !drawing.bands[0].thin);
        assert_eq!(drawing.coins[1].height, HAIRLINE);
        assert_eq!(
            (drawing.coins[0].letters, drawing.coins[1].letters),
            ("smallest", "smallest")
        );
        assert_eq!(letters("KUDOS:1234567.89"), "smaller");
        assert_eq!(drawing.coins[1].amount, "ABCDEFGHIJK:0.00000001");
    }

    #[test]
    fn what_is_refused_takes_only_what_the_others_leave() {
        let twice = CoinMoney {
            refused: 3 * ONE,
            refunded: 2 * ONE,
            ..coin(1, 3 * ONE)
        };
        let (split, beyond) = twice.split();
        assert_eq!((split, beyond), ([0, 2 * ONE, 0, 0, ONE], false));
    }

    #[test]
    fn more_than_was_deposited_is_said_and_not_drawn() {
        let wrong = CoinMoney {
            refunded: 4 * ONE,
            ..coin(1, 3 * ONE)
        };
        let drawing = draw("KUDOS", &[wrong]).unwrap();
        assert_eq!(drawing.outcomes[0].units, 3 * ONE);
        assert!(
            drawing.words.ends_with("what goes beyond is not drawn."),
            "{}",
            drawing.words
        );
    }

    #[test]
    fn nothing_deposited_draws_nothing() {
        assert_eq!(draw("KUDOS", &[coin(1, 0)]), None);
        assert_eq!(draw("KUDOS", &[]), None);
    }
}
