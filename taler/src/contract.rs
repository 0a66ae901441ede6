//! Contract terms: their hash, and the few members that refunds depend on.
//!
//! The hash is over what the merchant wrote, unknown members included: SHA-512 of the canonical JSON and a
//! NUL, with forgettable members replaced by their salted digests. The C library and the wallet agree on it
//! only within the rules that are enforced here (names of ASCII letters, digits and `_`; integers within
//! 2^53-1); terms beyond them are refused, never hashed one way or the other.

use crate::{
    Amount, HashCode, JsonError, MasterPub, MerchantPub, TalerTimestamp, Timestamp, base32, json, kdf::hkdf,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha512};
use url::Url;

/// Exchanges that terms may list: real ones list one to three, and each costs a record in every event of the
/// order.
const MAX_EXCHANGES: usize = 100;
/// Length of an exchange's URL; also a bound on what events repeat.
const MAX_URL_BYTES: usize = 255;
/// Length of an order id: part of URLs and file names.
const MAX_ORDER_ID_BYTES: usize = 64;
pub(crate) const FORGETTABLE: &str = "$forgettable";
pub(crate) const FORGOTTEN: &str = "$forgotten";

/// Why contract terms are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// Not a JSON object.
    #[error("contract terms must be a JSON object")]
    NotAnObject,
    /// A number or a depth that wallet and C library do not treat alike.
    #[error("contract terms cannot be hashed: {0}")]
    Json(#[from] JsonError),
    /// A member's name that Taler forbids.
    #[error(
        "contract terms cannot be hashed: the member name {0:?} is not made of letters A to Z, digits and _ only"
    )]
    Name(String),
    /// `$forgettable` or `$forgotten` is not what it must be.
    #[error("contract terms cannot be hashed: {1} of member {0:?}")]
    Forgettable(String, &'static str),
    /// Value, salt and digest of a member do not go together: the terms say one thing, and their hash stands for another.
    #[error("contract terms have another {0:?} than its digest under $forgotten stands for")]
    Digest(String),
    /// A member that we need is absent.
    #[error("contract terms lack the member {0}")]
    Missing(&'static str),
    /// A member that we need is there, but not as it must be.
    #[error("contract terms have a wrong {0}: {1}")]
    Wrong(&'static str, String),
    /// `choice_index` and the terms' version do not go together.
    #[error("{0}")]
    Choice(&'static str),
}

/// The hash of contract terms that coins, refunds and confirmations are signed over. The same before and
/// after forgetting.
pub fn contract_hash(terms: &Value) -> Result<HashCode, ContractError> {
    if !terms.is_object() {
        return Err(ContractError::NotAnObject);
    }
    json::check(terms, 0)?;
    let mut hasher = Sha512::new();
    hasher.update(nul_terminated(&scrub(terms)?));
    Ok(HashCode::from_bytes(hasher.finalize().into()))
}

fn nul_terminated(value: &Value) -> Vec<u8> {
    let mut bytes = json::canonical(value);
    bytes.push(0);
    bytes
}

/// The hashed form: every forgettable member replaced by its digest, on all levels.
fn scrub(value: &Value) -> Result<Value, ContractError> {
    match value {
        Value::Array(items) => items
            .iter()
            .map(scrub)
            .collect::<Result<_, _>>()
            .map(Value::Array),
        Value::Object(members) => scrub_object(members).map(Value::Object),
        scalar => Ok(scalar.clone()),
    }
}

fn scrub_object(members: &Map<String, Value>) -> Result<Map<String, Value>, ContractError> {
    let salts = texts_by_name(members, FORGETTABLE)?;
    let forgotten = texts_by_name(members, FORGOTTEN)?;
    check_forgotten(members, salts, forgotten)?;
    let mut digests = forgotten.cloned().unwrap_or_default();
    let mut kept = Map::new();
    for (name, member) in members {
        if name == FORGETTABLE || name == FORGOTTEN {
            continue;
        }
        check_name(name)?;
        let scrubbed = scrub(member)?;
        match salts.and_then(|salts| salts.get(name)).and_then(Value::as_str) {
            None => {
                kept.insert(name.clone(), scrubbed);
            }
            // A digest that is already there wins over the value.
            Some(_) if digests.contains_key(name) => {}
            Some(salt) => {
                digests.insert(name.clone(), digest(&scrubbed, salt));
            }
        }
    }
    if forgotten.is_some() || !digests.is_empty() {
        kept.insert(FORGOTTEN.to_owned(), Value::Object(digests));
    }
    Ok(kept)
}

/// What stands for a member that is forgotten.
pub(crate) fn member_digest(member: &Value, salt: &str) -> Result<Value, ContractError> {
    Ok(digest(&scrub(member)?, salt))
}

fn digest(scrubbed: &Value, salt: &str) -> Value {
    let salt = [salt.as_bytes(), &[0]].concat();
    base32::encode(&hkdf::<64>(&salt, &nul_terminated(scrubbed), &[])).into()
}

/// `$forgettable` or `$forgotten`: an object of texts under lawful names.
pub(crate) fn texts_by_name<'a>(
    members: &'a Map<String, Value>,
    which: &str,
) -> Result<Option<&'a Map<String, Value>>, ContractError> {
    let Some(value) = members.get(which) else {
        return Ok(None);
    };
    let texts = value
        .as_object()
        .ok_or_else(|| ContractError::Forgettable(which.to_owned(), "an object must be the value"))?;
    for (name, text) in texts {
        check_name(name)?;
        if !text.is_string() {
            return Err(ContractError::Forgettable(
                name.clone(),
                "a text must be the salt or digest",
            ));
        }
    }
    Ok(Some(texts))
}

/// Refuses the combinations that the C library and the wallet hash differently.
fn check_forgotten(
    members: &Map<String, Value>,
    salts: Option<&Map<String, Value>>,
    forgotten: Option<&Map<String, Value>>,
) -> Result<(), ContractError> {
    let has = |map: Option<&Map<String, Value>>, name: &str| map.is_some_and(|map| map.contains_key(name));
    for name in salts.into_iter().flat_map(Map::keys) {
        if !members.contains_key(name) && !has(forgotten, name) {
            return Err(ContractError::Forgettable(
                name.clone(),
                "there is a salt but neither value nor digest",
            ));
        }
    }
    for (name, digest) in forgotten.into_iter().flatten() {
        if members.contains_key(name) && !has(salts, name) {
            return Err(ContractError::Forgettable(
                name.clone(),
                "there are both value and digest but no salt",
            ));
        }
        if base32::decode_exact::<64>(digest.as_str().unwrap_or_default()).is_err() {
            return Err(ContractError::Forgettable(
                name.clone(),
                "64 bytes in base32 must be the digest",
            ));
        }
    }
    Ok(())
}

pub(crate) fn check_name(name: &str) -> Result<(), ContractError> {
    if !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        Ok(())
    } else {
        Err(ContractError::Name(name.to_owned()))
    }
}

