//! What wallet-core 72b42932 (merchant protocol 2:0:1) demands of a merchant's answers, no less and no more: what
//! fails here leaves that wallet with an error, or without its money.

use quittance_taler::{Amount, CoinPub, EddsaSignature, ExchangePub, MerchantPub, TalerTimestamp, message};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The status that tells a wallet whether to come for refunds.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) refunded: bool,
    pub(crate) refund_pending: bool,
    pub(crate) refund_amount: Amount,
    pub(crate) refund_taken: Amount,
}

impl Status {
    /// The wallet fetches only then. Otherwise it asks for the status again, for ever.
    pub(crate) fn is_worth_fetching(&self) -> bool {
        self.refund_amount.units() > self.refund_taken.units()
    }
}

/// What the wallet makes of one refund or aborted coin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The exchange confirmed: the wallet goes on to refresh the coin.
    Success(ExchangePub, EddsaSignature),
    /// Given up for ever, with the exchange's status and code.
    Gone(u64, Option<u64>),
    /// Asked again later.
    Pending(u64, Option<u64>),
}

/// A refund of a picked-up list.
#[derive(Debug)]
pub(crate) struct Refund {
    pub(crate) coin_pub: CoinPub,
    pub(crate) rtransaction_id: u64,
    pub(crate) refund_amount: Amount,
    pub(crate) outcome: Outcome,
}

pub(crate) struct Refunds {
    pub(crate) refund_amount: Amount,
    pub(crate) merchant_pub: MerchantPub,
    pub(crate) refunds: Vec<Refund>,
}

/// What becomes of an aborted coin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aborted {
    /// The exchange confirmed a refund.
    Refunded(ExchangePub, EddsaSignature),
    /// Never deposited: the wallet takes the coin's money back.
    TakenBack,
    /// The wallet counts the coin as spent.
    Lost(u64, u64),
}

fn member<T: DeserializeOwned>(object: &Value, name: &str) -> Result<T, String> {
    let value = object
        .get(name)
        .ok_or_else(|| format!("{name} is missing in {object}"))?;
    T::deserialize(value).map_err(|e| format!("{name} {value}: {e}"))
}

fn optional<T: DeserializeOwned>(object: &Value, name: &str) -> Result<Option<T>, String> {
    object.get(name).map(|_| member(object, name)).transpose()
}

/// `GET orders/$ID`: all four members, whatever the state.
pub(crate) fn status(reply: &Value) -> Result<Status, String> {
    Ok(Status {
        refunded: member(reply, "refunded")?,
        refund_pending: member(reply, "refund_pending")?,
        refund_amount: member(reply, "refund_amount")?,
        refund_taken: member(reply, "refund_taken")?,
    })
}

/// The two types of entry that this wallet knows. It has no type `undeposited`.
fn outcome(entry: &Value) -> Result<Outcome, String> {
    let status: u64 = member(entry, "exchange_status")?;
    match member::<String>(entry, "type")?.as_str() {
        "success" if status == 200 => Ok(Outcome::Success(
            member(entry, "exchange_pub")?,
            member(entry, "exchange_sig")?,
        )),
        "success" => Err(format!("a success of status {status}")),
        "failure" => {
            let code = optional(entry, "exchange_code")?;
            Ok(match status {
                400..=499 => Outcome::Gone(status, code),
                _ => Outcome::Pending(status, code),
            })
        }
        other => Err(format!("no type {other} is known")),
    }
}

/// `POST orders/$ID/refund`.
pub(crate) fn refunds(reply: &Value) -> Result<Refunds, String> {
    let entries: Vec<Value> = member(reply, "refunds")?;
    let refund = |entry: &Value| {
        member::<TalerTimestamp>(entry, "execution_time")?;
        Ok(Refund {
            coin_pub: member(entry, "coin_pub")?,
            rtransaction_id: member(entry, "rtransaction_id")?,
            refund_amount: member(entry, "refund_amount")?,
            outcome: outcome(entry)?,
        })
    };
    let refunds: Vec<Refund> = entries.iter().map(refund).collect::<Result<_, String>>()?;
    // Known refunds are told from new ones by this key.
    let mut keys: Vec<_> = refunds
        .iter()
        .map(|refund| (refund.coin_pub, refund.rtransaction_id))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.len() < refunds.len() {
        return Err("two refunds have one coin and id".into());
    }
    Ok(Refunds {
        refund_amount: member(reply, "refund_amount")?,
        merchant_pub: member(reply, "merchant_pub")?,
        refunds,
    })
}

/// `POST orders/$ID/abort`: as many entries as coins were named, in their order; a failure's code must be a number.
/// Its `exchange_reply` may be anything, nothing too.
pub(crate) fn abort(request: &Value, reply: &Value) -> Result<Vec<Aborted>, String> {
    let named: Vec<Value> = member(request, "coins")?;
    let entries: Vec<Value> = member(reply, "refunds")?;
    if named.len() != entries.len() {
        return Err(format!("{} entries for {} coins", entries.len(), named.len()));
    }
    let aborted = |entry: &Value| {
        let outcome = outcome(entry)?;
        Ok(match outcome {
            Outcome::Success(key, sig) => Aborted::Refunded(key, sig),
            Outcome::Gone(_, Some(1502)) => Aborted::TakenBack,
            Outcome::Gone(status, Some(code)) | Outcome::Pending(status, Some(code)) => {
                Aborted::Lost(status, code)
            }
            Outcome::Gone(_, None) | Outcome::Pending(_, None) => {
                return Err(format!("exchange_code is missing in {entry}"));
            }
        })
    };
    entries.iter().map(aborted).collect()
}

