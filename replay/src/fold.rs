//! What an order's events come to, reckoned anew from the event format. Shares nothing with the projection that
//! the service answers from: the two are written apart so that one's mistake shows against the other. Events are
//! taken as they are recorded, right or wrong; whether they were right is for the rules to say. Only the verdict on
//! an exchange's reply is the auditor's own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use quittance_events::facts::{DepositRecorded, Failure, OrderRecorded, Verdict};
use quittance_events::{AttachmentName, OrderKey, RefundId, WebhookId};
use quittance_taler::{
    Amount, CoinPub, Currency, Digest32, EddsaSignature, ExchangePub, MasterPub, Micros, Timestamp,
};
use serde_json::Value;

use crate::owed::Owed;
use crate::sold::{self, Batch, Sale, Stage};

/// Codes by which an exchange says, with a 404, that it knows no such deposit.
pub(crate) const NO_DEPOSIT: [u64; 3] = [1005, 1500, 1502];

/// A reply's body, as far as it is handed on to wallets.
#[derive(Debug, Clone)]
pub(crate) enum HandedOn {
    Object(Value),
    Nothing,
    /// Its bytes are gone, so that nobody can say.
    Gone,
}

/// What the last recorded attempt at a permission brought.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    Nothing,
    Unreached(Failure),
    Confirmed(ExchangePub, EddsaSignature),
    Replied {
        http_status: u16,
        error_code: Option<u64>,
        verdict: Verdict,
        handed_on: HandedOn,
    },
}

/// A permission's standing with the exchange.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// Greatest attempt number recorded.
    pub(crate) attempt: u64,
    pub(crate) said: Said,
    /// The event that says so.
    pub(crate) said_at: u64,
}

impl Standing {
    fn new() -> Standing {
        Standing {
            attempt: 0,
            said: Said::Nothing,
            said_at: 0,
        }
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        matches!(self.said, Said::Confirmed(..))
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(
            self.said,
            Said::Replied {
                verdict: Verdict::Refused,
                ..
            }
        )
    }

    pub(crate) fn is_decided(&self) -> bool {
        self.is_confirmed() || self.is_refused()
    }

    pub(crate) fn has_no_deposit(&self) -> bool {
        matches!(&self.said, Said::Replied { verdict: Verdict::Refused, http_status: 404, error_code: Some(code), .. }
            if NO_DEPOSIT.contains(code))
    }
}

/// A refund of an approval, or one taken over.
#[derive(Debug, Clone)]
pub(crate) struct Refund {
    pub(crate) coin: CoinPub,
    pub(crate) id: RefundId,
    pub(crate) amount: Amount,
    pub(crate) execution_s: Timestamp,
    pub(crate) requested: bool,
    pub(crate) standing: Standing,
}

/// A coin under an abort.
#[derive(Debug, Clone)]
pub(crate) struct Aborted {
    /// What it gives back; nothing was deposited where absent.
    pub(crate) amount: Option<Amount>,
    pub(crate) standing: Standing,
}

#[derive(Debug, Clone)]
pub(crate) struct Deposit {
    pub(crate) facts: DepositRecorded,
    pub(crate) seq: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Payment {
    pub(crate) paid: Amount,
    pub(crate) coins: BTreeSet<CoinPub>,
}

/// An answer that may still be repeated or delivered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) seq: u64,
    pub(crate) as_of: u64,
    pub(crate) body: Digest32,
    pub(crate) is_refund: bool,
    pub(crate) delivered: bool,
}

