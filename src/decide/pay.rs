//! Decides a wallet's payment: whether its coins may be deposited for the order, and when the order is paid. One payment or
//! abort of an order is decided at a time (`paying.rs`). What an abort names is never deposited or counted again; what is
//! deposited and not counted goes back to its wallet in the commit that completes the payment.
//! Specification: Taler's merchant API, `POST orders/$ORDER_ID/pay`; what it leaves open stands in `docs/protocol-choices.md`.

use std::collections::BTreeSet;

use quittance_events::facts::{
    AbortExtended, DepositCoin, DepositRecorded, DepositReplied, DepositRequested, DepositUnreached,
    ExtendedCoin, Failure, PaymentCompleted, SessionPaid, Verdict,
};
use quittance_events::sale::{Batch, Sale};
use quittance_events::{AttachmentName, Folded, NewEvent, Order, RefundId, Seq};
use quittance_taler::deposit::{DepositReply, DepositSignatures, DepositedCoin};
use quittance_taler::payment::{PaidCoin, PayRequest, Price};
use quittance_taler::{CoinPub, Digest32, EddsaPrivateKey, ErrorCode, HashCode, MasterPub, Micros, sum};

use super::coins::{self, Checked, Share, Wanted, enough, is_alike, shares};
use super::deposits::malformed;
use super::permit;
use crate::limits::{BATCHES_MAX, COINS_MAX, PAY_COINS_MAX, SESSIONS_MAX};
use crate::refusal::Refusal;

/// A wallet's payment. No `Debug`: signatures of coins are money while they are not deposited.
#[derive(Clone)]
pub struct Payment {
    /// In the wallet's order.
    pub coins: Vec<PaidCoin>,
    /// Digest of the session that it is made in.
    pub session: Option<Digest32>,
    /// The request as received.
    pub body: Vec<u8>,
}

/// What the ledger has of a session instead of its id, which lets a browser in.
#[must_use]
pub fn session_digest(session_id: &str) -> Option<Digest32> {
    let digest = |id: &str| blake3::derive_key("quittance 2026-11-21 session v1", id.as_bytes());
    (!session_id.is_empty()).then(|| Digest32::from_bytes(digest(session_id)))
}

impl Payment {
    /// Reads a request's body.
    ///
    /// # Errors
    /// It has not the form of one.
    pub fn read(body: &[u8]) -> Result<Payment, Refusal> {
        let request = PayRequest::read(body)
            .map_err(|error| Refusal::new(ErrorCode::GenericJsonInvalid).detail(error))?;
        Ok(Payment {
            coins: request.coins,
            session: session_digest(&request.session_id),
            body: body.to_vec(),
        })
    }

    fn names(&self, coin: &CoinPub) -> bool {
        self.coins.iter().any(|named| named.coin_pub == *coin)
    }
}

/// How the order stands to a payment.
#[derive(Debug)]
pub enum Standing<'a> {
    /// It is paid, by these coins.
    Paid(&'a Order, &'a Sale),
    /// It may be paid by them.
    Open(&'a Order, &'a Sale),
}

/// The order as it was sold, where it is known to wallets.
///
/// # Errors
/// There is no such order, nobody has claimed it, it was taken back, or it was sold elsewhere.
pub fn sold(order: Option<&Folded>) -> Result<(&Order, &Sale), Refusal> {
    let unknown = || Refusal::new(ErrorCode::MerchantGenericOrderUnknown);
    let order = order.and_then(Folded::order).ok_or_else(unknown)?;
    match &order.sale {
        Some(sale) if !sale.deleted => Ok((order, sale)),
        Some(_) => Err(unknown()),
        None => Err(unknown().detail("the order was not sold here")),
    }
}

