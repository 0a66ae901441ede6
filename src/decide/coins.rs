//! A payment's coins: at which exchanges they are, whether each is what it says it is, and whether they are enough. Records
//! nothing and decides nothing about the order (`pay.rs`).
//! Specification: Taler's merchant API, `POST orders/$ORDER_ID/pay`; what it leaves open stands in `docs/protocol-choices.md`.

use quittance_events::Order;
use quittance_events::facts::{DepositCoin, DepositForm, DepositRecorded};
use quittance_events::sale::{Batch, Sale};
use quittance_taler::denomination::{Denomination, DepositWindow};
use quittance_taler::deposit::{DepositLayout, DepositTerms, DepositedCoin};
use quittance_taler::exchange_keys::ExchangeKeys;
use quittance_taler::payment::{PaidCoin, Price, Sufficiency};
use quittance_taler::{ErrorCode, MasterPub, Micros};

use super::deposits::{conflict, malformed, named_exchange};
use super::pay::Payment;
use crate::refusal::Refusal;

/// Which coins of a payment an exchange takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The exchange.
    pub exchange: MasterPub,
    /// Its address as the contract names it.
    pub url: String,
    /// Places in the payment.
    pub coins: Vec<usize>,
}

/// What is to be deposited at one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The exchange.
    pub exchange: MasterPub,
    /// Its address as the contract names it.
    pub url: String,
    /// In which form it signs.
    pub layout: DepositForm,
    /// In the payment's order.
    pub coins: Vec<DepositCoin>,
}

/// A payment whose coins are in order and enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What is not deposited yet.
    pub wanted: Vec<Wanted>,
}

/// Why a coin cannot be deposited.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfit {
    /// In Taler's words.
    pub refusal: Refusal,
    /// The keys of this exchange may be newer than those that were looked at.
    pub look_again: Option<MasterPub>,
}

impl From<Refusal> for Unfit {
    fn from(refusal: Refusal) -> Unfit {
        Unfit {
            refusal,
            look_again: None,
        }
    }
}

/// Whose coins they are, the exchanges in the order in which the payment comes to them.
pub(super) fn shares(
    order: &Order,
    payment: &Payment,
    configured: impl Fn(&MasterPub) -> bool,
) -> Result<Vec<Share>, Refusal> {
    let mut shares: Vec<Share> = Vec::new();
    for (place, coin) in payment.coins.iter().enumerate() {
        let exchange = named_exchange(order, &coin.exchange_url).filter(|exchange| configured(exchange));
        let exchange = exchange.ok_or_else(|| {
            Refusal::new(ErrorCode::MerchantGenericExchangeUntrusted).detail(&coin.exchange_url)
        })?;
        if let Some(share) = shares.iter_mut().find(|share| share.exchange == exchange) {
            share.coins.push(place);
            continue;
        }
        let named = order.terms.exchanges.iter();
        let url = named
            .filter(|named| named.master_pub == exchange)
            .map(|named| named.url.clone())
            .next()
            .unwrap_or_default();
        shares.push(Share {
            exchange,
            url,
            coins: vec![place],
        });
    }
    Ok(shares)
}

/// Checks the coins against their exchanges' keys, and that they are enough. Coins that are only asked for again are as
/// they were. Slow: it checks two signatures a coin.
///
/// # Errors
/// A coin that was asked for another amount before, pays nothing or less than its fee, is of an unknown denomination or
/// of one whose time is over, or whose signature or whose denomination's is wrong; or too little in all.
pub fn check(
    order: &Order,
    payment: &Payment,
    shares: &[Share],
    terms: &DepositTerms,
    price: &Price,
    keys: impl Fn(&MasterPub) -> Option<std::sync::Arc<ExchangeKeys>>,
    now: Micros,
) -> Result<Checked, Unfit> {
    let mut all: Vec<DepositedCoin> = Vec::new();
    let mut wanted = Vec::new();
    for share in shares {
        let keys = keys(&share.exchange)
            .ok_or_else(|| Refusal::new(ErrorCode::MerchantGenericExchangeKeysFailure))?;
        let mut open = Vec::new();
        for coin in named(share, payment) {
            let Some(deposit) = order.deposit(&coin.coin_pub) else {
                open.push(coin);
                continue;
            };
            if !is_alike(deposit, coin) {
                return Err(conflict(format!(
                    "coin {} is deposited for this order with another amount or signature",
                    coin.coin_pub
                ))
                .into());
            }
            all.push(coin.deposited(deposit.deposit_fee));
        }
        if let Some(batch) = begun(order, &share.exchange, &open) {
            for coin in open {
                repeated(coin, &keys)?;
            }
            all.extend(as_signed(&batch.coins));
            wanted.push(Wanted {
                exchange: share.exchange,
                url: batch.exchange_url.clone(),
                layout: batch.layout,
                coins: batch.coins.clone(),
            });
            continue;
        }
        let layout = keys.version.deposit_layout();
        let mut coins = Vec::new();
        for coin in open {
            let found = fit(order, coin, &keys, layout, terms, now).map_err(|mut unfit| {
                unfit.look_again = unfit.look_again.or(Some(share.exchange)).filter(|_| {
                    matches!(
                        unfit.refusal.code,
                        ErrorCode::MerchantPostOrdersIdPayDenominationKeyNotFound
                            | ErrorCode::MerchantPostOrdersIdPayCoinSignatureInvalid
                    )
                });
                unfit
            })?;
            all.push(coin.deposited(found.deposit_fee));
            coins.push(found);
        }
        if !coins.is_empty() {
            wanted.push(Wanted {
                exchange: share.exchange,
                url: share.url.clone(),
                layout: form(layout),
                coins,
            });
        }
    }
    enough(price, &all)?;
    Ok(Checked { wanted })
}

