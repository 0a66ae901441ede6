//! An exchange's `/keys`, as far as paying needs it: its version, its denominations, its wire fees. The signing keys
//! in it are read where confirmations are judged.
//!
//! Nothing is taken on the exchange's word: a denomination or fee counts only under the signature of the master key
//! that the caller trusts (1025, 1028). What fails is left out and counted, so that one bad entry does not stop
//! payments with the others. Wire fees stood in `/wire` (`fees`) until 2023, and in `/keys` (`wire_fees`) since.

use crate::{
    Amount, Currency, EddsaSignature, HashCode, MasterPub, Micros, TalerTimestamp, Timestamp,
    denomination::{Denomination, Flat, Group, Listed, is_vouched_for},
    deposit::DepositLayout,
    json,
    message::assemble,
};
use serde::Deserialize;
use sha2::{Digest, Sha512};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    str::FromStr,
};

/// The master key vouches for the fees of a wire method.
const MASTER_WIRE_FEES: u32 = 1028;
/// The oldest protocol whose messages have the form that we sign and check (2021-12).
const PROTOCOL_MIN: u64 = 12;
/// Denominations that one exchange may list. Real ones list a few hundred: some twenty values, renewed over years.
const MAX_DENOMINATIONS: usize = 20_000;
/// Periods of wire fees that one exchange may list. Real ones list a handful.
const MAX_WIRE_FEES: usize = 1_000;

/// Why a `/keys` is of no use for payments.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Not JSON, or a member that must be there is missing or wrong.
    #[error("not a /keys: {0}")]
    Shape(#[from] serde_json::Error),
    /// A key and its cipher do not go together.
    #[error("not a /keys: {0}")]
    Denomination(&'static str),
    /// Of another exchange.
    #[error("its master key is {0}, not the expected one")]
    Foreign(MasterPub),
    /// Too old.
    #[error("it speaks protocol {0}; {PROTOCOL_MIN} or later is needed")]
    Protocol(ProtocolVersion),
    /// More entries than any exchange has.
    #[error("{0} {1}; {2} is the most")]
    TooMany(usize, &'static str, usize),
}

/// A protocol's version as `current:revision:age`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolVersion {
    /// The newest protocol spoken.
    pub current: u64,
    /// Counts what does not change the protocol.
    pub revision: u64,
    /// How many protocols before the newest are spoken too; at most `current`.
    pub age: u64,
}

/// A version is not three numbers, or its age is beyond its first number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version of the form current:revision:age")]
pub struct VersionMalformed;

impl ProtocolVersion {
    /// Whether protocol `wanted` is among those spoken.
    #[must_use]
    pub fn speaks(&self, wanted: u64) -> bool {
        (self.current - self.age..=self.current).contains(&wanted)
    }

    /// The form of its deposits.
    #[must_use]
    pub fn deposit_layout(&self) -> DepositLayout {
        DepositLayout::of_protocol(self.current)
    }
}

impl FromStr for ProtocolVersion {
    type Err = VersionMalformed;

    fn from_str(text: &str) -> Result<ProtocolVersion, VersionMalformed> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .then(|| part.parse().ok())
                .flatten()
                .ok_or(VersionMalformed)
        };
        let parts = text.split(':').map(number).collect::<Result<Vec<u64>, _>>()?;
        match parts[..] {
            [current, revision, age] if age <= current => Ok(ProtocolVersion {
                current,
                revision,
                age,
            }),
            _ => Err(VersionMalformed),
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.current, self.revision, self.age)
    }
}

/// What was left out of a `/keys`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Denominations and wire fees without the master key's signature, or in another currency.
    pub unsigned: usize,
    /// Denominations of another cipher than RSA.
    pub not_rsa: usize,
}

/// What paying needs of an exchange.
#[derive(Clone, Debug)]
pub struct ExchangeKeys {
    /// The protocol that it speaks.
    pub version: ProtocolVersion,
    /// Its currency.
    pub currency: Currency,
    /// Its wire fees, where its `/keys` holds them.
    pub wire_fees: Option<WireFees>,
    /// What its `/keys` lists besides.
    pub left_out: LeftOut,
    denominations: HashMap<HashCode, Denomination>,
}

impl ExchangeKeys {
    /// Reads the body of a 200 of the exchange whose master key is `master`.
    pub fn read(body: &[u8], master: &MasterPub) -> Result<ExchangeKeys, KeysError> {
        #[derive(Deserialize)]
        struct Members {
            #[serde(deserialize_with = "version_of_text")]
            version: ProtocolVersion,
            currency: Currency,
            master_public_key: MasterPub,
            #[serde(default, deserialize_with = "json::objects")]
            denoms: Vec<Flat>,
            #[serde(default, deserialize_with = "json::objects")]
            denominations: Vec<Group>,
            wire_fees: Option<FeesByMethod>,
        }
        let members: Members = json::read_object(body)?;
        if members.master_public_key != *master {
            return Err(KeysError::Foreign(members.master_public_key));
        }
        if members.version.current < PROTOCOL_MIN {
            return Err(KeysError::Protocol(members.version));
        }
        let count = members.denoms.len() + members.denominations.iter().map(Group::len).sum::<usize>();
        if count > MAX_DENOMINATIONS {
            return Err(KeysError::TooMany(count, "denominations", MAX_DENOMINATIONS));
        }
        let mut keys = ExchangeKeys {
            version: members.version,
            currency: members.currency,
            wire_fees: None,
            left_out: LeftOut::default(),
            denominations: HashMap::new(),
        };
        let grouped = members.denominations.into_iter().flat_map(Group::into_listed);
        // Protocol 14 lists all in both shapes.
        for listed in grouped.chain(members.denoms.into_iter().map(Flat::into_listed)) {
            keys.take(listed.map_err(KeysError::Denomination)?, master);
        }
        if let Some(fees) = members.wire_fees {
            let fees = WireFees::of(fees, master, members.currency)?;
            keys.left_out.unsigned += fees.unsigned;
            keys.wire_fees = Some(fees);
        }
        Ok(keys)
    }

