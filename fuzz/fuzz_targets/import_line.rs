//! Lines of an import. One tells of an order exactly where the intake would understand both of its requests in it, and
//! its instance can be one.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use quittance::http::understand::understand;
use quittance::import;
use quittance_fuzz::{bounded, text};
use serde_json::value::RawValue;

/// Members by name, whatever they hold.
type Members<'a> = BTreeMap<String, &'a RawValue>;

fuzz_target!(|data: &[u8]| {
    // An importer parts lines at their ends.
    if data.contains(&b'\n') {
        return;
    }
    let currency = "KUDOS".parse().expect("a currency");
    bounded(data.len(), 512, || {
        let told = import::understand(data);
        // The intake passes over members that it does not know, whatever their bytes.
        let Some(line) = text(data) else {
            assert!(told.is_err());
            return;
        };
        let intake = ["/private/ledger/orders", "/private/ledger/orders/boots/deposits"]
            .map(|path| understand(("POST", path, ""), data, currency));
        match told {
            Ok(_) => assert!(intake.iter().all(Result::is_ok)),
            Err((_, reason)) => {
                assert!(!reason.is_empty());
                let names_instance = || {
                    serde_json::from_str::<Members<'_>>(line).is_ok_and(|line| line.contains_key("instance"))
                };
                assert!(intake.iter().any(Result::is_err) || names_instance());
            }
        }
    });
});
