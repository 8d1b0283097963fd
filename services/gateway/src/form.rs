//! Requests whose form leaves open what they ask for, or of whom.
//!
//! Source: RFC 9112, 3.2 and 6; RFC 9110, 7.2 and 8.6.

use http::header::{self, HeaderName};
use http::uri::Authority;
use http::{Method, Uri, Version};
use pingora_http::RequestHeader;

use crate::own::Own;

/// Refuses what services might understand in another way than the gateway does.
pub(crate) fn check(head: &RequestHeader) -> Result<(), Own> {
    let target = head.raw_path();
    let asterisk = target == b"*" && head.method == Method::OPTIONS;
    if !(target.starts_with(b"/") || asterisk) {
        let detail = "the request's target is neither a path nor a whole address";
        return Err(Own::new(400, "bad-target", detail));
    }
    let host = head.headers.get(header::HOST);
    let needed = head.version == Version::HTTP_11 && head.uri.authority().is_none();
    if host.map_or(needed, |host| !is_host(host.as_bytes())) {
        let detail =
            "the request needs a Host that is a name or an address, with a port or without";
        return Err(Own::new(400, "bad-host", detail));
    }
    let plain = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if !at_most_one(head, header::CONTENT_LENGTH, plain) {
        let detail = "the request's Content-Length is not one number";
        return Err(Own::new(400, "bad-length", detail));
    }
    let chunked = |text: &[u8]| text.trim_ascii().eq_ignore_ascii_case(b"chunked");
    if !at_most_one(head, header::TRANSFER_ENCODING, chunked) {
        let detail = "no other transfer coding than `chunked` is taken here";
        return Err(Own::new(501, "transfer-coding", detail));
    }
    Ok(())
}

/// Refuses a head with a line that ends without CR, which others may take for no end at all.
///
/// - `head`: as it came over HTTP/1
pub(crate) fn check_lines(head: &[u8]) -> Result<(), Own> {
    let mut before = b'\n';
    for byte in head {
        if *byte == b'\n' && before != b'\r' {
            let detail = "a line of the request's head ends without a carriage return";
            return Err(Own::new(400, "bare-line-feed", detail));
        }
        before = *byte;
    }
    Ok(())
}

fn at_most_one(head: &RequestHeader, name: HeaderName, fits: impl Fn(&[u8]) -> bool) -> bool {
    let mut values = head.headers.get_all(name).iter();
    values.next().is_none_or(|value| fits(value.as_bytes())) && values.next().is_none()
}

fn is_host(text: &[u8]) -> bool {
    // A name may have a comma by its grammar; two fields that somebody joined have one, too.
    if text.contains(&b',') {
        return false;
    }
    let Ok(authority) = Authority::try_from(text) else {
        return false;
    };
    let port = authority.as_str().strip_prefix(authority.host());
    port.is_some_and(|port| match port.strip_prefix(':') {
        Some(port) => port.is_empty() || port.parse::<u16>().is_ok(),
        None => port.is_empty(),
    })
}

/// Turns a whole address as target into a path and a `Host`, which is what services expect.
pub(crate) fn to_path(head: &mut RequestHeader) -> Result<(), Own> {
    if head.version == Version::HTTP_2 || head.raw_path().starts_with(b"/") {
        return Ok(());
    }
    let Ok(whole) = Uri::try_from(head.raw_path()) else {
        return Ok(());
    };
    let (Some("http" | "https"), Some(authority)) = (whole.scheme_str(), whole.authority()) else {
        return Ok(());
    };
    let query = whole.query().map(|query| format!("?{query}"));
    let path = format!("{}{}", whole.path(), query.unwrap_or_default());
    if let Ok(path) = path.parse::<Uri>() {
        // What it says of the host counts (RFC 9112, 3.2.2).
        head.insert_header(header::HOST, authority.as_str())
            .map_err(|_| Own::new(400, "bad-request", "the request is malformed"))?;
        head.set_uri(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_says_one_thing_only() {
        let check = |target: &str, fields: &[(&'static str, &str)], expected: Option<&str>| {
            let mut head = RequestHeader::build("POST", target.as_bytes(), None).unwrap();
            head.set_version(Version::HTTP_11);
            for (name, value) in fields {
                head.append_header(*name, *value).unwrap();
            }
            to_path(&mut head).unwrap();
            let found = super::check(&head).err().map(|own| own.code);
            assert_eq!(found, expected, "{target} {fields:?}");
        };
        let host = ("host", "a.test:80");
        check("/", &[host], None);
        check("http://a.test/x", &[host], None);
        check("http://u:p@a.test/x", &[host], Some("bad-host"));
        for target in ["admin", "admin/x", "?x", "admin:80", "ftp://a.test/x", "*"] {
            check(target, &[host], Some("bad-target"));
        }
        check("/", &[], Some("bad-host"));
        for value in [
            "",
            "a b",
            "a:1\"><b>",
            "a, b",
            "a,b",
            "u@a",
            "a:99999",
            "a:x",
        ] {
            check("/", &[("host", value)], Some("bad-host"));
        }
        for value in ["[::1]:8080", "127.0.0.1", "a_b", "a:"] {
            check("/", &[("host", value)], None);
        }
        for value in ["3, 3", "+3", "", "0x3"] {
            check("/", &[host, ("content-length", value)], Some("bad-length"));
        }
        let coding = "transfer-encoding";
        check("/", &[host, (coding, "Chunked")], None);
        check(
            "/",
            &[host, (coding, "gzip, chunked")],
            Some("transfer-coding"),
        );
        let twice = [host, (coding, "chunked"), (coding, "chunked")];
        check("/", &twice, Some("transfer-coding"));
    }

    #[test]
    fn lines_end_in_one_way() {
        let check = |head: &str, expected: bool| {
            assert_eq!(check_lines(head.as_bytes()).is_ok(), expected, "{head:?}");
        };
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true);
        check("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", true);
        check("GET / HTTP/1.1\nHost: a\r\n\r\n", false);
        check("GET / HTTP/1.1\r\nX: b\nHost: a\r\n\r\n", false);
        check("GET / HTTP/1.1\r\nHost: a\n\r\n", false);
        check("GET / HTTP/1.1\r\nHost: a\r\n\n", false);
        check("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", false);
    }

    #[test]
    fn a_whole_address_becomes_a_path_and_a_host() {
        let check = |target: &str, path: &str, host: &str| {
            let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            head.set_version(Version::HTTP_11);
            head.append_header("host", "b.test").unwrap();
            to_path(&mut head).unwrap();
            assert_eq!(head.raw_path(), path.as_bytes(), "{target}");
            assert_eq!(head.headers.get("host").unwrap(), host, "{target}");
        };
        check("/x?y", "/x?y", "b.test");
        check("http://a.test:81/x?y", "/x?y", "a.test:81");
        check("https://a.test", "/", "a.test");
        check("http://a.test?y", "/?y", "a.test");
    }
}
