//! What the order projection knows of orders that Quittance sells by itself: the offer before its claim, and the batches
//! of deposits that payments asked for. As all folding it decides nothing and refuses only what names something that
//! the order does not have.

use std::sync::Arc;

use quittance_taler::{Amount, CoinPub, Digest32, Micros};

use crate::event::{Event, Facts};
use crate::facts::{
    DepositCoin, DepositForm, DepositReplied, DepositRequested, DepositUnreached, Failure, OrderClaimed,
    OrderCreated, Part, Verdict,
};
use crate::ids::{OrderKey, Seq};
use crate::order::{FoldError, Order};
use quittance_taler::{HashCode, MasterPub};

/// An order that no wallet has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its name.
    pub key: OrderKey,
    /// What is offered.
    pub created: Arc<OrderCreated>,
    /// Its `order_created`, whose attachment `terms` has the terms without nonce.
    pub seq: Seq,
    /// Taken back: nobody can claim it, and its name stays used.
    pub deleted: bool,
    /// The last event that moved it.
    pub moved: Seq,
    /// The last event of any kind.
    pub last: Seq,
    /// Its time.
    pub last_at: Micros,
}

/// What an order's events add up to: before and after its contract exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folded {
    /// Nobody has claimed it.
    Offered(Arc<Offer>),
    /// It has a contract.
    Recorded(Arc<Order>),
}

impl Folded {
    /// An order's first event.
    ///
    /// # Errors
    /// Any that is neither `order_created` nor `order_recorded`, or one without an order.
    pub fn begin(event: &Event) -> Result<Folded, FoldError> {
        let Facts::OrderCreated(created) = &event.facts else {
            return Ok(Folded::Recorded(Arc::new(Order::begin(event)?)));
        };
        let key = event.order_key().ok_or(FoldError {
            seq: event.seq,
            kind: event.facts.kind(),
            what: "it names no order",
        })?;
        Ok(Folded::Offered(Arc::new(Offer {
            key,
            created: Arc::new(created.clone()),
            seq: event.seq,
            deleted: false,
            moved: event.seq,
            last: event.seq,
            last_at: event.at_us,
        })))
    }

    /// Folds the order's next event, as [`Order::apply`].
    ///
    /// # Errors
    /// It names something that the order does not have, or it can only follow a claim.
    pub fn apply(&mut self, event: &Event, digest: &Digest32, reply: Option<&[u8]>) -> Result<(), FoldError> {
        let offer = match self {
            Folded::Recorded(order) => return Arc::make_mut(order).apply(event, digest, reply),
            Folded::Offered(offer) => offer,
        };
        let fail = |what| FoldError {
            seq: event.seq,
            kind: event.facts.kind(),
            what,
        };
        match &event.facts {
            Facts::OrderRecorded(_) if offer.deleted => return Err(fail("the order was taken back")),
            Facts::OrderRecorded(_) => {
                let mut order = Order::begin(event)?;
                order.sale = Some(Sale {
                    offer: Arc::clone(offer),
                    claim: None,
                    deleted: false,
                    batches: Vec::new(),
                    session: None,
                    sessions: 0,
                });
                *self = Folded::Recorded(Arc::new(order));
                return Ok(());
            }
            Facts::OrderDeleted(_) => Arc::make_mut(offer).deleted = true,
            Facts::AttachmentErased(_) => {}
            _ => return Err(fail("no wallet has claimed the order")),
        }
        let offer = Arc::make_mut(offer);
        if event.facts.moves_order() {
            offer.moved = event.seq;
        }
        offer.last = event.seq;
        offer.last_at = event.at_us;
        Ok(())
    }

    /// The order, once it has a contract.
    #[must_use]
    pub fn order(&self) -> Option<&Arc<Order>> {
        match self {
            Folded::Offered(_) => None,
            Folded::Recorded(order) => Some(order),
        }
    }

    /// Whether the shop took it back: then it is unknown to everybody, and its name stays used.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        match self {
            Folded::Offered(offer) => offer.deleted,
            Folded::Recorded(order) => order.is_deleted(),
        }
    }

    /// The offer that it began with, where it was made here.
    #[must_use]
    pub fn offer(&self) -> Option<&Arc<Offer>> {
        match self {
            Folded::Offered(offer) => Some(offer),
            Folded::Recorded(order) => order.sale.as_ref().map(|sale| &sale.offer),
        }
    }

    /// The last event that moved it.
    #[must_use]
    pub fn moved(&self) -> Seq {
        match self {
            Folded::Offered(offer) => offer.moved,
            Folded::Recorded(order) => order.moved,
        }
    }

    /// The last event of any kind, and its time.
    #[must_use]
    pub fn last(&self) -> (Seq, Micros) {
        match self {
            Folded::Offered(offer) => (offer.last, offer.last_at),
            Folded::Recorded(order) => (order.last, order.last_at),
        }
    }
}

/// What selling adds to an order. Orders that the intake told of have none of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    /// How it began.
    pub offer: Arc<Offer>,
    /// Who claimed it.
    pub claim: Option<OrderClaimed>,
    /// Taken back after its pay deadline: unknown to everybody from then on.
    pub deleted: bool,
    /// Deposits that payments asked for, in recorded order.
    pub batches: Vec<Batch>,
    /// Digest of the session in which it was shown to be paid last.
    pub session: Option<Digest32>,
    /// How often that was recorded.
    pub sessions: usize,
}

