//! From an order to contract terms: what a shop asks for, completed by what the merchant knows, so that wallets of
//! 2022 and of today take it.
//!
//! Members that are not known here are carried through and hashed. Those that speak for the merchant (its key, its
//! account, its exchanges, the wallet's nonce) are never taken from an order. What would need checks at payment that
//! are not made here is refused, not ignored: age limits, choices (terms of version 1), one-time passwords, goods
//! from an inventory. Reads no clock and draws no random number: both are handed in.

use crate::{
    Amount, ClaimNonce, ClaimToken, ContractError, ContractTerms, Currency, HashCode, JsonError, MasterPub,
    MerchantPub, RelativeTime, TalerTimestamp, Timestamp, WireSalt, base32, contract_hash,
    forget::check_digests, json, payto::PaytoUri,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use url::Url;

/// Members of contract terms that only the merchant writes.
const RESERVED: [&str; 8] = [
    "auditors",
    "exchanges",
    "h_wire",
    "merchant",
    "merchant_base_url",
    "merchant_pub",
    "nonce",
    "wire_method",
];
/// Members of orders and of their requests that are refused, unless they ask for nothing.
const UNSUPPORTED: [&str; 6] = [
    "choices",
    "inventory_products",
    "lock_uuids",
    "minimum_age",
    "otp_id",
    "token_families",
];
/// In a fulfillment URL, stands for the order's id.
const ORDER_ID_PLACE: &str = "${ORDER_ID}";
/// A wallet shows it as a line or two; also a bound on what goes into lists of orders.
const MAX_SUMMARY_BYTES: usize = 4096;

/// Why no contract terms can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Not JSON that can be hashed.
    #[error("{0}")]
    Json(#[from] JsonError),
    /// A member is missing or not as it must be (2502).
    #[error("the order has a wrong or no {0}: {1}")]
    Member(&'static str, String),
    /// A member that the order must leave to the merchant (2502).
    #[error("{0} is the merchant's to write, not the order's")]
    Reserved(&'static str),
    /// Something that is not done here (76).
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// Another currency than the merchant's (2024).
    #[error("{0} is not in {1}")]
    Currency(&'static str, Currency),
    /// The refund deadline is after the wire deadline (2504).
    #[error("the refund deadline is after the wire transfer deadline")]
    RefundAfterWire,
    /// The wire deadline is never (2506).
    #[error("the wire transfer deadline must not be never")]
    WireNever,
    /// Delivery was before now (2505).
    #[error("the delivery date is past")]
    DeliveryPast,
    /// Nobody could pay any more (2507).
    #[error("the pay deadline is past")]
    PayPast,
    /// Nobody could get a refund any more (2508).
    #[error("the refund deadline is past")]
    RefundPast,
    /// There is something to pay, but no exchange to pay with (2509, 2514).
    #[error("no exchange takes payments in {0} for this account")]
    NoExchange(Currency),
    /// What came out cannot be hashed or read (2502).
    #[error("{0}")]
    Terms(#[from] ContractError),
}

/// An exchange as terms name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedExchange {
    /// Its address.
    pub url: String,
    /// Its master key.
    pub master_pub: MasterPub,
    /// How much the merchant likes it; wallets prefer the greatest.
    pub priority: u32,
}

/// Who sells: what goes into every order's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seller {
    currency: Currency,
    base_url: String,
    merchant: Map<String, Value>,
    merchant_pub: MerchantPub,
    h_wire: HashCode,
    wire_method: String,
    exchanges: Vec<OfferedExchange>,
}

impl Seller {
    /// A merchant instance at `base_url` (http or https, ending in a slash: wallets compare it with the URL that they
    /// used). `merchant` is what wallets show of it: a `name`, maybe `address` and `jurisdiction`, which are empty
    /// objects where absent, and more.
    pub fn new(
        currency: Currency,
        base_url: &Url,
        merchant: &Value,
        merchant_pub: MerchantPub,
        (account, salt): (&PaytoUri, &WireSalt),
        exchanges: Vec<OfferedExchange>,
    ) -> Result<Seller, OrderError> {
        let wrong = |member, why: &str| Err(OrderError::Member(member, why.to_owned()));
        if !matches!(base_url.scheme(), "http" | "https") || !base_url.path().ends_with('/') {
            return wrong(
                "merchant_base_url",
                "not an http or https URL that ends in a slash",
            );
        }
        if base_url.query().is_some() || base_url.fragment().is_some() {
            return wrong("merchant_base_url", "has a query or a fragment");
        }
        let Some(mut merchant) = merchant.as_object().cloned() else {
            return wrong("merchant", "not an object");
        };
        if merchant
            .get("name")
            .and_then(Value::as_str)
            .is_none_or(str::is_empty)
        {
            return wrong("merchant", "a name is needed");
        }
        for part in ["address", "jurisdiction"] {
            if !merchant.entry(part).or_insert_with(|| json!({})).is_object() {
                return wrong("merchant", "address and jurisdiction must be objects");
            }
        }
        Ok(Seller {
            currency,
            base_url: base_url.as_str().to_owned(),
            merchant,
            merchant_pub,
            h_wire: account.h_wire(salt),
            wire_method: account.method(),
            exchanges,
        })
    }
}

/// What an order gets that does not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderDefaults {
    /// From the order to its pay deadline.
    pub pay_delay: RelativeTime,
    /// From the order to its refund deadline; zero: no refunds.
    pub refund_delay: RelativeTime,
    /// From the later of both to the wire deadline.
    pub wire_delay: RelativeTime,
    /// Deposit fees that the merchant bears.
    pub max_fee: Amount,
    /// Wire fees that the merchant bears, for wallets that reckon with them.
    pub max_wire_fee: Option<Amount>,
    /// By which the rest of a wire fee is divided.
    pub wire_fee_amortization: Option<u64>,
}

/// The body of `POST private/orders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRequest {
    /// The order, with all its members.
    pub order: Map<String, Value>,
    /// How long refunds may be granted, if the order names no deadline.
    pub refund_delay: Option<RelativeTime>,
    /// Whether a claim token is wanted; by default it is.
    pub create_token: bool,
    /// The wire method that is wanted, if it matters.
    pub payment_target: Option<String>,
    /// The session that the payment is bound to.
    pub session_id: Option<String>,
}

impl OrderRequest {
    /// Reads a body strictly: the order is to be hashed.
    pub fn read(body: &[u8]) -> Result<OrderRequest, OrderError> {
        let Value::Object(mut members) = json::parse_strict(body)? else {
            return Err(OrderError::Member("request", "not an object".to_owned()));
        };
        // As Taler reads members that may be absent: some shops write null for each that they do not use.
        members.retain(|_, value| !value.is_null());
        refuse_unsupported(&members)?;
        let Some(Value::Object(mut order)) = members.remove("order") else {
            return Err(OrderError::Member("order", "not an object".to_owned()));
        };
        order.retain(|_, value| !value.is_null());
        Ok(OrderRequest {
            order,
            refund_delay: optional(&members, "refund_delay")?,
            create_token: optional(&members, "create_token")?.unwrap_or(true),
            payment_target: optional(&members, "payment_target")?,
            session_id: optional(&members, "session_id")?,
        })
    }

    /// The id that the order brings along.
    pub fn own_id(&self) -> Result<Option<String>, OrderError> {
        optional(&self.order, "order_id")
    }

    /// Whether this request, made now as it was then, asks for what was offered: the same order, whatever salts were made
    /// for it and whatever the merchant has written into the offer beside.
    #[must_use]
    pub fn asks_for(&self, offered: &Offer, seller: &Seller, defaults: &OrderDefaults) -> bool {
        // Only deadlines that the request leaves open hang on the time, and those of its own were good then.
        let then = if self.order.contains_key("timestamp") {
            Timestamp::EPOCH
        } else {
            offered.read.timestamp
        };
        let id = &offered.read.order_id;
        let Ok(again) = Offer::new(self, seller, defaults, then, id, || ANY_SALT) else {
            return false;
        };
        let said = |offer: &Offer| {
            let mut terms = offer.terms.clone();
            terms.retain(|name, _| !RESERVED.contains(&name.as_str()));
            Value::Object(terms)
        };
        is_alike(&said(&again), &said(offered))
    }
}

/// Stands where any salt will do.
const ANY_SALT: [u8; 32] = [0; 32];

/// Whether two terms say the same, the first with [`ANY_SALT`] where one was to be made.
fn is_alike(again: &Value, offered: &Value) -> bool {
    match (again, offered) {
        (Value::Object(again), Value::Object(offered)) => {
            let alike = |(name, value): (&String, &Value)| {
                offered.get(name).is_some_and(|offered| {
                    if name == "$forgettable" {
                        salts_alike(value, offered)
                    } else {
                        is_alike(value, offered)
                    }
                })
            };
            again.len() == offered.len() && again.iter().all(alike)
        }
        (Value::Array(again), Value::Array(offered)) => {
            again.len() == offered.len() && again.iter().zip(offered).all(|(a, b)| is_alike(a, b))
        }
        _ => again == offered,
    }
}

fn salts_alike(again: &Value, offered: &Value) -> bool {
    let (Some(again), Some(offered)) = (again.as_object(), offered.as_object()) else {
        return again == offered;
    };
    let any: Value = base32::encode(&ANY_SALT).into();
    let alike = |(name, salt): (&String, &Value)| {
        offered
            .get(name)
            .is_some_and(|offered| salt == offered || *salt == any)
    };
    again.len() == offered.len() && again.iter().all(alike)
}

/// The body of `POST orders/$ID/claim`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ClaimRequest {
    /// The wallet's.
    pub nonce: ClaimNonce,
    /// What the order's URI said.
    pub token: Option<ClaimToken>,
}

