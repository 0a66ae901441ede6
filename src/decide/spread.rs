//! Spreads an amount over coins. An exchange refuses a share below the coin's refund fee, and a rest below the fee
//! could never be refunded later; so each share is 0 or at least the fee, and what then rests on a coin is 0 or at
//! least its fee where that is possible.
//!
//! Of all spreads that fit, the one is taken that gives the first coin as much as possible, then the second, and so
//! on: what a greedy spread gives where it fits, repaired from the nearest coin where it does not. All numbers are
//! units of 10^-8.

/// What a spread may take from a coin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coin {
    /// Deposit less all refunds so far.
    pub(super) rest: u128,
    /// Fee for each refund.
    pub(super) refund_fee: u128,
}

/// Sums that a coin or a row of coins can make: ranges, both ends included, ascending and apart.
type Sums = Vec<(u128, u128)>;

/// Ranges kept for a row of coins. Real fees are far below real coins, so a handful of ranges say all; the bound
/// keeps coins made to confuse from costing memory. Dropping a range only loses spreads, it never makes a wrong one.
const RANGES_MAX: usize = 1024;

impl Coin {
    /// Shares that the exchange takes; `keep_rest`: only those that leave nothing or enough for another refund.
    fn shares(&self, keep_rest: bool) -> Sums {
        let least = self.refund_fee.max(1);
        let mut sums = vec![(0, 0)];
        if self.rest >= least {
            if keep_rest {
                if self.rest >= 2 * least {
                    sums.push((least, self.rest - least));
                }
                sums.push((self.rest, self.rest));
            } else {
                sums.push((least, self.rest));
            }
        }
        sums
    }
}

/// Sorts, joins what touches, and keeps the number of ranges within bounds.
fn tidy(mut sums: Sums) -> Sums {
    sums.sort_unstable();
    let mut tidied: Sums = Vec::new();
    for (from, to) in sums {
        let room = tidied.len() < RANGES_MAX;
        match tidied.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ if room => tidied.push((from, to)),
            _ => {}
        }
    }
    tidied
}

fn reaches(sums: &Sums, amount: u128) -> bool {
    sums.iter().any(|(from, to)| (*from..=*to).contains(&amount))
}

/// For each coin, the sums that it and all after it can make; the last entry is that of no coin.
fn suffixes(coins: &[Coin], keep_rest: bool) -> Vec<Sums> {
    let mut suffixes = vec![vec![(0, 0)]];
    for coin in coins.iter().rev() {
        let after = &suffixes[suffixes.len() - 1];
        let shares = coin.shares(keep_rest);
        let both = shares
            .iter()
            .flat_map(|share| after.iter().map(|sum| (share.0 + sum.0, share.1 + sum.1)));
        let both = tidy(both.collect());
        suffixes.push(both);
    }
    suffixes.reverse();
    suffixes
}

/// The largest share of a coin that leaves to the coins after it a sum that they can make.
fn largest_share(shares: &Sums, after: &Sums, amount: u128) -> Option<u128> {
    let fitting = shares.iter().flat_map(|share| {
        after.iter().filter_map(|sum| {
            // share = amount - what the others take: between amount - sum.1 and amount - sum.0.
            let most = amount.checked_sub(sum.0)?.min(share.1);
            let least = amount.saturating_sub(sum.1).max(share.0);
            (least <= most).then_some(most)
        })
    });
    fitting.max()
}

fn shares_of(coins: &[Coin], amount: u128, keep_rest: bool) -> Option<Vec<u128>> {
    let suffixes = suffixes(coins, keep_rest);
    if !reaches(&suffixes[0], amount) {
        return None;
    }
    let mut left = amount;
    coins
        .iter()
        .zip(&suffixes[1..])
        .map(|(coin, after)| {
            let share = largest_share(&coin.shares(keep_rest), after, left)?;
            left -= share;
            Some(share)
        })
        .collect()
}