fn named<'a>(share: &'a Share, payment: &'a Payment) -> impl Iterator<Item = &'a PaidCoin> {
    share.coins.iter().filter_map(|place| payment.coins.get(*place))
}

/// The undecided batch of exactly these coins. To ask for them again is one more attempt at it: it was judged when it
/// began, and its exchange may have taken it, whatever the time and the exchange's keys say by now.
fn begun<'a>(order: &'a Order, exchange: &MasterPub, coins: &[&PaidCoin]) -> Option<&'a Batch> {
    let is_same = |asked: &DepositCoin, coin: &PaidCoin| {
        (asked.coin_pub, asked.amount_with_fee, asked.coin_sig)
            == (coin.coin_pub, coin.contribution, coin.coin_sig)
            && (asked.h_denom, asked.h_age_commitment) == (coin.h_denom, coin.h_age_commitment)
    };
    let mut batches = order.sale.as_ref()?.batches.iter();
    batches.rfind(|batch| {
        !batch.is_decided()
            && batch.exchange_master_pub == *exchange
            && batch.wallet_data_hash.is_none()
            && batch.coins.len() == coins.len()
            && batch
                .coins
                .iter()
                .all(|asked| coins.iter().any(|coin| is_same(asked, coin)))
    })
}

/// Whether nothing of the payment is new: each coin is deposited for the order, or asked for in a batch that its exchange
/// has not decided.
pub(super) fn is_begun(order: &Order, payment: &Payment, shares: &[Share]) -> bool {
    let is_begun = |share: &Share| {
        let mut open = Vec::new();
        for coin in named(share, payment) {
            match order.deposit(&coin.coin_pub) {
                None => open.push(coin),
                Some(deposit) if is_alike(deposit, coin) => {}
                Some(_) => return false,
            }
        }
        open.is_empty() || begun(order, &share.exchange, &open).is_some()
    };
    !shares.is_empty() && shares.iter().all(is_begun)
}

/// Of a coin that was asked for before, all but the denomination's signature is on record.
fn repeated(coin: &PaidCoin, keys: &ExchangeKeys) -> Result<(), Refusal> {
    match keys.denomination(&coin.h_denom) {
        Some(denomination) => is_made(coin, denomination),
        None => Ok(()),
    }
}

fn is_made(coin: &PaidCoin, denomination: &Denomination) -> Result<(), Refusal> {
    let coin_pub = coin.coin_pub;
    if denomination.made(&coin_pub, coin.h_age_commitment.as_ref(), &coin.ub_sig) {
        return Ok(());
    }
    Err(malformed(format!(
        "ub_sig of coin {coin_pub} is not its denomination's"
    )))
}

/// The same money under the same signature.
pub(super) fn is_alike(deposit: &DepositRecorded, coin: &PaidCoin) -> bool {
    deposit.amount_with_fee == coin.contribution && deposit.coin_sig == Some(coin.coin_sig)
}

