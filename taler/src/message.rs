//! The byte layouts that Taler signs: a header of total size and purpose (two u32, big endian), then the
//! fields.
//!
//! The Ed25519 message is exactly these bytes. Layouts as in the exchange since 2021-12 (protocol 12 to 23 at
//! least).

use crate::{Amount, CoinPub, ExchangePub, HashCode, MerchantPub, Timestamp};

/// The merchant allows a refund of one coin.
const MERCHANT_REFUND: u32 = 1102;
/// The exchange confirms that it made that refund.
const EXCHANGE_CONFIRM_REFUND: u32 = 1038;
/// The exchange's master key vouches for an online signing key.
const MASTER_SIGNING_KEY_VALIDITY: u32 = 1024;
/// The merchant offers contract terms to the wallet that claimed them.
const MERCHANT_CONTRACT: u32 = 1101;
/// The merchant confirms that an order is paid.
const MERCHANT_PAYMENT_OK: u32 = 1104;

/// Header and fields in one array; `N` is the size that the protocol gives the message.
pub(crate) fn assemble<const N: usize>(purpose: u32, fields: &[&[u8]]) -> [u8; N] {
    let size = u32::try_from(N).expect("messages have a few hundred bytes");
    let mut message = [0; N];
    let mut end = 0;
    for field in [size.to_be_bytes().as_slice(), &purpose.to_be_bytes()]
        .iter()
        .chain(fields)
    {
        message[end..end + field.len()].copy_from_slice(field);
        end += field.len();
    }
    assert_eq!(end, N, "the fields fill the message");
    message
}

/// A merchant's refund request (1102). `amount` includes the refund fee.
#[must_use]
pub fn refund_request(
    h_contract: &HashCode,
    coin: &CoinPub,
    rtransaction_id: u64,
    amount: &Amount,
) -> [u8; 136] {
    assemble(
        MERCHANT_REFUND,
        &[
            h_contract.as_bytes(),
            coin.as_bytes(),
            &rtransaction_id.to_be_bytes(),
            &amount.to_bytes(),
        ],
    )
}

/// An exchange's refund confirmation (1038). Unlike the request it names the merchant; the amount is the
/// request's.
#[must_use]
pub fn refund_confirmation(
    h_contract: &HashCode,
    coin: &CoinPub,
    merchant: &MerchantPub,
    rtransaction_id: u64,
    amount: &Amount,
) -> [u8; 168] {
    assemble(
        EXCHANGE_CONFIRM_REFUND,
        &[
            h_contract.as_bytes(),
            coin.as_bytes(),
            merchant.as_bytes(),
            &rtransaction_id.to_be_bytes(),
            &amount.to_bytes(),
        ],
    )
}

/// A master key's word (1024) that `key` signs from `start` to `expire` and binds the exchange until `end`.
#[must_use]
pub fn signing_key_validity(
    start: Timestamp,
    expire: Timestamp,
    end: Timestamp,
    key: &ExchangePub,
) -> [u8; 64] {
    assemble(
        MASTER_SIGNING_KEY_VALIDITY,
        &[
            &start.to_signed_bytes(),
            &expire.to_signed_bytes(),
            &end.to_signed_bytes(),
            key.as_bytes(),
        ],
    )
}

/// A merchant's offer (1101): what it answers to the wallet that claimed the order.
#[must_use]
pub fn contract(h_contract: &HashCode) -> [u8; 72] {
    assemble(MERCHANT_CONTRACT, &[h_contract.as_bytes()])
}

/// A merchant's word that the order is paid (1104).
#[must_use]
pub fn payment_ok(h_contract: &HashCode) -> [u8; 72] {
    assemble(MERCHANT_PAYMENT_OK, &[h_contract.as_bytes()])
}

#[cfg(test)]
mod tests {
    //! One order of 2022, paid and refunded at a real merchant and exchange.
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::{EddsaPrivateKey, MasterPub, contract_hash, json};

