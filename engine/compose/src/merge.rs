//! One part of a Compose file over another.

use crate::node::{Node, Value};

/// A table with what another has besides; tables in it likewise, lists one after the other.
pub(crate) fn merged(base: &Node, own: &Node) -> Node {
    // What may be written as a list or as a table is a table where the other one is.
    if let (Value::List(_), Value::Table(_)) = (&base.value, &own.value)
        && let Some(base) = tabled(base)
    {
        return merged(&base, own);
    }
    if let (Value::Table(_), Value::List(_)) = (&base.value, &own.value)
        && let Some(own) = tabled(own)
    {
        return merged(base, &own);
    }
    let value = match (&base.value, &own.value) {
        (Value::Table(below), Value::Table(above)) => {
            let mut table: Vec<(String, Node)> = Vec::new();
            for (key, node) in below {
                let both = own.get(key).map(|own| match key.as_str() {
                    "volumes" => merged(&besides(node, own), own),
                    // One command takes the place of the other.
                    "command" | "entrypoint" | "test" => own.clone(),
                    "build" => merged(&within(node), &within(own)),
                    _ => merged(node, own),
                });
                table.push((key.clone(), both.unwrap_or_else(|| node.clone())));
            }
            let more = above.iter().filter(|(key, _)| base.get(key).is_none());
            table.extend(more.cloned());
            Value::Table(table)
        }
        (Value::List(below), Value::List(above)) => Value::List(joined(below, above)),
        _ => own.value.clone(),
    };
    Node {
        value,
        ..own.clone()
    }
}

/// A list of `NAME=VALUE` and of names as the table that says the same; `None` where it holds anything else.
fn tabled(list: &Node) -> Option<Node> {
    let Value::List(entries) = &list.value else {
        return None;
    };
    let entry = |node: &Node| {
        let Value::Text(text) = &node.value else {
            return None;
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Value::Text(value.to_owned())),
            None => (text.as_str(), Value::Null),
        };
        let value = Node {
            value,
            ..node.clone()
        };
        Some((name.to_owned(), value))
    };
    let entries = entries.iter().map(entry).collect::<Option<_>>()?;
    Some(Node {
        value: Value::Table(entries),
        ..list.clone()
    })
}

/// A build that is written as its context alone, as the table that says the same.
fn within(build: &Node) -> Node {
    if !matches!(build.value, Value::Text(_)) {
        return build.clone();
    }
    Node {
        value: Value::Table(vec![("context".to_owned(), build.clone())]),
        ..build.clone()
    }
}

/// A list and what another one has besides.
fn joined(below: &[Node], above: &[Node]) -> Vec<Node> {
    let same = |one: &&Node| !above.iter().any(|other| other.json() == one.json());
    below.iter().filter(same).chain(above).cloned().collect()
}

/// Mounts whose places another list does not fill.
fn besides(below: &Node, above: &Node) -> Node {
    let (Value::List(mounts), Value::List(others)) = (&below.value, &above.value) else {
        return below.clone();
    };
    let filled: Vec<&str> = others.iter().filter_map(place).collect();
    let is_free = |mount: &&Node| place(mount).is_none_or(|place| !filled.contains(&place));
    Node {
        value: Value::List(mounts.iter().filter(is_free).cloned().collect()),
        ..below.clone()
    }
}

/// Where a mount is seen in its container.
fn place(mount: &Node) -> Option<&str> {
    match &mount.value {
        Value::Text(text) => Some(text.split(':').nth(1).unwrap_or(text)),
        _ => mount.get("target")?.text(),
    }
}
