//! The exchange's books: which coins were deposited, what was refunded of them, and what the exchange says to a
//! refund request and to a batch of deposits whose signatures are good. Pure: the same books, request, key and time
//! give the same answer and the same new books. It never waits, never opens a socket and knows no faults.
//!
//! Follows `POST /coins/$COIN_PUB/refund` and `POST /batch-deposit` as taler-exchange 0.9.1 (protocol 14:0:2) answers
//! them, its peculiarities included: an unknown coin is 404/1005 and not 404/1500, an amount below the refund fee is
//! a 500/53 that looks as if it might pass and never does, conflicts carry the coin's `history`. That of protocol 23
//! differs in the conflicts of deposits, which have none.

mod permitted;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::str::FromStr;

use quittance_taler::deposit::DepositedCoin;
use quittance_taler::time::TalerTimestamp;
use quittance_taler::{
    Amount, CoinPub, Currency, Digest32, EddsaSignature, HashCode, MerchantPub, Micros, Timestamp, message,
    sum,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::batch::denomination_unknown;
use crate::keys::{Confirmation, SigningKey};

/// jansson, which the recorded exchange reads JSON with, has signed 64-bit integers.
const RTRANSACTION_ID_MAX: u64 = u64::MAX >> 1;

// The sentences are those of the recordings; that of 1004, which was not recorded, is the registry's.
const COIN_PUB_MALFORMED: &str = "The public key of given to a \"/coins/\" handler was malformed.";
const JSON_INVALID: &str = "The JSON in the client's request was malformed (generic parse error).";
const SIGNATURE_INVALID: &str = "The signature of the merchant is invalid.";
pub(crate) const DENOMINATION_UNKNOWN: &str =
    "The exchange is not aware of the denomination key the wallet requested for the operation.";
const DEPOSIT_NOT_FOUND: &str = "The exchange knows about the coin we were asked to refund, but not about the \
     specific /deposit operation.  Hence, we cannot issue a refund (as we do not know if this merchant public key \
     is authorized to do a refund).";
const ALREADY_PAID: &str = "The exchange can no longer refund the customer/coin as the money was already \
     transferred (paid out) to the merchant. (It should be past the refund deadline.)";
const INCONSISTENT_AMOUNT: &str =
    "Conflicting refund granted before with different amount but same refund transaction ID.";
const DEPOSIT_INSUFFICIENT: &str = "We could not process the refund request as the coin's transaction history \
     does not permit the requested refund because then refunds would exceed the deposit amount.  The \"history\" \
     in the response proves this.";
const DB_FETCH_FAILED: &str = "The service failed to fetch information from its database.";

/// A coin spent at a merchant, as the test says it happened: the sandbox takes its word for it.
///
/// What a real exchange knows besides (`h_wire`, `h_denom_pub`, `coin_sig`) is all zero wherever the sandbox shows
/// the deposit. A coin that was withdrawn and deposited by `POST /batch-deposit` has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deposit {
    /// The coin.
    pub coin_pub: CoinPub,
    /// Hash of the contract that was paid.
    #[serde(rename = "h_contract_terms")]
    pub h_contract: HashCode,
    /// The merchant who was paid, and who alone may refund.
    pub merchant_pub: MerchantPub,
    /// What was spent of the coin, the deposit fee included.
    pub amount_with_fee: Amount,
    /// What the exchange takes of the deposit.
    pub deposit_fee: Amount,
    /// What the exchange takes of each refund: one per coin, as it is the denomination's.
    pub refund_fee: Amount,
    /// Before this time the deposit is not aggregated; without one it may be at any time.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_time")]
    pub refund_deadline: Option<Timestamp>,
}

/// A refund that the exchange granted, once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct GrantedRefund {
    /// The coin that got money back.
    pub coin_pub: CoinPub,
    /// The contract that the coin had paid for.
    #[serde(rename = "h_contract_terms")]
    pub h_contract: HashCode,
    /// The merchant who asked.
    pub merchant_pub: MerchantPub,
    /// The merchant's number for this refund, unique per coin and contract.
    pub rtransaction_id: u64,
    /// The amount with the refund fee, as the merchant signed it.
    #[serde(rename = "refund_amount")]
    pub amount: Amount,
}

