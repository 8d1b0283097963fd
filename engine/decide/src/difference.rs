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
    if let (Some(old), Some(new)) = (labelled(before), labelled(after)) {
        return walk_list(&path, &old, &new, found);
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

/// Tables in a list, each by what people call it.
type Labelled<'a> = Vec<(String, &'a Value)>;

/// The items of a list of tables: by their name, or path, or else by their number.
fn labelled(value: &Value) -> Option<Labelled<'_>> {
    let items = value.as_array()?;
    let mut found: Labelled<'_> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let fields = item.as_object()?;
        let text = |key: &str| match fields.get(key)? {
            Value::String(text) => Some(text.clone()),
            // One of several forms, such as `{ prefix = "/" }`.
            Value::Object(forms) if forms.len() == 1 => {
                Some(forms.values().next()?.as_str()?.to_owned())
            }
            _ => None,
        };
        let label = text("name").or_else(|| text("path"));
        let taken = |label: &String| found.iter().any(|(other, _)| other == label);
        let label = label.filter(|label| !taken(label));
        found.push((label.unwrap_or_else(|| (index + 1).to_string()), item));
    }
    Some(found)
}

fn walk_list(path: &str, old: &Labelled<'_>, new: &Labelled<'_>, found: &mut Vec<Difference>) {
    let before = found.len();
    let nothing = Value::Null;
    let in_list = |list: &Labelled<'_>, label: &str| {
        list.iter()
            .find(|(other, _)| other == label)
            .map_or(Value::Null, |(_, item)| (*item).clone())
    };
    for (label, item) in new {
        walk(
            format!("{path}[{label}]"),
            &in_list(old, label),
            item,
            found,
        );
    }
    for (label, item) in old {
        if in_list(new, label) == nothing {
            walk(format!("{path}[{label}]"), item, &nothing, found);
        }
    }
    if found.len() == before {
        let order = |list: &Labelled<'_>| {
            let labels: Vec<&str> = list.iter().map(|(label, _)| label.as_str()).collect();
            Some(labels.join(", "))
        };
        found.push(Difference {
            path: path.to_owned(),
            before: order(old),
            after: order(new),
        });
    }
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
        let routes = |before: Value, after: Value| -> Vec<_> {
            differences(&json!({ "routes": before }), &json!({ "routes": after }))
                .into_iter()
                .map(|d| (d.path, d.before, d.after))
                .collect()
        };
        let (a, b) = (
            json!({"path": "/a", "timeout": "2s"}),
            json!({"path": {"prefix": "/b"}}),
        );
        let slower = json!({"path": "/a", "timeout": "5s"});
        assert_eq!(
            routes(json!([a]), json!([slower, b])),
            [
                ("routes[/a].timeout".to_owned(), text("2s"), text("5s")),
                ("routes[/b]".to_owned(), None, text("{…}")),
            ]
        );
        assert_eq!(
            routes(json!([a, b]), json!([b])),
            [("routes[/a]".to_owned(), text("{…}"), None)]
        );
        assert_eq!(
            routes(json!([a, b]), json!([b, a])),
            [("routes".to_owned(), text("/a, /b"), text("/b, /a"))]
        );
        assert_eq!(
            routes(json!([]), json!([a, a])),
            [
                ("routes[/a]".to_owned(), None, text("{…}")),
                ("routes[2]".to_owned(), None, text("{…}")),
            ]
        );
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
