//! Tells texts that look like secrets.

use crate::reference::expand;

/// Why a variable looks like a secret, if it does.
///
/// - `value`: as a blueprint has it, so with `${…}` for what is handed over
pub fn looks_secret(name: &str, value: &str) -> Option<&'static str> {
    // What is empty or made of references is no secret.
    if expand(value, |_| Some(String::new())).trim().is_empty() {
        return None;
    }
    looks_like_key(value)
        .or_else(|| named_secret(name).then_some("its name says that it is a secret"))
}

/// Whether a variable is named as secrets are.
fn named_secret(name: &str) -> bool {
    let ends = |end: &str| {
        name.len()
            .checked_sub(end.len())
            .and_then(|at| name.get(at..))
            .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    };
    let named = [
        "_KEY",
        "BASIC_AUTH",
        "_TOKEN",
        "_SECRET",
        "_CREDENTIAL",
        "_CREDENTIALS",
        "PASSPHRASE",
        "PASSWORD",
        "PASSWD",
    ]
    .into_iter()
    .any(ends)
        || ["TOKEN", "SECRET", "APIKEY"]
            .iter()
            .any(|word| name.eq_ignore_ascii_case(word));
    named && !name.to_ascii_uppercase().contains("PUBLIC")
}

/// Whether a text is a list of settings with a password among them, as drivers of databases take.
fn states_password(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    ["password=", "passwd=", "pwd="].into_iter().any(|key| {
        lower.match_indices(key).any(|(at, _)| {
            let begins = lower[..at]
                .chars()
                .next_back()
                .is_none_or(|before| !before.is_ascii_alphanumeric());
            let stated = &value[at + key.len()..];
            let ends = |letter: char| letter.is_whitespace() || ";&,'\"".contains(letter);
            begins
                && !stated.starts_with('$')
                && !stated.split(ends).next().unwrap_or("").is_empty()
        })
    })
}

/// Why a text looks like a key, if it does. The forms are those that the
/// issuers of keys publish so that scanners can find them.
pub(crate) fn looks_like_key(value: &str) -> Option<&'static str> {
    let key = |prefix: &str, length: usize| {
        value.strip_prefix(prefix).is_some_and(|rest| {
            rest.len() >= length
                && rest
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        })
    };
    if states_password(value) {
        return Some("it states a password");
    }
    // Shorter than any key, unless it is an address.
    if value.len() < 16 && !value.contains("://") {
        return None;
    }
    if value.contains("PRIVATE KEY-----") {
        return Some("it is a private key");
    }
    if key("AKIA", 16) || key("ASIA", 16) {
        return Some("it looks like an access key of AWS");
    }
    if ["ghp_", "gho_", "ghs_", "github_pat_", "glpat-"]
        .iter()
        .any(|prefix| key(prefix, 16))
    {
        return Some("it looks like an access token of GitHub or GitLab");
    }
    if ["sk_live_", "sk_test_", "rk_live_", "whsec_"]
        .iter()
        .any(|prefix| key(prefix, 16))
    {
        return Some("it looks like a key of Stripe");
    }
    if ["xoxb-", "xoxp-", "xoxa-"]
        .iter()
        .any(|prefix| key(prefix, 16))
    {
        return Some("it looks like a token of Slack");
    }
    if ["sk-", "AIza", "SG.", "AGE-SECRET-KEY-"]
        .iter()
        .any(|prefix| key(prefix, 32))
    {
        return Some("it looks like an API key");
    }
    if value.starts_with("eyJ") && value.len() > 40 && value.matches('.').count() == 2 {
        return Some("it looks like a signed token");
    }
    let (_, address) = value.split_once("://")?;
    let user = address.split(['/', '?', '#']).next()?.rsplit_once('@')?.0;
    let (_, password) = user.split_once(':')?;
    (!password.is_empty() && !password.starts_with("${"))
        .then_some("it is an address with a password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_name_and_by_form() {
        for (name, value) in [
            ("STRIPE_KEY", "x"),
            ("DB_PASSWORD", "hunter2"),
            ("token", "x"),
            ("DATABASE_URL", "postgres://me:pw@db/shop"),
            ("DSN", "host=db user=me password=pw"),
            ("DSN", "Server=db;PWD=pw;"),
            ("X", "AKIAIOSFODNN7EXAMPLE"),
            ("X", "-----BEGIN PRIVATE KEY-----"),
        ] {
            assert!(looks_secret(name, value).is_some(), "{name}={value}");
        }
        for (name, value) in [
            ("LOG", "info"),
            ("STRIPE_KEY", ""),
            ("STRIPE_KEY", "${OTHER}"),
            ("STRIPE_PUBLIC_KEY", "pk_live_1"),
            ("KEYBOARD", "qwerty"),
            ("DATABASE_URL", "postgres://db/shop"),
            ("DATABASE_URL", "postgres://me:${DB_PASSWORD}@db/shop"),
            ("STRIPE_KEY_FILE", "/run/key"),
            ("DSN", "host=db user=me password=${DB_PASSWORD}"),
            ("DSN", "host=db password= user=me"),
            ("RULES", "nopassword=yes"),
        ] {
            assert!(looks_secret(name, value).is_none(), "{name}={value}");
        }
    }
}
