//! `taler://` URIs that a merchant hands to wallets. Writes them only; never reads one.

use crate::ClaimToken;
use url::Url;

/// `taler://refund/HOST[:PORT][/PATH]/ORDER/`: where a wallet picks up the refunds of an order.
#[must_use]
pub fn refund_uri(base_url: &Url, order_id: &str) -> String {
    order_uri("refund", base_url, order_id, "")
}

/// `taler://pay/HOST[:PORT][/PATH]/ORDER/`: where a wallet pays an order, without a session.
#[must_use]
pub fn pay_uri(base_url: &Url, order_id: &str) -> String {
    order_uri("pay", base_url, order_id, "")
}

/// `taler://pay/HOST[:PORT][/PATH]/ORDER/SESSION[?c=TOKEN]`: where a wallet pays an order in that session (empty for
/// none, and not `.` or `..`), with the token that it needs to claim it.
#[must_use]
pub fn pay_uri_with(base_url: &Url, order_id: &str, session_id: &str, token: Option<&ClaimToken>) -> String {
    let query = token.map(|token| format!("?c={token}")).unwrap_or_default();
    order_uri("pay", base_url, order_id, session_id) + &query
}

/// The slash behind the order is required: there stands the session.
fn order_uri(action: &str, base_url: &Url, order_id: &str, session_id: &str) -> String {
    let scheme = if base_url.scheme() == "http" {
        "taler+http"
    } else {
        "taler"
    };
    let host = base_url.host_str().unwrap_or_default();
    let port = base_url.port().map(|port| format!(":{port}")).unwrap_or_default();
    // Url's own segment rules escape what an order id of foreign make might hold; an instance in the path
    // stays.
    let mut path = base_url.clone();
    if let Ok(mut segments) = path.path_segments_mut() {
        segments.pop_if_empty().push(order_id).push(session_id);
    }
    format!("{scheme}://{action}/{host}{port}{}", path.path())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn as_wallets_read_them() {
        for (base, order, uri) in [
            (
                "http://example.com/",
                "myorder",
                "taler+http://refund/example.com/myorder/",
            ),
            ("https://shop.example", "1", "taler://refund/shop.example/1/"),
            (
                "https://merchant.example.com/instances/myinst/",
                "1234",
                "taler://refund/merchant.example.com/instances/myinst/1234/",
            ),
            (
                "https://shop.example/a/b",
                "2026.325-A:b_",
                "taler://refund/shop.example/a/b/2026.325-A:b_/",
            ),
            (
                "http://127.0.0.1:9966/",
                "o",
                "taler+http://refund/127.0.0.1:9966/o/",
            ),
            ("https://[::1]:8443/", "o", "taler://refund/[::1]:8443/o/"),
            ("https://shop.example:443/", "o", "taler://refund/shop.example/o/"),
            (
                "https://shop.example/",
                "a/b?c",
                "taler://refund/shop.example/a%2Fb%3Fc/",
            ),
        ] {
            assert_eq!(refund_uri(&base.parse().unwrap(), order), uri);
        }
        let base = "https://shop.example/instances/x/".parse().unwrap();
        assert_eq!(pay_uri(&base, "o"), "taler://pay/shop.example/instances/x/o/");
        let token = ClaimToken::from_bytes(*b"Hello, GNU Taler");
        for (session, token, uri) in [
            ("", None, "taler://pay/shop.example/instances/x/o/"),
            ("s-1", None, "taler://pay/shop.example/instances/x/o/s-1"),
            (
                "",
                Some(&token),
                "taler://pay/shop.example/instances/x/o/?c=91JPRV3F5GG4EKJN41A62V35E8",
            ),
            (
                "a/b?c#d é",
                Some(&token),
                "taler://pay/shop.example/instances/x/o/a%2Fb%3Fc%23d%20%C3%A9?c=91JPRV3F5GG4EKJN41A62V35E8",
            ),
        ] {
            assert_eq!(pay_uri_with(&base, "o", session, token), uri);
        }
    }
}
