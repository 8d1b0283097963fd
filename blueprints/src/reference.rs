//! `${…}` references in commands and variables.

use std::borrow::Cow;

/// The variables that every instance is handed.
pub const INSTANCE_VARIABLES: [&str; 7] = [
    "PORT",
    "HOST",
    "PLATFORM_PROJECT",
    "PLATFORM_ENVIRONMENT",
    "PLATFORM_SERVICE",
    "PLATFORM_RELEASE",
    "PLATFORM_INSTANCE",
];

/// Tells a program how long to go on accepting after the signal to stop, and what it says there: not at all. It is handed where
/// an instance is out of the gateway, and has no request any more, before it gets that signal.
pub const DRAIN_DELAY: (&str, &str) = ("PLATFORM_DRAIN_DELAY", "0s");

/// The variables that every instance of a service with `protocol = "mtls"` is handed: the paths of its certificate, of the
/// key of that, and of the authority that must have signed what clients show. PEM.
pub const CERTIFICATE_VARIABLES: [&str; 3] =
    ["TLS_CERTIFICATE_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE"];

/// The variable that every instance of a service with `zones` is handed: the one it stands in.
pub const ZONE_VARIABLE: &str = "PLATFORM_ZONE";

/// The variable that holds the address of a need: `ORDERS_DB_URL` for `orders-db`.
pub fn address_variable(need: &str) -> String {
    let mut name = need.to_ascii_uppercase().replace('-', "_");
    name.push_str("_URL");
    name
}

/// The variable that holds the folder of a volume: `UPLOADS_DIR` for `uploads`.
pub fn folder_variable(volume: &str) -> String {
    let mut name = volume.to_ascii_uppercase().replace('-', "_");
    name.push_str("_DIR");
    name
}

/// Replaces each `${NAME}` by what `value` gives for it. `$${` stands for
/// `${`, and a reference that `value` does not know stays as it is.
pub fn expand(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> Cow<'_, str> {
    if !text.contains("${") {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    for part in parts(text) {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Escaped => out.push_str("${"),
            Part::Reference { name, whole } => match value(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(whole),
            },
        }
    }
    out.into()
}

/// The names that a text refers to.
pub fn references(text: &str) -> impl Iterator<Item = &str> {
    parts(text).filter_map(|part| match part {
        Part::Reference { name, .. } => Some(name),
        Part::Text(_) | Part::Escaped => None,
    })
}

enum Part<'text> {
    Text(&'text str),
    Escaped,
    Reference { name: &'text str, whole: &'text str },
}

fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (part, after) = match rest.find('$') {
            None if rest.is_empty() => return None,
            None => (Part::Text(rest), ""),
            Some(0) => {
                if let Some(after) = rest.strip_prefix("$${") {
                    (Part::Escaped, after)
                } else if let Some((name, after)) = rest
                    .strip_prefix("${")
                    .and_then(|inner| inner.split_once('}'))
                {
                    let whole = &rest[..rest.len() - after.len()];
                    (Part::Reference { name, whole }, after)
                } else {
                    (Part::Text("$"), &rest[1..])
                }
            }
            Some(at) => (Part::Text(&rest[..at]), &rest[at..]),
        };
        rest = after;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_can_be_escaped() {
        let value = |name: &str| (name == "PORT").then(|| "80".to_owned());
        for (text, expected) in [
            ("", ""),
            ("plain $ text $$", "plain $ text $$"),
            ("--port=${PORT}", "--port=80"),
            ("${PORT}${PORT}", "8080"),
            ("$${PORT}", "${PORT}"),
            ("${OTHER}", "${OTHER}"),
            ("${PORT", "${PORT"),
            ("$${", "${"),
            ("$$${PORT}", "$${PORT}"),
        ] {
            assert_eq!(expand(text, value), expected, "{text}");
        }
        assert_eq!(
            references("a${B}c$${D}${E}").collect::<Vec<_>>(),
            ["B", "E"]
        );
    }

    #[test]
    fn addresses_are_named_after_the_need() {
        assert_eq!(address_variable("orders-db"), "ORDERS_DB_URL");
    }
}