/// Each coin's share of `amount`.
///
/// # Errors
/// No spread fits; the nearest amounts below and above that do.
pub(super) fn spread(coins: &[Coin], amount: u128) -> Result<Vec<u128>, Vec<u128>> {
    if let Some(shares) = shares_of(coins, amount, true).or_else(|| shares_of(coins, amount, false)) {
        return Ok(shares);
    }
    let sums = &suffixes(coins, false)[0];
    let below = sums
        .iter()
        .filter(|(_, to)| *to < amount)
        .map(|(_, to)| *to)
        .max();
    let above = sums
        .iter()
        .filter(|(from, _)| *from > amount)
        .map(|(from, _)| *from)
        .min();
    Err(below.into_iter().chain(above).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    fn coin(rest: u128, refund_fee: u128) -> Coin {
        Coin { rest, refund_fee }
    }

    #[test]
    fn greedy_where_it_fits_and_repaired_from_the_nearest_where_not() {
        // In hundredths. The first row is the example of the documentation: A 9.8, B 0.21, never A 9.99.
        let a = coin(1000, 20);
        let b = coin(250, 2);
        for (coins, amount, expected) in [
            (vec![a, b], 1001, Ok(vec![980, 21])),
            (vec![a, b], 400, Ok(vec![400, 0])),
            (vec![a, b], 1000, Ok(vec![1000, 0])),
            (vec![a, b], 1100, Ok(vec![1000, 100])),
            (vec![a, b], 1250, Ok(vec![1000, 250])),
            // A rest of 0.01 must lie somewhere: the first coin is emptied.
            (vec![a, b], 1249, Ok(vec![1000, 249])),
            // Nothing else could take the last 0.1: the rest stays below the fee.
            (vec![a], 990, Ok(vec![990])),
            // The third coin's fee is above what is left for it: the nearest gives.
            (vec![a, b, coin(100, 50)], 1260, Ok(vec![1000, 210, 50])),
            // The third coin cannot be refunded at all: it is skipped.
            (vec![a, coin(5, 10), b], 1100, Ok(vec![1000, 0, 100])),
            // Nothing below the fee.
            (vec![a], 19, Err(vec![0, 20])),
            (vec![a], 1001, Err(vec![1000])),
            (vec![coin(10, 10), coin(10, 10)], 15, Err(vec![10, 20])),
            (vec![], 1, Err(vec![0])),
            // A coin without a fee takes any share.
            (vec![coin(3, 0)], 1, Ok(vec![1])),
        ] {
            assert_eq!(spread(&coins, amount), expected, "{coins:?} {amount}");
        }
    }

    proptest! {
        #[test]
        fn a_spread_is_whole_and_every_share_is_taken_by_the_exchange(
            coins in prop::collection::vec((0u128..2000, 0u128..60).prop_map(|(r, f)| coin(r, f)), 0..40),
            part in 0u128..1000,
        ) {
            let all: u128 = coins.iter().map(|coin| coin.rest).sum();
            let amount = (all * part / 1000).max(1);
            match spread(&coins, amount) {
                Ok(shares) => {
                    prop_assert_eq!(shares.iter().sum::<u128>(), amount);
                    for (coin, share) in coins.iter().zip(&shares) {
                        prop_assert!(*share <= coin.rest);
                        prop_assert!(*share == 0 || *share >= coin.refund_fee);
                    }
                }
                Err(nearest) => for amount in nearest.into_iter().filter(|amount| *amount > 0) {
                    prop_assert!(spread(&coins, amount).is_ok());
                },
            }
        }

        #[test]
        fn it_finds_a_spread_where_there_is_one(
            coins in prop::collection::vec((0u128..12, 0u128..5).prop_map(|(r, f)| coin(r, f)), 1..4),
            amount in 1u128..30,
        ) {
            fn exists(coins: &[Coin], amount: u128) -> bool {
                match coins.split_first() {
                    None => amount == 0,
                    Some((coin, rest)) => (0..=coin.rest.min(amount))
                        .filter(|share| *share == 0 || *share >= coin.refund_fee)
                        .any(|share| exists(rest, amount - share)),
                }
            }
            prop_assert_eq!(spread(&coins, amount).is_ok(), exists(&coins, amount));
        }
    }

    #[test]
    fn coins_made_to_confuse_stay_within_bounds() {
        // Every coin all or nothing, all different: the sums are subset sums, without end.
        let coins: Vec<Coin> = (0..512)
            .map(|n| coin((1 << 40) + (n * n * 7919), (1 << 40) + (n * n * 7919)))
            .collect();
        let shares = spread(&coins, coins[0].rest + coins[1].rest).unwrap();
        assert_eq!(shares.iter().sum::<u128>(), coins[0].rest + coins[1].rest);
    }
}