/// `POST orders/$ID/claim`: terms with all that wallets of 2022 and of today cannot do without, for this order, this
/// nonce and the address in the `taler://` URI, and with names of members that it can hash; signed by the merchant.
pub(crate) fn claim(order: &str, request: &Value, base_url: &str, reply: &Value) -> Result<Value, String> {
    let terms: Value = member(reply, "contract_terms")?;
    let lacking = quittance_taler::wallets_lack(&terms);
    if !lacking.is_empty() {
        return Err(format!("{lacking:?} is lacking in {terms}"));
    }
    for (name, expected) in [
        ("order_id", &Value::from(order)),
        ("nonce", &request["nonce"]),
        ("merchant_base_url", &Value::from(base_url)),
    ] {
        if terms[name] != *expected {
            return Err(format!("{name} is {}, not {expected}", terms[name]));
        }
    }
    let hash = quittance_taler::contract_hash(&terms).map_err(|e| e.to_string())?;
    let merchant: MerchantPub = member(&terms, "merchant_pub")?;
    if !merchant.verify(&message::contract(&hash), &member(reply, "sig")?) {
        return Err("the contract's signature does not hold".into());
    }
    Ok(terms)
}

/// `POST orders/$ID/pay`: the merchant's word that the contract is paid.
pub(crate) fn paid(terms: &Value, reply: &Value) -> Result<(), String> {
    let hash = quittance_taler::contract_hash(terms).map_err(|e| e.to_string())?;
    let merchant: MerchantPub = member(terms, "merchant_pub")?;
    let holds = merchant.verify(&message::payment_ok(&hash), &member(reply, "sig")?);
    holds
        .then_some(())
        .ok_or("the payment's signature does not hold".into())
}

/// What the wallet makes of a payment that was refused with this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It replaces this coin and pays again.
    Replace(CoinPub),
    /// It tries again later, or gives up with an abort.
    Later,
    /// It gives the payment up and its coins with it.
    Lost,
}

pub(crate) fn refused(status: u16, reply: &Value) -> Result<Refused, String> {
    Ok(match (status, reply["code"].as_u64()) {
        (409, Some(2150)) => {
            let exchange: Value = member(reply, "exchange_reply")?;
            if exchange["code"] != 1012 {
                return Err(format!("{exchange} names no coin that is spent"));
            }
            Refused::Replace(member(&exchange, "coin_pub")?)
        }
        (500.., _) => Refused::Later,
        _ => Refused::Lost,
    })
}

mod tests {
    //! The wallet's demands against what it was told when it was recorded.
    use super::*;
    use crate::fixtures::flows;

    fn recorded_abort(file: &str) -> Vec<Aborted> {
        let flows = flows(file);
        let aborts = |message: &&crate::fixtures::Message| message.path.ends_with("/abort");
        let message = flows[0].messages.iter().find(aborts).unwrap();
        abort(&message.request, &message.reply).unwrap()
    }

    #[test]
    fn a_coin_is_taken_back_with_1502_and_lost_with_1005() {
        assert_eq!(
            recorded_abort("wallet-flow-abort.jsonl")[1],
            Aborted::Lost(404, 1005)
        );
        assert_eq!(
            recorded_abort("wallet-flow-abort1502.jsonl")[1],
            Aborted::TakenBack
        );
        assert!(matches!(
            recorded_abort("wallet-flow-abort1502.jsonl")[0],
            Aborted::Refunded(..)
        ));
    }

    #[test]
    fn every_missing_member_is_noticed() {
        let flows = flows("wallet-flow-pending.jsonl");
        let replies = |end: &str| {
            let of_wallet = flows[0].messages.iter().filter(|message| !message.to_exchange);
            of_wallet
                .filter(|message| message.path.contains(end))
                .map(|message| &message.reply)
                .collect::<Vec<_>>()
        };
        let without = |value: &Value, name: &str| {
            let mut value = value.clone();
            value.as_object_mut().unwrap().remove(name).unwrap();
            value
        };
        let asked = replies("?h_contract=")[0];
        assert!(status(asked).unwrap().is_worth_fetching());
        for name in ["refunded", "refund_pending", "refund_amount", "refund_taken"] {
            assert!(status(&without(asked, name)).is_err(), "{name}");
        }
        // The private endpoint of that name comes first, then a failed pick-up and a successful one.
        let [_, failed, picked_up] = replies("/refund")[..] else {
            panic!("three replies")
        };
        for name in ["refund_amount", "merchant_pub", "refunds"] {
            assert!(refunds(&without(picked_up, name)).is_err(), "{name}");
        }
        let entry_without = |reply: &Value, name: &str| {
            let mut reply = reply.clone();
            reply["refunds"][1] = without(&reply["refunds"][1], name);
            refunds(&reply)
        };
        assert!(matches!(
            refunds(picked_up).unwrap().refunds[1].outcome,
            Outcome::Success(..)
        ));
        assert_eq!(
            refunds(failed).unwrap().refunds[1].outcome,
            Outcome::Pending(503, Some(0))
        );
        let both = [
            "type",
            "exchange_status",
            "rtransaction_id",
            "coin_pub",
            "refund_amount",
            "execution_time",
        ];
        for name in both {
            assert!(entry_without(failed, name).is_err(), "{name}");
        }
        for name in both.into_iter().chain(["exchange_sig", "exchange_pub"]) {
            assert!(entry_without(picked_up, name).is_err(), "{name}");
        }
        // Of a refund, unlike of an abort, the code may be missing.
        assert_eq!(
            entry_without(failed, "exchange_code").unwrap().refunds[1].outcome,
            Outcome::Pending(503, None)
        );
        let mut typed = failed.clone();
        typed["refunds"][0]["type"] = "undeposited".into();
        assert!(refunds(&typed).is_err());
    }
}