/// An exchange that terms accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermsExchange {
    /// Its address as the terms write it: http or https, at most 255 bytes.
    pub url: String,
    /// Its master key: which exchange it is.
    pub master_pub: MasterPub,
}

/// What refunds need of contract terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractTerms {
    /// 1 to 64 characters of `[A-Za-z0-9._:-]`.
    pub order_id: String,
    /// What is to be paid; of terms with choices, under the choice made.
    pub amount: Amount,
    /// When the order was made.
    pub timestamp: Timestamp,
    /// Until when refunds may be granted; not after `timestamp`: never any.
    pub refund_deadline: Timestamp,
    /// When the exchange pays the merchant, after which it refunds no more.
    pub wire_transfer_deadline: Timestamp,
    /// Whose signature a refund needs.
    pub merchant_pub: MerchantPub,
    /// The exchanges whose coins are taken; none only where nothing is to be paid.
    pub exchanges: Vec<TermsExchange>,
    /// The choice made, of terms that have choices.
    pub choice_index: Option<u64>,
}

impl ContractTerms {
    /// Reads terms of version 0 (also without `version`; no choice) or 1 (`choice_index` says which of
    /// `choices`).
    pub fn read(terms: &Value, choice_index: Option<u64>) -> Result<ContractTerms, ContractError> {
        let members = terms.as_object().ok_or(ContractError::NotAnObject)?;
        let order_id: String = read(members, "order_id")?;
        let lawful = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        if !(1..=MAX_ORDER_ID_BYTES).contains(&order_id.len()) || !order_id.bytes().all(lawful) {
            return Err(ContractError::Wrong(
                "order_id",
                "not 1 to 64 characters of A-Z a-z 0-9 . _ : -".to_owned(),
            ));
        }
        let amount = amount_of(members, choice_index)?;
        let exchanges = exchanges_of(members)?;
        if exchanges.is_empty() && !amount.is_zero() {
            return Err(ContractError::Wrong(
                "exchanges",
                "none is named, but there is something to pay".to_owned(),
            ));
        }
        Ok(ContractTerms {
            order_id,
            amount,
            timestamp: read::<TalerTimestamp>(members, "timestamp")?.0,
            refund_deadline: read::<TalerTimestamp>(members, "refund_deadline")?.0,
            wire_transfer_deadline: read::<TalerTimestamp>(members, "wire_transfer_deadline")?.0,
            merchant_pub: read(members, "merchant_pub")?,
            exchanges,
            choice_index,
        })
    }
}

