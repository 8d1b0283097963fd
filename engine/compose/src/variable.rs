//! `$NAME` and `${NAME:-default}` in texts, and files of variables.
//!
//! Source: the Compose Specification, "Interpolation" and ".env file".

use std::collections::BTreeMap;

/// What went wrong with a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is not set and has no default.
    Unset(String),
    /// It must be set: its name and the words that say so.
    Required(String, String),
    /// It is no reference.
    Malformed(String),
}

/// Replaces references by values; `$$` is a `$`.
pub(crate) fn interpolate(
    text: &str,
    variables: &BTreeMap<String, String>,
    troubles: &mut Vec<Trouble>,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('{') {
            let Some(end) = closing(inside) else {
                troubles.push(Trouble::Malformed(text.to_owned()));
                out.push('$');
                continue;
            };
            out.push_str(&reference(&inside[..end], variables, troubles));
            rest = &inside[end + 1..];
        } else {
            let length = name_length(rest);
            let (name, after) = rest.split_at(length);
            if name.is_empty() {
                troubles.push(Trouble::Malformed(text.to_owned()));
                out.push('$');
            } else if let Some(value) = variables.get(name) {
                out.push_str(value);
            } else {
                troubles.push(Trouble::Unset(name.to_owned()));
            }
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

fn name_length(text: &str) -> usize {
    let good = |(at, letter): &(usize, char)| {
        letter.is_ascii_alphabetic() || *letter == '_' || (*at > 0 && letter.is_ascii_digit())
    };
    text.char_indices().take_while(good).count()
}

/// Where the brace closes that was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        match letter {
            '{' if before == '$' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        before = letter;
    }
    None
}

fn reference(
    inside: &str,
    variables: &BTreeMap<String, String>,
    troubles: &mut Vec<Trouble>,
) -> String {
    let (name, rest) = inside.split_at(name_length(inside));
    let known = variables.get(name);
    let filled = known.filter(|value| !value.is_empty());
    if name.is_empty() {
        troubles.push(Trouble::Malformed(inside.to_owned()));
        return String::new();
    }
    let (value, sign, words) = match rest.strip_prefix(':') {
        Some(after) => (filled, after.chars().next(), after.get(1..)),
        None => (known, rest.chars().next(), rest.get(1..)),
    };
    let words = words.unwrap_or_default();
    match (sign, value) {
        (None | Some('-' | '?'), Some(value)) => value.clone(),
        (None, None) => {
            troubles.push(Trouble::Unset(name.to_owned()));
            String::new()
        }
        (Some('-'), None) | (Some('+'), Some(_)) => interpolate(words, variables, troubles),
        (Some('+'), None) => String::new(),
        (Some('?'), None) => {
            troubles.push(Trouble::Required(name.to_owned(), words.to_owned()));
            String::new()
        }
        (Some(_), _) => {
            troubles.push(Trouble::Malformed(inside.to_owned()));
            String::new()
        }
    }
}

/// Reads a file of variables, such as `.env`: `NAME=value` lines, with `export`, quotes and comments.
///
/// - `known`: variables that values may refer to besides those above them
pub fn dotenv(text: &str, known: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        if line.starts_with('#') {
            continue;
        }
        let value = value.trim_start();
        let mut around = known.clone();
        around.extend(found.clone());
        let value = if let Some(rest) = value.strip_prefix('\'') {
            quoted(rest, '\'', &mut lines)
        } else if let Some(rest) = value.strip_prefix('"') {
            let inside = quoted(rest, '"', &mut lines)
                .replace("\\n", "\n")
                .replace("\\\"", "\"");
            interpolate(&inside, &around, &mut Vec::new())
        } else {
            let end = value.find(" #").unwrap_or(value.len());
            interpolate(value[..end].trim_end(), &around, &mut Vec::new())
        };
        found.insert(name.trim().to_owned(), value);
    }
    found
}

/// What stands before the closing quote, which may be on a later line.
fn quoted(rest: &str, quote: char, lines: &mut std::str::Lines<'_>) -> String {
    let mut value = rest.to_owned();
    loop {
        let mut escaped = false;
        let end = value.char_indices().find(|(_, letter)| {
            let closes = *letter == quote && !escaped;
            escaped = *letter == '\\' && !escaped && quote == '"';
            closes
        });
        if let Some((end, _)) = end {
            value.truncate(end);
            return value;
        }
        let Some(next) = lines.next() else {
            return value;
        };
        value.push('\n');
        value.push_str(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> BTreeMap<String, String> {
        [("TAG", "1.2"), ("EMPTY", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn references_become_what_compose_makes_of_them() {
        for (text, expected) in [
            ("app:$TAG", "app:1.2"),
            ("app:${TAG}-slim", "app:1.2-slim"),
            ("${NONE:-a}${NONE-b}${EMPTY:-c}${EMPTY-d}", "abc"),
            ("${TAG:+set}${NONE:+set}", "set"),
            ("${NONE:-${TAG}/x}", "1.2/x"),
            ("$$HOME and $${HOME}", "$HOME and ${HOME}"),
            ("${NONE:-http://a:80/{id}}", "http://a:80/{id}"),
        ] {
            let mut troubles = Vec::new();
            assert_eq!(
                interpolate(text, &variables(), &mut troubles),
                expected,
                "{text}"
            );
        }
        let mut troubles = Vec::new();
        interpolate("$NONE ${MUST:?say it} ${TAG", &variables(), &mut troubles);
        assert_eq!(
            troubles,
            [
                Trouble::Unset("NONE".to_owned()),
                Trouble::Required("MUST".to_owned(), "say it".to_owned()),
                Trouble::Malformed("$NONE ${MUST:?say it} ${TAG".to_owned()),
            ]
        );
    }

    #[test]
    fn files_of_variables_are_read() {
        let text = "# one\nA=1\nexport B = two words # three\nC='$A'\nD=\"${A}\\n\"\nE=\nF=\"a\nb\"\nnothing\n";
        let found = dotenv(text, &BTreeMap::new());
        let pairs: Vec<(&str, &str)> = found
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("A", "1"),
                ("B", "two words"),
                ("C", "$A"),
                ("D", "1\n"),
                ("E", ""),
                ("F", "a\nb")
            ]
        );
    }
}