impl ClaimRequest {
    /// Reads a body; members besides these are ignored.
    ///
    /// # Errors
    /// No JSON object, or a member is missing or wrong.
    pub fn read(body: &[u8]) -> Result<ClaimRequest, serde_json::Error> {
        json::read_object(body)
    }
}

/// Contract terms that nobody has claimed yet: all but the nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    terms: Map<String, Value>,
    read: ContractTerms,
    pay_deadline: Timestamp,
}

impl Offer {
    /// Completes an order made at `now`. `new_id` names it if it does not name itself; `fresh_salt` yields 32 random
    /// bytes for each member that it marks as forgettable without a salt of its own.
    pub fn new(
        request: &OrderRequest,
        seller: &Seller,
        defaults: &OrderDefaults,
        now: Timestamp,
        new_id: &str,
        mut fresh_salt: impl FnMut() -> [u8; 32],
    ) -> Result<Offer, OrderError> {
        let mut terms = request.order.clone();
        for name in RESERVED {
            if terms.contains_key(name) {
                return Err(OrderError::Reserved(name));
            }
        }
        refuse_unsupported(&terms)?;
        if terms
            .get("version")
            .is_some_and(|version| version.as_u64() != Some(0))
        {
            return Err(OrderError::Unsupported("version"));
        }
        set_fees(&mut terms, defaults);
        let amount = check_members(&terms, seller.currency)?;
        if seller.exchanges.is_empty() && !amount.is_zero() {
            return Err(OrderError::NoExchange(seller.currency));
        }
        terms.entry("order_id").or_insert_with(|| new_id.into());
        let order_id: String = required(&terms, "order_id")?;
        if matches!(order_id.as_str(), "." | "..") {
            return Err(OrderError::Member("order_id", "cannot stand in a URL".to_owned()));
        }
        if let Some(Value::String(url)) = terms.get_mut("fulfillment_url") {
            *url = url.replace(ORDER_ID_PLACE, &order_id);
        }
        set_deadlines(&mut terms, request.refund_delay, defaults, now)?;
        for (name, value) in [
            ("merchant", Value::Object(seller.merchant.clone())),
            ("merchant_base_url", seller.base_url.as_str().into()),
            ("merchant_pub", json!(seller.merchant_pub)),
            ("h_wire", json!(seller.h_wire)),
            ("wire_method", seller.wire_method.as_str().into()),
            ("exchanges", json!(seller.exchanges)),
            // Nobody audits exchanges for merchants any more, but wallets of 2022 want the list.
            ("auditors", json!([])),
        ] {
            terms.insert(name.to_owned(), value);
        }
        terms.entry("products").or_insert_with(|| json!([]));
        salt_forgettables(&mut terms, &mut fresh_salt);
        let offer = Offer::of_terms(terms)?;
        // The wallet would sign for something else than it is shown.
        check_digests(&offer.terms())?;
        Ok(offer)
    }

