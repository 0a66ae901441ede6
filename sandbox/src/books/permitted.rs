//! Batches of deposits in the books: all coins of one or none, no coin for more than it is worth, and a repeat changes
//! nothing. Signatures were checked before.

use quittance_taler::deposit::DepositedCoin;
use quittance_taler::{CoinPub, Currency, Micros, Timestamp, sum};
use serde_json::json;

use super::{Books, Deposit, Entry, Permission, Reply, history};
use crate::batch::Batch;
use crate::keys::{Protocol, SigningKey};

// Recorded.
const INSUFFICIENT_FUNDS: &str = "The respective coin did not have sufficient residual value for the operation.  \
     The \"history\" in this response provides the \"residual_value\" of the coin, which may be less than its \
     \"original_value\".";
// Not recorded; the registry's sentences.
const CONFLICTING_CONTRACT: &str =
    "The same coin was already deposited for the same merchant and contract with other details.";
const CONFLICTING_DENOMINATION: &str =
    "The same coin was already used with a different denomination previously.";
const SUM_OVERFLOW: &str = "The service could not compute an amount.";

/// Why a coin cannot be deposited.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DepositConflict {
    /// It is of another denomination.
    Denomination,
    /// It was deposited for this contract with other facts.
    Contract,
    /// It has not so much left.
    Funds,
}

/// What a coin has given away, in units: its deposits, less what came back of them.
fn spent(entries: &[Entry], currency: Currency) -> u128 {
    let mut spent = 0;
    for entry in entries {
        match entry {
            Entry::Deposited { deposit, .. } => {
                spent += deposit.amount_with_fee.units();
                // A deposit that is refunded whole has its fee back.
                let refunds = entries.iter().filter_map(Entry::refund);
                let of_this = refunds.filter(|refund| {
                    refund.h_contract == deposit.h_contract && refund.merchant_pub == deposit.merchant_pub
                });
                if sum(currency, of_this.map(|refund| refund.amount)) == Ok(deposit.amount_with_fee) {
                    spent -= deposit.deposit_fee.units();
                }
            }
            Entry::Refunded { refund, fee, .. } => spent -= refund.amount.units() - fee.units(),
        }
    }
    spent
}

impl Books {
    /// Answers a batch whose signatures are good: books all of its coins or none. What was booked before stays, and
    /// is confirmed with its own time.
    pub(crate) fn deposit_batch(
        &mut self,
        batch: &Batch,
        signer: &SigningKey,
        protocol: Protocol,
        now: Micros,
    ) -> Reply {
        let mut booked = Vec::new();
        let mut confirmed_at = now.floor_s();
        let mut refusal = None;
        for at in 0..batch.coins.len() {
            match self.deposit_permitted(batch, at, now) {
                Ok(Some(earlier)) => confirmed_at = earlier,
                Ok(None) => {
                    confirmed_at = now.floor_s();
                    booked.push(batch.coins[at].coin.coin_pub);
                }
                Err(conflict) => {
                    refusal = Some((conflict, &batch.coins[at].coin));
                    break;
                }
            }
        }
        let coins: Vec<DepositedCoin> = batch.coins.iter().map(|coin| coin.coin).collect();
        let reply = match refusal {
            None => signer
                .confirm_deposits(&batch.terms, &coins, confirmed_at, protocol.deposit_layout())
                .map_or_else(|_| Reply::error(500, 62, SUM_OVERFLOW), Reply::ok),
            Some((conflict, coin)) => {
                self.take_back(&booked);
                return self.deposit_conflict(conflict, coin, batch, protocol);
            }
        };
        if reply.status != 200 {
            self.take_back(&booked);
        }
        reply
    }

    /// Books one coin of a batch, or tells when it was booked before.
    fn deposit_permitted(
        &mut self,
        batch: &Batch,
        at: usize,
        now: Micros,
    ) -> Result<Option<Timestamp>, DepositConflict> {
        let (terms, of_batch) = (&batch.terms, &batch.coins[at]);
        let coin = of_batch.coin;
        let deposit = Deposit {
            coin_pub: coin.coin_pub,
            h_contract: terms.h_contract,
            merchant_pub: terms.merchant_pub,
            amount_with_fee: coin.amount_with_fee,
            deposit_fee: coin.deposit_fee,
            refund_fee: of_batch.refund_fee,
            refund_deadline: Some(terms.refund_deadline),
        };
        let permission = Some(Box::new(Permission {
            coin,
            h_wire: terms.h_wire,
            timestamp: terms.timestamp,
            wire_transfer_deadline: terms.wire_transfer_deadline,
            wallet_data_hash: terms.wallet_data_hash,
        }));
        let entries = self.coins.entry(coin.coin_pub).or_default();
        let of_other_denomination =
            |entry: &Entry| entry.h_denom().is_some_and(|h_denom| h_denom != coin.h_denom);
        if entries.iter().any(of_other_denomination) {
            return Err(DepositConflict::Denomination);
        }
        for entry in entries.iter() {
            if let Entry::Deposited {
                deposit: earlier,
                permission: permitted,
                at,
                ..
            } = entry
                && earlier.h_contract == deposit.h_contract
                && earlier.merchant_pub == deposit.merchant_pub
            {
                let same = *earlier == deposit && *permitted == permission;
                return if same {
                    Ok(Some(*at))
                } else {
                    Err(DepositConflict::Contract)
                };
            }
        }
        if spent(entries, self.currency) + coin.amount_with_fee.units() > of_batch.value.units() {
            return Err(DepositConflict::Funds);
        }
        entries.push(Entry::Deposited {
            deposit,
            permission,
            at: now.floor_s(),
            done: false,
        });
        Ok(None)
    }

    /// Undoes the newest entry of each coin.
    fn take_back(&mut self, coins: &[CoinPub]) {
        for coin in coins {
            if let Some(entries) = self.coins.get_mut(coin) {
                entries.pop();
            }
        }
        // A coin that was never deposited is one that the exchange never saw.
        self.coins.retain(|_, entries| !entries.is_empty());
    }

    fn deposit_conflict(
        &self,
        conflict: DepositConflict,
        coin: &DepositedCoin,
        batch: &Batch,
        protocol: Protocol,
    ) -> Reply {
        let (code, hint) = match conflict {
            DepositConflict::Denomination => (1003, CONFLICTING_DENOMINATION),
            DepositConflict::Contract => (1206, CONFLICTING_CONTRACT),
            DepositConflict::Funds => (1012, INSUFFICIENT_FUNDS),
        };
        let reply = Reply::error(409, code, hint);
        if protocol == Protocol::V23 && conflict == DepositConflict::Contract {
            return reply.with("h_wire", json!(batch.terms.h_wire));
        }
        let reply = reply
            .with("coin_pub", json!(coin.coin_pub))
            .with("h_denom_pub", json!(coin.h_denom));
        match protocol {
            Protocol::V14 => reply.with(
                "history",
                history(self.coins.get(&coin.coin_pub).map_or(&[], Vec::as_slice)),
            ),
            Protocol::V23 => reply,
        }
    }
}
