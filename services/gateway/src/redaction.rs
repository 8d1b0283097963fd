//! What is secret in a request target.

use std::borrow::Cow;

use crate::router::decode;

/// Replaces the values of secret query parameters.
///
/// Names are compared as services read them: unescaped, in any case, with what stands in brackets
/// (`user[password]`) on its own, and also where some services alone begin another one (`;`).
pub(crate) fn redact<'a>(target: &'a str, secret: &[String]) -> Cow<'a, str> {
    let Some((path, query)) = target.split_once('?') else {
        return Cow::Borrowed(target);
    };
    let mut found = false;
    let pairs = query.split('&').map(|pair| {
        let shown = without_secret(pair, secret);
        found |= shown.is_some();
        shown.map_or(Cow::Borrowed(pair), Cow::Owned)
    });
    let pairs = pairs.collect::<Vec<_>>().join("&");
    if found {
        Cow::Owned(format!("{path}?{pairs}"))
    } else {
        Cow::Borrowed(target)
    }
}

/// A pair without its secret and what follows that, if it has one.
fn without_secret(pair: &str, secret: &[String]) -> Option<String> {
    let begins = std::iter::once(0).chain(pair.match_indices(';').map(|(at, _)| at + 1));
    for at in begins {
        let name = pair[at..].split('=').next().unwrap_or_default();
        if is_secret(name, secret) {
            return Some(format!("{}=[redacted]", &pair[..at + name.len()]));
        }
    }
    None
}

fn is_secret(name: &str, secret: &[String]) -> bool {
    let name = decode(name, |_| true);
    name.split(['[', ']']).any(|part| {
        let part = part.trim_matches(['+', ' ']);
        secret
            .iter()
            .any(|secret| secret.eq_ignore_ascii_case(part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_leave_the_query() {
        let secret = ["token".to_string()];
        assert_eq!(redact("/a?b=1", &secret), "/a?b=1");
        assert_eq!(
            redact("/a?b=1&Token=abc&c", &secret),
            "/a?b=1&Token=[redacted]&c"
        );
        for (target, expected) in [
            ("/a?%74oken=abc", "/a?%74oken=[redacted]"),
            (
                "/a?user%5Btoken%5D=abc&x=1",
                "/a?user%5Btoken%5D=[redacted]&x=1",
            ),
            ("/a?x=1;token=a=b", "/a?x=1;token=[redacted]"),
            ("/a?+token=abc", "/a?+token=[redacted]"),
            ("/a?token=abc;def&y", "/a?token=[redacted]&y"),
            ("/a?tokens=1&x=token;y", "/a?tokens=1&x=token;y"),
        ] {
            assert_eq!(redact(target, &secret), expected);
        }
    }
}