    /// An offer that was stored.
    pub fn from_terms(terms: &Value) -> Result<Offer, OrderError> {
        let terms = terms.as_object().ok_or(ContractError::NotAnObject)?;
        if terms.contains_key("nonce") {
            return Err(OrderError::Reserved("nonce"));
        }
        Offer::of_terms(terms.clone())
    }

    fn of_terms(terms: Map<String, Value>) -> Result<Offer, OrderError> {
        let offer = Offer {
            pay_deadline: required::<TalerTimestamp>(&terms, "pay_deadline")?.0,
            read: ContractTerms::read(&Value::Object(terms.clone()), None)?,
            terms,
        };
        // Any nonce will do to find out whether the claimed terms can be hashed.
        contract_hash(&offer.with_nonce(&ClaimNonce::from_bytes([0; 32])))?;
        Ok(offer)
    }

    fn with_nonce(&self, nonce: &ClaimNonce) -> Value {
        let mut terms = self.terms.clone();
        terms.insert("nonce".to_owned(), json!(nonce));
        Value::Object(terms)
    }

    /// The terms without nonce: what is stored until a wallet claims them.
    #[must_use]
    pub fn terms(&self) -> Value {
        Value::Object(self.terms.clone())
    }

    /// Until when it can be paid.
    #[must_use]
    pub fn pay_deadline(&self) -> Timestamp {
        self.pay_deadline
    }

