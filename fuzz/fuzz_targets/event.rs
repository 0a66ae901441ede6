//! Sealed events: one form for each, which is a fixed point; another form of the same is told.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quittance_events::Event;
use quittance_events::event::EventError;
use quittance_events::seal::event_digest;
use quittance_fuzz::bounded;

fuzz_target!(|data: &[u8]| {
    bounded(data.len(), 512, || {
        let Ok(event) = Event::parse(data) else { return };
        let sealed = event.canonical();
        assert_eq!(Event::parse_canonical(&sealed).expect("canonical"), event);
        match Event::parse_canonical(data) {
            Ok(same) => assert_eq!((&sealed[..], &same), (data, &event)),
            Err(EventError::NotCanonical) => assert_ne!(event_digest(&sealed), event_digest(data)),
            Err(other) => panic!("read once and then not: {other}"),
        }
        assert_eq!(
            event.order_key().is_some(),
            event.instance.is_some() && event.order.is_some()
        );
    });
});
