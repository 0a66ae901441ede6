//! Forgetting members of contract terms: a member that its object marks under `$forgettable` gives way to its salted
//! digest under `$forgotten`, salt and all, so that the contract's hash stays and nobody can guess what stood there; and
//! whether what stands beside a digest is what the digest stands for.
//! Decides nothing about whether the terms can still be used. Specification: Taler's merchant API,
//! `PATCH private/orders/$ORDER_ID/forget`, and its JSON paths.

use serde_json::{Map, Value};

use crate::base32;
use crate::contract::{
    ContractError, FORGETTABLE, FORGOTTEN, check_name, contract_hash, member_digest, texts_by_name,
};

/// Why nothing is forgotten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForgetError {
    /// No path to a member.
    #[error("{0:?} is no path such as $.summary, $.products[0].description or $.products[*].description")]
    Path(String),
    /// The member is there, and its object does not mark it.
    #[error("{0} names a member that is not marked under $forgettable")]
    NotForgettable(String),
    /// The terms cannot be hashed.
    #[error(transparent)]
    Terms(#[from] ContractError),
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    Element(usize),
    Elements,
}

/// Where members stand that are to be forgotten: `$`, then members (`.name`) and elements (`[0]`, or `[*]` for all),
/// a member last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgetPath {
    text: String,
    steps: Vec<Step>,
    member: String,
}

impl std::str::FromStr for ForgetPath {
    type Err = ForgetError;

    fn from_str(text: &str) -> Result<ForgetPath, ForgetError> {
        let wrong = || ForgetError::Path(text.to_owned());
        let mut steps = Vec::new();
        for part in text.strip_prefix("$.").ok_or_else(wrong)?.split('.') {
            let (name, mut elements) = part.split_at(part.find('[').unwrap_or(part.len()));
            check_name(name).map_err(|_| wrong())?;
            steps.push(Step::Member(name.to_owned()));
            while !elements.is_empty() {
                let (element, rest) = elements
                    .strip_prefix('[')
                    .and_then(|rest| rest.split_once(']'))
                    .ok_or_else(wrong)?;
                let is_number = element.bytes().all(|byte| byte.is_ascii_digit());
                steps.push(match element {
                    "*" => Step::Elements,
                    number if is_number => Step::Element(number.parse().map_err(|_| wrong())?),
                    _ => return Err(wrong()),
                });
                elements = rest;
            }
        }
        // Elements have no names under which an object could mark them.
        let Some(Step::Member(member)) = steps.pop() else {
            return Err(wrong());
        };
        Ok(ForgetPath {
            text: text.to_owned(),
            steps,
            member,
        })
    }
}