/// Which deposits to pay out; the default is all that may be.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// Only deposits for this merchant.
    #[serde(default)]
    pub merchant_pub: Option<MerchantPub>,
    /// Only deposits of this coin.
    #[serde(default)]
    pub coin_pub: Option<CoinPub>,
}

/// Why a deposit could not be booked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DepositError {
    /// An amount is in another currency than the exchange's.
    #[error("an amount of the deposit is not in the exchange's currency")]
    Currency,
    /// The same coin was deposited for the same contract and merchant, with other facts.
    #[error("the coin was deposited for this contract before, with other facts")]
    Conflict,
    /// Fees belong to a coin's denomination, so a coin has one refund fee.
    #[error("the coin was deposited before with another refund fee")]
    RefundFee,
}

/// An answer before it is put on the wire.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn ok(body: Value) -> Reply {
        Reply { status: 200, body }
    }

    /// An error as Taler's programs put it: a number for the program, a sentence for the human.
    pub(crate) fn error(status: u16, code: u32, hint: &str) -> Reply {
        Reply {
            status,
            body: json!({ "code": code, "hint": hint }),
        }
    }

    pub(crate) fn json_invalid() -> Reply {
        Reply::error(400, 22, JSON_INVALID)
    }

    pub(crate) fn with(mut self, name: &str, value: Value) -> Reply {
        self.body[name] = value;
        self
    }
}

/// What a batch says of a deposit besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Permission {
    coin: DepositedCoin,
    h_wire: HashCode,
    timestamp: Timestamp,
    wire_transfer_deadline: Timestamp,
    wallet_data_hash: Option<HashCode>,
}

/// One thing that happened to a coin.
enum Entry {
    Deposited {
        deposit: Deposit,
        /// `None` where it was booked on a test's word.
        permission: Option<Box<Permission>>,
        at: Timestamp,
        done: bool,
    },
    Refunded {
        refund: GrantedRefund,
        fee: Amount,
        merchant_sig: EddsaSignature,
    },
}

/// All coins that the exchange has seen.
pub(crate) struct Books {
    currency: Currency,
    coins: HashMap<CoinPub, Vec<Entry>>,
    granted: Vec<GrantedRefund>,
}

struct Request {
    refund: GrantedRefund,
    merchant_sig: EddsaSignature,
}

impl Books {
    pub(crate) fn new(currency: Currency) -> Books {
        Books {
            currency,
            coins: HashMap::new(),
            granted: Vec::new(),
        }
    }

    /// Every refund granted so far, in the order of granting.
    pub(crate) fn granted(&self) -> &[GrantedRefund] {
        &self.granted
    }

    /// Every deposit, in no order.
    pub(crate) fn deposits(&self) -> Vec<Deposit> {
        self.coins
            .values()
            .flatten()
            .filter_map(Entry::deposit)
            .copied()
            .collect()
    }

    /// Books a deposit. The same facts again change nothing.
    pub(crate) fn deposit(&mut self, deposit: Deposit, now: Micros) -> Result<(), DepositError> {
        let amounts = [deposit.amount_with_fee, deposit.deposit_fee, deposit.refund_fee];
        if amounts.iter().any(|amount| amount.currency() != self.currency) {
            return Err(DepositError::Currency);
        }
        let entries = self.coins.entry(deposit.coin_pub).or_default();
        for earlier in entries.iter().filter_map(Entry::deposit) {
            if *earlier == deposit {
                return Ok(());
            }
            if earlier.h_contract == deposit.h_contract && earlier.merchant_pub == deposit.merchant_pub {
                return Err(DepositError::Conflict);
            }
            if earlier.refund_fee != deposit.refund_fee {
                return Err(DepositError::RefundFee);
            }
        }
        entries.push(Entry::Deposited {
            deposit,
            permission: None,
            at: now.floor_s(),
            done: false,
        });
        Ok(())
    }

