//! What is secret in a request target.

use std::borrow::Cow;

/// Replaces the values of secret query parameters.
pub(crate) fn redact<'a>(target: &'a str, secret: &[String]) -> Cow<'a, str> {
    let Some((path, query)) = target.split_once('?') else {
        return Cow::Borrowed(target);
    };
    let is_secret = |pair: &str| {
        let name = pair.split('=').next().unwrap_or("");
        secret
            .iter()
            .any(|secret| secret.eq_ignore_ascii_case(name))
    };
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(target);
    }
    let kept: Vec<String> = query
        .split('&')
        .map(|pair| {
            if is_secret(pair) {
                let name = pair.split('=').next().unwrap_or("");
                format!("{name}=[redacted]")
            } else {
                pair.to_string()
            }
        })
        .collect();
    Cow::Owned(format!("{path}?{}", kept.join("&")))
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
    }
}
