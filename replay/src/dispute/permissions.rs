//! Permissions of an order as its events tell of them, one after the other: who granted what, when it was asked for,
//! and what came of it. Takes recorded verdicts as they are; whether they hold is for the rules to say.

use std::collections::HashMap;

use quittance_events::facts::{Failure, Verdict};
use quittance_events::{Facts, RefundId, TokenId};
use quittance_taler::{Amount, CoinPub, EddsaSignature, ExchangePub, MasterPub, Micros, Timestamp};

use super::report::{Outcome, PermissionSource};

/// A recorded attempt.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) seq: u64,
    pub(crate) at: Micros,
    pub(crate) number: u64,
    pub(crate) http_status: Option<u16>,
    pub(crate) result: String,
}

/// The exchange's decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decided {
    pub(crate) seq: u64,
    pub(crate) at: Micros,
    /// The key that confirmed; nothing where the exchange refused.
    pub(crate) confirmed_by: Option<ExchangePub>,
}

/// A permission.
#[derive(Debug, Clone)]
pub(crate) struct Permission {
    pub(crate) coin: CoinPub,
    pub(crate) id: RefundId,
    pub(crate) source: PermissionSource,
    pub(crate) amount: Amount,
    pub(crate) merchant_sig: EddsaSignature,
    pub(crate) granted_seq: u64,
    pub(crate) granted_at: Micros,
    pub(crate) by: Option<TokenId>,
    pub(crate) execution_s: Option<Timestamp>,
    pub(crate) asked_at: Option<Micros>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) decided: Option<Decided>,
}

impl Permission {
    pub(crate) fn outcome(&self) -> Outcome {
        match (self.decided, self.source, self.asked_at) {
            (
                Some(Decided {
                    confirmed_by: Some(_),
                    ..
                }),
                ..,
            ) => Outcome::Confirmed,
            (Some(_), ..) => Outcome::Refused,
            (None, PermissionSource::Approval, None) => Outcome::NotAsked,
            (None, ..) => Outcome::Open,
        }
    }
}

/// An order's permissions, in order of their grant.
#[derive(Debug, Default)]
pub(crate) struct Permissions {
    pub(crate) list: Vec<Permission>,
    place: HashMap<(CoinPub, RefundId), usize>,
    /// At which exchange each coin was deposited.
    pub(crate) exchange: HashMap<CoinPub, MasterPub>,
}

impl Permissions {
    fn grant(&mut self, permission: Permission) {
        self.place
            .entry((permission.coin, permission.id))
            .or_insert(self.list.len());
        self.list.push(permission);
    }

    fn of(&mut self, coin: CoinPub, id: RefundId) -> Option<&mut Permission> {
        let place = *self.place.get(&(coin, id))?;
        self.list.get_mut(place)
    }

    fn attempt(&mut self, coin: CoinPub, id: RefundId, attempt: Attempt, decided: Option<Decided>) {
        if let Some(permission) = self.of(coin, id) {
            permission.decided = permission.decided.or(decided);
            permission.attempts.push(attempt);
        }
    }

    /// Takes the order's next event, or all parts of one.
    pub(crate) fn take(&mut self, facts: &Facts, seq: u64, at: Micros) {
        match facts {
            Facts::DepositRecorded(f) => {
                self.exchange.entry(f.coin_pub).or_insert(f.exchange_master_pub);
            }
            Facts::DepositRequested(f) => {
                for coin in &f.coins {
                    self.exchange
                        .entry(coin.coin_pub)
                        .or_insert(f.exchange_master_pub);
                }
            }
            Facts::RefundRequested(f) => {
                for row in &f.rows {
                    if let Some(permission) = self.of(row.coin_pub, row.rtransaction_id) {
                        permission.asked_at.get_or_insert(at);
                    }
                }
            }
            Facts::ExchangeReplied(f) => {
                let confirmed_by = f.exchange_pub.filter(|_| f.verdict == Verdict::Confirmed);
                let decided = f.verdict.is_conclusive().then_some(Decided {
                    seq,
                    at,
                    confirmed_by,
                });
                let code = f
                    .error_code
                    .map_or_else(String::new, |code| format!(", code {code}"));
                let attempt = Attempt {
                    seq,
                    at,
                    number: f.attempt,
                    http_status: Some(f.http_status),
                    result: format!("{}: status {}{code}", verdict_word(f.verdict), f.http_status),
                };
                self.attempt(f.coin_pub, f.rtransaction_id, attempt, decided);
            }
            Facts::ExchangeUnreached(f) => {
                let attempt = Attempt {
                    seq,
                    at,
                    number: f.attempt,
                    http_status: None,
                    result: failure_word(f.failure).to_owned(),
                };
                self.attempt(f.coin_pub, f.rtransaction_id, attempt, None);
            }
            _ => self.take_grants(facts, seq, at),
        }
    }

    fn take_grants(&mut self, facts: &Facts, seq: u64, at: Micros) {
        use PermissionSource::{Abort, Approval, CarriedIn};
        let granted = |source, by: Option<&TokenId>, coin, id, amount, merchant_sig| Permission {
            coin,
            id,
            source,
            amount,
            merchant_sig,
            granted_seq: seq,
            granted_at: at,
            by: by.cloned(),
            execution_s: None,
            // Of an abort it is recorded just before the first request.
            asked_at: (source == Abort).then_some(at),
            attempts: Vec::new(),
            decided: None,
        };
        match facts {
            Facts::RefundCarriedIn(f) => {
                for row in &f.rows {
                    let (id, signature) = (row.rtransaction_id, row.merchant_sig);
                    let permission = granted(CarriedIn, Some(&f.by), row.coin_pub, id, row.amount, signature);
                    self.grant(Permission {
                        execution_s: Some(row.execution_s),
                        ..permission
                    });
                }
            }
            Facts::RefundApproved(f) => {
                for row in &f.rows {
                    let (id, signature) = (row.rtransaction_id, row.merchant_sig);
                    let permission = granted(Approval, Some(&f.by), row.coin_pub, id, row.amount, signature);
                    self.grant(Permission {
                        execution_s: Some(f.execution_s),
                        ..permission
                    });
                }
            }
            Facts::AbortRequested(f) => {
                for row in &f.coins {
                    if let (Some(amount), Some(signature)) = (row.amount, row.merchant_sig) {
                        self.grant(granted(
                            Abort,
                            None,
                            row.coin_pub,
                            RefundId::ABORT,
                            amount,
                            signature,
                        ));
                    }
                }
            }
            Facts::AbortExtended(f) => {
                for row in &f.coins {
                    let (by, id) = (f.by.as_ref(), RefundId::ABORT);
                    self.grant(granted(Abort, by, row.coin_pub, id, row.amount, row.merchant_sig));
                }
            }
            _ => {}
        }
    }
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Confirmed => "confirmed",
        Verdict::Refused => "finally refused",
        Verdict::Later => "put off",
        Verdict::Unproven => "claimed without proof",
        Verdict::Malformed => "answered unintelligibly",
    }
}

fn failure_word(failure: Failure) -> &'static str {
    match failure {
        Failure::Connect => "could not be reached",
        Failure::Closed => "closed the connection before its reply was whole",
        Failure::Timeout => "did not reply in time",
    }
}