    /// Pays out deposits whose refund deadline has passed: refunds of them are gone for good. Returns how many.
    pub(crate) fn aggregate(&mut self, which: Aggregate, now: Micros) -> usize {
        let mut paid = 0;
        for entry in self.coins.values_mut().flatten() {
            if let Entry::Deposited { deposit, done, .. } = entry
                && !*done
                && which
                    .merchant_pub
                    .is_none_or(|merchant| merchant == deposit.merchant_pub)
                && which.coin_pub.is_none_or(|coin| coin == deposit.coin_pub)
                && deposit
                    .refund_deadline
                    .is_none_or(|deadline| now.is_past(deadline))
            {
                *done = true;
                paid += 1;
            }
        }
        paid
    }

    /// Answers `POST /coins/$COIN_PUB/refund`, in the order of checks that 0.9.1 has.
    pub(crate) fn refund(&mut self, coin: &str, body: &[u8], signer: &SigningKey, now: Micros) -> Reply {
        let Ok(coin_pub) = CoinPub::from_str(coin) else {
            return Reply::error(400, 1004, COIN_PUB_MALFORMED);
        };
        match read(coin_pub, body, self.currency) {
            Ok(request) => self.decide(&request, signer, now),
            Err(refusal) => refusal,
        }
    }

    fn decide(&mut self, request: &Request, signer: &SigningKey, now: Micros) -> Reply {
        let Request { refund, merchant_sig } = request;
        let permission = message::refund_request(
            &refund.h_contract,
            &refund.coin_pub,
            refund.rtransaction_id,
            &refund.amount,
        );
        if !refund.merchant_pub.verify(&permission, merchant_sig) {
            return Reply::error(403, 1506, SIGNATURE_INVALID);
        }

        let Some(entries) = self.coins.get_mut(&refund.coin_pub) else {
            return denomination_unknown(signer, &HashCode::from_bytes([0; 64]), now);
        };

        // The fee is the denomination's, so this comes before it is known which deposit is meant.
        let fee = entries
            .iter()
            .find_map(Entry::deposit)
            .map(|deposit| deposit.refund_fee);
        let fee = fee.expect("a coin enters the books with a deposit");
        if refund.amount.is_zero() || less(&refund.amount, &fee) {
            return Reply::error(500, 53, DB_FETCH_FAILED).with("detail", json!("do refund"));
        }

        let Some((deposit, done)) = entries.iter().find_map(|entry| entry.deposit_for(refund)) else {
            return Reply::error(404, 1502, DEPOSIT_NOT_FOUND);
        };
        let earlier: Vec<&GrantedRefund> = entries
            .iter()
            .filter_map(|entry| entry.refund_of(refund))
            .collect();
        let same_id = earlier
            .iter()
            .find(|granted| granted.rtransaction_id == refund.rtransaction_id);
        if same_id.is_none_or(|granted| granted.amount != refund.amount) {
            if done {
                return Reply::error(410, 1503, ALREADY_PAID);
            }
            if same_id.is_some() {
                return conflict(424, 1510, INCONSISTENT_AMOUNT, refund, entries);
            }
            let total = sum(
                self.currency,
                earlier
                    .iter()
                    .map(|granted| granted.amount)
                    .chain([refund.amount]),
            );
            if total.is_ok_and(|total| !less(&deposit.amount_with_fee, &total)) {
                entries.push(Entry::Refunded {
                    refund: *refund,
                    fee,
                    merchant_sig: *merchant_sig,
                });
                self.granted.push(*refund);
            } else {
                return conflict(409, 1501, DEPOSIT_INSUFFICIENT, refund, entries);
            }
        }
        Reply::ok(signer.confirm_refund(&Confirmation {
            h_contract: &refund.h_contract,
            coin_pub: &refund.coin_pub,
            merchant_pub: &refund.merchant_pub,
            rtransaction_id: refund.rtransaction_id,
            amount: &refund.amount,
        }))
    }

