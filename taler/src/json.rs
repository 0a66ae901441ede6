//! Strict reading and canonical writing of JSON (RFC 8785), for everything that is hashed or signed.
//!
//! Reading refuses what two programs may understand differently: duplicate members, numbers that are not
//! integers within 2^53-1, deep nesting. It never repairs. Writing sorts members by UTF-16 units, as RFC 8785
//! and the wallet do.

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};
use std::{cell::Cell, fmt, marker::PhantomData};

/// Greatest magnitude that every JSON reader keeps exactly: 2^53 - 1.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
/// Arrays and objects within each other. Contract terms nest about five deep; this keeps every later walk off
/// the end of a stack and below serde_json's own 128.
const MAX_DEPTH: usize = 64;

/// Why a text is no JSON that we take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, not UTF-8, or not the shape that was to be written.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// An object has two members of that name.
    #[error("the member {0:?} stands twice in one object")]
    DuplicateKey(String),
    /// A number with a fraction or an exponent, or -0.
    #[error("a number is no plain integer")]
    Float,
    /// An integer beyond ±(2^53 - 1).
    #[error("an integer is beyond 2^53-1")]
    IntegerRange,
    /// More than 64 arrays and objects within each other.
    #[error("arrays and objects nest deeper than 64")]
    TooDeep,
}

/// Reads one JSON text. See the module and [`JsonError`] for what is refused.
pub fn parse_strict(bytes: &[u8]) -> Result<Value, JsonError> {
    let fault = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict {
        depth: 0,
        fault: &fault,
    }
    .deserialize(&mut deserializer);
    value
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| {
            fault
                .take()
                .unwrap_or_else(|| JsonError::Syntax(error.to_string()))
        })
}

/// Builds a `Value`; the typed reason of a refusal goes through `fault`, as serde's errors carry only text.
#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    fault: &'a Cell<Option<JsonError>>,
}

impl Strict<'_> {
    fn refuse<T, E: Error>(self, reason: JsonError) -> Result<T, E> {
        let error = E::custom(&reason);
        self.fault.set(Some(reason));
        Err(error)
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth + 1;
        if depth > MAX_DEPTH {
            self.refuse(JsonError::TooDeep)
        } else {
            Ok(Strict { depth, ..self })
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        if value > MAX_SAFE_INTEGER {
            self.refuse(JsonError::IntegerRange)
        } else {
            Ok(value.into())
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > MAX_SAFE_INTEGER {
            self.refuse(JsonError::IntegerRange)
        } else {
            Ok(value.into())
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        // serde_json hands integers that no 64 bits hold over as floats, too.
        let huge = value.abs() >= 9_007_199_254_740_992.0;
        self.refuse(if huge {
            JsonError::IntegerRange
        } else {
            JsonError::Float
        })
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if members.contains_key(&key) {
                return self.refuse(JsonError::DuplicateKey(key));
            }
            members.insert(key, access.next_value_seed(inner)?);
        }
        Ok(Value::Object(members))
    }
}

/// A JSON object read as a `T`, and nothing but an object: a derived reader by itself takes a list of the members'
/// values too, which no other program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(access)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// Reads one JSON text that must be an object; members that `T` does not know are ignored.
///
/// # Errors
/// No JSON, no object, or not the members of a `T`.
pub fn read_object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes).map(|Object(value)| value)
}

/// Reads a list of objects, for `#[serde(deserialize_with = "...")]`.
///
/// # Errors
/// No list, or an item that is no object or not the members of a `T`.
pub fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let items = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(items.into_iter().map(|Object(item)| item).collect())
}

/// Writes a value in the form of RFC 8785. The caller sees to it that it holds no number but integers within
/// 2^53-1, as in values from [`parse_strict`]; the form of others is not RFC 8785's.
#[must_use]
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_value(value, &mut out);
    out
}

/// Writes anything serialisable in the form of RFC 8785, refusing what [`parse_strict`] would refuse. (A NaN
/// is beyond that: serde_json makes it a null.)
pub fn to_canonical<T: Serialize>(value: &T) -> Result<Vec<u8>, JsonError> {
    let value = serde_json::to_value(value).map_err(|error| JsonError::Syntax(error.to_string()))?;
    check(&value, 0)?;
    Ok(canonical(&value))
}

/// The rules on numbers and depth, for a value that did not come from [`parse_strict`]. `depth` is that of
/// its parent.
pub(crate) fn check(value: &Value, depth: usize) -> Result<(), JsonError> {
    let below = depth + 1;
    match value {
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(0..=MAX_SAFE_INTEGER), _) => Ok(()),
            (None, Some(negative)) if negative.unsigned_abs() <= MAX_SAFE_INTEGER => Ok(()),
            (None, None) => Err(JsonError::Float),
            _ => Err(JsonError::IntegerRange),
        },
        Value::Array(_) | Value::Object(_) if below > MAX_DEPTH => Err(JsonError::TooDeep),
        Value::Array(items) => items.iter().try_for_each(|item| check(item, below)),
        Value::Object(members) => members.values().try_for_each(|member| check(member, below)),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push(b'{');
            for (index, (key, member)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_scalar(key, out);
                out.push(b':');
                write_value(member, out);
            }
            out.push(b'}');
        }
        scalar => write_scalar(scalar, out),
    }
}

