//! What must hold whatever happens. Five oracles, and a sixth that asks for conduct: no panic, no failure that nothing
//! excuses. Each can be asked alone, so that a test can say which of them saw a fault.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use quittance_events::facts::{AbortCoinState, Verdict};
use quittance_events::order::Attempt;
use quittance_events::{Event, Facts, InstanceId, OrderKey, RefundId};
use quittance_replay::{Opened, VerifyOptions};
use quittance_taler::{Amount, CoinPub};

use crate::network::{Asked, short};
use crate::orders::Order;
use crate::told::AllTold;
use crate::world::World;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oracle {
    /// O1: the auditor's tool finds nothing.
    Audit,
    /// O2: the exchanges' books are the ledger's.
    Books,
    /// O3: no coin is refunded above its deposit.
    Cap,
    /// O4: what a wallet was told stays true.
    Told,
    /// O5: every open refund ends once the exchanges are well.
    Ends,
    /// No panic, no failure without a cause.
    Conduct,
}

impl fmt::Display for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Oracle::Audit => "O1 audit",
            Oracle::Books => "O2 books",
            Oracle::Cap => "O3 cap",
            Oracle::Told => "O4 told",
            Oracle::Ends => "O5 ends",
            Oracle::Conduct => "conduct",
        })
    }
}

/// What an oracle saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub oracle: Oracle,
    /// In words.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.oracle, self.what)
    }
}

fn found(oracle: Oracle, what: impl fmt::Display) -> Finding {
    Finding {
        oracle,
        what: what.to_string(),
    }
}

/// A refund by coin and id.
type Name = (CoinPub, u64);

/// Looks at refund requests that the service has just sent: each must be on record as requested, with this amount,
/// and the coin must bear it.
pub(crate) fn sent(world: &World, orders: &[Order], asked: &[Asked]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for asked in asked {
        let name = format!("refund {} of coin {}", asked.id, short(&asked.coin));
        let of = orders
            .iter()
            .find(|order| order.h_contract.to_string() == asked.h_contract);
        let projected = of.and_then(|order| projection(world, order));
        let (Some(projected), Ok(coin)) = (projected, asked.coin.parse::<CoinPub>()) else {
            findings.push(found(
                Oracle::Books,
                format!("{name} is asked of an order that is not recorded"),
            ));
            continue;
        };
        let amount = match asked.id {
            0 => projected
                .aborted(&coin)
                .and_then(|aborted| aborted.permission)
                .map(|(amount, _)| amount),
            id => RefundId::new(id)
                .ok()
                .and_then(|id| projected.row(&coin, id))
                .filter(|row| row.requested)
                .map(|row| row.amount),
        };
        if amount.is_none_or(|amount| amount.to_string() != asked.amount) {
            let what = format!(
                "{name} over {} is sent and not recorded as requested",
                asked.amount
            );
            findings.push(found(Oracle::Books, what));
        }
        let refused = |outcome: &quittance_events::order::Outcome| outcome.is_refused();
        let rows = projected.rows.iter().filter(|row| row.coin_pub == coin);
        let rows = rows
            .filter(|row| row.requested && !refused(&row.outcome))
            .map(|row| row.amount);
        let aborts = projected
            .aborted(&coin)
            .filter(|aborted| !refused(&aborted.outcome));
        let aborts = aborts
            .and_then(|aborted| aborted.permission)
            .map(|(amount, _)| amount);
        let sum: u128 = rows.chain(aborts).map(|amount| amount.units()).sum();
        let asked_of = || projected.sale.as_ref().and_then(|sale| sale.asked_of(&coin));
        let deposit = projected.deposit(&coin).map(|deposit| deposit.amount_with_fee);
        let deposit = deposit.or_else(asked_of).map_or(0, |amount| amount.units());
        if sum > deposit {
            let what = format!(
                "coin {} is asked back {sum} units of {deposit}",
                short(&asked.coin)
            );
            findings.push(found(Oracle::Cap, what));
        }
    }
    findings
}

pub(crate) fn projection(world: &World, order: &Order) -> Option<std::sync::Arc<quittance_events::Order>> {
    let key = OrderKey {
        instance: InstanceId::root(),
        order: order.id.parse().ok()?,
    };
    world.service().ledger.order(&key).ok().flatten()
}

