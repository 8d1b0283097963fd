//! What changed between two values, path by path, for people to read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One place in which two values differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Where, as keys joined by dots: `env.LOG`.
    pub path: String,
    /// As it was; `None` where there was nothing.
    pub before: Option<String>,
    /// As it will be; `None` where there will be nothing.
    pub after: Option<String>,
}

/// Lists the places in which two values differ, in the order of their paths.
///
/// Values without a JSON form count as nothing, so they differ from all that have one.
pub fn differences<T: Serialize>(before: &T, after: &T) -> Vec<Difference> {
    let mut found = Vec::new();
    let as_json = |value: &T| serde_json::to_value(value).unwrap_or(Value::Null);
    walk(String::new(), &as_json(before), &as_json(after), &mut found);
    found
}

fn walk(path: String, before: &Value, after: &Value, found: &mut Vec<Difference>) {
    if before == after {
        return;
    }
    if let (Value::Object(old), Value::Object(new)) = (before, after) {
        let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let at = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            let nothing = Value::Null;
            walk(
                at,
                old.get(key).unwrap_or(&nothing),
                new.get(key).unwrap_or(&nothing),
                found,
            );
        }
        return;
    }
    found.push(Difference {
        path,
        before: shown(before),
        after: shown(after),
    });
}

/// A value as a person would write it: text without quotes, a whole table only hinted at, the rest as JSON.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Object(fields) if !fields.is_empty() => Some("{…}".to_owned()),
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_name_the_deepest_place() {
        let before = json!({"env": {"LOG": "info", "OLD": "1"}, "port": 8080, "needs": ["a"]});
        let after = json!({"env": {"LOG": "debug"}, "port": 8080, "needs": ["a", "b"]});
        let found: Vec<_> = differences(&before, &after)
            .into_iter()
            .map(|d| (d.path, d.before, d.after))
            .collect();
        let text = |t: &str| Some(t.to_owned());
        assert_eq!(
            found,
            [
                ("env.LOG".to_owned(), text("info"), text("debug")),
                ("env.OLD".to_owned(), text("1"), None),
                ("needs".to_owned(), text(r#"["a"]"#), text(r#"["a","b"]"#)),
            ]
        );
    }
}
