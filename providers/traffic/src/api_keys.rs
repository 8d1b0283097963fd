//! The list of API keys, as the secret that holds it is written.

use platform_gateway_api::ApiKey;

/// What the role of a key's holder begins with.
const ROLE: &str = "role=";

/// Reads the list: on each line a name, the key's SHA-256 in hex, and the scopes it carries, and
/// as `role=NAME` the roles of its holder.
///
/// Empty lines and those that begin with `#` are left out.
///
/// # Errors
///
/// The number of the first line that is none of these, counted from 1. Never a word of it.
pub fn parse(text: &str) -> Result<Vec<ApiKey>, usize> {
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        let Some(name) = words.next().filter(|word| !word.starts_with('#')) else {
            continue;
        };
        let hash = words.next().filter(|word| {
            word.len() == 64 && word.bytes().all(|letter| letter.is_ascii_hexdigit())
        });
        let hash = hash.ok_or(number + 1)?;
        let mut key = ApiKey {
            name: name.to_owned(),
            sha256: hash.to_ascii_lowercase(),
            ..ApiKey::default()
        };
        for word in words {
            match word.strip_prefix(ROLE) {
                Some("") => return Err(number + 1),
                Some(role) => key.roles.push(role.to_owned()),
                None => key.scopes.push(word.to_owned()),
            }
        }
        keys.push(key);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_a_wrong_line_is_told_by_its_number() {
        let hash = "AB".repeat(32);
        let list = format!(
            "# partners\n\npartner {hash} orders:read role=clerk orders:write\nbare {hash}\n"
        );
        let keys = parse(&list).unwrap();
        let seen: Vec<(&str, usize)> = keys
            .iter()
            .map(|key| (key.name.as_str(), key.scopes.len()))
            .collect();
        assert_eq!(seen, [("partner", 2), ("bare", 0)]);
        assert_eq!(keys[0].sha256, hash.to_ascii_lowercase());
        assert_eq!(keys[0].roles, ["clerk"]);
        let nobody = format!("partner {hash} role=");
        for wrong in ["partner", "partner plain-text-key", "partner 12ab", &nobody] {
            assert_eq!(parse(&format!("# one\n{wrong}")), Err(2), "{wrong}");
        }
    }
}