/// For strings and scalars serde_json's compact form is that of RFC 8785: the short escapes, `\u00xx` in
/// lower case for the other control characters, all else raw.
fn write_scalar<T: Serialize + ?Sized>(scalar: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, scalar).expect("writing a scalar to memory cannot fail");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn reads_plain_json() {
        let text = r#" {"b": [1, -2, 9007199254740991, -9007199254740991], "a": {"x": null, "": true}, "é": "\u00e9"} "#;
        let value = parse_strict(text.as_bytes()).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        for scalar in ["0", "\"\"", "null", "false"] {
            assert_eq!(
                canonical(&parse_strict(scalar.as_bytes()).unwrap()),
                scalar.as_bytes()
            );
        }
    }

    #[test]
    fn refuses_what_programs_read_differently() {
        let duplicate = |key: &str| JsonError::DuplicateKey(key.to_owned());
        for (text, error) in [
            (r#"{"a":1,"a":1}"#, duplicate("a")),
            (r#"{"a":1,"\u0061":2}"#, duplicate("a")),
            (r#"[{"x":{"":1,"":2}}]"#, duplicate("")),
            ("1.0", JsonError::Float),
            ("[1e3]", JsonError::Float),
            ("1E0", JsonError::Float),
            ("0.5", JsonError::Float),
            ("-0", JsonError::Float),
            ("-0.0", JsonError::Float),
            ("9007199254740992", JsonError::IntegerRange),
            ("-9007199254740992", JsonError::IntegerRange),
            ("18446744073709551616", JsonError::IntegerRange),
            ("-99999999999999999999", JsonError::IntegerRange),
        ] {
            assert_eq!(parse_strict(text.as_bytes()), Err(error), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_json() {
        let texts: [&[u8]; 16] = [
            b"",
            b" ",
            b"{",
            b"[1,]",
            b"{\"a\":1,}",
            b"{'a':1}",
            b"01",
            b"+1",
            b"NaN",
            b"1 2",
            b"{} x",
            b"\"\xff\"",
            b"\xef\xbb\xbf{}",
            br#""\ud800""#,
            b"\"a\nb\"",
            b"1e999",
        ];
        for text in texts {
            assert!(
                matches!(parse_strict(text), Err(JsonError::Syntax(_))),
                "{}",
                text.escape_ascii()
            );
        }
    }

    #[test]
    fn an_object_is_no_list_of_its_values() {
        #[derive(Deserialize, Debug, PartialEq)]
        struct Pair {
            a: u8,
            #[serde(default, deserialize_with = "objects")]
            more: Vec<Pair>,
        }
        let leaf = |a| Pair { a, more: Vec::new() };
        let read = |text: &str| read_object::<Pair>(text.as_bytes());
        assert_eq!(
            read(r#"{"a": 1, "more": [{"a": 2, "else": 0}]}"#).unwrap(),
            Pair {
                a: 1,
                more: vec![leaf(2)]
            }
        );
        for wrong in [
            "[1]",
            "[1, []]",
            r#"{"a": 1, "more": [[2]]}"#,
            r#"{"a": 1, "more": {}}"#,
            r#"{"a": 1, "a": 1}"#,
            "{}",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(
            read("[1]")
                .unwrap_err()
                .to_string()
                .contains("expected a JSON object")
        );
    }

    #[test]
    fn nests_64_deep_and_no_deeper() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let deepest = parse_strict(nested(64).as_bytes()).unwrap();
        assert_eq!(to_canonical(&deepest).unwrap(), nested(64).into_bytes());
        assert_eq!(parse_strict(nested(65).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(to_canonical(&json!([deepest])), Err(JsonError::TooDeep));
        let objects = "{\"a\":".repeat(65) + "1" + &"}".repeat(65);
        assert_eq!(parse_strict(objects.as_bytes()), Err(JsonError::TooDeep));
        assert!(parse_strict("[".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn writes_rfc_8785() {
        // The example of RFC 8785, section 3.2.3, on the order of names.
        let value =
            json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
        let expected =
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}";
        assert_eq!(String::from_utf8(canonical(&value)).unwrap(), expected);
        let value = json!("\u{8}\t\n\u{b}\u{c}\r\u{1f}\"\\/\u{7f}\u{2028}é");
        assert_eq!(
            String::from_utf8(canonical(&value)).unwrap(),
            "\"\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\/\u{7f}\u{2028}é\""
        );
    }

    #[test]
    fn writes_only_what_it_would_read() {
        assert_eq!(
            to_canonical(&json!({"b": [true], "a": -1})).unwrap(),
            br#"{"a":-1,"b":[true]}"#
        );
        assert_eq!(to_canonical(&1.0), Err(JsonError::Float));
        assert_eq!(to_canonical(&vec![1u64 << 53]), Err(JsonError::IntegerRange));
        assert_eq!(to_canonical(&i64::MIN), Err(JsonError::IntegerRange));
        assert!(matches!(
            to_canonical(&std::collections::BTreeMap::from([((), 1)])),
            Err(JsonError::Syntax(_))
        ));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-9_007_199_254_740_991i64..=9_007_199_254_740_991).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn round_trip_and_agreement_with_the_reference(value in any_value()) {
            let bytes = canonical(&value);
            prop_assert_eq!(&bytes, &serde_json_canonicalizer::to_vec(&value).unwrap());
            prop_assert_eq!(&to_canonical(&value).unwrap(), &bytes);
            prop_assert_eq!(parse_strict(&bytes).unwrap(), value.clone());
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            prop_assert_eq!(canonical(&parse_strict(&pretty).unwrap()), bytes);
        }

        #[test]
        fn any_text_is_read_as_serde_reads_it_or_refused(text in r#"[\[\]{}:,"a0-9e.\\-]{0,24}"#) {
            if let Ok(value) = parse_strict(text.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value.clone());
                prop_assert_eq!(parse_strict(&canonical(&value)).unwrap(), value);
            }
        }
    }
}