fn fit(
    order: &Order,
    coin: &PaidCoin,
    keys: &ExchangeKeys,
    layout: DepositLayout,
    terms: &DepositTerms,
    now: Micros,
) -> Result<DepositCoin, Unfit> {
    let coin_pub = coin.coin_pub;
    if coin.contribution.is_zero() {
        return Err(malformed(format!("coin {coin_pub} pays nothing")).into());
    }
    let asked = order.sale.as_ref().and_then(|sale| sale.asked_of(&coin_pub));
    if asked.is_some_and(|asked| asked != coin.contribution) {
        let why = format!("coin {coin_pub} was to pay another amount for this order before");
        return Err(conflict(why).into());
    }
    let Some(denomination) = keys.denomination(&coin.h_denom) else {
        let code = ErrorCode::MerchantPostOrdersIdPayDenominationKeyNotFound;
        return Err(Refusal::new(code)
            .detail(format!("coin {coin_pub}"))
            .member("h_denom_pub", coin.h_denom.to_string())
            .into());
    };
    if denomination.deposit_window(now) != DepositWindow::Open {
        let code = ErrorCode::MerchantPostOrdersIdPayDenominationDepositExpired;
        return Err(Refusal::new(code)
            .detail(format!("coin {coin_pub}"))
            .member("h_denom_pub", coin.h_denom.to_string())
            .into());
    }
    let units = coin.contribution.units();
    if units > denomination.value.units() {
        return Err(malformed(format!("coin {coin_pub} is worth {} at most", denomination.value)).into());
    }
    if units < denomination.fees.deposit.units() {
        return Err(Refusal::new(ErrorCode::MerchantPostOrdersIdPayFeesExceedPayment)
            .detail(format!(
                "coin {coin_pub}: its deposit costs {}",
                denomination.fees.deposit
            ))
            .into());
    }
    if !terms.is_permitted(&coin.deposited(denomination.fees.deposit), layout) {
        return Err(
            Refusal::new(ErrorCode::MerchantPostOrdersIdPayCoinSignatureInvalid)
                .detail(format!("coin {coin_pub}"))
                .into(),
        );
    }
    is_made(coin, denomination)?;
    Ok(DepositCoin {
        coin_pub,
        amount_with_fee: coin.contribution,
        deposit_fee: denomination.fees.deposit,
        refund_fee: denomination.fees.refund,
        h_denom: coin.h_denom,
        h_age_commitment: coin.h_age_commitment,
        coin_sig: coin.coin_sig,
    })
}

fn form(layout: DepositLayout) -> DepositForm {
    match layout {
        DepositLayout::PerCoin => DepositForm::PerCoin,
        DepositLayout::PerBatch => DepositForm::PerBatch,
    }
}

pub(super) fn enough(price: &Price, coins: &[DepositedCoin]) -> Result<(), Refusal> {
    let short = |code, detail: String| Err(Refusal::new(code).detail(detail));
    // Wire fees are the merchant's: the contract names no share of them.
    let paid = price
        .is_paid_by(coins, &[])
        .map_err(|_| malformed("the coins add up to more than an amount can say"))?;
    match paid {
        Sufficiency::Enough => Ok(()),
        Sufficiency::FeesExceedPayment => short(
            ErrorCode::MerchantPostOrdersIdPayFeesExceedPayment,
            "the deposit fees are above what the coins pay".to_owned(),
        ),
        Sufficiency::InsufficientDueToFees(lacking) => short(
            ErrorCode::MerchantPostOrdersIdPayInsufficientDueToFees,
            format!("{lacking} is lacking"),
        ),
        Sufficiency::Insufficient(lacking) => short(
            ErrorCode::MerchantPostOrdersIdPayPaymentInsufficient,
            format!("{lacking} is lacking"),
        ),
    }
}

/// The batch's coins as its exchange signs them.
#[must_use]
pub fn as_signed(coins: &[DepositCoin]) -> Vec<DepositedCoin> {
    let signed = |coin: &DepositCoin| DepositedCoin {
        coin_pub: coin.coin_pub,
        h_denom: coin.h_denom,
        h_age_commitment: coin.h_age_commitment,
        amount_with_fee: coin.amount_with_fee,
        deposit_fee: coin.deposit_fee,
        coin_sig: coin.coin_sig,
    };
    coins.iter().map(signed).collect()
}

/// What all coins of the order's payments have in common.
#[must_use]
pub fn deposit_terms(order: &Order, sale: &Sale) -> DepositTerms {
    DepositTerms {
        h_contract: order.terms.h_contract,
        h_wire: sale.offer.created.h_wire,
        merchant_pub: order.terms.merchant_pub,
        timestamp: order.terms.timestamp_s,
        refund_deadline: order.terms.refund_deadline_s,
        wire_transfer_deadline: order.terms.wire_deadline_s,
        wallet_data_hash: None,
    }
}