/// How the order stands to a payment at `now`, as far as no exchange's keys are needed to say it. `configured` tells
/// whether an exchange may be used here at all.
///
/// # Errors
/// In this order: no such order; paid with other coins, or refunded since it was paid with these; too late, unless it was
/// begun in time; too many coins or one twice; an exchange that neither terms nor configuration name; another currency; a coin under an abort.
pub fn standing<'a>(
    order: Option<&'a Folded>,
    payment: &Payment,
    configured: impl Fn(&MasterPub) -> bool,
    now: Micros,
) -> Result<(Standing<'a>, Vec<Share>), Refusal> {
    let (order, sale) = sold(order)?;
    if let Some(paid) = &order.payment {
        if !is_paid_by(order, &paid.coins, payment) {
            return Err(Refusal::new(ErrorCode::MerchantPostOrdersIdPayAlreadyPaid));
        }
        if !order.rows.is_empty() {
            return Err(Refusal::new(ErrorCode::MerchantPostOrdersIdPayReplayAfterRefund));
        }
        return Ok((Standing::Paid(order, sale), Vec::new()));
    }
    let is_begun =
        || shares(order, payment, &configured).is_ok_and(|shares| coins::is_begun(order, payment, &shares));
    // A wallet gives a payment up for good at a 410. What was asked in time the exchange may have taken.
    if now.is_past(sale.offer.created.pay_deadline_s) && !is_begun() {
        return Err(Refusal::new(ErrorCode::MerchantPostOrdersIdPayOfferExpired));
    }
    if payment.coins.len() > PAY_COINS_MAX {
        return Err(malformed(format!("at most {PAY_COINS_MAX} coins")));
    }
    let named: BTreeSet<CoinPub> = payment.coins.iter().map(|coin| coin.coin_pub).collect();
    if named.len() < payment.coins.len() {
        return Err(malformed("coins names a coin twice"));
    }
    let shares = shares(order, payment, configured)?;
    let currency = order.currency();
    if payment
        .coins
        .iter()
        .any(|coin| coin.contribution.currency() != currency)
    {
        return Err(Refusal::new(ErrorCode::MerchantGenericCurrencyMismatch)
            .detail(format!("the order is in {currency}")));
    }
    if let Some(coin) = named.iter().find(|coin| !order.counts(coin)) {
        return Err(Refusal::new(ErrorCode::MerchantPostOrdersIdPayRefunded)
            .detail(format!("coin {coin} is under an abort"))
            .member("coin_pub", coin.to_string()));
    }
    Ok((Standing::Open(order, sale), shares))
}

/// Whether these are the coins that paid, as they paid. A coin whose abort the exchange refused counts, whoever named it;
/// but who names none has shown none to be his.
fn is_paid_by(order: &Order, paid: &BTreeSet<CoinPub>, payment: &Payment) -> bool {
    let same = |coin: &PaidCoin| {
        paid.contains(&coin.coin_pub)
            && order.deposit(&coin.coin_pub).is_some_and(|deposit| {
                deposit.amount_with_fee == coin.contribution && deposit.coin_sig == Some(coin.coin_sig)
            })
    };
    payment.coins.is_empty() == paid.is_empty()
        && payment.coins.iter().all(same)
        && paid
            .iter()
            .all(|coin| payment.names(coin) || order.aborted(coin).is_some())
}

/// Decides what a checked payment records before anything is sent: the batches that no undecided one is like, or that
/// the order is paid where nothing is left to deposit.
///
/// # Errors
/// As [`standing`]; or the order has too many batches or coins, which is no last word where money is inside.
pub fn decide(
    order: Option<&Folded>,
    payment: &Payment,
    checked: &Checked,
    price: &Price,
    configured: impl Fn(&MasterPub) -> bool,
    merchant: &EddsaPrivateKey,
    now: Micros,
) -> Result<Vec<NewEvent>, Refusal> {
    let (order, sale) = match standing(order, payment, configured, now)?.0 {
        Standing::Paid(_, sale) => return Ok(in_session(sale, payment.session)),
        Standing::Open(order, sale) => (order, sale),
    };
    if checked.wanted.is_empty() {
        return Ok(completed(order, payment, price, merchant));
    }
    let new: Vec<&Wanted> = checked
        .wanted
        .iter()
        .filter(|wanted| undecided(sale, wanted).is_none())
        .collect();
    if !new.is_empty() && now.is_past(sale.offer.created.pay_deadline_s) {
        return Err(Refusal::new(ErrorCode::MerchantPostOrdersIdPayOfferExpired));
    }
    if let Some(why) = beyond_bounds(order, sale, &new) {
        // A wallet gives a payment up for good at a 400, and with it the coins that an exchange has, or may have.
        let is_inside = !order.deposits.is_empty() || in_question(sale).next().is_some();
        let full = || Refusal::new(ErrorCode::GenericOsResourceAllocationFailure).status(503);
        return Err(if is_inside {
            full().detail(why)
        } else {
            malformed(why)
        });
    }
    let requested = |wanted: &&Wanted| {
        let facts = DepositRequested {
            exchange_master_pub: wanted.exchange,
            exchange_url: wanted.url.clone(),
            layout: wanted.layout,
            wallet_data_hash: None,
            coins: wanted.coins.clone(),
            part: None,
        };
        NewEvent::with(facts, AttachmentName::Body, payment.body.clone())
    };
    Ok(new.iter().map(requested).collect())
}

