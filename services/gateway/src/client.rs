//! Who a client is, and how its request is called, as far as it may say so itself.

use std::net::IpAddr;

use http::HeaderMap;

use crate::network::Networks;

/// Name of the header that carries the request id.
pub(crate) const REQUEST_ID: &str = "x-request-id";
/// Name of the header that carries the addresses a request came by.
pub(crate) const FORWARDED_FOR: &str = "x-forwarded-for";

/// Who sends what a client may not claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// Whether the connection's peer may speak for others.
    pub(crate) trusted: bool,
}

/// Finds the client's address: the last one in `X-Forwarded-For` that no
/// trusted proxy has, read from the right, or the peer itself.
pub(crate) fn client(
    trusted_proxies: &Networks,
    peer: IpAddr,
    internal: bool,
    headers: &HeaderMap,
) -> Client {
    let peer = peer.to_canonical();
    let trusted = internal || trusted_proxies.contains(peer);
    let mut address = peer;
    if trusted {
        let listed: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        for text in listed.iter().rev() {
            let Ok(next) = text.trim().parse::<IpAddr>() else {
                break;
            };
            address = next.to_canonical();
            if !internal && !trusted_proxies.contains(address) {
                break;
            }
        }
    }
    Client { address, trusted }
}

/// A request id is kept from those who may give one, and made otherwise.
pub(crate) fn request_id(headers: &HeaderMap, trusted: bool) -> String {
    let given = headers
        .get(REQUEST_ID)
        .filter(|_| trusted)
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            (1..=128).contains(&id.len())
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
        });
    given.map_or_else(|| format!("{:032x}", rand::random::<u128>()), String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_right_as_far_as_they_are_trusted() {
        let trusted = Networks::parse(&["10.0.0.0/8".into()]);
        let found = |said: &[&str], peer: &str| {
            let mut headers = HeaderMap::new();
            for said in said {
                headers.append(FORWARDED_FOR, said.parse().unwrap());
            }
            let client = client(&trusted, peer.parse().unwrap(), false, &headers);
            (client.address.to_string(), client.trusted)
        };
        for (said, peer, expected) in [
            (&["1.1.1.1"][..], "2.2.2.2", ("2.2.2.2", false)),
            (&["1.1.1.1"], "10.0.0.1", ("1.1.1.1", true)),
            (
                &["9.9.9.9, 1.1.1.1", "10.0.0.2"],
                "10.0.0.1",
                ("1.1.1.1", true),
            ),
            (&["1.1.1.1, unknown"], "10.0.0.1", ("10.0.0.1", true)),
            (
                &["1.1.1.1, unknown, 10.0.0.3"],
                "10.0.0.1",
                ("10.0.0.3", true),
            ),
            (&["::ffff:1.1.1.1"], "::ffff:10.0.0.1", ("1.1.1.1", true)),
        ] {
            let (address, trusted) = expected;
            assert_eq!(found(said, peer), (address.to_owned(), trusted), "{said:?}");
        }
    }

    #[test]
    fn only_trusted_peers_name_the_request() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, "abc-1".parse().unwrap());
        assert_eq!(request_id(&headers, true), "abc-1");
        assert_ne!(request_id(&headers, false), "abc-1");
        headers.insert(REQUEST_ID, "a b".parse().unwrap());
        assert_eq!(request_id(&headers, true).len(), 32);
    }
}