/// An order.
pub(crate) struct OrderFold {
    pub(crate) key: OrderKey,
    pub(crate) terms: OrderRecorded,
    /// In recorded order.
    pub(crate) deposits: Vec<Deposit>,
    deposit_of: HashMap<CoinPub, usize>,
    pub(crate) payment: Option<Payment>,
    /// Taken over ones.
    pub(crate) carried_in: Vec<Refund>,
    /// In order of approval and coin.
    pub(crate) approved: Vec<Refund>,
    refund_of: HashMap<(CoinPub, RefundId), Place>,
    pub(crate) aborted: BTreeMap<CoinPub, Aborted>,
    /// Coin sets whose abort was refused.
    pub(crate) refusals: BTreeSet<Vec<CoinPub>>,
    /// What the commit under way still calls for.
    pub(crate) owed: Vec<Owed>,
    /// Where it was sold here. Until a wallet claims the order, `terms` are those offered, and their hash is none.
    pub(crate) sale: Option<Sale>,
    /// Events whose attachment `terms` was not erased.
    pub(crate) terms_at: Vec<u64>,
    /// Permissions that the ledger itself takes for open: its own verdicts count here.
    pub(crate) open: BTreeSet<(CoinPub, RefundId)>,
    pub(crate) answers: Vec<Answer>,
    /// Payments and approvals, which webhooks tell of.
    pub(crate) webhook_causes: BTreeSet<u64>,
    /// Which webhook was done with which of them.
    pub(crate) webhooks_told: BTreeSet<(WebhookId, u64)>,
    /// Bytes of the replies that answers hand on, kept as values.
    pub(crate) handed_on: usize,
    /// The last event that is no answer and no delivery.
    pub(crate) moved: u64,
    pub(crate) last: u64,
    pub(crate) last_at: Micros,
    /// First of the order's events that stand side by side with one time, up to the last: one commit at most.
    pub(crate) run_start: u64,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    CarriedIn(usize),
    Approved(usize),
}

impl OrderFold {
    pub(crate) fn new(key: OrderKey, terms: OrderRecorded, seq: u64, at: Micros) -> OrderFold {
        OrderFold {
            key,
            terms,
            deposits: Vec::new(),
            deposit_of: HashMap::new(),
            payment: None,
            carried_in: Vec::new(),
            approved: Vec::new(),
            refund_of: HashMap::new(),
            aborted: BTreeMap::new(),
            refusals: BTreeSet::new(),
            owed: Vec::new(),
            sale: None,
            terms_at: vec![seq],
            open: BTreeSet::new(),
            answers: Vec::new(),
            webhook_causes: BTreeSet::new(),
            webhooks_told: BTreeSet::new(),
            handed_on: 0,
            moved: seq,
            last: seq,
            last_at: at,
            run_start: seq,
        }
    }

    /// An order that no wallet has claimed.
    pub(crate) fn offered(key: OrderKey, sale: Sale, seq: u64, at: Micros) -> OrderFold {
        let terms = sold::contract_of(&sale.created);
        let mut order = OrderFold::new(key, terms, seq, at);
        order.sale = Some(sale);
        order
    }

    pub(crate) fn is_offer(&self) -> bool {
        self.sale
            .as_ref()
            .is_some_and(|sale| sale.stage == Stage::Offered)
    }

    /// What a batch of deposits asked of the coin last.
    pub(crate) fn asked_of(&self, coin: &CoinPub) -> Option<Amount> {
        let (_, asked) = self.sale.as_ref()?.asked(coin).next()?;
        Some(asked.amount_with_fee)
    }

    /// At which exchange the coin is deposited, or asked for.
    pub(crate) fn exchange_of(&self, coin: &CoinPub) -> Option<MasterPub> {
        let asked = || self.sale.as_ref()?.asked(coin).next();
        let deposit = self
            .deposit(coin)
            .map(|deposit| deposit.facts.exchange_master_pub);
        deposit.or_else(|| asked().map(|(batch, _)| batch.master))
    }

    pub(crate) fn currency(&self) -> Currency {
        self.terms.amount.currency()
    }

    /// The coin's first deposit.
    pub(crate) fn deposit(&self, coin: &CoinPub) -> Option<&Deposit> {
        self.deposit_of.get(coin).map(|&index| &self.deposits[index])
    }

