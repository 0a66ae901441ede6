//! Strict JSON: the canonical form is a fixed point, says the same, and is what strict reading accepts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance_fuzz::bounded;
use quittance_taler::json::{canonical, parse_strict, read_object};
use serde_json::{Map, Value};

fuzz_target!(|data: &[u8]| {
    // A tree of small objects takes some hundred bytes for each of `{"":0}`.
    bounded(data.len(), 512, || {
        let strict = parse_strict(data);
        if let Ok(value) = &strict {
            let written = canonical(value);
            assert_eq!(&parse_strict(&written).expect("canonical"), value);
            assert_eq!(canonical(&parse_strict(&written).expect("canonical")), written);
            assert_eq!(
                &serde_json::from_slice::<Value>(data).expect("strict is narrower"),
                value
            );
        }
        if let Ok(object) = read_object::<Map<String, Value>>(data) {
            assert_eq!(
                serde_json::from_slice::<Value>(data).expect("JSON"),
                Value::Object(object)
            );
        }
    });
});