    /// The books for a human or an oracle: every deposit and every refund granted.
    pub(crate) fn show(&self) -> Value {
        let deposits: Vec<Value> = self
            .coins
            .values()
            .flatten()
            .filter_map(Entry::show_deposit)
            .collect();
        json!({ "currency": self.currency, "deposits": deposits, "refunds": self.granted })
    }
}

impl Entry {
    fn refund(&self) -> Option<&GrantedRefund> {
        match self {
            Entry::Refunded { refund, .. } => Some(refund),
            Entry::Deposited { .. } => None,
        }
    }

    /// The denomination, where a batch told it.
    fn h_denom(&self) -> Option<HashCode> {
        match self {
            Entry::Deposited {
                permission: Some(permission),
                ..
            } => Some(permission.coin.h_denom),
            _ => None,
        }
    }

    fn deposit(&self) -> Option<&Deposit> {
        match self {
            Entry::Deposited { deposit, .. } => Some(deposit),
            Entry::Refunded { .. } => None,
        }
    }

    fn deposit_for(&self, refund: &GrantedRefund) -> Option<(Deposit, bool)> {
        match self {
            Entry::Deposited { deposit, done, .. }
                if deposit.h_contract == refund.h_contract && deposit.merchant_pub == refund.merchant_pub =>
            {
                Some((*deposit, *done))
            }
            _ => None,
        }
    }

    /// An earlier refund of the same deposit.
    fn refund_of(&self, asked: &GrantedRefund) -> Option<&GrantedRefund> {
        match self {
            Entry::Refunded { refund, .. }
                if refund.h_contract == asked.h_contract && refund.merchant_pub == asked.merchant_pub =>
            {
                Some(refund)
            }
            _ => None,
        }
    }

    fn show_deposit(&self) -> Option<Value> {
        let Entry::Deposited { deposit, done, .. } = self else {
            return None;
        };
        let mut shown = json!(deposit);
        shown["aggregated"] = json!(done);
        Some(shown)
    }

    fn history(&self) -> Value {
        match self {
            Entry::Deposited {
                deposit,
                permission,
                at,
                ..
            } => json!({
                "type": "DEPOSIT",
                "amount": deposit.amount_with_fee,
                "deposit_fee": deposit.deposit_fee,
                "timestamp": TalerTimestamp(*at),
                "refund_deadline": deposit.refund_deadline.map_or(json!({ "t_s": 0 }), |at| json!(TalerTimestamp(at))),
                "merchant_pub": deposit.merchant_pub,
                "h_contract_terms": deposit.h_contract,
                "h_wire": permission.as_ref().map_or(HashCode::from_bytes([0; 64]), |known| known.h_wire),
                "h_age_commitment": permission
                    .as_ref()
                    .and_then(|known| known.coin.h_age_commitment)
                    .unwrap_or(Digest32::from_bytes([0; 32])),
                "coin_sig": permission.as_ref().map_or(EddsaSignature::from_bytes([0; 64]), |known| known.coin.coin_sig),
            }),
            Entry::Refunded {
                refund,
                fee,
                merchant_sig,
            } => json!({
                "type": "REFUND",
                "amount": refund.amount.checked_sub(*fee).expect("no refund below its fee is granted"),
                "refund_fee": fee,
                "h_contract_terms": refund.h_contract,
                "merchant_pub": refund.merchant_pub,
                "rtransaction_id": refund.rtransaction_id,
                "merchant_sig": merchant_sig,
            }),
        }
    }
}

/// A refusal with the coin's history, newest first, as proof.
fn conflict(status: u16, code: u32, hint: &str, refund: &GrantedRefund, entries: &[Entry]) -> Reply {
    let h_denom = entries.iter().find_map(Entry::h_denom);
    Reply::error(status, code, hint)
        .with("coin_pub", json!(refund.coin_pub))
        .with(
            "h_denom_pub",
            json!(h_denom.unwrap_or(HashCode::from_bytes([0; 64]))),
        )
        .with("history", history(entries))
}

