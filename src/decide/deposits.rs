//! Decides what a shop tells of an order's deposits, its payment, and refunds made elsewhere before a takeover.
//! What is told again is not recorded again; one conflict refuses the whole list. Specification: the intake,
//! `docs/protocol-choices.md`.

use quittance_events::facts::{
    AbortExtended, CarriedInRow, DepositRecorded, ExtendedCoin, PaymentCompleted, RefundCarriedIn,
};
use quittance_events::{NewEvent, Order, RefundId, TokenId};
use quittance_taler::contract::is_same_address;
use quittance_taler::json::objects;
use quittance_taler::{
    Amount, CoinPub, EddsaPrivateKey, EddsaSignature, ErrorCode, ExchangePub, HashCode, MasterPub,
    TalerTimestamp, sum,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::permit;
use crate::http::shape;
use crate::limits::COINS_MAX;
use crate::refusal::Refusal;

/// A shop's word on an order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct DepositsRequest {
    /// Coins that were deposited.
    #[serde(deserialize_with = "objects")]
    #[schemars(with = "Vec<ToldDeposit>")]
    pub deposits: Vec<ToldDeposit>,
    /// Whether the order is paid.
    pub paid: bool,
    /// Refunds made elsewhere before a takeover.
    #[serde(default, deserialize_with = "objects")]
    #[schemars(with = "Vec<ToldRefund>")]
    pub refunds: Vec<ToldRefund>,
}

/// One coin's deposit as told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ToldDeposit {
    /// The coin.
    #[schemars(with = "shape::Bytes32")]
    pub coin_pub: CoinPub,
    /// The address of its exchange, as the contract terms have it.
    #[schemars(with = "shape::HttpUrl")]
    pub exchange_url: String,
    /// What the coin gave, deposit fee included.
    #[schemars(with = "shape::Amount")]
    pub amount_with_fee: Amount,
    /// Fee for the deposit.
    #[schemars(with = "shape::Amount")]
    pub deposit_fee: Amount,
    /// Fee for each refund.
    #[schemars(with = "shape::Amount")]
    pub refund_fee: Amount,
    /// The coin's denomination.
    #[schemars(with = "Option<shape::Bytes64>")]
    pub h_denom: Option<HashCode>,
    /// The coin's signature over the deposit.
    #[schemars(with = "Option<shape::Bytes64>")]
    pub coin_sig: Option<EddsaSignature>,
    /// Who confirmed the deposit.
    #[schemars(with = "Option<shape::Bytes32>")]
    pub exchange_pub: Option<ExchangePub>,
    /// The exchange's confirmation.
    #[schemars(with = "Option<shape::Bytes64>")]
    pub exchange_sig: Option<EddsaSignature>,
    /// When the exchange confirmed.
    #[schemars(with = "Option<shape::Timestamp>")]
    pub exchange_timestamp: Option<TalerTimestamp>,
}

/// A refund that was made elsewhere, as told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ToldRefund {
    /// The coin.
    #[schemars(with = "shape::Bytes32")]
    pub coin_pub: CoinPub,
    /// Its id, from 1.
    #[schemars(with = "shape::SafeId")]
    pub rtransaction_id: RefundId,
    /// The amount, refund fee included.
    #[schemars(with = "shape::Amount")]
    pub amount: Amount,
    /// When it was approved.
    #[schemars(with = "shape::Timestamp")]
    pub execution_time: TalerTimestamp,
}

pub(super) fn malformed(detail: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::GenericParameterMalformed).detail(detail)
}

/// Something else is recorded. Taler's table has this code with 500; a shop that tells two stories is no fault of ours.
pub(super) fn conflict(detail: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::GenericDbInvariantFailure)
        .status(409)
        .detail(detail)
}

