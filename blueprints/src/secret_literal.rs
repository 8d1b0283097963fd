//! Tells texts that look like secrets.

/// Why a variable looks like a secret, if it does.
pub(crate) fn looks_secret(name: &str, value: &str) -> Option<&'static str> {
    // What is empty or made of references is no secret.
    let rest: String = crate::reference::expand(value, |_| Some(String::new())).into_owned();
    if rest.trim().is_empty() {
        return None;
    }
    if let Some(why) = looks_like_key(value) {
        return Some(why);
    }
    let name = name.to_ascii_uppercase();
    let named = [
        "_KEY",
        "_TOKEN",
        "_SECRET",
        "_CREDENTIAL",
        "_CREDENTIALS",
        "_PASSPHRASE",
    ]
    .iter()
    .any(|end| name.ends_with(end))
        || ["TOKEN", "SECRET", "APIKEY", "PASSPHRASE"].contains(&name.as_str())
        || name.ends_with("PASSWORD")
        || name.ends_with("PASSWD");
    (named && !name.contains("PUBLIC")).then_some("its name says that it is a secret")
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
        ] {
            assert!(looks_secret(name, value).is_none(), "{name}={value}");
        }
    }
}