fn member<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<&'a Value, ContractError> {
    members.get(name).ok_or(ContractError::Missing(name))
}

/// A member that must be there, as a `T`.
pub(crate) fn read<'a, T: Deserialize<'a>>(
    members: &'a Map<String, Value>,
    name: &'static str,
) -> Result<T, ContractError> {
    T::deserialize(member(members, name)?).map_err(|error| ContractError::Wrong(name, error.to_string()))
}

fn amount_of(members: &Map<String, Value>, choice_index: Option<u64>) -> Result<Amount, ContractError> {
    match (members.get("version").map(Value::as_u64), choice_index) {
        (None | Some(Some(0)), None) => read(members, "amount"),
        (None | Some(Some(0)), Some(_)) => Err(ContractError::Choice(
            "a choice_index was given, but these contract terms have no choices",
        )),
        (Some(Some(1)), None) => Err(ContractError::Choice(
            "contract terms of version 1 need a choice_index",
        )),
        (Some(Some(1)), Some(index)) => {
            let choices: Vec<&Map<String, Value>> = member(members, "choices")?
                .as_array()
                .and_then(|choices| choices.iter().map(Value::as_object).collect())
                .ok_or_else(|| ContractError::Wrong("choices", "not a list of objects".to_owned()))?;
            let choice = usize::try_from(index).ok().and_then(|index| choices.get(index));
            read(
                choice.ok_or(ContractError::Choice(
                    "choice_index is beyond the choices of the contract terms",
                ))?,
                "amount",
            )
        }
        _ => Err(ContractError::Wrong("version", "neither 0 nor 1".to_owned())),
    }
}

fn exchanges_of(members: &Map<String, Value>) -> Result<Vec<TermsExchange>, ContractError> {
    #[derive(Deserialize)]
    struct Listed {
        url: String,
        master_pub: MasterPub,
    }
    let wrong = |why: String| ContractError::Wrong("exchanges", why);
    let listed: &Vec<Value> = member(members, "exchanges")?
        .as_array()
        .ok_or_else(|| wrong("not a list".to_owned()))?;
    if listed.len() > MAX_EXCHANGES {
        return Err(wrong(format!("more than {MAX_EXCHANGES}")));
    }
    listed
        .iter()
        .map(|value| {
            let json::Object(Listed { url, master_pub }) =
                json::Object::deserialize(value).map_err(|error| wrong(error.to_string()))?;
            if url.len() > MAX_URL_BYTES {
                return Err(wrong(format!("a URL of more than {MAX_URL_BYTES} bytes")));
            }
            match Url::parse(&url) {
                Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => {
                    Ok(TermsExchange { url, master_pub })
                }
                _ => Err(wrong(format!("{url:?} is no http or https URL"))),
            }
        })
        .collect()
}