/// Newest first.
fn history(entries: &[Entry]) -> Value {
    entries.iter().rev().map(Entry::history).collect()
}

/// Both in the exchange's currency: it is checked when deposits are booked and requests are read.
pub(crate) fn less(left: &Amount, right: &Amount) -> bool {
    left.try_cmp(right)
        .expect("all amounts in the books are in one currency")
        == Ordering::Less
}

/// Reads a request. What is missing or malformed is named by its member and its place in the exchange's list.
fn read(coin_pub: CoinPub, body: &[u8], currency: Currency) -> Result<Request, Reply> {
    // Not the strict reader of the contract terms: 0.9.1 takes numbers up to 2^63-1 here.
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
        return Err(Reply::json_invalid());
    };
    let amount: Amount = member(&members, "refund_amount", 0)?;
    if amount.currency() != currency {
        return Err(malformed("refund_amount", 0));
    }
    let h_contract = member(&members, "h_contract_terms", 1)?;
    let merchant_pub = member(&members, "merchant_pub", 2)?;
    let rtransaction_id = members.get("rtransaction_id").and_then(Value::as_u64);
    let rtransaction_id = rtransaction_id
        .filter(|id| *id <= RTRANSACTION_ID_MAX)
        .ok_or_else(|| malformed("rtransaction_id", 3))?;
    let merchant_sig = member(&members, "merchant_sig", 4)?;
    let refund = GrantedRefund {
        coin_pub,
        h_contract,
        merchant_pub,
        rtransaction_id,
        amount,
    };
    Ok(Request { refund, merchant_sig })
}

pub(crate) fn member<T: FromStr>(members: &Map<String, Value>, name: &str, line: u32) -> Result<T, Reply> {
    let text = members.get(name).and_then(Value::as_str);
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| malformed(name, line))
}

pub(crate) fn malformed(name: &str, line: u32) -> Reply {
    Reply::json_invalid()
        .with("field", json!(name))
        .with("line", json!(line))
}