/// Why an order takes none of these batches any more.
fn beyond_bounds(order: &Order, sale: &Sale, new: &[&Wanted]) -> Option<String> {
    if sale.batches.len() + new.len() > BATCHES_MAX {
        return Some(format!(
            "{BATCHES_MAX} batches of deposits were asked for this order already"
        ));
    }
    let deposited = order.deposits.iter().map(|deposit| deposit.coin_pub);
    let asked = new
        .iter()
        .flat_map(|wanted| &wanted.coins)
        .chain(in_question(sale));
    let coins: BTreeSet<CoinPub> = deposited.chain(asked.map(|coin| coin.coin_pub)).collect();
    (coins.len() > COINS_MAX).then(|| format!("at most {COINS_MAX} coins for one order"))
}

/// The batch of these coins that the exchange has not decided.
#[must_use]
pub fn undecided<'a>(sale: &'a Sale, wanted: &Wanted) -> Option<&'a Batch> {
    sale.batches.iter().rfind(|batch| {
        !batch.is_decided()
            && batch.exchange_master_pub == wanted.exchange
            && batch.layout == wanted.layout
            && batch.wallet_data_hash.is_none()
            && batch.coins == wanted.coins
    })
}

/// Records that the order was shown to be paid in a session, once. Whoever has paid is told so as often as he asks, though
/// no more sessions are recorded.
#[must_use]
pub fn in_session(sale: &Sale, session: Option<Digest32>) -> Vec<NewEvent> {
    let new = session.filter(|session| sale.session != Some(*session) && sale.sessions < SESSIONS_MAX);
    new.map(|session| NewEvent::bare(SessionPaid { session }))
        .into_iter()
        .collect()
}

/// How an attempt at a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The exchange replied: what that proves, and the body.
    Replied(DepositReplied, Vec<u8>),
    /// It did not.
    Unreached(DepositUnreached),
}

impl Outcome {
    /// Which batch it is about.
    #[must_use]
    pub fn batch(&self) -> Seq {
        match self {
            Outcome::Replied(facts, _) => facts.batch,
            Outcome::Unreached(facts) => facts.batch,
        }
    }

    /// Whether it brought nothing.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Outcome::Replied(..) => None,
            Outcome::Unreached(facts) => Some(facts.failure),
        }
    }
}

/// What an attempt at a batch records: what came, each deposit that it confirms, and, of coins that came too late, that
/// they go back. Nothing where the batch is decided already, or where it is one more failure of a long streak.
#[must_use]
pub fn recorded(order: &Order, outcome: &Outcome, merchant: &EddsaPrivateKey) -> Vec<NewEvent> {
    let batch = order.sale.as_ref().and_then(|sale| {
        let mut batches = sale.batches.iter();
        batches.find(|batch| batch.seq == outcome.batch())
    });
    let Some(batch) = batch.filter(|batch| !batch.is_decided()) else {
        return Vec::new();
    };
    let (facts, body) = match outcome {
        Outcome::Unreached(facts) if facts.attempt.is_power_of_two() => {
            return vec![NewEvent::bare(facts.clone())];
        }
        Outcome::Unreached(_) => return Vec::new(),
        Outcome::Replied(facts, _) if !facts.verdict.is_conclusive() && !facts.attempt.is_power_of_two() => {
            return Vec::new();
        }
        Outcome::Replied(facts, body) => (facts, body),
    };
    let mut events = vec![NewEvent::with(facts.clone(), AttachmentName::Reply, body.clone())];
    if facts.verdict != Verdict::Confirmed {
        return events;
    }
    let reply = DepositReply::read(body).expect("what is confirmed was read");
    let mut back = Vec::new();
    for (place, coin) in batch.coins.iter().enumerate() {
        // A coin of two batches, of which the other was confirmed before.
        if order.deposit(&coin.coin_pub).is_some() {
            continue;
        }
        let exchange_sig = match &reply.signatures {
            DepositSignatures::One(signature) => Some(*signature),
            DepositSignatures::PerCoin(signatures) => signatures.get(place).copied(),
        };
        events.push(NewEvent::bare(DepositRecorded {
            coin_pub: coin.coin_pub,
            exchange_master_pub: batch.exchange_master_pub,
            exchange_url: batch.exchange_url.clone(),
            amount_with_fee: coin.amount_with_fee,
            deposit_fee: coin.deposit_fee,
            refund_fee: coin.refund_fee,
            h_denom: Some(coin.h_denom),
            coin_sig: Some(coin.coin_sig),
            exchange_pub: Some(reply.exchange_pub),
            exchange_sig,
            exchange_timestamp_s: Some(reply.exchange_timestamp),
            by: None,
        }));
        // An abort that asked for it while it was in question has its permission already.
        let is_late = match order.aborted(&coin.coin_pub) {
            Some(aborted) => aborted.permission.is_none(),
            None => order.payment.is_some(),
        };
        if is_late {
            back.push(given_back(order, &coin.coin_pub, coin.amount_with_fee, merchant));
        }
    }
    events.extend(extended(back));
    events
}

