//! Amounts and times: text and number agree, arithmetic gives back what it took, nothing wraps round.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance_fuzz::{bounded, text};
use quittance_taler::{Amount, TalerTimestamp, sum};

fuzz_target!(|data: &[u8]| {
    bounded(data.len(), 32, || {
        let Some(given) = text(data) else { return };
        let mut lines = given.split('\n');
        let (first, second) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        if let Ok(time) = serde_json::from_str::<TalerTimestamp>(first) {
            let written = serde_json::to_string(&time).expect("a time is JSON");
            assert_eq!(
                serde_json::from_str::<TalerTimestamp>(&written).expect("as written"),
                time
            );
        }
        let Ok(a) = first.parse::<Amount>() else { return };
        assert_eq!(a.to_string().parse::<Amount>(), Ok(a));
        assert_eq!(Amount::from_units(a.currency(), a.units()), Ok(a));
        let quoted = serde_json::to_string(&a).expect("an amount is JSON");
        assert_eq!(serde_json::from_str::<Amount>(&quoted).expect("as written"), a);
        let Ok(b) = second.parse::<Amount>() else { return };
        if let Ok(both) = a.checked_add(b) {
            assert_eq!(both.checked_sub(b), Ok(a));
            assert_eq!(both.units(), a.units() + b.units());
            assert_eq!(sum(a.currency(), [a, b]), Ok(both));
            assert_eq!(b.checked_add(a), Ok(both));
        }
        if let Ok(less) = a.checked_sub(b) {
            assert_eq!(less.checked_add(b), Ok(a));
            assert!(a.try_cmp(&b).expect("one currency").is_ge());
        }
        assert_eq!(a.try_cmp(&b).is_ok(), a.currency() == b.currency());
    });
});