mod optional_time {
    use quittance_taler::Timestamp;
    use quittance_taler::time::TalerTimestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Timestamp>, out: S) -> Result<S::Ok, S::Error> {
        time.map(TalerTimestamp).serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<TalerTimestamp>::deserialize(from)?.map(|time| time.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use quittance_taler::{EddsaPrivateKey, ExchangePub};

    use super::*;
    use crate::keys::Keys;

    /// A recording of the real exchange: the request it got and the answer it gave.
    struct Recording(Value);

    impl Recording {
        fn of(text: &str) -> Recording {
            Recording(serde_json::from_str(text).unwrap())
        }

        fn coin(&self) -> &str {
            self.0["inputs"]["coin_pub"].as_str().unwrap()
        }

        fn request(&self) -> Vec<u8> {
            match &self.0["request"]["body"] {
                Value::Null => self.0["request"]["body_raw"]
                    .as_str()
                    .unwrap()
                    .as_bytes()
                    .to_vec(),
                body => serde_json::to_vec(body).unwrap(),
            }
        }

        /// The deposits that stood behind the request.
        fn deposits(&self) -> Vec<Deposit> {
            let deposit = &self.0["deposit"];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            deposit["coins"]
                .as_array()
                .unwrap()
                .iter()
                .map(|coin| Deposit {
                    coin_pub: text(&coin["coin_pub"]).parse().unwrap(),
                    h_contract: text(&deposit["h_contract_terms"]).parse().unwrap(),
                    merchant_pub: text(&deposit["merchant_pub"]).parse().unwrap(),
                    amount_with_fee: text(&coin["contribution"]).parse().unwrap(),
                    deposit_fee: text(&coin["deposit_fee"]).parse().unwrap(),
                    refund_fee: text(&coin["refund_fee"]).parse().unwrap(),
                    refund_deadline: Some(
                        Timestamp::from_s(deposit["refund_deadline"]["t_s"].as_u64().unwrap()).unwrap(),
                    ),
                })
                .collect()
        }
    }

    macro_rules! recording {
        ($name:literal) => {
            Recording::of(include_str!(concat!(
                "../tests/fixtures/refund-",
                $name,
                ".json"
            )))
        };
    }

    fn now() -> Micros {
        Micros::from_s(1_795_225_225).unwrap()
    }

    fn keys() -> Keys {
        Keys::new(1, "TESTKUDOS".parse().unwrap(), now())
    }

    fn books(recording: &Recording) -> Books {
        let mut books = Books::new("TESTKUDOS".parse().unwrap());
        for deposit in recording.deposits() {
            books.deposit(deposit, now()).unwrap();
        }
        books
    }

    fn ask(books: &mut Books, recording: &Recording) -> Reply {
        books.refund(recording.coin(), &recording.request(), keys().current(), now())
    }

    fn names(value: &Value) -> Vec<&String> {
        value.as_object().unwrap().keys().collect()
    }

    /// Status, member names, number and sentence are the recording's.
    #[track_caller]
    fn like(reply: &Reply, recording: &Recording) {
        let recorded = &recording.0["reply"];
        assert_eq!(u64::from(reply.status), recorded["status"].as_u64().unwrap());
        assert_eq!(names(&reply.body), names(&recorded["body"]));
        for name in ["code", "hint", "detail", "field", "line", "coin_pub"] {
            assert_eq!(reply.body.get(name), recorded["body"].get(name), "{name}");
        }
    }

    /// History entries too, all but what the sandbox does not know.
    #[track_caller]
    fn same_history(reply: &Reply, recording: &Recording) {
        let recorded = recording.0["reply"]["body"]["history"].as_array().unwrap();
        let ours = reply.body["history"].as_array().unwrap();
        assert_eq!(ours.len(), recorded.len());
        for (ours, recorded) in ours.iter().zip(recorded) {
            assert_eq!(names(ours), names(recorded));
            for name in names(ours)
                .into_iter()
                .filter(|name| !["h_wire", "coin_sig"].contains(&name.as_str()))
            {
                assert_eq!(ours[name], recorded[name], "{name}");
            }
        }
    }

    fn confirmed(reply: &Reply, recording: &Recording) -> bool {
        let input = |name: &str| recording.0["inputs"][name].as_str().unwrap().to_owned();
        let signer: ExchangePub = reply.body["exchange_pub"].as_str().unwrap().parse().unwrap();
        let confirmation = message::refund_confirmation(
            &input("h_contract_terms").parse().unwrap(),
            &input("coin_pub").parse().unwrap(),
            &input("merchant_pub").parse().unwrap(),
            recording.0["inputs"]["rtransaction_id"].as_u64().unwrap(),
            &input("refund_amount").parse().unwrap(),
        );
        signer.verify(
            &confirmation,
            &reply.body["exchange_sig"].as_str().unwrap().parse().unwrap(),
        )
    }

    #[test]
    fn grants_what_the_real_exchange_granted() {
        for recording in [
            recording!("200-partial"),
            recording!("200-full-at-once"),
            recording!("200-second-coin-full"),
            recording!("200-deadline-passed-not-yet-aggregated"),
            recording!("rtid-2to63"),
        ] {
            let mut books = books(&recording);
            let reply = ask(&mut books, &recording);
            like(&reply, &recording);
            assert!(confirmed(&reply, &recording));
            assert_eq!(books.granted().len(), 1);
            // Again, and the books do not change.
            assert_eq!(ask(&mut books, &recording), reply);
            assert_eq!(books.granted().len(), 1);
        }
    }

    #[test]
    fn the_recorded_order_runs_through_repeat_second_refund_conflict_and_too_much() {
        let first = recording!("200-partial");
        let mut books = books(&first);
        like(&ask(&mut books, &first), &first);
        like(
            &ask(&mut books, &recording!("200-repeat")),
            &recording!("200-repeat"),
        );

        let other_amount = recording!("conflict-same-rtid-other-amount");
        let reply = ask(&mut books, &other_amount);
        like(&reply, &other_amount);
        same_history(&reply, &other_amount);

        like(
            &ask(&mut books, &recording!("200-second-rtid")),
            &recording!("200-second-rtid"),
        );
        let too_much = recording!("409-too-much");
        let reply = ask(&mut books, &too_much);
        like(&reply, &too_much);
        same_history(&reply, &too_much);
        assert_eq!(
            books
                .granted()
                .iter()
                .map(|refund| refund.rtransaction_id)
                .collect::<Vec<_>>(),
            [1, 2]
        );
    }

    #[test]
    fn refuses_as_the_real_exchange_refused() {
        for recording in [
            recording!("403-bad-sig"),
            recording!("404-other-contract"),
            recording!("404-other-merchant"),
            recording!("404-unknown-coin"),
            recording!("409-more-than-deposit"),
            recording!("below-refund-fee"),
            recording!("zero-amount"),
            recording!("malformed-json"),
            recording!("missing-field"),
        ] {
            let mut books = books(&recording);
            like(&ask(&mut books, &recording), &recording);
            assert!(books.granted().is_empty());
        }
        let whole = recording!("409-more-than-deposit");
        same_history(&ask(&mut books(&whole), &whole), &whole);
    }

    #[test]
    fn after_aggregation_only_repeats_are_confirmed() {
        let gone = recording!("410-after-aggregation");
        let granted = recording!("200-deadline-passed-not-yet-aggregated");
        assert_eq!(gone.coin(), granted.coin());
        let mut books = books(&gone);
        like(&ask(&mut books, &granted), &granted);

        let deadline = gone.deposits()[0].refund_deadline.unwrap().seconds().unwrap();
        let at = |seconds| Micros::from_s(seconds).unwrap();
        assert_eq!(books.aggregate(Aggregate::default(), at(deadline - 1)), 0);
        let other = Aggregate {
            coin_pub: Some(CoinPub::from_bytes([7; 32])),
            ..Aggregate::default()
        };
        assert_eq!(books.aggregate(other, at(deadline)), 0);
        assert_eq!(books.aggregate(Aggregate::default(), at(deadline)), 1);
        assert_eq!(books.aggregate(Aggregate::default(), at(deadline)), 0);

        like(&ask(&mut books, &gone), &gone);
        like(&ask(&mut books, &granted), &granted);
        assert_eq!(books.show()["deposits"][0]["aggregated"], json!(true));
    }

    /// Requests of the tests' own, for what was not recorded.
    struct Coin {
        merchant: EddsaPrivateKey,
        deposit: Deposit,
    }

    fn coin() -> Coin {
        let merchant = EddsaPrivateKey::from_bytes([3; 32]);
        let deposit = Deposit {
            coin_pub: CoinPub::from_bytes([4; 32]),
            h_contract: HashCode::from_bytes([5; 64]),
            merchant_pub: merchant.merchant_pub(),
            amount_with_fee: "TESTKUDOS:2".parse().unwrap(),
            deposit_fee: "TESTKUDOS:0.1".parse().unwrap(),
            refund_fee: "TESTKUDOS:0.1".parse().unwrap(),
            refund_deadline: None,
        };
        Coin { merchant, deposit }
    }

    fn request(coin: &Coin, rtransaction_id: u64, amount: &str) -> Value {
        let signed = message::refund_request(
            &coin.deposit.h_contract,
            &coin.deposit.coin_pub,
            rtransaction_id,
            &amount.parse().unwrap(),
        );
        json!({
            "refund_amount": amount,
            "h_contract_terms": coin.deposit.h_contract,
            "rtransaction_id": rtransaction_id,
            "merchant_pub": coin.deposit.merchant_pub,
            "merchant_sig": coin.merchant.sign(&signed),
        })
    }

    #[test]
    fn a_malformed_coin_comes_before_a_malformed_body_and_a_bad_signature_before_an_unknown_coin() {
        let coin = coin();
        let mut books = Books::new("TESTKUDOS".parse().unwrap());
        let keys = keys();
        let mut post = |path: &str, body: &Value| {
            let reply = books.refund(path, &serde_json::to_vec(body).unwrap(), keys.current(), now());
            (
                reply.status,
                reply.body["code"].as_u64().unwrap(),
                reply.body["field"].as_str().map(str::to_owned),
            )
        };
        let path = coin.deposit.coin_pub.to_string();
        assert_eq!(post("ABC", &json!([])), (400, 1004, None));
        assert_eq!(post(&path, &json!([])), (400, 22, None));
        let with = |name: &str, value: Value| {
            let mut body = request(&coin, 1, "TESTKUDOS:1");
            body[name] = value;
            body
        };
        for (name, value) in [
            ("refund_amount", json!("EUR:1")),
            ("refund_amount", json!(1)),
            ("h_contract_terms", json!("0")),
            ("rtransaction_id", json!(-1)),
            ("rtransaction_id", json!(1_u64 << 63)),
            ("rtransaction_id", json!(1.5)),
            ("merchant_pub", Value::Null),
            ("merchant_sig", json!("U")),
        ] {
            assert_eq!(post(&path, &with(name, value)), (400, 22, Some(name.to_owned())));
        }
        assert_eq!(post(&path, &with("rtransaction_id", json!(2))), (403, 1506, None));
        assert_eq!(
            post(&path, &with("refund_amount", json!("TESTKUDOS:0.01"))),
            (403, 1506, None)
        );
        assert_eq!(post(&path, &request(&coin, 1, "TESTKUDOS:1")), (404, 1005, None));
    }

    #[test]
    fn an_amount_equal_to_the_fee_is_granted_and_the_deposit_is_the_bound() {
        let coin = coin();
        let mut books = Books::new("TESTKUDOS".parse().unwrap());
        books.deposit(coin.deposit, now()).unwrap();
        let keys = keys();
        let path = coin.deposit.coin_pub.to_string();
        let mut post = |id: u64, amount: &str| {
            let body = serde_json::to_vec(&request(&coin, id, amount)).unwrap();
            books.refund(&path, &body, keys.current(), now()).status
        };
        assert_eq!(post(0, "TESTKUDOS:0.1"), 200);
        assert_eq!(post(1, "TESTKUDOS:0.09999999"), 500);
        assert_eq!(post(1, "TESTKUDOS:1.90000001"), 409);
        // A sum beyond what an amount can hold is too much as well.
        assert_eq!(post(1, "TESTKUDOS:4503599627370496.99999999"), 409);
        assert_eq!(post(1, "TESTKUDOS:1.9"), 200);
        assert_eq!(post(2, "TESTKUDOS:0.1"), 409);
        assert_eq!(books.granted().len(), 2);
    }

    #[test]
    fn deposits_repeat_but_do_not_change() {
        let deposit = coin().deposit;
        let mut books = Books::new("TESTKUDOS".parse().unwrap());
        assert_eq!(books.deposit(deposit, now()), Ok(()));
        assert_eq!(books.deposit(deposit, now()), Ok(()));
        assert_eq!(books.show()["deposits"].as_array().unwrap().len(), 1);

        let other: Amount = "TESTKUDOS:1".parse().unwrap();
        let elsewhere = HashCode::from_bytes([6; 64]);
        let foreign: Amount = "EUR:2".parse().unwrap();
        let refused = [
            (
                Deposit {
                    amount_with_fee: other,
                    ..deposit
                },
                DepositError::Conflict,
            ),
            (
                Deposit {
                    h_contract: elsewhere,
                    refund_fee: other,
                    ..deposit
                },
                DepositError::RefundFee,
            ),
            (
                Deposit {
                    amount_with_fee: foreign,
                    ..deposit
                },
                DepositError::Currency,
            ),
        ];
        for (deposit, error) in refused {
            assert_eq!(books.deposit(deposit, now()), Err(error));
        }
        assert_eq!(
            books.deposit(
                Deposit {
                    h_contract: elsewhere,
                    ..deposit
                },
                now()
            ),
            Ok(())
        );
    }
}