    fn take(&mut self, listed: Listed, master: &MasterPub) {
        match listed {
            None => self.left_out.not_rsa += 1,
            Some((denomination, _)) if self.denominations.contains_key(&denomination.h_denom) => {}
            Some((denomination, signature)) => {
                if is_vouched_for(&denomination, &signature, master, self.currency) {
                    self.denominations.insert(denomination.h_denom, denomination);
                } else {
                    self.left_out.unsigned += 1;
                }
            }
        }
    }

    /// The denomination of that hash, if the exchange has it.
    #[must_use]
    pub fn denomination(&self, h_denom: &HashCode) -> Option<&Denomination> {
        self.denominations.get(h_denom)
    }

    /// All denominations, in no order.
    #[must_use]
    pub fn denominations(&self) -> impl ExactSizeIterator<Item = &Denomination> {
        self.denominations.values()
    }
}

fn version_of_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ProtocolVersion, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(serde::de::Error::custom)
}

type FeesByMethod = BTreeMap<String, Vec<json::Object<ListedFee>>>;

#[derive(Deserialize)]
struct ListedFee {
    wire_fee: Amount,
    closing_fee: Amount,
    start_date: TalerTimestamp,
    end_date: TalerTimestamp,
    sig: EddsaSignature,
}

/// What the exchange takes for a transfer in some period, as its master key signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WireFee {
    /// For a transfer to a merchant.
    pub wire_fee: Amount,
    /// For closing a reserve.
    pub closing_fee: Amount,
    /// From then on.
    pub start: Timestamp,
    /// Until before then.
    pub end: Timestamp,
}

impl WireFee {
    /// What a master key signs (1028) for that wire method (`iban`, `x-taler-bank`).
    #[must_use]
    pub fn message(&self, method: &str) -> [u8; 136] {
        let mut hasher = Sha512::new();
        hasher.update(method.as_bytes());
        hasher.update([0]);
        let h_method: [u8; 64] = hasher.finalize().into();
        assemble(
            MASTER_WIRE_FEES,
            &[
                &h_method,
                &self.start.to_signed_bytes(),
                &self.end.to_signed_bytes(),
                &self.wire_fee.to_bytes(),
                &self.closing_fee.to_bytes(),
            ],
        )
    }
}

/// An exchange's wire fees by method and period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireFees {
    by_method: BTreeMap<String, Vec<WireFee>>,
    /// How many were left out: not signed by the master key, or in another currency.
    pub unsigned: usize,
}

impl WireFees {
    /// Reads the body of `/wire`'s 200, of an exchange of that master key and currency.
    pub fn read_wire(body: &[u8], master: &MasterPub, currency: Currency) -> Result<WireFees, KeysError> {
        #[derive(Deserialize)]
        struct Wire {
            master_public_key: MasterPub,
            fees: FeesByMethod,
        }
        let wire: Wire = json::read_object(body)?;
        if wire.master_public_key != *master {
            return Err(KeysError::Foreign(wire.master_public_key));
        }
        WireFees::of(wire.fees, master, currency)
    }

    fn of(fees: FeesByMethod, master: &MasterPub, currency: Currency) -> Result<WireFees, KeysError> {
        let count = fees.values().map(Vec::len).sum();
        if count > MAX_WIRE_FEES {
            return Err(KeysError::TooMany(count, "wire fees", MAX_WIRE_FEES));
        }
        let mut read = WireFees {
            by_method: BTreeMap::new(),
            unsigned: 0,
        };
        for (method, list) in fees {
            let mut signed = Vec::new();
            for json::Object(listed) in list {
                let fee = WireFee {
                    wire_fee: listed.wire_fee,
                    closing_fee: listed.closing_fee,
                    start: listed.start_date.0,
                    end: listed.end_date.0,
                };
                let ours = [fee.wire_fee, fee.closing_fee].map(|amount| amount.currency() == currency);
                if ours == [true; 2] && master.verify(&fee.message(&method), &listed.sig) {
                    signed.push(fee);
                } else {
                    read.unsigned += 1;
                }
            }
            read.by_method.insert(method, signed);
        }
        Ok(read)
    }

    /// The fee of a method at some time; `None` where the exchange names none, and so cannot be used then.
    #[must_use]
    pub fn at(&self, method: &str, at: Micros) -> Option<&WireFee> {
        self.by_method
            .get(method)?
            .iter()
            .find(|fee| at.is_past(fee.start) && !at.is_past(fee.end))
    }
}
