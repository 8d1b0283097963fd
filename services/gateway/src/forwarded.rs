//! What proxies say of a request in `Forwarded`.
//!
//! Source: RFC 7239, 4 to 6.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderMap;

/// Most parameters of a hop; the book knows four.
const MOST: usize = 16;

/// What one proxy says of whom it was asked by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hop {
    /// Who asked it; `None` if it does not tell, or in a way that names no address.
    pub(crate) client: Option<IpAddr>,
    /// Whether it was asked over TLS.
    pub(crate) secure: Option<bool>,
    /// The host that it was asked for.
    pub(crate) host: Option<String>,
}

/// All hops, the nearest last. A field that is malformed says nothing, but stands for a hop.
pub(crate) fn hops(headers: &HeaderMap) -> Vec<Hop> {
    let mut all = Vec::new();
    for value in headers.get_all(http::header::FORWARDED) {
        match value.to_str().ok().and_then(field) {
            Some(hops) => all.extend(hops),
            None => all.push(Hop::default()),
        }
    }
    all
}

fn field(text: &str) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    let mut rest = text;
    loop {
        let mut said = Vec::new();
        loop {
            rest = rest.trim_ascii_start();
            if !rest.is_empty() && !rest.starts_with([';', ',']) {
                let (name, value, after) = pair(rest)?;
                if said.len() >= MOST || said.iter().any(|(known, _)| *known == name) {
                    return None;
                }
                said.push((name, value));
                rest = after.trim_ascii_start();
            }
            match rest.strip_prefix(';') {
                Some(after) => rest = after,
                None => break,
            }
        }
        if !said.is_empty() {
            hops.push(hop(&said));
        }
        if rest.is_empty() {
            return Some(hops);
        }
        rest = rest.strip_prefix(',')?;
    }
}

fn hop(said: &[(String, Cow<'_, str>)]) -> Hop {
    let mut hop = Hop::default();
    for (name, value) in said {
        match name.as_str() {
            "for" => hop.client = node(value),
            "proto" => hop.secure = Some(value.eq_ignore_ascii_case("https")),
            "host" if !value.is_empty() => hop.host = Some(value.to_string()),
            _ => (),
        }
    }
    hop
}

/// A name in lower case, its value, and what follows.
fn pair(text: &str) -> Option<(String, Cow<'_, str>, &str)> {
    let (name, rest) = token(text)?;
    let rest = rest.strip_prefix('=')?;
    let (value, rest) = match rest.strip_prefix('"') {
        Some(rest) => quoted(rest)?,
        None => token(rest).map(|(value, rest)| (Cow::Borrowed(value), rest))?,
    };
    Some((name.to_ascii_lowercase(), value, rest))
}

fn token(text: &str) -> Option<(&str, &str)> {
    let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let end = text.bytes().position(|byte| !of_token(byte));
    let (token, rest) = text.split_at(end.unwrap_or(text.len()));
    (!token.is_empty()).then_some((token, rest))
}

/// What stands before the closing quote, and what follows it.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (end, '"') => return Some((Cow::Owned(value), &text[end + 1..])),
            (_, '\\') => value.push(characters.next()?.1),
            (_, character) => value.push(character),
        }
    }
}

/// The address of a node, whose port is left out.
fn node(text: &str) -> Option<IpAddr> {
    let (address, port): (IpAddr, _) = if let Some(text) = text.strip_prefix('[') {
        let (address, port) = text.split_once(']')?;
        (address.parse::<Ipv6Addr>().ok()?.into(), port)
    } else {
        let (address, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        (address.parse::<Ipv4Addr>().ok()?.into(), port)
    };
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(address)
}

fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(hidden) => !hidden.is_empty(),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// What the gateway itself says of whom it was asked by.
///
/// - `host`: as the client wrote it; nothing is said of one that cannot be quoted
pub(crate) fn element(peer: IpAddr, secure: bool, host: &str) -> String {
    let client = match peer {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let scheme = if secure { "https" } else { "http" };
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if host.is_empty() || !host.bytes().all(plain) {
        return format!("for={client};proto={scheme}");
    }
    format!("for={client};proto={scheme};host=\"{host}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &[&str], expected: &[(Option<&str>, Option<bool>, Option<&str>)]) {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append("forwarded", field.parse().unwrap());
        }
        let expected: Vec<Hop> = expected
            .iter()
            .map(|(client, secure, host)| Hop {
                client: client.map(|client| client.parse().unwrap()),
                secure: *secure,
                host: host.map(str::to_owned),
            })
            .collect();
        assert_eq!(hops(&headers), expected, "{fields:?}");
    }

    #[test]
    fn hops_are_read_as_the_book_says() {
        let nothing = (None, None, None);
        let known = |client| (Some(client), None, None);
        check(&["for=192.0.2.60"], &[known("192.0.2.60")]);
        check(
            &["For=\"[2001:db8:cafe::17]:4711\""],
            &[known("2001:db8:cafe::17")],
        );
        check(
            &["for=192.0.2.43, for=\"198.51.100.17:80\"", "for=unknown"],
            &[known("192.0.2.43"), known("198.51.100.17"), nothing],
        );
        check(
            &["for=192.0.2.60;proto=HTTPS;by=203.0.113.43;host=\"a.test:81\""],
            &[(Some("192.0.2.60"), Some(true), Some("a.test:81"))],
        );
        check(
            &[" ;proto=http ;host=\"\"; ; ext=\"a\\\"b,;\" ,, for=\"_gazonk\""],
            &[(None, Some(false), None), nothing],
        );
        check(&["for=\"192.0.2.1:_port\""], &[known("192.0.2.1")]);
        check(&[""], &[]);
        // None of these says anything, and none lets what is before it count.
        for broken in [
            "for=[::1]",
            "for=192.0.2.1:80",
            "for=\"192.0.2.1",
            "for",
            "for=",
            "for=192.0.2.1 proto=http",
            "for=192.0.2.1;for=192.0.2.2",
            "for=\"192.0.2.1\\",
        ] {
            check(&["for=192.0.2.9", broken], &[known("192.0.2.9"), nothing]);
        }
        for odd in [
            "\"[::1]x\"",
            "\"::1\"",
            "\"192.0.2.1:123456\"",
            "\"[::1]:\"",
        ] {
            check(&[&format!("for={odd}")], &[nothing]);
        }
    }

    #[test]
    fn what_is_said_can_be_read() {
        for (peer, host) in [("192.0.2.1", "a.test:81"), ("2001:db8::1", "[::1]")] {
            let said = element(peer.parse().unwrap(), true, host);
            check(&[&said], &[(Some(peer), Some(true), Some(host))]);
        }
        assert_eq!(
            element("192.0.2.1".parse().unwrap(), false, "a\"b"),
            "for=192.0.2.1;proto=http"
        );
    }
}
