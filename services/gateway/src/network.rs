//! Sets of addresses, written as addresses or CIDR blocks.

use std::net::IpAddr;

/// A set of networks; an empty one holds nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Networks(Vec<(u128, u8)>);

/// IPv4 addresses live where IPv6 maps them, at `::ffff:0:0/96`.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl Networks {
    /// Reads valid texts; what is invalid was refused with its configuration.
    pub(crate) fn parse(texts: &[String]) -> Self {
        let parse = |text: &String| {
            let (address, length) = match text.split_once('/') {
                Some((address, length)) => (address, length.parse::<u8>().ok()),
                None => (text.as_str(), None),
            };
            let address: IpAddr = address.parse().ok()?;
            let offset = if address.is_ipv4() { 96 } else { 0 };
            let length = length.map_or(128, |length| (length + offset).min(128));
            Some((number(address), length))
        };
        Self(texts.iter().filter_map(parse).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = number(address);
        self.0.iter().any(|(network, length)| {
            let rest = 128 - u32::from(*length);
            address.checked_shr(rest) == network.checked_shr(rest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_their_addresses() {
        let networks = ["10.0.0.0/8", "127.0.0.1", "fe80::/10"].map(String::from);
        let networks = Networks::parse(&networks);
        for (address, expected) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("::ffff:10.1.1.1", true),
            ("fe80::1", true),
            ("::1", false),
        ] {
            assert_eq!(
                networks.contains(address.parse().unwrap()),
                expected,
                "{address}"
            );
        }
        let everything = Networks::parse(&["0.0.0.0/0".into(), "::/0".into()]);
        assert!(everything.contains("1.2.3.4".parse().unwrap()));
        assert!(everything.contains("::1".parse().unwrap()));
    }
}
