//! What a text must look like.

use std::net::{IpAddr, SocketAddr};

use super::Reasons;
use crate::HeaderChange;

pub(super) fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        text.strip_prefix(scheme)
            .is_some_and(|rest| !rest.is_empty())
    })
}

/// Fields that say where a message ends, or belong to one connection (RFC 9110, 7.6.1; RFC 9112, 6).
const OF_THE_CONNECTION: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

pub(super) fn check_headers(change: &HeaderChange, path: &str, reasons: &mut Reasons) {
    for name in change
        .remove
        .iter()
        .chain(change.set.keys())
        .chain(change.add.keys())
    {
        check_header_name(name, path, reasons);
        reasons.unless(
            !OF_THE_CONNECTION
                .iter()
                .any(|own| own.eq_ignore_ascii_case(name)),
            path,
            format!("changes `{name}`, which the gateway writes itself"),
        );
    }
    for (name, value) in change.set.iter().chain(&change.add) {
        reasons.unless(
            value
                .bytes()
                .all(|byte| byte == b'\t' || (byte >= 32 && byte != 127)),
            path,
            format!("gives `{name}` a value with control characters"),
        );
    }
}

/// RFC 9110, 5.6.2: a token.
pub(super) fn check_header_name(name: &str, path: &str, reasons: &mut Reasons) {
    let token = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    reasons.unless(token, path, format!("`{name}` is not a header name"));
}

pub(super) fn check_networks(networks: &[String], path: &str, reasons: &mut Reasons) {
    for (index, network) in networks.iter().enumerate() {
        reasons.unless(
            is_network(network),
            format!("{path}.{index}"),
            format!("`{network}` is neither an address nor a CIDR block"),
        );
    }
}

pub(super) fn is_network(text: &str) -> bool {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= most))
}

pub(super) fn is_host_and_port(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() {
        return !text.ends_with(":0");
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (text, expected) in [
            ("10.0.0.0/8", true),
            ("10.0.0.1", true),
            ("::1/129", false),
            ("fe80::/10", true),
            ("host", false),
        ] {
            assert_eq!(is_network(text), expected, "{text}");
        }
    }
}
