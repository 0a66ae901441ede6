//! What an order's events come to where it was sold here: the offer, who claimed it, and the batches of deposits that
//! payments asked for. Reckoned anew from the event format, as all of the fold.

use quittance_events::facts::{DepositCoin, DepositForm, OrderCreated, OrderRecorded};
use quittance_taler::deposit::{DepositLayout, DepositTerms, DepositedCoin};
use quittance_taler::{
    Amount, CoinPub, Digest32, EddsaSignature, ExchangePub, HashCode, MasterPub, Timestamp,
};

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No wallet has claimed it, and there is no contract.
    Offered,
    /// The contract is recorded at this event; the claim must stand right behind it.
    Recorded(u64),
    Claimed,
}

/// What selling adds to an order.
#[derive(Debug, Clone)]
pub(crate) struct Sale {
    pub(crate) created: OrderCreated,
    pub(crate) stage: Stage,
    /// Digest of the offered terms, where their bytes were there.
    pub(crate) offered: Option<Digest32>,
    /// The nonce in the contract terms, where their bytes were there; from the claim on, the claim's.
    pub(crate) nonce: Option<String>,
    /// Deposit fees that the merchant bears, as far as contract terms have told of it by now.
    pub(crate) max_fee: Option<Amount>,
    pub(crate) deleted: bool,
    /// In recorded order.
    pub(crate) batches: Vec<Batch>,
    /// The payment, where there were no terms at hand to judge its fees by.
    pub(crate) unjudged: Option<Unjudged>,
}

/// A payment whose fees could not be judged when it completed, because the terms were forgotten later.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unjudged {
    pub(crate) seq: u64,
    pub(crate) paid: u128,
    pub(crate) fees: u128,
}

/// A coin as a wallet's request names it.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) coin_pub: CoinPub,
    pub(crate) amount: Amount,
    pub(crate) coin_sig: EddsaSignature,
}

/// Coins of one payment at one exchange.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// Its event.
    pub(crate) seq: u64,
    pub(crate) master: MasterPub,
    pub(crate) url: String,
    pub(crate) form: DepositForm,
    pub(crate) wallet_data_hash: Option<HashCode>,
    pub(crate) coins: Vec<DepositCoin>,
    /// All coins of the wallet's request, of which these are some; none where its bytes are gone.
    pub(crate) request: Option<Vec<Named>>,
    /// Greatest attempt number recorded.
    pub(crate) attempt: u64,
    pub(crate) decided: bool,
    /// An attempt was made of which the exchange has not said what came of it.
    pub(crate) unsure: bool,
    /// Refused, and with another code than that of a coin spent before, which says that it was not taken before.
    pub(crate) refused_otherwise: bool,
    /// Of a confirmation: who signed, and when the exchange took the coins.
    pub(crate) confirmed: Option<(ExchangePub, Timestamp)>,
}

impl Sale {
    pub(crate) fn new(created: OrderCreated, offered: Option<Digest32>) -> Sale {
        Sale {
            created,
            stage: Stage::Offered,
            offered,
            nonce: None,
            max_fee: None,
            deleted: false,
            batches: Vec::new(),
            unjudged: None,
        }
    }

    pub(crate) fn batch_mut(&mut self, seq: u64) -> Option<&mut Batch> {
        self.batches.iter_mut().find(|batch| batch.seq == seq)
    }

    /// The coin in the batches that ask for it, the last one first.
    pub(crate) fn asked(&self, coin: &CoinPub) -> impl Iterator<Item = (&Batch, &DepositCoin)> {
        let coins = self.batches.iter().rev();
        let coins = coins.flat_map(|batch| batch.coins.iter().map(move |asked| (batch, asked)));
        coins.filter(move |(_, asked)| asked.coin_pub == *coin)
    }

    /// What is asked of the coin in a batch that its exchange may have taken.
    pub(crate) fn in_question(&self, coin: &CoinPub) -> Option<Amount> {
        let mut open = self.asked(coin).filter(|(batch, _)| batch.is_in_question());
        open.next().map(|(_, asked)| asked.amount_with_fee)
    }

    /// What all coins of a batch have in common.
    pub(crate) fn deposit_terms(&self, contract: &OrderRecorded, batch: &Batch) -> DepositTerms {
        DepositTerms {
            h_contract: contract.h_contract,
            h_wire: self.created.h_wire,
            merchant_pub: contract.merchant_pub,
            timestamp: contract.timestamp_s,
            refund_deadline: contract.refund_deadline_s,
            wire_transfer_deadline: contract.wire_deadline_s,
            wallet_data_hash: batch.wallet_data_hash,
        }
    }
}

impl Batch {
    /// Whether its coins may be deposited though no confirmation says so.
    pub(crate) fn is_in_question(&self) -> bool {
        !self.decided || (self.unsure && self.refused_otherwise)
    }

    pub(crate) fn layout(&self) -> DepositLayout {
        match self.form {
            DepositForm::PerCoin => DepositLayout::PerCoin,
            DepositForm::PerBatch => DepositLayout::PerBatch,
        }
    }

    pub(crate) fn deposited(&self) -> Vec<DepositedCoin> {
        self.coins.iter().map(deposited).collect()
    }
}

/// A coin as the exchange is asked to take it.
pub(crate) fn deposited(coin: &DepositCoin) -> DepositedCoin {
    DepositedCoin {
        coin_pub: coin.coin_pub,
        h_denom: coin.h_denom,
        h_age_commitment: coin.h_age_commitment,
        amount_with_fee: coin.amount_with_fee,
        deposit_fee: coin.deposit_fee,
        coin_sig: coin.coin_sig,
    }
}

/// The contract that an offer would have, but for its hash, which only a claim gives it.
pub(crate) fn contract_of(created: &OrderCreated) -> OrderRecorded {
    OrderRecorded {
        h_contract: HashCode::from_bytes([0; 64]),
        amount: created.amount,
        timestamp_s: created.timestamp_s,
        refund_deadline_s: created.refund_deadline_s,
        wire_deadline_s: created.wire_deadline_s,
        merchant_pub: created.merchant_pub,
        exchanges: created.exchanges.clone(),
        choice_index: None,
        by: None,
    }
}
