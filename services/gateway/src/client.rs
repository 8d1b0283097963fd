//! Who a client is, and how its request is called, as far as it may say so itself.

use std::net::IpAddr;

use http::HeaderMap;

use crate::forwarded::{self, Hop};
use crate::network::Networks;
use crate::trace::push_hex;

/// Name of the header that carries the request id.
pub(crate) const REQUEST_ID: &str = "x-request-id";
/// Name of the header that carries the addresses a request came by.
pub(crate) const FORWARDED_FOR: &str = "x-forwarded-for";
/// Name of the header that carries the scheme a client asked by.
pub(crate) const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// Name of the header that carries the host a client asked for.
pub(crate) const FORWARDED_HOST: &str = "x-forwarded-host";

/// Who sends what a client may not claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// Whether the connection's peer may speak for others.
    pub(crate) trusted: bool,
    /// Whether it asked over TLS, if the peer says so.
    pub(crate) secure: Option<bool>,
    /// The host that it asked for, if the peer says so.
    pub(crate) host: Option<String>,
    /// The addresses that `Forwarded` named and that are believed, the client's first.
    pub(crate) forwarded: Vec<IpAddr>,
}

/// Finds out who a client is: by what trusted proxies say, read from the right, or the peer itself.
///
/// `Forwarded` counts where there is no `X-Forwarded-*` of ours: a proxy that writes one kind of them
/// may pass the other on as the client wrote it.
pub(crate) fn client(
    trusted_proxies: &Networks,
    peer: IpAddr,
    internal: bool,
    headers: &HeaderMap,
) -> Client {
    let peer = peer.to_canonical();
    let trusted = internal || trusted_proxies.contains(peer);
    let mut client = Client {
        address: peer,
        trusted,
        secure: None,
        host: None,
        forwarded: Vec::new(),
    };
    if !trusted {
        return client;
    }
    let speaks_for_others = |address| internal || trusted_proxies.contains(address);
    let known = [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST];
    if known.iter().any(|name| headers.contains_key(*name)) {
        by_x_forwarded(&mut client, headers, speaks_for_others);
    } else {
        by_forwarded(&mut client, forwarded::hops(headers), speaks_for_others);
    }
    client
}

fn by_x_forwarded(
    client: &mut Client,
    headers: &HeaderMap,
    speaks_for_others: impl Fn(IpAddr) -> bool,
) {
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
        client.address = next.to_canonical();
        if !speaks_for_others(client.address) {
            break;
        }
    }
    let told = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    client.secure = told(FORWARDED_PROTO).map(|told| told == "https");
    let host = told(FORWARDED_HOST).filter(|host| !host.is_empty());
    client.host = host.map(String::from);
}

fn by_forwarded(client: &mut Client, hops: Vec<Hop>, speaks_for_others: impl Fn(IpAddr) -> bool) {
    for hop in hops.into_iter().rev() {
        client.secure = hop.secure.or(client.secure);
        client.host = hop.host.or(client.host.take());
        let Some(next) = hop.client else {
            break;
        };
        client.address = next.to_canonical();
        client.forwarded.push(client.address);
        if !speaks_for_others(client.address) {
            break;
        }
    }
    client.forwarded.reverse();
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
    given.map_or_else(fresh_id, String::from)
}

fn fresh_id() -> String {
    let mut id = String::with_capacity(32);
    push_hex(&mut id, &rand::random::<[u8; 16]>());
    id
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
    fn what_forwarded_says_counts_as_far_as_it_is_trusted() {
        let trusted = Networks::parse(&["10.0.0.0/8".into()]);
        let found = |said: &str, other: &[(&'static str, &str)], peer: &str| {
            let mut headers = HeaderMap::new();
            headers.append("forwarded", said.parse().unwrap());
            for (name, value) in other {
                headers.append(*name, value.parse().unwrap());
            }
            let client = client(&trusted, peer.parse().unwrap(), false, &headers);
            let through: Vec<String> = client.forwarded.iter().map(IpAddr::to_string).collect();
            let host = client.host.unwrap_or_default();
            (client.secure, host, through.join(" "))
        };
        let check = |said, peer, secure, host: &str, through: &str| {
            let expected = (secure, host.to_owned(), through.to_owned());
            assert_eq!(found(said, &[], peer), expected, "{said} {peer}");
        };
        let one = "for=\"[2001:db8::7]:1\";proto=https;host=a.test";
        check(one, "10.0.0.1", Some(true), "a.test", "2001:db8::7");
        check(one, "2.2.2.2", None, "", "");
        // Each proxy says who asked it; what the outermost says counts.
        check(
            "for=9.9.9.9;proto=https, for=1.1.1.1;proto=https;host=a.test, for=10.0.0.2;proto=http;host=b",
            "10.0.0.1",
            Some(true),
            "a.test",
            "1.1.1.1 10.0.0.2",
        );
        check(
            "for=1.1.1.1;proto=https, for=unknown",
            "10.0.0.1",
            None,
            "",
            "",
        );
        check("for=1.1.1.1;proto=https, for=\"1", "10.0.0.1", None, "", "");
        // Who writes the other kind may not have written this one.
        let other = [(FORWARDED_FOR, "1.1.1.1")];
        let nothing = (None, String::new(), String::new());
        assert_eq!(found(one, &other, "10.0.0.1"), nothing);
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