    /// The coin's deposit as an amount.
    pub(crate) fn deposited(&self, coin: &CoinPub) -> Option<Amount> {
        self.deposit(coin).map(|deposit| deposit.facts.amount_with_fee)
    }

    pub(crate) fn record_deposit(&mut self, facts: DepositRecorded, seq: u64) {
        self.deposit_of
            .entry(facts.coin_pub)
            .or_insert(self.deposits.len());
        self.deposits.push(Deposit { facts, seq });
    }

    /// All refunds, in the order in which answers tell of them.
    pub(crate) fn refunds(&self) -> impl Iterator<Item = &Refund> {
        self.carried_in.iter().chain(&self.approved)
    }

    pub(crate) fn refund(&self, coin: &CoinPub, id: RefundId) -> Option<&Refund> {
        self.refund_of.get(&(*coin, id)).map(|place| match *place {
            Place::CarriedIn(index) => &self.carried_in[index],
            Place::Approved(index) => &self.approved[index],
        })
    }

    pub(crate) fn refund_mut(&mut self, coin: &CoinPub, id: RefundId) -> Option<&mut Refund> {
        let place = *self.refund_of.get(&(*coin, id))?;
        Some(match place {
            Place::CarriedIn(index) => &mut self.carried_in[index],
            Place::Approved(index) => &mut self.approved[index],
        })
    }

    pub(crate) fn add_refund(
        &mut self,
        (coin, id): (CoinPub, RefundId),
        amount: Amount,
        execution_s: Timestamp,
        carried_in: bool,
    ) {
        let place = if carried_in {
            Place::CarriedIn(self.carried_in.len())
        } else {
            Place::Approved(self.approved.len())
        };
        self.refund_of.entry((coin, id)).or_insert(place);
        let refund = Refund {
            coin,
            id,
            amount,
            execution_s,
            requested: carried_in,
            standing: Standing::new(),
        };
        if carried_in {
            self.carried_in.push(refund);
        } else {
            self.approved.push(refund);
        }
    }

    /// Names a coin in an abort. A permission, once there, stays.
    pub(crate) fn name_in_abort(&mut self, coin: CoinPub, amount: Option<Amount>) {
        let aborted = self.aborted.entry(coin).or_insert(Aborted {
            amount: None,
            standing: Standing::new(),
        });
        aborted.amount = amount.or(aborted.amount);
        if amount.is_some() {
            self.open.insert((coin, RefundId::ABORT));
        }
    }

    /// The amount of a permission that may have been sent, of either sort.
    pub(crate) fn requested_amount(&self, coin: &CoinPub, id: RefundId) -> Option<Amount> {
        if id == RefundId::ABORT {
            return self.aborted.get(coin)?.amount;
        }
        self.refund(coin, id)
            .filter(|refund| refund.requested)
            .map(|refund| refund.amount)
    }

    /// How a permission that may have been sent stands with the exchange.
    pub(crate) fn standing(&self, coin: &CoinPub, id: RefundId) -> Option<&Standing> {
        if id == RefundId::ABORT {
            let aborted = self.aborted.get(coin)?;
            return aborted.amount.is_some().then_some(&aborted.standing);
        }
        self.refund(coin, id)
            .filter(|refund| refund.requested)
            .map(|refund| &refund.standing)
    }

    pub(crate) fn standing_mut(&mut self, coin: &CoinPub, id: RefundId) -> Option<&mut Standing> {
        if id == RefundId::ABORT {
            return self
                .aborted
                .get_mut(coin)
                .filter(|coin| coin.amount.is_some())
                .map(|coin| &mut coin.standing);
        }
        self.refund_mut(coin, id)
            .filter(|refund| refund.requested)
            .map(|refund| &mut refund.standing)
    }