    /// What refunds need of them.
    #[must_use]
    pub fn contract(&self) -> &ContractTerms {
        &self.read
    }

    /// The terms that the wallet with this nonce gets, and their hash.
    #[must_use]
    pub fn claimed_by(&self, nonce: &ClaimNonce) -> (Value, HashCode) {
        let terms = self.with_nonce(nonce);
        let hash = contract_hash(&terms).expect("it was tried with another nonce");
        (terms, hash)
    }
}

fn refuse_unsupported(members: &Map<String, Value>) -> Result<(), OrderError> {
    let asks = |value: &Value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(members) => !members.is_empty(),
        other => *other != json!(0),
    };
    match UNSUPPORTED
        .iter()
        .find(|name| members.get(**name).is_some_and(asks))
    {
        Some(name) => Err(OrderError::Unsupported(name)),
        None => Ok(()),
    }
}

fn optional<T: DeserializeOwned>(
    members: &Map<String, Value>,
    name: &'static str,
) -> Result<Option<T>, OrderError> {
    members
        .get(name)
        .map(|value| T::deserialize(value).map_err(|error| OrderError::Member(name, error.to_string())))
        .transpose()
}

fn required<T: DeserializeOwned>(members: &Map<String, Value>, name: &'static str) -> Result<T, OrderError> {
    optional(members, name)?.ok_or_else(|| OrderError::Member(name, "missing".to_owned()))
}

/// Checks what a wallet reads of an order with its fees, and gives its amount.
fn check_members(order: &Map<String, Value>, currency: Currency) -> Result<Amount, OrderError> {
    let wrong = |member, why: &str| Err(OrderError::Member(member, why.to_owned()));
    let amount: Amount = required(order, "amount")?;
    let ours = |name, amount: Amount| {
        let ours = amount.currency() == currency;
        ours.then_some(amount).ok_or(OrderError::Currency(name, currency))
    };
    ours("amount", amount)?;
    for name in ["max_fee", "max_wire_fee"] {
        if let Some(amount) = optional(order, name)? {
            ours(name, amount)?;
        }
    }
    if optional::<u64>(order, "wire_fee_amortization")? == Some(0) {
        return wrong("wire_fee_amortization", "nothing can be divided by 0");
    }
    let summary: String = required(order, "summary")?;
    if summary.is_empty() || summary.len() > MAX_SUMMARY_BYTES {
        return wrong("summary", "not 1 to 4096 bytes");
    }
    let url: Option<String> = optional(order, "fulfillment_url")?;
    let message: Option<String> = optional(order, "fulfillment_message")?;
    match (&url, &message) {
        (None, None) => return wrong("fulfillment_url", "nor is there a fulfillment_message"),
        // One without a host is a script or data, not a place.
        (Some(url), _) if !Url::parse(url).is_ok_and(|url| url.has_host()) => {
            return wrong("fulfillment_url", "not a URL with a host");
        }
        _ => {}
    }
    let products: Vec<Map<String, Value>> = optional(order, "products")?.unwrap_or_default();
    if products
        .iter()
        .any(|product| !product.get("description").is_some_and(Value::is_string))
    {
        return wrong("products", "each needs a description");
    }
    optional::<Map<String, Value>>(order, "extra")?;
    optional::<RelativeTime>(order, "auto_refund")?;
    Ok(amount)
}

fn set_deadlines(
    terms: &mut Map<String, Value>,
    refund_delay: Option<RelativeTime>,
    defaults: &OrderDefaults,
    now: Timestamp,
) -> Result<(), OrderError> {
    let given = |name| optional::<TalerTimestamp>(terms, name).map(|time| time.map(|time| time.0));
    let timestamp = given("timestamp")?.unwrap_or(now);
    let refund = given("refund_deadline")?
        .unwrap_or_else(|| timestamp.after(refund_delay.unwrap_or(defaults.refund_delay)));
    let pay = given("pay_deadline")?.unwrap_or_else(|| timestamp.after(defaults.pay_delay));
    let wire = given("wire_transfer_deadline")?.unwrap_or_else(|| refund.max(pay).after(defaults.wire_delay));
    if given("delivery_date")?.is_some_and(|delivery| delivery < now) {
        return Err(OrderError::DeliveryPast);
    }
    if pay < now {
        return Err(OrderError::PayPast);
    }
    // At the timestamp, or before it, is how terms say that there are no refunds.
    if refund < now && refund > timestamp {
        return Err(OrderError::RefundPast);
    }
    if wire.is_never() {
        return Err(OrderError::WireNever);
    }
    if refund > wire {
        return Err(OrderError::RefundAfterWire);
    }
    for (name, time) in [
        ("timestamp", timestamp),
        ("refund_deadline", refund),
        ("pay_deadline", pay),
        ("wire_transfer_deadline", wire),
    ] {
        terms.insert(name.to_owned(), json!(TalerTimestamp(time)));
    }
    Ok(())
}