/// What the ledger's events say of one refund.
struct Recorded {
    amount: Amount,
    requested: bool,
    confirmed: bool,
    refused: bool,
}

/// Reads the ledger as it lies there: the auditor's tool with all receipts, and the events against the books.
pub(crate) fn audit(world: &World, told: &AllTold, anchored: bool) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let options = VerifyOptions {
        ledger: world.config.ledger.clone(),
        anchor: Some(world.config.anchor.clone()),
        ledger_key: Some(world.vkey.parse().context("the ledger's key")?),
        receipts: told.receipts().to_vec(),
        fast: true,
        ..VerifyOptions::default()
    };
    let report = quittance_replay::verify(&options).context("the ledger cannot be verified")?;
    for finding in &report.findings {
        let oracle = if finding.rule == "log.receipt" {
            Oracle::Told
        } else {
            Oracle::Audit
        };
        let (rule, text) = (finding.rule, &finding.text);
        let (expected, is) = (&finding.expected, &finding.found);
        let seq = finding.seq.unwrap_or_default();
        findings.push(found(
            oracle,
            format!("{rule} at event {seq}: {text} (expected {expected}, found {is})"),
        ));
    }
    if anchored && report.anchored != Some(report.checked.events) {
        let what = format!(
            "{:?} of {} events are anchored",
            report.anchored, report.checked.events
        );
        findings.push(found(Oracle::Audit, what));
    }
    books(world, &recorded(world)?, &mut findings);
    Ok(findings)
}

/// Reads the refunds from the events themselves; nothing here is the service's projection.
fn recorded(world: &World) -> Result<(BTreeMap<Name, Recorded>, BTreeMap<CoinPub, Amount>)> {
    let Opened::Readable { copy, folder, .. } = quittance_replay::open(&world.config.ledger)? else {
        anyhow::bail!("the ledger is damaged");
    };
    let mut events = Vec::new();
    copy.walk_sealed(|_, sealed| events.push(Event::parse(sealed)))?;
    drop((copy, folder));
    let mut refunds: BTreeMap<Name, Recorded> = BTreeMap::new();
    let mut deposits = BTreeMap::new();
    let new = |amount, requested| Recorded {
        amount,
        requested,
        confirmed: false,
        refused: false,
    };
    for event in events {
        match event.context("an event")?.facts {
            Facts::DepositRecorded(f) => {
                deposits.insert(f.coin_pub, f.amount_with_fee);
            }
            Facts::DepositRequested(f) => {
                deposits.extend(f.coins.iter().map(|coin| (coin.coin_pub, coin.amount_with_fee)));
            }
            Facts::RefundCarriedIn(f) => refunds.extend(
                f.rows
                    .iter()
                    .map(|row| ((row.coin_pub, row.rtransaction_id.get()), new(row.amount, true))),
            ),
            Facts::RefundApproved(f) => refunds.extend(
                f.rows
                    .iter()
                    .map(|row| ((row.coin_pub, row.rtransaction_id.get()), new(row.amount, false))),
            ),
            Facts::RefundRequested(f) => {
                for row in f.rows {
                    if let Some(refund) = refunds.get_mut(&(row.coin_pub, row.rtransaction_id.get())) {
                        refund.requested = true;
                    }
                }
            }
            Facts::AbortRequested(f) => refunds.extend(
                f.coins
                    .iter()
                    .filter(|coin| matches!(coin.state, AbortCoinState::Deposited | AbortCoinState::Asked))
                    .filter_map(|coin| Some(((coin.coin_pub, 0), new(coin.amount?, true)))),
            ),
            Facts::AbortExtended(f) => {
                refunds.extend(
                    f.coins
                        .iter()
                        .map(|coin| ((coin.coin_pub, 0), new(coin.amount, true))),
                );
            }
            Facts::ExchangeReplied(f) => {
                if let Some(refund) = refunds.get_mut(&(f.coin_pub, f.rtransaction_id.get())) {
                    refund.confirmed |= f.verdict == Verdict::Confirmed;
                    refund.refused |= f.verdict == Verdict::Refused;
                }
            }
            _ => {}
        }
    }
    Ok((refunds, deposits))
}