/// Refuses terms of which a member stands with its salt and a digest that is another value's. The hash rests on such a
/// digest and not on the value, so that nobody who signed it signed what is read. Honest terms have the value or the
/// digest; both is lawful, and the same.
///
/// # Errors
/// Such a member, or one that cannot be hashed.
pub fn check_digests(terms: &Value) -> Result<(), ContractError> {
    match terms {
        Value::Array(elements) => elements.iter().try_for_each(check_digests),
        Value::Object(members) => {
            let salts = texts_by_name(members, FORGETTABLE)?;
            let digests = texts_by_name(members, FORGOTTEN)?;
            for (name, member) in members {
                if name == FORGETTABLE || name == FORGOTTEN {
                    continue;
                }
                check_digests(member)?;
                let salt = salts.and_then(|salts| salts.get(name)).and_then(Value::as_str);
                let digest = digests
                    .and_then(|digests| digests.get(name))
                    .and_then(Value::as_str);
                let Some((salt, digest)) = salt.zip(digest) else {
                    continue;
                };
                // Compared as bytes: there is more than one way to write a symbol of base32.
                let own = member_digest(member, salt)?;
                let bytes = |text: &str| base32::decode_exact::<64>(text).ok();
                if own.as_str().and_then(bytes) != bytes(digest) {
                    return Err(ContractError::Digest(name.clone()));
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The terms without these members; `None` where that changes nothing, because all of them are forgotten or were never
/// there. The hash stays.
///
/// # Errors
/// See [`ForgetError`].
pub fn forget(terms: &Value, paths: &[ForgetPath]) -> Result<Option<Value>, ForgetError> {
    // From here on the terms are known to be lawful on all levels.
    contract_hash(terms)?;
    let mut left = terms.clone();
    let mut changed = false;
    for path in paths {
        changed |= walk(&mut left, &path.steps, path)?;
    }
    Ok(changed.then_some(left))
}

/// Whether anything changed.
fn walk(value: &mut Value, steps: &[Step], path: &ForgetPath) -> Result<bool, ForgetError> {
    let Some((step, rest)) = steps.split_first() else {
        return match value {
            Value::Object(members) => forget_member(members, path),
            _ => Ok(false),
        };
    };
    match (step, value) {
        (Step::Member(name), Value::Object(members)) => members
            .get_mut(name)
            .map_or(Ok(false), |member| walk(member, rest, path)),
        (Step::Element(index), Value::Array(elements)) => elements
            .get_mut(*index)
            .map_or(Ok(false), |element| walk(element, rest, path)),
        (Step::Elements, Value::Array(elements)) => {
            let mut changed = false;
            for element in elements {
                changed |= walk(element, rest, path)?;
            }
            Ok(changed)
        }
        _ => Ok(false),
    }
}

fn forget_member(members: &mut Map<String, Value>, path: &ForgetPath) -> Result<bool, ForgetError> {
    let name = &path.member;
    let Some(value) = members.get(name) else {
        return Ok(false);
    };
    let salt = texts_by_name(members, FORGETTABLE)?
        .and_then(|salts| salts.get(name))
        .and_then(Value::as_str)
        .ok_or_else(|| ForgetError::NotForgettable(path.text.clone()))?;
    let digest = member_digest(value, salt)?;
    members.remove(name);
    let mut salts_left = true;
    if let Some(Value::Object(salts)) = members.get_mut(FORGETTABLE) {
        salts.remove(name);
        salts_left = !salts.is_empty();
    }
    if !salts_left {
        members.remove(FORGETTABLE);
    }
    let forgotten = members
        .entry(FORGOTTEN)
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(digests) = forgotten {
        // A digest that is already there is the one that is hashed.
        digests.entry(name.as_str()).or_insert(digest);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::contract::tests::reference_vector;
    use proptest::prelude::*;
    use serde_json::json;

    fn paths(texts: &[&str]) -> Vec<ForgetPath> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn left(terms: &Value, texts: &[&str]) -> Option<Value> {
        forget(terms, &paths(texts)).unwrap()
    }

    #[test]
    fn paths_are_as_taler_writes_them() {
        for text in [
            "$.summary",
            "$.a.b",
            "$.products[0].description",
            "$.products[*].description",
            "$.a[0][*].b",
        ] {
            assert!(text.parse::<ForgetPath>().is_ok(), "{text}");
        }
        for text in [
            "",
            "$",
            "$.",
            "summary",
            ".summary",
            "$summary",
            "$..a",
            "$.a.",
            "$.a[0]",
            "$.a[*]",
            "$.a[].b",
            "$.a[-1].b",
            "$.a[+1].b",
            "$.a[ 1].b",
            "$.a[x].b",
            "$.a[0.b",
            "$.a]0[.b",
            "$.a[0]b",
            "$.a[0]b.c",
            "$.[0].a",
            "$.*",
            "$.$forgettable",
            "$.de-DE",
            "$.a[99999999999999999999].b",
        ] {
            let error = text.parse::<ForgetPath>().unwrap_err();
            assert_eq!(error, ForgetError::Path(text.to_owned()));
        }
    }

    #[test]
    fn the_reference_vector_is_forgotten_member_by_member() {
        let (terms, form) = reference_vector();
        assert_eq!(left(&terms, &["$.k1", "$.k2.n1"]), Some(form.clone()));
        let first = left(&terms, &["$.k2.n1"]).unwrap();
        assert_eq!(first["k1"], 1);
        assert_eq!(left(&first, &["$.k2.n1"]), None);
        assert_eq!(
            left(&first, &["$.k2.n1", "$.k1", "$.nobody", "$.k1.x"]),
            Some(form)
        );
        assert_eq!(
            forget(&terms, &paths(&["$.k1", "$.k3.n1"])),
            Err(ForgetError::NotForgettable("$.k3.n1".to_owned()))
        );
    }

    #[test]
    fn elements_are_forgotten_one_or_all() {
        let product = |text: &str, marks: Value| json!({"description": text, "$forgettable": marks});
        let mut terms = json!({"products": [
            product("boots", json!({"description": "S1", "price": "S2"})),
            {"price": "KUDOS:1"},
            product("laces", json!({"description": "S3"})),
        ]});
        terms["products"][0]["price"] = json!("KUDOS:2");
        let one = left(&terms, &["$.products[2].description"]).unwrap();
        assert_eq!(one["products"][0], terms["products"][0]);
        let members: Vec<&String> = one["products"][2].as_object().unwrap().keys().collect();
        assert_eq!(members, ["$forgotten"]);
        let all = left(&terms, &["$.products[*].description"]).unwrap();
        // The other's mark stays.
        assert_eq!(all["products"][0]["$forgettable"], json!({"price": "S2"}));
        assert_eq!(all["products"][2], one["products"][2]);
        for left in [&one, &all] {
            assert_eq!(contract_hash(left), contract_hash(&terms));
        }
        assert_eq!(
            left(&all, &["$.products[*].description", "$.products[7].x"]),
            None
        );
        assert!(matches!(
            forget(&terms, &paths(&["$.products[*].price"])),
            Err(ForgetError::NotForgettable(_))
        ));
    }

    #[test]
    fn a_digest_that_is_there_wins_and_the_value_goes() {
        let whole = json!({"a": "x", "$forgettable": {"a": "S"}});
        let mut both = left(&whole, &["$.a"]).unwrap();
        both["a"] = json!("something else");
        both["$forgettable"] = json!({"a": "S"});
        assert_eq!(left(&both, &["$.a"]), left(&whole, &["$.a"]));
    }

    #[test]
    fn a_digest_is_that_of_the_value_beside_it() {
        let deep = json!({"a": {"b": "x", "$forgettable": {"b": "S"}}, "c": 1, "$forgettable": {"a": "T", "c": "U"}});
        let all = left(&deep, &["$.a", "$.c"]).unwrap();
        let inner = left(&deep, &["$.a.b"]).unwrap();
        for honest in [&deep, &all, &inner] {
            assert_eq!(check_digests(honest), Ok(()));
        }
        // All three of a member, alike on every level.
        let mut both = deep.clone();
        both["$forgotten"] = all["$forgotten"].clone();
        both["a"]["$forgotten"] = inner["a"]["$forgotten"].clone();
        assert_eq!(check_digests(&both), Ok(()));
        assert_eq!(contract_hash(&both), contract_hash(&deep));
        let other = |pointer: &str, value: Value| {
            let mut terms = json!([{ "below": both }]);
            *terms[0]["below"].pointer_mut(pointer).unwrap() = value;
            check_digests(&terms)
        };
        for (pointer, member) in [
            ("/a/b", "b"),
            ("/a/$forgettable/b", "b"),
            ("/c", "c"),
            ("/$forgettable/a", "a"),
        ] {
            assert_eq!(
                other(pointer, json!("y")),
                Err(ContractError::Digest(member.to_owned()))
            );
        }
        // How it is spelled does not matter.
        let digest = both["$forgotten"]["c"].as_str().unwrap().to_lowercase();
        assert_eq!(other("/$forgotten/c", digest.into()), Ok(()));
    }

    /// Lawful terms, in which members may be marked.
    fn terms() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0_u32..1000).prop_map(Value::from),
            "[a-z ]{0,6}".prop_map(Value::from),
        ];
        let value = scalar.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                object(inner),
            ]
        });
        object(value)
    }

    fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
        let member = (value, proptest::option::of("[A-Z]{4}"));
        proptest::collection::btree_map("[abc]", member, 0..4).prop_map(|members| {
            let mut object = Map::new();
            let mut salts = Map::new();
            for (name, (value, salt)) in members {
                if let Some(salt) = salt {
                    salts.insert(name.clone(), salt.into());
                }
                object.insert(name, value);
            }
            if !salts.is_empty() {
                object.insert(FORGETTABLE.to_owned(), salts.into());
            }
            Value::Object(object)
        })
    }

    proptest! {
        #[test]
        fn the_hash_stays_whatever_is_forgotten(
            terms in terms(),
            texts in proptest::collection::vec(r"\$(\.[abc](\[(\*|[0-2])\])?){0,3}\.[abc]", 1..6),
        ) {
            let hash = contract_hash(&terms).unwrap();
            let mut now = terms;
            for text in &texts {
                let path = paths(&[text]);
                match forget(&now, &path) {
                    Ok(Some(left)) => {
                        prop_assert_eq!(contract_hash(&left).unwrap(), hash);
                        prop_assert_ne!(&left, &now);
                        prop_assert_eq!(forget(&left, &path), Ok(None));
                        now = left;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        prop_assert_eq!(error, ForgetError::NotForgettable(text.clone()));
                    }
                }
            }
        }
    }
}