    /// Whether a deposited coin counts for a payment: no abort names it, or the exchange refused that abort for
    /// another reason than that it knows no such deposit.
    pub(crate) fn counts(&self, coin: &CoinPub) -> bool {
        self.aborted
            .get(coin)
            .is_none_or(|aborted| aborted.standing.is_refused() && !aborted.standing.has_no_deposit())
    }

    /// Sum of all refunds in units of 10^-8; of foreign currencies nothing, their own finding tells of them.
    pub(crate) fn refunded_units(&self) -> u128 {
        units(self.currency(), self.refunds().map(|refund| refund.amount))
    }

    /// Sum of a coin's refunds.
    pub(crate) fn refunded_units_on(&self, coin: &CoinPub) -> u128 {
        units(
            self.currency(),
            self.refunds()
                .filter(|refund| refund.coin == *coin)
                .map(|refund| refund.amount),
        )
    }

    /// The latest time of any refund.
    pub(crate) fn last_execution(&self) -> Option<Timestamp> {
        self.refunds().map(|refund| refund.execution_s).max()
    }

    /// Whether an event stands beside this order's last with the same time: one commit at most.
    pub(crate) fn is_same_commit(&self, first: u64, at: Micros) -> bool {
        first == self.last + 1 && at == self.last_at
    }

    /// How much memory the state takes, in units of about half a KiB.
    pub(crate) fn weight(&self) -> usize {
        let lists = self.deposits.len() + self.carried_in.len() + self.approved.len() + self.aborted.len();
        let names: usize = self.refusals.iter().map(Vec::len).sum();
        let sale = self.sale.as_ref();
        let asked: usize = sale.map_or(0, |sale| {
            let of_request = |batch: &Batch| batch.request.as_ref().map_or(0, Vec::len);
            let batches = sale.batches.iter();
            batches
                .map(|batch| 1 + batch.coins.len() + of_request(batch))
                .sum()
        });
        8 + 2 * (lists + asked)
            + self.answers.len() / 4
            + self.webhooks_told.len() / 4
            + names / 16
            + self.handed_on / 128
    }

    /// Bytes were erased. Of a reply: from here on nobody is handed them; what was handed on before cannot be known.
    pub(crate) fn erased(&mut self, seq: u64, name: AttachmentName) {
        if name == AttachmentName::Terms {
            self.terms_at.retain(|at| *at != seq);
            self.owed
                .retain(|owed| !matches!(owed, Owed::Erased(_, terms) if *terms == seq));
        }
        let refunds = self.carried_in.iter_mut().chain(&mut self.approved);
        let standings = refunds.map(|refund| &mut refund.standing);
        let aborted = self.aborted.values_mut().map(|coin| &mut coin.standing);
        for standing in standings
            .chain(aborted)
            .filter(|standing| standing.said_at == seq)
        {
            if let Said::Replied { handed_on, .. } = &mut standing.said {
                *handed_on = HandedOn::Nothing;
            }
        }
    }

    /// Keeps what later events can still refer to.
    pub(crate) fn advance(&mut self, first: u64, last: u64, at: Micros, moves: bool) {
        if !self.is_same_commit(first, at) {
            self.run_start = first;
        }
        if moves {
            self.moved = last;
            self.answers
                .retain(|answer| answer.is_refund && !answer.delivered);
        }
        self.last = last;
        self.last_at = at;
    }
}

/// Sum in units of 10^-8 of the amounts in this currency.
pub(crate) fn units(currency: Currency, amounts: impl IntoIterator<Item = Amount>) -> u128 {
    amounts
        .into_iter()
        .filter(|amount| amount.currency() == currency)
        .map(|amount| amount.units())
        .sum()
}

/// The amount of so many units, at most the greatest there is.
pub(crate) fn amount_of(currency: Currency, units: u128) -> Amount {
    Amount::from_units(currency, units)
        .or_else(|_| Amount::new(currency, Amount::MAX_VALUE, 0))
        .expect("the greatest amount is an amount")
}
