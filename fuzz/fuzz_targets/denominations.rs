//! What an exchange's `/keys` says of its coins and fees (until 2023 `/wire` of the latter), and RSA keys with a signature
//! behind them, as bytes. Only what the master key signed is taken: nobody without it makes another denomination or fee
//! than those of the seed, nor without a denomination's key another coin.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use quittance_fuzz::bounded;
use quittance_taler::exchange_keys::{ExchangeKeys, WireFees};
use quittance_taler::rsa::{RsaPublicKey, RsaSignature};
use quittance_taler::{HashCode, MasterPub, Micros};

/// The master key of the recorded `/keys`.
static MASTER: LazyLock<MasterPub> = LazyLock::new(|| {
    "RJ4MZXQ02K3209TGYEQ51SS9AJFS9YTQR3AHCDBBEHY0GMBGQ2Z0"
        .parse()
        .expect("a key")
});

static KNOWN: LazyLock<ExchangeKeys> = LazyLock::new(|| {
    ExchangeKeys::read(include_bytes!("../seeds/denominations/keys"), &MASTER).expect("the seed is a /keys")
});

/// A recorded denomination's key and its signature.
const COIN: &[u8] = include_bytes!("../seeds/denominations/rsa");

/// The hash of the coin that it signed.
static SIGNED: LazyLock<HashCode> = LazyLock::new(|| {
    "BDKPHM611711Y1V8V68CGCBNTQYGREJQKV7C4QMN8GR3CPCD0HHJGP0AGNBE0SARHTBCH13GNJHAGCJ78QPQFVQXS0Z53AW9PCFP9YG"
        .parse()
        .expect("a hash")
});

/// The recorded wire method, and times before, in and behind the periods of its fees.
const METHOD: &str = "x-taler-bank";
const TIMES_S: [u64; 4] = [1_700_000_000, 1_795_226_400, 1_850_000_000, 1_900_000_000];

fn check_fees(fees: &WireFees) {
    let known = KNOWN.wire_fees.as_ref().expect("the seed has fees");
    for at in TIMES_S.map(|second| Micros::from_s(second).expect("a time")) {
        assert!(
            fees.at(METHOD, at)
                .is_none_or(|fee| known.at(METHOD, at) == Some(fee))
        );
    }
}

/// A key by the lengths that it begins with, and what stands behind it.
fn parted(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[m0, m1, e0, e1], _) = data.split_first_chunk()?;
    let length = |high, low| usize::from(u16::from_be_bytes([high, low]));
    data.split_at_checked(4 + length(m0, m1) + length(e0, e1))
}

/// A number has as many spellings as it is given zeros in front.
fn number(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

fn check_rsa(data: &[u8]) {
    let Some((key, signature)) = parted(data) else {
        return;
    };
    let Ok(read) = RsaPublicKey::from_bytes(key) else {
        return;
    };
    assert_eq!(read.as_bytes(), key);
    assert!(read.to_string().parse() == Ok(read.clone()));
    if let Ok(told) = RsaSignature::from_bytes(signature) {
        assert!(told.to_string().parse() == Ok(told.clone()));
        let (known, signed) = parted(COIN).expect("the seed is a key and a signature");
        assert_eq!(
            read.verify(&SIGNED, &told),
            key == known && number(signature) == number(signed)
        );
    }
}

fuzz_target!(|data: &[u8]| {
    let currency = KNOWN.currency;
    bounded(data.len(), 256, || {
        if let Ok(keys) = ExchangeKeys::read(data, &MASTER) {
            for denomination in keys.denominations() {
                assert_eq!(KNOWN.denomination(&denomination.h_denom), Some(denomination));
                assert_eq!(keys.denomination(&denomination.h_denom), Some(denomination));
            }
            if let Some(fees) = &keys.wire_fees {
                check_fees(fees);
            }
        }
        if let Ok(fees) = WireFees::read_wire(data, &MASTER, currency) {
            check_fees(&fees);
        }
        check_rsa(data);
    });
});