/// Coins of one payment at one exchange, which takes all of them or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its `deposit_requested` (the first part).
    pub seq: Seq,
    /// At which exchange.
    pub exchange_master_pub: MasterPub,
    /// Its address as the contract names it.
    pub exchange_url: String,
    /// In which form it signs.
    pub layout: DepositForm,
    /// What the wallet said beside.
    pub wallet_data_hash: Option<HashCode>,
    /// In the request's order.
    pub coins: Vec<DepositCoin>,
    /// Number of the last recorded attempt, 0 where none is.
    pub attempt: u64,
    /// What it brought.
    pub last: Option<BatchAttempt>,
    /// An attempt was made of which the exchange has not said what came of it.
    pub is_unsure: bool,
}

/// The exchange's code for a coin that was spent before.
pub const INSUFFICIENT_FUNDS: u64 = 1012;

/// What a recorded attempt at a batch brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchAttempt {
    /// The exchange replied.
    Replied {
        /// The reply's event.
        seq: Seq,
        /// Its status.
        http_status: u16,
        /// Its body's code.
        error_code: Option<u64>,
        /// What that proves.
        verdict: Verdict,
    },
    /// It did not.
    Unreached(Failure),
}

impl Batch {
    /// Whether the exchange has decided. A batch that it has not is asked for again as it is.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        matches!(self.last, Some(BatchAttempt::Replied { verdict, .. }) if verdict.is_conclusive())
    }

    /// Whether the exchange has taken it.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        matches!(
            self.last,
            Some(BatchAttempt::Replied {
                verdict: Verdict::Confirmed,
                ..
            })
        )
    }

    /// Whether its coins may be deposited though no deposit of them is recorded. An exchange that refuses an attempt does
    /// not say that it took none before; only one that says that a coin was spent elsewhere has looked for that first.
    #[must_use]
    pub fn is_in_question(&self) -> bool {
        match self.last {
            Some(BatchAttempt::Replied {
                verdict: Verdict::Confirmed,
                ..
            }) => false,
            Some(BatchAttempt::Replied {
                verdict: Verdict::Refused,
                error_code,
                ..
            }) => self.is_unsure && error_code != Some(INSUFFICIENT_FUNDS),
            _ => true,
        }
    }

    /// Whether it asks for this coin.
    #[must_use]
    pub fn names(&self, coin: &CoinPub) -> bool {
        self.coins.iter().any(|asked| asked.coin_pub == *coin)
    }

    /// Whether these are the same coins with the same signatures for the same exchange.
    #[must_use]
    pub fn is_alike(&self, facts: &DepositRequested) -> bool {
        self.exchange_master_pub == facts.exchange_master_pub
            && self.layout == facts.layout
            && self.wallet_data_hash == facts.wallet_data_hash
            && self.coins == facts.coins
    }
}

impl Sale {
    pub(crate) fn requested(&mut self, seq: Seq, facts: &DepositRequested) {
        // A later part follows its first in the same commit.
        if let (Some(batch), Some(Part(2.., _))) = (self.batches.last_mut(), facts.part) {
            batch.coins.extend(facts.coins.iter().cloned());
            return;
        }
        self.batches.push(Batch {
            seq,
            exchange_master_pub: facts.exchange_master_pub,
            exchange_url: facts.exchange_url.clone(),
            layout: facts.layout,
            wallet_data_hash: facts.wallet_data_hash,
            coins: facts.coins.clone(),
            attempt: 0,
            last: None,
            is_unsure: false,
        });
    }

    fn batch_mut(&mut self, seq: Seq) -> Option<&mut Batch> {
        self.batches.iter_mut().find(|batch| batch.seq == seq)
    }

    /// `None`: there is no such batch.
    pub(crate) fn replied(&mut self, seq: Seq, facts: &DepositReplied) -> Option<()> {
        let batch = self.batch_mut(facts.batch)?;
        // Not every attempt is recorded.
        batch.is_unsure |= facts.attempt > 1 || !facts.verdict.is_conclusive();
        batch.attempt = facts.attempt;
        batch.last = Some(BatchAttempt::Replied {
            seq,
            http_status: facts.http_status,
            error_code: facts.error_code,
            verdict: facts.verdict,
        });
        Some(())
    }

    /// `None`: there is no such batch.
    pub(crate) fn unreached(&mut self, facts: &DepositUnreached) -> Option<()> {
        let batch = self.batch_mut(facts.batch)?;
        batch.is_unsure = true;
        batch.attempt = facts.attempt;
        batch.last = Some(BatchAttempt::Unreached(facts.failure));
        Some(())
    }

    /// The coin in a batch of which it is unknown whether it is deposited.
    #[must_use]
    pub fn in_question(&self, coin: &CoinPub) -> Option<(&Batch, &DepositCoin)> {
        let open = self.batches.iter().filter(|batch| batch.is_in_question());
        open.flat_map(|batch| batch.coins.iter().map(move |coin| (batch, coin)))
            .find(|(_, asked)| asked.coin_pub == *coin)
    }

    /// The exchange that was last asked to take this coin, whatever came of it.
    #[must_use]
    pub fn exchange_asked_of(&self, coin: &CoinPub) -> Option<MasterPub> {
        let batch = self.batches.iter().rfind(|batch| batch.names(coin))?;
        Some(batch.exchange_master_pub)
    }

    /// The exchange of this batch.
    #[must_use]
    pub fn exchange_of_batch(&self, seq: Seq) -> Option<MasterPub> {
        let mut batches = self.batches.iter();
        let batch = batches.find(|batch| batch.seq == seq)?;
        Some(batch.exchange_master_pub)
    }

    /// How much was asked of this coin before, whatever came of it: a coin is never asked for two amounts.
    #[must_use]
    pub fn asked_of(&self, coin: &CoinPub) -> Option<Amount> {
        let coins = self.batches.iter().flat_map(|batch| &batch.coins);
        coins
            .filter(|asked| asked.coin_pub == *coin)
            .map(|asked| asked.amount_with_fee)
            .next_back()
    }
}
