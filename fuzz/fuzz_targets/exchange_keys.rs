//! An exchange's `/keys`: what is taken from it is signed by the configured master key, bounded, and in one order.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use quittance::config::ExchangeConfig;
use quittance::exchange::{Reply, keys};
use quittance::limits::SIGNKEYS_MAX;
use quittance_fuzz::bounded;
use quittance_taler::message::signing_key_validity;

/// The master key of the recorded `/keys`.
static CONFIG: LazyLock<ExchangeConfig> = LazyLock::new(|| ExchangeConfig {
    section: "merchant-exchange-test".into(),
    base_url: "https://exchange.example/".parse().expect("a URL"),
    master_key: "RJ4MZXQ02K3209TGYEQ51SS9AJFS9YTQR3AHCDBBEHY0GMBGQ2Z0"
        .parse()
        .expect("a key"),
    currency: "TESTKUDOS".parse().expect("a currency"),
    connect_to: None,
    tls_roots: None,
});

fuzz_target!(|data: &[u8]| {
    let reply = Reply {
        http_status: 200,
        body: data.to_vec(),
    };
    bounded(data.len(), 128, || {
        let Ok(seen) = keys::read(&reply, &CONFIG) else {
            return;
        };
        assert_eq!(seen.master_pub, CONFIG.master_key);
        assert!((1..=SIGNKEYS_MAX).contains(&seen.signkeys.len()));
        assert!(seen.signkeys.is_sorted_by_key(|key| (key.start_s, key.key)));
        for key in &seen.signkeys {
            let message = signing_key_validity(key.start_s, key.expire_s, key.end_s, &key.key);
            assert!(CONFIG.master_key.verify(&message, &key.master_sig));
        }
    });
});
