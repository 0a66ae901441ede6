//! Contract terms: the hash is of what they say, not of how they were written; the terms that are read are theirs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance_fuzz::bounded;
use quittance_taler::json::{canonical, parse_strict};
use quittance_taler::{ContractTerms, contract_hash};

fuzz_target!(|data: &[u8]| {
    bounded(data.len(), 512, || {
        let Ok(terms) = parse_strict(data) else { return };
        let Ok(hash) = contract_hash(&terms) else { return };
        let again = parse_strict(&canonical(&terms)).expect("canonical");
        assert_eq!(contract_hash(&again), Ok(hash));
        for choice in [None, Some(0), Some(1), Some(u64::MAX)] {
            let read = ContractTerms::read(&terms, choice);
            assert_eq!(read, ContractTerms::read(&again, choice));
            if let Ok(read) = read {
                assert!(
                    terms
                        .get("order_id")
                        .and_then(|id| id.as_str())
                        .is_some_and(|id| id == read.order_id)
                );
            }
        }
    });
});
