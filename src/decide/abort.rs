//! Decides a wallet's abort. Specification: Taler's merchant API, `POST orders/$ORDER_ID/abort`; what it leaves
//! open stands in `docs/protocol-choices.md`. A coin that the request does not name is never touched: two wallets
//! may fight over one order.

use std::collections::BTreeSet;
use std::time::Duration;

use quittance_events::facts::{AbortCoin, AbortCoinState, AbortRefused, AbortRequested};
use quittance_events::{AttachmentName, NewEvent, Order, RefundId, Seq};
use quittance_taler::{CoinPub, EddsaPrivateKey, ErrorCode, HashCode, Micros};

use super::permit;
use crate::limits::{ABORT_REFUSALS_MAX, ABORTED_COINS_MAX, COINS_MAX, DEPOSIT_LINGERS};
use crate::refusal::Refusal;

/// A wallet's abort. Its `contribution` and `exchange_url` were checked for form and count for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbortRequest {
    /// Proves that the wallet knows the contract.
    pub h_contract: HashCode,
    /// The coins it wants back, in its order.
    pub coins: Vec<CoinPub>,
    /// The request as received.
    pub body: Vec<u8>,
}

impl AbortRequest {
    /// Checks what can be checked without the order.
    ///
    /// # Errors
    /// No coins, too many, or one twice.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.coins.is_empty() {
            return Err(Refusal::new(ErrorCode::MerchantPostOrdersIdAbortCoinsArrayEmpty));
        }
        if self.coins.len() > COINS_MAX {
            return Err(Refusal::new(ErrorCode::GenericParameterMalformed)
                .detail(format!("at most {COINS_MAX} coins")));
        }
        if self.named().len() < self.coins.len() {
            return Err(Refusal::new(ErrorCode::GenericParameterMalformed).detail("coins names a coin twice"));
        }
        Ok(())
    }

    fn named(&self) -> BTreeSet<CoinPub> {
        self.coins.iter().copied().collect()
    }
}

/// Decides which coins come under an abort. No events: all of them are already.
///
/// # Errors
/// In this order: no coins, a coin twice, no such order, wrong contract, paid.
pub fn decide(
    order: Option<&Order>,
    request: &AbortRequest,
    merchant: &EddsaPrivateKey,
) -> Result<Vec<NewEvent>, Refusal> {
    request.check()?;
    let Some(order) = order else {
        return Err(Refusal::new(ErrorCode::MerchantPostOrdersIdAbortContractNotFound));
    };
    if order.terms.h_contract != request.h_contract {
        return Err(Refusal::new(
            ErrorCode::MerchantPostOrdersIdAbortContractHashMissmatch,
        ));
    }
    let new = request
        .coins
        .iter()
        .filter(|coin| order.aborted(coin).is_none())
        .count();
    if new == 0 {
        return Ok(Vec::new());
    }
    if order.payment.is_some() {
        return Err(paid(order, request.named()));
    }
    if order.aborts.len() + new > ABORTED_COINS_MAX {
        return Err(Refusal::new(ErrorCode::GenericParameterMalformed).detail(format!(
            "aborts of this order name {ABORTED_COINS_MAX} coins at most"
        )));
    }
    let coins = request
        .coins
        .iter()
        .map(|coin| abort_coin(order, coin, merchant))
        .collect();
    let facts = AbortRequested { coins, part: None };
    Ok(vec![NewEvent::with(
        facts,
        AttachmentName::Body,
        request.body.clone(),
    )])
}

fn abort_coin(order: &Order, coin: &CoinPub, merchant: &EddsaPrivateKey) -> AbortCoin {
    let bare = |state| AbortCoin {
        coin_pub: *coin,
        state,
        amount: None,
        merchant_sig: None,
    };
    if order.aborted(coin).is_some() {
        return bare(AbortCoinState::Known);
    }
    // The recorded deposit, not the request's contribution, is what the exchange has. One that is in question it may
    // have: it says so itself.
    let asked = || order.sale.as_ref()?.in_question(coin);
    let (state, amount) = match (order.deposit(coin), asked()) {
        (Some(deposit), _) => (AbortCoinState::Deposited, deposit.amount_with_fee),
        (None, Some((_, asked))) => (AbortCoinState::Asked, asked.amount_with_fee),
        (None, None) => return bare(AbortCoinState::Undeposited),
    };
    AbortCoin {
        coin_pub: *coin,
        state,
        amount: Some(amount),
        merchant_sig: Some(permit(
            merchant,
            &order.terms.h_contract,
            coin,
            RefundId::ABORT,
            &amount,
        )),
    }
}

/// Until when an abort's refund of this coin is not sent, because a deposit of it may still be on its way: the exchange
/// would know of none, and take the coin afterwards. `since_tried` tells how long ago a batch may have been tried last: by
/// the times that are recorded nobody can tell, since clocks are set.
#[must_use]
pub fn not_before(
    order: &Order,
    coin: &CoinPub,
    since_tried: impl Fn(Seq) -> Duration,
    now: Micros,
) -> Option<Micros> {
    if order.deposit(coin).is_some() {
        return None;
    }
    let batches = order.sale.as_ref()?.batches.iter();
    let in_question = batches.filter(|batch| batch.is_in_question() && batch.names(coin));
    let since = in_question.map(|batch| since_tried(batch.seq)).min()?;
    let left = DEPOSIT_LINGERS
        .checked_sub(since)
        .filter(|left| !left.is_zero())?;
    // Whole seconds, upwards.
    Some(now.plus_s(left.as_secs() + u64::from(left.subsec_nanos() > 0)))
}

/// The 412. It is evidence in a later dispute, so it is recorded, but once per coin set and not without end.
fn paid(order: &Order, named: BTreeSet<CoinPub>) -> Refusal {
    let code = ErrorCode::MerchantPostOrdersIdAbortRefundRefusedPaymentComplete;
    let refusal = Refusal::new(code);
    let coins: Vec<CoinPub> = named.into_iter().collect();
    if order.abort_refusals.contains(&coins) || order.abort_refusals.len() >= ABORT_REFUSALS_MAX {
        return refusal;
    }
    let facts = AbortRefused {
        http_status: code.http_status(),
        error_code: code.code(),
        coins,
        part: None,
    };
    refusal.recording(vec![NewEvent::bare(facts)])
}
