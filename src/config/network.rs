//! Networks as `TRUSTED_PROXIES` lists them: `127.0.0.1`, `10.0.0.0/8`, `fd00::/8`. Specification: the notation of
//! RFC 4632 and RFC 4291. An IPv4 address within IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// All addresses that share the first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its bits behind the prefix are zero.
    base: IpAddr,
    prefix: u32,
}

/// A text that names no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address or a network")]
pub struct NetworkError;

/// The address's bits, and how many there are.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (v4.to_bits().into(), Ipv4Addr::BITS),
        IpAddr::V6(v6) => (v6.to_bits(), Ipv6Addr::BITS),
    }
}

/// The bits before the last `bits - prefix`.
fn head(value: u128, bits: u32, prefix: u32) -> u128 {
    value.checked_shr(bits - prefix).unwrap_or(0)
}

impl Network {
    /// The networks of this machine itself.
    pub const LOOPBACK: [Network; 2] = [
        Network {
            base: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
            prefix: 8,
        },
        Network {
            base: IpAddr::V6(Ipv6Addr::LOCALHOST),
            prefix: Ipv6Addr::BITS,
        },
    ];

    /// Checks that the prefix is no longer than the address, and that no bit stands behind it: `10.0.0.1/8` is most
    /// likely a mistake for `10.0.0.1`.
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn new(base: IpAddr, prefix: u32) -> Result<Network, NetworkError> {
        let (value, all) = bits(base);
        if prefix > all || value.trailing_zeros() < all - prefix {
            return Err(NetworkError);
        }
        Ok(Network { base, prefix })
    }

    /// Whether the address is one of its own.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (base, all) = bits(self.base);
        let (given, given_all) = bits(address.to_canonical());
        all == given_all && head(base, all, self.prefix) == head(given, all, self.prefix)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
                (address, Some(prefix.parse().map_err(|_| NetworkError)?))
            }
            Some(_) => return Err(NetworkError),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        Network::new(address, prefix.unwrap_or(bits(address).1))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn holds(network: &str, address: &str) -> bool {
        network
            .parse::<Network>()
            .unwrap()
            .contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        for (network, inside, outside) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
        ] {
            assert!(holds(network, inside), "{network} {inside}");
            assert!(!holds(network, outside), "{network} {outside}");
        }
        for loopback in Network::LOOPBACK {
            assert_eq!(loopback.to_string().parse(), Ok(loopback));
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "localhost",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "::1/129",
            "2001:db8::1/64",
            "10.0.0.0/8/8",
            "10.0.0/8",
            "/8",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text}");
        }
    }
}