fn given_back(
    order: &Order,
    coin: &CoinPub,
    amount: quittance_taler::Amount,
    merchant: &EddsaPrivateKey,
) -> ExtendedCoin {
    let id = RefundId::ABORT;
    ExtendedCoin {
        coin_pub: *coin,
        amount,
        merchant_sig: permit(merchant, &order.terms.h_contract, coin, id, &amount),
    }
}

fn extended(coins: Vec<ExtendedCoin>) -> Option<NewEvent> {
    (!coins.is_empty()).then(|| {
        NewEvent::bare(AbortExtended {
            coins,
            part: None,
            by: None,
        })
    })
}

/// What completes the payment on the order as it stands: nothing while a coin of it is not deposited. Coins of other
/// tries go back first, whether they are deposited or in question: nobody else would ask for them any more.
#[must_use]
pub fn completed(
    order: &Order,
    payment: &Payment,
    price: &Price,
    merchant: &EddsaPrivateKey,
) -> Vec<NewEvent> {
    let Some(sale) = &order.sale else {
        return Vec::new();
    };
    let deposited: Option<Vec<DepositedCoin>> = payment
        .coins
        .iter()
        .map(|coin| {
            let deposit = order.deposit(&coin.coin_pub)?;
            (is_alike(deposit, coin) && order.counts(&coin.coin_pub))
                .then(|| coin.deposited(deposit.deposit_fee))
        })
        .collect();
    let Some(deposited) = deposited else {
        return Vec::new();
    };
    if order.payment.is_some() || enough(price, &deposited).is_err() {
        return Vec::new();
    }
    let (mut coins, mut back) = (Vec::new(), Vec::new());
    for deposit in &order.deposits {
        let coin = &deposit.coin_pub;
        if payment.names(coin) {
            coins.push(*coin);
        } else if order.aborted(coin).is_none() {
            back.push(given_back(order, coin, deposit.amount_with_fee, merchant));
        } else if order.counts(coin) {
            // The exchange refused to give it back for good.
            coins.push(*coin);
        }
    }
    for coin in in_question(sale) {
        let taken = order.deposit(&coin.coin_pub).is_some() || order.aborted(&coin.coin_pub).is_some();
        if !taken && back.iter().all(|known| known.coin_pub != coin.coin_pub) {
            back.push(given_back(order, &coin.coin_pub, coin.amount_with_fee, merchant));
        }
    }
    let counted = order
        .deposits
        .iter()
        .filter(|deposit| coins.contains(&deposit.coin_pub));
    let Ok(paid) = sum(order.currency(), counted.map(|deposit| deposit.amount_with_fee)) else {
        return Vec::new();
    };
    let mut events: Vec<NewEvent> = extended(back).into_iter().collect();
    events.push(NewEvent::bare(PaymentCompleted {
        paid,
        coins,
        part: None,
        by: None,
    }));
    events.extend(
        payment
            .session
            .map(|session| NewEvent::bare(SessionPaid { session })),
    );
    events
}

/// Coins of batches that their exchange may have taken.
fn in_question(sale: &Sale) -> impl Iterator<Item = &DepositCoin> {
    let open = sale.batches.iter().filter(|batch| batch.is_in_question());
    open.flat_map(|batch| &batch.coins)
}

/// Decides what a wallet shows that has paid: that the order is, in this session.
///
/// # Errors
/// No such order, another contract, a signature that is not the merchant's over the payment, too many sessions.
pub fn show(
    order: Option<&Folded>,
    h_contract: &HashCode,
    sig: &quittance_taler::EddsaSignature,
    session: Option<Digest32>,
) -> Result<Vec<NewEvent>, Refusal> {
    let (order, sale) = sold(order)?;
    if order.terms.h_contract != *h_contract {
        return Err(Refusal::new(
            ErrorCode::MerchantPostOrdersIdPaidContractHashMismatch,
        ));
    }
    let message = quittance_taler::message::payment_ok(h_contract);
    if order.payment.is_none() || !order.terms.merchant_pub.verify(&message, sig) {
        return Err(Refusal::new(
            ErrorCode::MerchantPostOrdersIdPaidCoinSignatureInvalid,
        ));
    }
    if sale.sessions >= SESSIONS_MAX && session.is_some_and(|session| sale.session != Some(session)) {
        return Err(malformed(format!("at most {SESSIONS_MAX} sessions of one order")));
    }
    Ok(in_session(sale, session))
}