fn set_fees(terms: &mut Map<String, Value>, defaults: &OrderDefaults) {
    let amortization = defaults.wire_fee_amortization.map(Value::from);
    for (name, fee) in [
        ("max_fee", Some(json!(defaults.max_fee))),
        ("max_wire_fee", defaults.max_wire_fee.map(|fee| json!(fee))),
        ("wire_fee_amortization", amortization),
    ] {
        if let Some(fee) = fee {
            terms.entry(name).or_insert(fee);
        }
    }
}

/// Replaces each salt that is only asked for (`true`), on all levels, by a new one.
fn salt_forgettables(members: &mut Map<String, Value>, fresh_salt: &mut impl FnMut() -> [u8; 32]) {
    for (name, value) in members {
        match value {
            Value::Object(salts) if name == "$forgettable" => {
                for salt in salts.values_mut().filter(|salt| **salt == Value::Bool(true)) {
                    *salt = base32::encode(&fresh_salt()).into();
                }
            }
            other => salt_below(other, fresh_salt),
        }
    }
}

fn salt_below(value: &mut Value, fresh_salt: &mut impl FnMut() -> [u8; 32]) {
    match value {
        Value::Object(members) => salt_forgettables(members, fresh_salt),
        Value::Array(items) => {
            for item in items {
                salt_below(item, fresh_salt);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::wallets_lack;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    fn seller() -> Seller {
        let account = "payto://iban/DE474361?receiver-name=Shop".parse().unwrap();
        let exchange = OfferedExchange {
            url: "https://exchange.example/".to_owned(),
            master_pub: MasterPub::from_bytes([2; 32]),
            priority: 1,
        };
        Seller::new(
            "KUDOS".parse().unwrap(),
            &"https://shop.example/instances/a/".parse().unwrap(),
            &json!({"name": "Shop", "logo": "data:x", "address": {"country": "CH"}}),
            MerchantPub::from_bytes([1; 32]),
            (&account, &WireSalt::from_bytes([3; 16])),
            vec![exchange],
        )
        .unwrap()
    }

    fn defaults() -> OrderDefaults {
        OrderDefaults {
            pay_delay: RelativeTime::from_s(3600).unwrap(),
            refund_delay: RelativeTime::from_s(0).unwrap(),
            wire_delay: RelativeTime::from_s(60).unwrap(),
            max_fee: "KUDOS:1".parse().unwrap(),
            max_wire_fee: None,
            wire_fee_amortization: None,
        }
    }

    fn offer_of(body: &Value) -> Result<Offer, OrderError> {
        let mut salts = 0;
        Offer::new(
            &OrderRequest::read(body.to_string().as_bytes())?,
            &seller(),
            &defaults(),
            Timestamp::from_s(NOW).unwrap(),
            "2027.015-01",
            || {
                salts += 1;
                [salts; 32]
            },
        )
    }

    fn order(more: &Value) -> Value {
        let mut order = json!({"amount": "KUDOS:7", "summary": "seven", "fulfillment_message": "thanks"});
        for (name, value) in more.as_object().unwrap() {
            order[name] = value.clone();
        }
        json!({"order": order})
    }

    fn terms(more: &Value) -> Value {
        offer_of(&order(more))
            .unwrap_or_else(|error| panic!("{more}: {error}"))
            .terms()
    }

    #[test]
    fn null_is_as_if_it_were_not_there() {
        let plain = json!({"order": {"amount": "KUDOS:1", "summary": "s", "fulfillment_message": "thanks"}});
        let mut padded = plain.clone();
        for name in [
            "max_fee",
            "pay_deadline",
            "fulfillment_url",
            "minimum_age",
            "unheard_of",
        ] {
            padded["order"][name] = Value::Null;
        }
        for name in ["session_id", "refund_delay", "create_token"] {
            padded[name] = Value::Null;
        }
        assert_eq!(offer_of(&padded).unwrap().terms, offer_of(&plain).unwrap().terms);
    }

    #[test]
    fn the_merchant_completes_what_the_order_leaves_open() {
        let terms = terms(&json!({}));
        assert_eq!(
            terms,
            json!({
                "amount": "KUDOS:7",
                "summary": "seven",
                "fulfillment_message": "thanks",
                "order_id": "2027.015-01",
                "timestamp": {"t_s": NOW},
                "refund_deadline": {"t_s": NOW},
                "pay_deadline": {"t_s": NOW + 3600},
                "wire_transfer_deadline": {"t_s": NOW + 3660},
                "max_fee": "KUDOS:1",
                "products": [],
                "auditors": [],
                "merchant": {"name": "Shop", "logo": "data:x", "address": {"country": "CH"}, "jurisdiction": {}},
                "merchant_base_url": "https://shop.example/instances/a/",
                "merchant_pub": MerchantPub::from_bytes([1; 32]),
                "h_wire": seller().h_wire,
                "wire_method": "iban",
                "exchanges": [{"url": "https://exchange.example/", "master_pub": MasterPub::from_bytes([2; 32]), "priority": 1}],
            })
        );
        assert_eq!(wallets_lack(&terms), ["nonce"]);
    }

    #[test]
    fn the_order_has_its_say() {
        let wishes = json!({
            "order_id": "mine",
            "fulfillment_url": "https://shop.example/${ORDER_ID}?again=${ORDER_ID}",
            "timestamp": {"t_s": NOW - 5},
            "refund_deadline": {"t_s": NOW + 10},
            "pay_deadline": {"t_s": NOW + 20},
            "wire_transfer_deadline": {"t_s": NOW + 30},
            "auto_refund": {"d_us": 5_000_000},
            "max_fee": "KUDOS:0.5",
            "max_wire_fee": "KUDOS:0.1",
            "wire_fee_amortization": 2,
            "products": [{"description": "boots", "quantity": 2}],
            "extra": {"anything": [1, {"deep": true}]},
            "version": 0,
            "never_heard_of": "kept",
        });
        let got = terms(&wishes);
        for (name, value) in wishes.as_object().unwrap() {
            if name != "fulfillment_url" {
                assert_eq!(&got[name], value, "{name}");
            }
        }
        assert_eq!(got["fulfillment_url"], "https://shop.example/mine?again=mine");

        let mut delayed = order(&json!({}));
        delayed["refund_delay"] = json!({"d_us": 7_200_000_000_u64});
        let got = offer_of(&delayed).unwrap().terms();
        assert_eq!(got["refund_deadline"], json!({"t_s": NOW + 7200}));
        assert_eq!(
            got["wire_transfer_deadline"],
            json!({"t_s": NOW + 7260}),
            "after the later one"
        );
    }

    #[test]
    fn the_same_request_again_asks_for_the_same() {
        let mut body = order(&json!({
            "extra": {"name": "x", "$forgettable": {"name": true}},
            "fulfillment_url": "https://shop.example/${ORDER_ID}",
        }));
        body["refund_delay"] = json!({"d_us": 7_200_000_000_u64});
        let offered = offer_of(&body).unwrap();
        let request = |body: &Value| OrderRequest::read(body.to_string().as_bytes()).unwrap();
        assert!(request(&body).asks_for(&offered, &seller(), &defaults()));
        // What the merchant writes of itself may have changed since.
        let mut other = seller();
        other.merchant["name"] = json!("Shop & Sons");
        assert!(request(&body).asks_for(&offered, &other, &defaults()));
        let different = |path: &str, value: Value| {
            let mut body = body.clone();
            *body.pointer_mut(path).unwrap() = value;
            assert!(
                !request(&body).asks_for(&offered, &seller(), &defaults()),
                "{path}"
            );
        };
        different("/order/amount", json!("KUDOS:8"));
        different("/order/extra", json!({"name": "x"}));
        different("/order/extra/name", json!("y"));
        different("/order/extra/$forgettable/name", json!("a salt"));
        different("/refund_delay", json!({"d_us": 3_600_000_000_u64}));
        let mut more = body.clone();
        more["order"]["delivery"] = json!({});
        assert!(!request(&more).asks_for(&offered, &seller(), &defaults()));
        // With deadlines of its own that are past by now.
        let dated = order(&json!({
            "timestamp": {"t_s": NOW - 100}, "pay_deadline": {"t_s": NOW + 1}, "order_id": "mine",
        }));
        let offered = offer_of(&dated).unwrap();
        assert_eq!(offered.pay_deadline(), Timestamp::from_s(NOW + 1).unwrap());
        assert!(request(&dated).asks_for(&offered, &seller(), &defaults()));
        assert_eq!(request(&dated).own_id(), Ok(Some("mine".to_owned())));
    }

    #[test]
    fn salts_are_made_where_they_are_asked_for() {
        let got = terms(&json!({
            "delivery": {"name": "x", "street": "y", "$forgettable": {"name": true, "street": "mine"}},
            "list": [{"a": 1, "$forgettable": {"a": true}}],
        }));
        let made = [1, 2].map(|byte| base32::encode(&[byte; 32]));
        let (one, two) = (
            &got["delivery"]["$forgettable"]["name"],
            &got["list"][0]["$forgettable"]["a"],
        );
        assert_eq!(
            [one, two].map(|salt| salt.as_str().unwrap()),
            [&made[0], &made[1]]
        );
        assert_eq!(got["delivery"]["$forgettable"]["street"], "mine");
        assert!(matches!(
            offer_of(&order(&json!({"x": 1, "$forgettable": {"x": false}}))),
            Err(OrderError::Terms(ContractError::Forgettable(..)))
        ));
    }

    #[test]
    fn refuses_what_cannot_be_sold() {
        let why = |more: Value| offer_of(&order(&more)).unwrap_err();
        let member = |name: &'static str, value: Value| {
            let OrderError::Member(wrong, _) = why(json!({name: value})) else {
                panic!("{name} {:?}", why(json!({name: value})))
            };
            assert_eq!(wrong, name);
        };
        member("amount", json!("KUDOS:"));
        member("amount", json!(7));
        member("summary", json!(""));
        member("summary", json!("x".repeat(4097)));
        member("summary", json!(1));
        member("fulfillment_url", json!("no url"));
        member("fulfillment_url", json!("javascript:alert(1)"));
        member("order_id", json!(".."));
        member("max_fee", json!("1"));
        member("wire_fee_amortization", json!(0));
        member("products", json!([{"quantity": 1}]));
        member("products", json!({}));
        member("extra", json!([]));
        member("auto_refund", json!(5));
        member("pay_deadline", json!(5));
        for (more, error) in [
            (
                json!({"amount": "EUR:7"}),
                OrderError::Currency("amount", seller().currency),
            ),
            (
                json!({"max_fee": "EUR:7"}),
                OrderError::Currency("max_fee", seller().currency),
            ),
            (
                json!({"refund_deadline": {"t_s": NOW + 2}, "wire_transfer_deadline": {"t_s": NOW + 1}}),
                OrderError::RefundAfterWire,
            ),
            (
                json!({"wire_transfer_deadline": {"t_s": "never"}}),
                OrderError::WireNever,
            ),
            (
                json!({"refund_deadline": {"t_s": "never"}}),
                OrderError::WireNever,
            ),
            (json!({"pay_deadline": {"t_s": NOW - 1}}), OrderError::PayPast),
            (
                json!({"timestamp": {"t_s": NOW - 9}, "refund_deadline": {"t_s": NOW - 1}}),
                OrderError::RefundPast,
            ),
            (
                json!({"delivery_date": {"t_s": NOW - 1}}),
                OrderError::DeliveryPast,
            ),
            (json!({"minimum_age": 18}), OrderError::Unsupported("minimum_age")),
            (json!({"choices": [{}]}), OrderError::Unsupported("choices")),
            (json!({"version": 1}), OrderError::Unsupported("version")),
        ] {
            assert_eq!(why(more), error);
        }
        for name in RESERVED {
            assert_eq!(why(json!({name: []})), OrderError::Reserved(name));
        }
        assert!(matches!(
            why(json!({"order_id": "a/b"})),
            OrderError::Terms(ContractError::Wrong("order_id", _))
        ));
        assert!(matches!(
            why(json!({"summary_i18n": {"de-DE": "sieben"}})),
            OrderError::Terms(ContractError::Name(_))
        ));
        assert_eq!(
            OrderRequest::read(br#"{"order": {"amount": "KUDOS:1", "amount": "KUDOS:2"}}"#),
            Err(OrderError::Json(JsonError::DuplicateKey("amount".to_owned())))
        );
        assert_eq!(
            OrderRequest::read(br#"{"order": {"x": 1.5}}"#),
            Err(OrderError::Json(JsonError::Float))
        );
        let mut nothing_said = order(&json!({}));
        nothing_said["order"]
            .as_object_mut()
            .unwrap()
            .remove("fulfillment_message");
        assert!(matches!(
            offer_of(&nothing_said),
            Err(OrderError::Member("fulfillment_url", _))
        ));
        for (name, value) in [("inventory_products", json!([1])), ("otp_id", json!("x"))] {
            let mut body = order(&json!({}));
            body[name] = value;
            assert_eq!(offer_of(&body), Err(OrderError::Unsupported(name)));
            body[name] = json!([]);
            assert!(offer_of(&body).is_ok());
        }
    }

    #[test]
    fn nothing_to_pay_needs_no_exchange() {
        let seller = Seller {
            exchanges: Vec::new(),
            ..seller()
        };
        let offer = |amount: &str| {
            let request =
                OrderRequest::read(order(&json!({"amount": amount})).to_string().as_bytes()).unwrap();
            Offer::new(
                &request,
                &seller,
                &defaults(),
                Timestamp::from_s(NOW).unwrap(),
                "o",
                || [0; 32],
            )
        };
        assert!(offer("KUDOS:0").unwrap().contract().amount.is_zero());
        assert_eq!(offer("KUDOS:1"), Err(OrderError::NoExchange(seller.currency)));
    }

    #[test]
    fn sellers_are_checked() {
        let new = |base: &str, merchant: Value| {
            let account = "payto://iban/DE474361?receiver-name=Shop".parse().unwrap();
            let salt = WireSalt::from_bytes([3; 16]);
            let key = MerchantPub::from_bytes([1; 32]);
            let base = base.parse().unwrap();
            Seller::new(
                "KUDOS".parse().unwrap(),
                &base,
                &merchant,
                key,
                (&account, &salt),
                Vec::new(),
            )
        };
        let named = || json!({"name": "Shop"});
        assert!(new("http://127.0.0.1:9966/", named()).is_ok());
        for (base, merchant) in [
            ("https://shop.example/a", named()),
            ("ftp://shop.example/", named()),
            ("https://shop.example/?a", named()),
            ("https://shop.example/#a", named()),
            ("https://shop.example/", json!({})),
            ("https://shop.example/", json!({"name": ""})),
            ("https://shop.example/", json!("Shop")),
            (
                "https://shop.example/",
                json!({"name": "Shop", "address": "Berne"}),
            ),
        ] {
            assert!(
                matches!(new(base, merchant), Err(OrderError::Member(..))),
                "{base}"
            );
        }
    }

    #[test]
    fn stored_offers_are_read_again() {
        let offer = offer_of(&order(&json!({"extra": {"a": 1}}))).unwrap();
        assert_eq!(Offer::from_terms(&offer.terms()), Ok(offer.clone()));
        let (claimed, hash) = offer.claimed_by(&ClaimNonce::from_bytes([5; 32]));
        assert_eq!(Offer::from_terms(&claimed), Err(OrderError::Reserved("nonce")));
        assert_eq!(contract_hash(&claimed), Ok(hash));
        assert_ne!(offer.claimed_by(&ClaimNonce::from_bytes([6; 32])).1, hash);
        assert!(Offer::from_terms(&json!(1)).is_err());
        // A nonce that is forgotten already can never be claimed.
        let forgotten = json!({"$forgotten": {"nonce": base32::encode(&[1; 64])}});
        assert!(matches!(
            offer_of(&order(&forgotten)),
            Err(OrderError::Terms(ContractError::Forgettable(..)))
        ));
    }

    proptest! {
        #[test]
        fn whatever_is_offered_can_be_claimed(
            delays in prop::array::uniform3(prop::option::of(0u64..100_000)),
            text in "\\PC{1,20}",
            units in 0u128..1_000_000_000,
        ) {
            let amount = Amount::from_units("KUDOS".parse().unwrap(), units).unwrap();
            let mut more = json!({"amount": amount, "summary": text, "extra": {"text": text}});
            for (name, delay) in ["refund_deadline", "pay_deadline", "wire_transfer_deadline"].iter().zip(delays) {
                if let Some(delay) = delay {
                    more[*name] = json!({"t_s": NOW + delay});
                }
            }
            match offer_of(&order(&more)) {
                Ok(offer) => {
                    let (terms, hash) = offer.claimed_by(&ClaimNonce::from_bytes([5; 32]));
                    prop_assert_eq!(contract_hash(&terms), Ok(hash));
                    prop_assert!(wallets_lack(&terms).is_empty());
                    let contract = offer.contract();
                    prop_assert!(contract.refund_deadline <= contract.wire_transfer_deadline);
                    prop_assert_eq!(contract.amount, amount);
                }
                Err(error) => prop_assert_eq!(error, OrderError::RefundAfterWire),
            }
        }
    }
}