fn books(
    world: &World,
    (refunds, deposits): &(BTreeMap<Name, Recorded>, BTreeMap<CoinPub, Amount>),
    findings: &mut Vec<Finding>,
) {
    let granted: BTreeMap<Name, Amount> = world
        .network
        .exchanges
        .iter()
        .flat_map(quittance_sandbox::Direct::refunds)
        .map(|refund| ((refund.coin_pub, refund.rtransaction_id), refund.amount))
        .collect();
    let name = |(coin, id): &Name| format!("refund {id} of coin {}", short(&coin.to_string()));
    for (refund, amount) in &granted {
        if refunds
            .get(refund)
            .is_none_or(|recorded| !recorded.requested || recorded.amount != *amount)
        {
            let what = format!(
                "an exchange booked {} over {amount}, which the ledger never requested",
                name(refund)
            );
            findings.push(found(Oracle::Books, what));
        }
    }
    let mut sums: BTreeMap<CoinPub, (u128, u128)> = BTreeMap::new();
    for (refund, recorded) in refunds {
        if recorded.confirmed && granted.get(refund) != Some(&recorded.amount) {
            let what = format!(
                "the ledger has {} confirmed, which no exchange booked",
                name(refund)
            );
            findings.push(found(Oracle::Books, what));
        }
        if !recorded.refused {
            sums.entry(refund.0).or_default().0 += recorded.amount.units();
        }
    }
    for ((coin, _), amount) in &granted {
        sums.entry(*coin).or_default().1 += amount.units();
    }
    for (coin, (wanted, got)) in sums {
        let deposit = deposits.get(&coin).map_or(0, Amount::units);
        if wanted.max(got) > deposit {
            let coin = short(&coin.to_string()).to_owned();
            let what = format!("coin {coin} of {deposit} units: {wanted} are to be refunded, {got} were");
            findings.push(found(Oracle::Cap, what));
        }
    }
}

/// Of an order that is sold here and at its end: what its wallets deposited pays for it or went back, and nothing else
/// pays for it. What an exchange that had it refused to give back is the exchange's word; that it had nothing yet, since a
/// refund overtook its deposit, is nobody's.
pub(crate) fn nothing_kept(world: &World, order: &Order) -> Vec<Finding> {
    let Some(projected) = projection(world, order) else {
        return Vec::new();
    };
    let of_order = |exchange: &quittance_sandbox::Direct| {
        let deposits = exchange.deposits().into_iter();
        let deposits = deposits.filter(|deposit| deposit.h_contract == order.h_contract);
        deposits.map(|deposit| deposit.coin_pub).collect::<Vec<_>>()
    };
    let exchanges = &world.network.exchanges;
    let deposited: Vec<CoinPub> = exchanges.iter().flat_map(of_order).collect();
    let paid = projected.payment.as_ref().map(|payment| &payment.coins);
    let mut findings = Vec::new();
    for coin in &deposited {
        let counts = paid.is_some_and(|coins| coins.contains(coin));
        let is_back = exchanges.iter().any(|exchange| {
            exchange.refunds().iter().any(|refund| {
                (refund.coin_pub, refund.rtransaction_id) == (*coin, 0)
                    && refund.h_contract == order.h_contract
            })
        });
        let is_refused = projected
            .aborted(coin)
            .is_some_and(|aborted| aborted.outcome.is_refused());
        let is_overtaken = projected.aborted(coin).is_some_and(|aborted| {
            matches!(
                aborted.outcome.last,
                Some(Attempt::Replied {
                    http_status: 404,
                    error_code: Some(1005 | 1502),
                    verdict: Verdict::Refused,
                    ..
                })
            )
        });
        if !counts && !is_back && (!is_refused || is_overtaken) {
            let what = format!(
                "coin {} of {} pays for nothing",
                short(&coin.to_string()),
                order.id
            );
            findings.push(found(Oracle::Books, what));
        }
        // An exchange, or who stands in front of it, that refuses what it has granted: its refusal is what is known.
        if counts && is_back && !is_refused {
            let what = format!(
                "coin {} of {} pays and went back",
                short(&coin.to_string()),
                order.id
            );
            findings.push(found(Oracle::Books, what));
        }
    }
    for coin in paid.into_iter().flatten() {
        if !deposited.contains(coin) {
            let what = format!(
                "coin {} pays for {} and no exchange has it",
                short(&coin.to_string()),
                order.id
            );
            findings.push(found(Oracle::Books, what));
        }
    }
    findings
}