/// Decides what is new in a shop's word. `configured` tells whether an exchange may be used here at all.
///
/// # Errors
/// No such order, too many coins, another currency, an exchange that neither terms nor configuration name, or a
/// conflict with what is recorded: nothing is recorded then. A payment that is not enough is refused too, but its
/// deposits are recorded.
pub fn decide(
    order: Option<&Order>,
    request: &DepositsRequest,
    configured: impl Fn(&MasterPub) -> bool,
    merchant: &EddsaPrivateKey,
    by: &TokenId,
) -> Result<Vec<NewEvent>, Refusal> {
    let order = order.ok_or_else(|| Refusal::new(ErrorCode::MerchantGenericOrderUnknown))?;
    if order.sale.is_some() {
        return Err(conflict("the order is sold here: its wallet pays here, too"));
    }
    if request.deposits.len() > COINS_MAX || request.refunds.len() > COINS_MAX {
        return Err(malformed(format!("at most {COINS_MAX} coins in one request")));
    }
    let new = new_deposits(order, request, configured, by)?;
    if order.deposits.len() + new.len() > COINS_MAX {
        return Err(malformed(format!("at most {COINS_MAX} coins for one order")));
    }
    let total = sum(
        order.currency(),
        order
            .deposits
            .iter()
            .chain(&new)
            .map(|deposit| deposit.amount_with_fee),
    );
    total.map_err(|_| malformed("the deposits add up to more than an amount can say"))?;

    // A coin whose abort came first stays aborted, and a payment that is complete takes no more coins.
    let late = |coin: &CoinPub| order.payment.is_some() || order.aborted(coin).is_some();
    let extended: Vec<ExtendedCoin> = new
        .iter()
        .filter(|deposit| late(&deposit.coin_pub))
        .map(|deposit| ExtendedCoin {
            coin_pub: deposit.coin_pub,
            amount: deposit.amount_with_fee,
            merchant_sig: permit(
                merchant,
                &order.terms.h_contract,
                &deposit.coin_pub,
                RefundId::ABORT,
                &deposit.amount_with_fee,
            ),
        })
        .collect();
    let mut events: Vec<NewEvent> = new.iter().cloned().map(NewEvent::bare).collect();
    if !extended.is_empty() {
        events.push(NewEvent::bare(AbortExtended {
            coins: extended,
            part: None,
            by: Some(by.clone()),
        }));
    }

    let payment = match &order.payment {
        Some(payment) => Some((payment.paid, payment.coins.iter().copied().collect())),
        None if request.paid => {
            let (paid, coins) = counted(order, &new)?;
            if paid.units() < order.terms.amount.units() {
                // The coins did reach the exchange: they are recorded, so that an abort can give them back.
                return Err(
                    Refusal::new(ErrorCode::MerchantPostOrdersIdPayPaymentInsufficient)
                        .detail(format!(
                            "{paid} is deposited, the order costs {}",
                            order.terms.amount
                        ))
                        .recording(events),
                );
            }
            let by = Some(by.clone());
            events.push(NewEvent::bare(PaymentCompleted {
                paid,
                coins: coins.clone(),
                part: None,
                by,
            }));
            Some((paid, coins))
        }
        None => None,
    };
    let rows = carried_in(order, request, payment.as_ref(), &new, merchant)?;
    if !rows.is_empty() {
        events.push(NewEvent::bare(RefundCarriedIn {
            rows,
            part: None,
            by: by.clone(),
        }));
    }
    Ok(events)
}

fn new_deposits(
    order: &Order,
    request: &DepositsRequest,
    configured: impl Fn(&MasterPub) -> bool,
    by: &TokenId,
) -> Result<Vec<DepositRecorded>, Refusal> {
    let mut new: Vec<DepositRecorded> = Vec::new();
    for told in &request.deposits {
        let amounts = [told.amount_with_fee, told.deposit_fee, told.refund_fee];
        if amounts.iter().any(|amount| amount.currency() != order.currency()) {
            return Err(Refusal::new(ErrorCode::MerchantGenericCurrencyMismatch)
                .detail(format!("the order is in {}", order.currency())));
        }
        if told.amount_with_fee.is_zero() {
            return Err(malformed("a deposit of nothing"));
        }
        let exchange = named_exchange(order, &told.exchange_url)
            .filter(|exchange| configured(exchange))
            .ok_or_else(|| {
                Refusal::new(ErrorCode::MerchantGenericExchangeUntrusted).detail(&told.exchange_url)
            })?;
        let facts = told.facts(exchange, by);
        let known = order
            .deposit(&told.coin_pub)
            .or_else(|| new.iter().find(|d| d.coin_pub == told.coin_pub));
        match known {
            None => new.push(facts),
            Some(known) if same(known, &facts) => {}
            Some(_) => {
                return Err(conflict(format!(
                    "coin {} is recorded with another deposit",
                    told.coin_pub
                )));
            }
        }
    }
    Ok(new)
}

impl ToldDeposit {
    fn facts(&self, exchange: MasterPub, by: &TokenId) -> DepositRecorded {
        DepositRecorded {
            coin_pub: self.coin_pub,
            exchange_master_pub: exchange,
            exchange_url: self.exchange_url.clone(),
            amount_with_fee: self.amount_with_fee,
            deposit_fee: self.deposit_fee,
            refund_fee: self.refund_fee,
            h_denom: self.h_denom,
            coin_sig: self.coin_sig,
            exchange_pub: self.exchange_pub,
            exchange_sig: self.exchange_sig,
            exchange_timestamp_s: self.exchange_timestamp.map(|TalerTimestamp(time)| time),
            by: Some(by.clone()),
        }
    }
}

