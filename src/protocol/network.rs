//! An address or a range of them, as configurations write them, and the server's own.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Where a request's sender sees this server: `https://authority`, or nothing where that can't be told. It comes to
/// adapters among the request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority(pub String);

/// A network: `192.0.2.1`, `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Text that is no network; it says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// No IP address before the slash.
    #[error("not an IP address")]
    Address,
    /// The prefix is no number, or too long for its family.
    #[error("the prefix is a number up to 32 (IPv4) or 128 (IPv6)")]
    Prefix,
}

impl Network {
    /// Whether the address lies in it; an IPv4 address written as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let other_bits = 32_u32.saturating_sub(self.prefix.into());
                (own.to_bits() ^ other.to_bits()).checked_shr(other_bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let other_bits = 128_u32.saturating_sub(self.prefix.into());
                (own.to_bits() ^ other.to_bits()).checked_shr(other_bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl Network {
    /// Whether some address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| BadNetwork::Address)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), |prefix| prefix.parse().map_err(|_| BadNetwork::Prefix))?;
        if prefix > longest {
            return Err(BadNetwork::Prefix);
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let holds = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(holds("10.0.0.0/8", "10.255.0.1"));
        assert!(!holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("192.0.2.1", "192.0.2.1"));
        assert!(!holds("192.0.2.1", "192.0.2.2"));
        assert!(holds("0.0.0.0/0", "192.0.2.2"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(!holds("::/0", "192.0.2.2"));
        assert!(holds("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(holds("2001:db8::/32", "2001:db8:1::1"));
        assert!(!holds("2001:db8::/32", "2001:db9::1"));
    }

    #[test]
    fn networks_overlap_where_one_holds_the_other() {
        let both = |one: &str, other: &str| {
            one.parse::<Network>().unwrap().overlaps(&other.parse::<Network>().unwrap())
        };
        assert!(both("10.0.0.0/8", "10.1.0.0/16") && both("10.1.0.0/16", "10.0.0.0/8"));
        assert!(both("192.0.2.1", "192.0.2.1") && !both("192.0.2.1", "192.0.2.2"));
        assert!(!both("10.0.0.0/8", "11.0.0.0/8") && !both("::/0", "0.0.0.0/0"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "/", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0/8", "example.com", "10.0.0.0/-1"]
        {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