/// Whether two texts are one exchange's address, as URLs: a missing last slash or a capital in the host names no other
/// exchange. What is no URL is nobody's.
#[must_use]
pub fn is_same_address(one: &str, other: &str) -> bool {
    let normal = |text: &str| {
        let mut url = Url::parse(text).ok()?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Some(url)
    };
    normal(one).is_some_and(|one| normal(other) == Some(one))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use serde_json::json;

    /// Terms with members that may be forgotten, and what is left when all of them are.
    pub(crate) fn reference_vector() -> (Value, Value) {
        let terms = json!({
            "k1": 1, "$forgettable": {"k1": "SALT"},
            "k2": {"n1": true, "$forgettable": {"n1": "salt"}},
            "k3": {"n1": "string"},
        });
        let form = json!({
            "$forgotten": {"k1": "DTG6STNK2DJHGG00TVVEYRVS8D3F129JNNGCPMSXHH41MMFKJ6FHPXB7JE1YYRV95ENPQTYCJFWKT9M5R2KQ3BD1V0147SRN2B9Z6W0"},
            "k2": {"$forgotten": {"n1": "HQK4F5VAQPH7WP36AFRB5JH282B2SSTPXCSZJS5JMNHTAQD9MK0EYSB0FB3KYB1WR89PDTJT69F2GTDRCSQGKM5FZA82RR69ZJMSSWR"}},
            "k3": {"n1": "string"},
        });
        (terms, form)
    }

    #[test]
    fn addresses_are_compared_as_urls() {
        let address = "https://exchange.example/at/";
        for (other, same) in [
            (address, true),
            ("https://Exchange.Example/at", true),
            ("https://exchange.example:443/at/", true),
            ("https://exchange.example/", false),
            ("http://exchange.example/at/", false),
            ("exchange.example/at/", false),
        ] {
            assert_eq!(is_same_address(address, other), same, "{other}");
        }
        assert!(!is_same_address("no URL", "no URL"));
    }

    fn hash(terms: &Value) -> String {
        contract_hash(terms).unwrap().to_string()
    }

    fn why(terms: &Value) -> String {
        contract_hash(terms).unwrap_err().to_string()
    }

    #[test]
    fn reference_vector_with_forgettable_members() {
        let (terms, form) = reference_vector();
        let expected = "VDE8JPX0AEEE3EX1K8E11RYEWSZQKGGZCV6BWTE4ST1C8711P7H850Z7F2Q2HSSYETX87ERC2JNHWB7GTDWTDWMM716VKPSRBXD7SRR";
        assert_eq!(scrub(&terms).unwrap(), form);
        assert_eq!(hash(&terms), expected);
        assert_eq!(hash(&form), expected, "the same after forgetting");
    }

    #[test]
    fn reference_vector_with_control_characters() {
        let terms = json!({"k1": "\u{8}\u{b}\t\u{1}\\\r"});
        assert_eq!(json::canonical(&terms), br#"{"k1":"\b\u000b\t\u0001\\\r"}"#);
        assert_eq!(
            hash(&terms),
            "531S33T8ZRGW6548G7T67PMDNGS4Z1D8A2GMB87G3PNKYTW6KGF7Q99XVCGXBKVA2HX6PR5ENJ1PQ5ZTYMMXQB6RM7S82VP7ZG2X5G8"
        );
    }

    #[test]
    fn forgetting_in_any_order_keeps_the_hash() {
        let whole = json!({
            "list": [{"x": {"deep": "y", "$forgettable": {"deep": "S1"}}, "$forgettable": {"x": "S2"}}, 1],
        });
        let inner_gone = json!({
            "list": [{"x": scrub(&whole["list"][0]["x"]).unwrap(), "$forgettable": {"x": "S2"}}, 1],
        });
        let all_gone = scrub(&whole).unwrap();
        assert_eq!(hash(&whole), hash(&inner_gone));
        assert_eq!(hash(&whole), hash(&all_gone));
        // The salt may outlive its value, and a digest wins over a value that is still there.
        let mut salt_left = all_gone.clone();
        salt_left["list"][0]["$forgettable"] = json!({"x": "S2"});
        assert_eq!(hash(&salt_left), hash(&whole));
        salt_left["list"][0]["x"] = json!("something else");
        assert_eq!(hash(&salt_left), hash(&whole));
        // Marks without names change nothing for $forgettable, and are hashed for $forgotten.
        assert_eq!(hash(&json!({"a": 1, "$forgettable": {}})), hash(&json!({"a": 1})));
        assert_ne!(hash(&json!({"a": 1, "$forgotten": {}})), hash(&json!({"a": 1})));
    }

    #[test]
    fn salt_and_value_make_the_digest() {
        let terms = |value: &str, salt: &str| json!({"a": value, "$forgettable": {"a": salt}});
        assert_ne!(hash(&terms("x", "s")), hash(&terms("y", "s")));
        assert_ne!(hash(&terms("x", "s")), hash(&terms("x", "t")));
    }

    #[test]
    fn refuses_what_taler_cannot_hash_alike() {
        let digest = base32::encode(&[7; 64]);
        for (terms, reason) in [
            (json!([]), "must be a JSON object"),
            (json!({"a": 1.5}), "no plain integer"),
            (json!({"a": [9_007_199_254_740_992u64]}), "beyond 2^53-1"),
            (json!({"de-DE": 1}), "\"de-DE\""),
            (json!({"a": [{"é": 1}]}), "\"é\""),
            (json!({"": 1}), "\"\""),
            (json!({"$other": 1}), "\"$other\""),
            (
                json!({"a": 1, "$forgettable": {"a": true}}),
                "a text must be the salt",
            ),
            (
                json!({"a": 1, "$forgettable": ["a"]}),
                "an object must be the value",
            ),
            (
                json!({"a": 1, "$forgettable": null}),
                "an object must be the value",
            ),
            (
                json!({"a": 1, "$forgettable": {"b": "S"}}),
                "neither value nor digest",
            ),
            (
                json!({"a": 1, "$forgettable": {"$forgettable": "S"}}),
                "\"$forgettable\"",
            ),
            (
                json!({"a": {"b": 1.0}, "$forgettable": {"a": "S"}}),
                "no plain integer",
            ),
            (json!({"a": {"b-c": 1}, "$forgettable": {"a": "S"}}), "\"b-c\""),
            (json!({"$forgotten": {"a": "ABC"}}), "64 bytes in base32"),
            (
                json!({"$forgotten": {"a": 1}}),
                "a text must be the salt or digest",
            ),
            (json!({"$forgotten": "a"}), "an object must be the value"),
            (
                json!({"a": 1, "$forgotten": {"a": digest}}),
                "both value and digest",
            ),
        ] {
            assert!(why(&terms).contains(reason), "{terms}: {}", why(&terms));
        }
    }

    fn terms() -> Value {
        json!({
            "order_id": "2026.325-01",
            "amount": "KUDOS:10",
            "timestamp": {"t_s": 100},
            "refund_deadline": {"t_s": 200},
            "wire_transfer_deadline": {"t_s": "never"},
            "merchant_pub": base32::encode(&[1; 32]),
            "exchanges": [{"url": "https://exchange.example/", "master_pub": base32::encode(&[2; 32]), "priority": 1}],
            "unknown": {"x": 1},
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut terms = terms();
        terms[name] = value;
        terms
    }

    #[test]
    fn reads_terms_without_choices() {
        let expected = ContractTerms {
            order_id: "2026.325-01".to_owned(),
            amount: "KUDOS:10".parse().unwrap(),
            timestamp: Timestamp::from_s(100).unwrap(),
            refund_deadline: Timestamp::from_s(200).unwrap(),
            wire_transfer_deadline: Timestamp::NEVER,
            merchant_pub: MerchantPub::from_bytes([1; 32]),
            exchanges: vec![TermsExchange {
                url: "https://exchange.example/".to_owned(),
                master_pub: MasterPub::from_bytes([2; 32]),
            }],
            choice_index: None,
        };
        assert_eq!(ContractTerms::read(&terms(), None), Ok(expected.clone()));
        assert_eq!(
            ContractTerms::read(&with("version", json!(0)), None),
            Ok(expected)
        );
        let mut free = with("exchanges", json!([]));
        free["amount"] = json!("KUDOS:0");
        assert!(ContractTerms::read(&free, None).unwrap().amount.is_zero());
    }

    #[test]
    fn reads_the_choice_that_was_made() {
        let mut terms = with("version", json!(1));
        terms.as_object_mut().unwrap().remove("amount");
        terms["choices"] = json!([{"amount": "KUDOS:1"}, {"amount": "KUDOS:2", "inputs": []}]);
        let read = ContractTerms::read(&terms, Some(1)).unwrap();
        assert_eq!(
            (read.amount.to_string(), read.choice_index),
            ("KUDOS:2".to_owned(), Some(1))
        );
        let why = |terms: &Value, index| ContractTerms::read(terms, index).unwrap_err().to_string();
        assert_eq!(
            why(&terms, None),
            "contract terms of version 1 need a choice_index"
        );
        assert_eq!(
            why(&terms, Some(2)),
            "choice_index is beyond the choices of the contract terms"
        );
        assert_eq!(
            why(&terms, Some(u64::MAX)),
            "choice_index is beyond the choices of the contract terms"
        );
        assert!(why(&self::terms(), Some(0)).contains("no choices"));
        terms["choices"] = json!([1]);
        assert_eq!(
            why(&terms, Some(0)),
            "contract terms have a wrong choices: not a list of objects"
        );
        terms.as_object_mut().unwrap().remove("choices");
        assert_eq!(why(&terms, Some(0)), "contract terms lack the member choices");
    }

    #[test]
    fn refuses_terms_that_are_wrong_or_too_big() {
        let exchange = |url: &str| json!([{"url": url, "master_pub": base32::encode(&[2; 32])}]);
        let long = format!("https://exchange.example/{}", "a".repeat(231));
        assert_eq!(long.len(), 256);
        let many: Vec<Value> = (0..101)
            .map(|_| exchange("https://exchange.example/")[0].clone())
            .collect();
        assert!(ContractTerms::read(&with("exchanges", many[..100].into()), None).is_ok());
        assert!(ContractTerms::read(&with("exchanges", exchange(&long[..255])), None).is_ok());
        for (name, value) in [
            ("order_id", json!("")),
            ("order_id", json!("a/b")),
            ("order_id", json!("é")),
            ("order_id", json!("a".repeat(65))),
            ("order_id", json!(7)),
            ("amount", json!("KUDOS:")),
            ("timestamp", json!(100)),
            ("refund_deadline", json!({"t_s": -1})),
            ("wire_transfer_deadline", json!({"t_ms": 1})),
            ("merchant_pub", json!("ABC")),
            ("exchanges", json!({})),
            ("exchanges", json!([])),
            ("exchanges", many.into()),
            ("exchanges", json!([{"url": "https://exchange.example/"}])),
            ("exchanges", exchange(&long)),
            ("exchanges", exchange("ftp://exchange.example/")),
            ("exchanges", exchange("exchange.example")),
            ("version", json!(2)),
            ("version", json!("0")),
        ] {
            let terms = with(name, value);
            let Err(ContractError::Wrong(wrong, _)) = ContractTerms::read(&terms, None) else {
                panic!("{name} is not refused: {terms}")
            };
            assert_eq!(wrong, name);
            if name != "version" {
                let mut lacking = self::terms();
                lacking.as_object_mut().unwrap().remove(name);
                assert_eq!(
                    ContractTerms::read(&lacking, None),
                    Err(ContractError::Missing(wrong))
                );
            }
        }
        assert_eq!(
            ContractTerms::read(&json!(1), None),
            Err(ContractError::NotAnObject)
        );
    }
}