/// Equal but for who told it, and for how the exchange's address was written.
fn same(known: &DepositRecorded, told: &DepositRecorded) -> bool {
    let told = DepositRecorded {
        by: known.by.clone(),
        exchange_url: known.exchange_url.clone(),
        ..told.clone()
    };
    *known == told
}

/// The exchange that the contract terms name at this address.
pub(super) fn named_exchange(order: &Order, url: &str) -> Option<MasterPub> {
    let mut named = order.terms.exchanges.iter();
    let named = named.find(|exchange| is_same_address(&exchange.url, url))?;
    Some(named.master_pub)
}

/// What a payment that completes now counts: every deposited coin that no unrefused abort names.
fn counted(order: &Order, new: &[DepositRecorded]) -> Result<(Amount, Vec<CoinPub>), Refusal> {
    let counting = order
        .deposits
        .iter()
        .chain(new)
        .filter(|deposit| order.counts(&deposit.coin_pub));
    let coins = counting.clone().map(|deposit| deposit.coin_pub).collect();
    let paid = sum(order.currency(), counting.map(|deposit| deposit.amount_with_fee))
        .map_err(|_| malformed("the deposits add up to more than an amount can say"))?;
    Ok((paid, coins))
}

fn carried_in(
    order: &Order,
    request: &DepositsRequest,
    payment: Option<&(Amount, Vec<CoinPub>)>,
    new: &[DepositRecorded],
    merchant: &EddsaPrivateKey,
) -> Result<Vec<CarriedInRow>, Refusal> {
    let mut rows: Vec<CarriedInRow> = Vec::new();
    let currency = order.currency();
    for told in &request.refunds {
        let (coin, id, TalerTimestamp(execution_s)) =
            (told.coin_pub, told.rtransaction_id, told.execution_time);
        if told.amount.currency() != currency {
            return Err(Refusal::new(ErrorCode::MerchantGenericCurrencyMismatch)
                .detail(format!("the order is in {currency}")));
        }
        if execution_s.is_never() {
            return Err(malformed("a refund's execution_time is a second, not never"));
        }
        let recorded = order
            .row(&coin, id)
            .map(|row| (row.amount, row.execution_s, row.carried_in));
        let listed = rows
            .iter()
            .find(|row| row.coin_pub == coin && row.rtransaction_id == id);
        match recorded.or_else(|| listed.map(|row| (row.amount, row.execution_s, true))) {
            Some((amount, at, true)) if amount == told.amount && at == execution_s => continue,
            Some(_) => {
                return Err(conflict(format!(
                    "refund {id} of coin {coin} is recorded otherwise"
                )));
            }
            None => {}
        }
        if id == RefundId::ABORT {
            return Err(conflict(
                "rtransaction_id 0 is an abort's; a refund's ids begin at 1",
            ));
        }
        if order.rows.iter().any(|row| !row.carried_in) {
            return Err(conflict(
                "the order has an approval already; refunds are carried in before the first",
            ));
        }
        let Some((_, counted)) = payment else {
            return Err(conflict("the order is not paid, so nothing of it was refunded"));
        };
        let deposit = order
            .deposit(&coin)
            .or_else(|| new.iter().find(|deposit| deposit.coin_pub == coin));
        let Some(deposit) = deposit.filter(|_| counted.contains(&coin)) else {
            return Err(conflict(format!("the payment does not count coin {coin}")));
        };
        rows.push(CarriedInRow {
            coin_pub: coin,
            rtransaction_id: id,
            amount: told.amount,
            execution_s,
            merchant_sig: permit(merchant, &order.terms.h_contract, &coin, id, &told.amount),
        });
        let on_coin = rows
            .iter()
            .filter(|row| row.coin_pub == coin)
            .map(|row| row.amount);
        let on_coin = order
            .rows
            .iter()
            .filter(|row| row.coin_pub == coin)
            .map(|row| row.amount)
            .chain(on_coin);
        let within = sum(currency, on_coin).is_ok_and(|sum| sum.units() <= deposit.amount_with_fee.units());
        if told.amount.is_zero() || !within {
            return Err(conflict(format!(
                "the refunds of coin {coin} are nothing, or more than its deposit"
            )));
        }
    }
    Ok(rows)
}
