//! Digests of values: equal for equal values, on every machine.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The SHA-256 of a value's canonical JSON, in hexadecimal.
///
/// Keys are sorted, and what is absent or empty is left out, so that a key
/// that the language gains later does not change the digest of a blueprint
/// that does not use it.
pub fn digest<T: Serialize>(value: &T) -> String {
    // Our types have text keys and finite numbers, which JSON can say.
    let mut value = serde_json::to_value(value).unwrap_or_default();
    strip(&mut value);
    hex::encode(Sha256::digest(value.to_string()))
}

/// Leaves out what is absent or empty.
///
/// - returns: whether anything is left
fn strip(value: &mut Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(list) => {
            // Items keep their places: an empty one in a list says something.
            for item in list.iter_mut() {
                strip(item);
            }
            !list.is_empty()
        }
        Value::Object(table) => {
            table.retain(|_, value| strip(value));
            table.sort_keys();
            !table.is_empty()
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_and_empty_values_do_not_count() {
        let short = digest(&json!({"b": 1, "a": ["x", ""]}));
        let long = digest(&json!({"a": ["x", ""], "c": null, "b": 1, "d": {"e": []}}));
        assert_eq!(short, long);
        assert_ne!(short, digest(&json!({"b": 2, "a": ["x", ""]})));
        assert_eq!(short.len(), 64);
    }
}