    const TERMS: &str = r#"{"amount":"TESTKUDOS:7","summary":"order that will be refunded","fulfillment_url":"taler://fulfillment-success/thx","refund_deadline":{"t_s":1660993612},"wire_transfer_deadline":{"t_s":1660993612},"products":[],"h_wire":"WZ9XX83RB89A7P63XC813H66BBEYD6PY2YT3897C7APXFSYDFA0HEPW536G79GGN6YZJJMG5RCB6G75YBKMHS7T5HM7AN9MNKNJABF8","wire_method":"iban","order_id":"2022.232-00W6YBYVKAVSE","timestamp":{"t_s":1660992712},"pay_deadline":{"t_s":1660996312},"max_wire_fee":"TESTKUDOS:1","max_fee":"TESTKUDOS:1","wire_fee_amortization":1,"merchant_base_url":"http://localhost:9966/","merchant":{"name":"default","address":{},"jurisdiction":{}},"exchanges":[{"url":"http://localhost:8081/","master_pub":"RKNMPRGXCX35H11WEYXDXYHPR7NX2QK9BG15MT0QEF75PC5KR470"}],"auditors":[],"merchant_pub":"FBZF0RHHNVYJ7HD0QP9007TQGJ3KKAJS8ZF4PHPEVVMZ91JCABW0","nonce":"TG18HCKQ069QETTVWX9VA02AA6W0JEDVZ24BDQM6C8EPF77XVZ10"}"#;
    const COIN: &str = "64XSRJKQKVV90KFAT1CY5M8CRZ3EQNATBPKQCRS2APWP104RA7E0";
    const EXCHANGE: &str = "YMFSPHAS3367HJQ8WV62X8ST2P2NGR96T0C5749BGXNG2RT6YQ0G";

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }

    fn h_contract() -> HashCode {
        contract_hash(&json::parse_strict(TERMS.as_bytes()).unwrap()).unwrap()
    }

    fn merchant() -> EddsaPrivateKey {
        EddsaPrivateKey::from_base32("5BS29R5WMGQ5RH3MRTEQA33Q4XMJH3PXFS4H31AS5CWP7Z4PRX3G").unwrap()
    }

    #[test]
    fn contract_and_refund_request() {
        let h_contract = h_contract();
        assert_eq!(
            h_contract.to_string(),
            "KZHM5AMM8NSVEV9JHZFP4SP55ZN79FPV5S31VHZ20SK1HZ9DG8H0RPK15KD5AB5MBN2XX1PWWSQ6TH0NH36SJCNM2HHZEDDNRQV4FG8"
        );
        let coin = COIN.parse().unwrap();
        let message = refund_request(&h_contract, &coin, 1, &"TESTKUDOS:6".parse().unwrap());
        let expected = format!(
            "000000880000044e{}{}00000000000000010000000000000006{}",
            "9fe342aa944573b76d328fdf6266c52fea74bedb2e461dc7e2066618fd2d82220c5a612cda552cb45d45de86dce66e6d441588cd9932b41463f735b5c5f647c1",
            "313b9c4a779ef6904dead059e2d10cc7c6ebd55a5da776632255b960809851dc",
            "00000000544553544b55444f53000000",
        );
        assert_eq!(hex(&message), expected);
        assert_eq!(
            merchant().sign(&message).to_string(),
            "N8E3M65MMGZ41T07AHW3WJ2QCAEMH5GH86E861TR92JPBHF7NKF0V0EX1YFAD8DSGVJ5VHD4YJSMB2ND308HD27ST9GXB9MVQCPF618"
        );
        let abort = refund_request(&h_contract, &coin, 0, &"TESTKUDOS:7".parse().unwrap());
        assert_eq!(
            merchant().sign(&abort).to_string(),
            "8WPXKM3PQ6J1V070RX7NC4ZR9QX79N4A3992Y3Z91D2D0YYVVPHGZ99NQN3BVWGBAQZ4ZWGN8ZAMFYENZ4BTWYPBD52RFPSE56RS00R"
        );
    }

    #[test]
    fn refund_confirmation_and_signing_key() {
        let message = refund_confirmation(
            &h_contract(),
            &COIN.parse().unwrap(),
            &merchant().merchant_pub(),
            1,
            &"TESTKUDOS:6".parse().unwrap(),
        );
        let exchange: ExchangePub = EXCHANGE.parse().unwrap();
        let signature = "BXF7XEZD7EQJ40R4HCJE7NHDMESQ4AKDSJP5B4SFB4PS2T60YSYCQEFE1WDTW73EY059EF64KVT36ZRB23AQ2GSY613DHM7436KM42G";
        assert!(exchange.verify(&message, &signature.parse().unwrap()));

        let second = |seconds| Timestamp::from_s(seconds).unwrap();
        let validity = signing_key_validity(
            second(1_660_992_689),
            second(1_668_250_289),
            second(1_670_669_489),
            &exchange,
        );
        let master: MasterPub = "RKNMPRGXCX35H11WEYXDXYHPR7NX2QK9BG15MT0QEF75PC5KR470"
            .parse()
            .unwrap();
        let signature = "SG9FC9AHGAC20CJ22JWRN5RBQ5QMEVPJS5SPAZZ7DGS1C7PKAFF7CAKMK50CV3T5YMF794WPG1W5GGSNVF41VC2GD2V0FGBKF0JWG3R";
        assert!(master.verify(&validity, &signature.parse().unwrap()));
    }

    #[test]
    fn contract_and_payment() {
        let h_contract = h_contract();
        for (message, signature) in [
            (
                payment_ok(&h_contract),
                "FMZA2HKR0DM3MDDP3TV9YPX2RJPC2EMABMQ5J3VKVKH0WS0389STNJWRGVKJ4753VZDCPAXMD0SSHGW39HDVDSK25E0RRPDWEB1TJ10",
            ),
            (
                contract(&h_contract),
                "WXRJJX4H7PY0P7HN5HPCMWVQEDX7EKNJTVVCYBXEBGM5AJQN8ER91658WATN8W6CACQ8F8GZXCTERN95902QDAAXZ3FQMD1TDA7DE0R",
            ),
        ] {
            assert_eq!(merchant().sign(&message).to_string(), signature);
        }
    }
}
