//! Reading Compose files: YAML, variables, then typed values, each mistake with its place.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::left::{Code, Left};
use crate::model::File;
use crate::node::{Node, Value};
use crate::variable::{Trouble, interpolate};

/// A Compose file that was read.
pub(crate) struct Read {
    /// What it says.
    pub(crate) file: File,
    /// The same with places.
    pub(crate) root: Node,
    /// What could not be made out.
    pub(crate) left: Vec<Left>,
}

/// Reads a Compose file.
///
/// # Errors
///
/// If the text is no YAML, or no Compose file at all.
pub(crate) fn read(text: &str, variables: &BTreeMap<String, String>) -> Result<Read, Left> {
    let mut root: Node = serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location();
        let count = |number: Option<u64>| {
            number
                .and_then(|number| usize::try_from(number).ok())
                .unwrap_or(1)
        };
        Left {
            code: Code::Syntax,
            place: String::new(),
            line: count(place.map(|place| place.line())),
            column: count(place.map(|place| place.column())),
            why: format!(
                "it cannot be read as YAML: {}",
                first_line(&error.to_string())
            ),
            help: None,
        }
    })?;
    if !matches!(
        root.get("services").map(|node| &node.value),
        Some(Value::Table(_))
    ) {
        return Err(Left {
            code: Code::Syntax,
            place: "services".to_owned(),
            line: root.line,
            column: root.column,
            why: "it has no services, so it is no Compose file".to_owned(),
            help: None,
        });
    }
    let mut left = Vec::new();
    fill(&mut root, variables, &mut left);
    extend(&mut root, &mut left);
    let mut file: File = whole(&root, "", &["services"], &mut left);
    for (name, node) in root.get("services").into_iter().flat_map(Node::entries) {
        let place = format!("services.{name}");
        let service = whole(node, &place, &[], &mut left);
        file.services.insert(name.to_owned(), service);
    }
    Ok(Read { file, root, left })
}

fn first_line(text: &str) -> &str {
    text.lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ")
}

/// Puts values in the place of variables.
fn fill(root: &mut Node, variables: &BTreeMap<String, String>, left: &mut Vec<Left>) {
    let mut told = std::collections::BTreeSet::new();
    root.texts(&mut |text, line, column| {
        if !text.contains('$') {
            return None;
        }
        let mut troubles = Vec::new();
        let filled = interpolate(text, variables, &mut troubles);
        for trouble in troubles {
            let (code, name, why) = match trouble {
                Trouble::Unset(name) => {
                    let why = format!("`{name}` is not set, and counts as empty");
                    (Code::UnsetVariable, name, why)
                }
                Trouble::Required(name, words) => {
                    let why = format!("`{name}` must be set: {words}");
                    (Code::UnsetVariable, name, why)
                }
                Trouble::Malformed(text) => {
                    // The value may be a secret, so it is not shown.
                    let why = "a `$` here is no reference to a variable; write `$$` for a `$`";
                    (Code::BadValue, text, why.to_owned())
                }
            };
            if told.insert(name) {
                left.push(Left {
                    code,
                    place: String::new(),
                    line,
                    column,
                    why,
                    help: Some("set it in `.env`, in a file named with `--env-file`, or in the environment".to_owned()),
                });
            }
        }
        Some(filled)
    });
}

/// Gives services what they extend other services of the same file by.
fn extend(root: &mut Node, left: &mut Vec<Left>) {
    let before = root.clone();
    let Some(services) = before.get("services") else {
        return;
    };
    let Value::Table(table) = &mut root.value else {
        return;
    };
    let own = table.iter_mut().find(|(name, _)| name == "services");
    let Some((
        _,
        Node {
            value: Value::Table(own),
            ..
        },
    )) = own
    else {
        return;
    };
    for (name, node) in own {
        let mut steps = 0;
        while let Some(extends) = node.get("extends").cloned() {
            let base = match (
                &extends.value,
                extends.get("service").map(|base| &base.value),
            ) {
                (Value::Text(base), _) => Some(base.clone()),
                (_, Some(Value::Text(base))) if extends.get("file").is_none() => Some(base.clone()),
                _ => None,
            };
            let base = base
                .and_then(|base| services.get(&base))
                .filter(|_| steps < 16);
            steps += 1;
            if let Value::Table(entries) = &mut node.value {
                entries.retain(|(key, _)| key != "extends");
            }
            let Some(base) = base else {
                left.push(Left {
                    code: Code::NotCarried,
                    place: format!("services.{name}.extends"),
                    line: extends.line,
                    column: extends.column,
                    why: "a service of another file is not read".to_owned(),
                    help: Some("import what `docker-compose config` writes".to_owned()),
                });
                continue;
            };
            *node = merged(base, node);
        }
    }
}

/// A table with what another has besides; tables in it likewise, lists one after the other.
fn merged(base: &Node, own: &Node) -> Node {
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
        (Value::List(below), Value::List(above)) => {
            Value::List(below.iter().chain(above).cloned().collect())
        }
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

/// Reads a table key by key, so that one mistake does not cost the rest.
fn whole<T: DeserializeOwned + Default>(
    node: &Node,
    place: &str,
    without: &[&str],
    left: &mut Vec<Left>,
) -> T {
    let mut good = serde_json::Map::new();
    for (key, inside) in node.entries().filter(|(key, _)| !without.contains(key)) {
        let value = inside.json();
        if value.is_null() {
            continue;
        }
        let alone = serde_json::Map::from_iter([(key.to_owned(), value.clone())]);
        match serde_json::from_value::<T>(alone.into()) {
            Ok(_) => {
                good.insert(key.to_owned(), value);
            }
            Err(error) => left.push(Left {
                code: Code::BadValue,
                place: format!("{place}.{key}").trim_start_matches('.').to_owned(),
                line: inside.line,
                column: inside.column,
                why: format!("it cannot be read: {error}"),
                help: None,
            }),
        }
    }
    serde_json::from_value(good.into()).unwrap_or_default()
}

impl File {
    /// Reads a Compose file, leaving out what cannot be made out.
    ///
    /// # Errors
    ///
    /// If the text is no YAML, or no Compose file at all.
    pub fn read(text: &str, variables: &BTreeMap<String, String>) -> Result<Self, Left> {
        read(text, variables).map(|read| read.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_merge_keys_and_extends_come_out_resolved() {
        let text = "
x-common: &common
  image: app:${TAG:-1}
  environment: &env { LOG: info }
services:
  web:
    <<: *common
    environment: { <<: *env, PORT: 80 }
  worker:
    extends: web
    command: work
    ports: [{ target: x, published: [] }]
";
        let read = read(text, &BTreeMap::new())
            .map_err(|left| left.to_string())
            .unwrap();
        let web = &read.file.services["web"];
        assert_eq!(web.image.as_deref(), Some("app:1"));
        assert_eq!(web.environment.0["PORT"].as_deref(), Some("80"));
        let worker = &read.file.services["worker"];
        assert_eq!(worker.image, web.image);
        assert_eq!(worker.environment.0["LOG"].as_deref(), Some("info"));
        // The line as people count.
        let [bad] = read.left.as_slice() else {
            panic!("{:?}", read.left)
        };
        assert_eq!(
            (bad.place.as_str(), bad.line),
            ("services.worker.ports", 12)
        );
    }

    #[test]
    fn lists_and_tables_of_the_same_are_joined_over_extends() {
        let text = "
services:
  base:
    build: app
    environment: [LOG=info, MODE=slow, SHELL_SET]
    labels: { team: shop }
    depends_on: [db]
  web:
    extends: base
    build: { target: web }
    environment: { MODE: fast, PORT: 80 }
    labels: [tier=front]
    depends_on: { cache: { condition: service_healthy } }
";
        let read = read(text, &BTreeMap::new())
            .map_err(|left| left.to_string())
            .unwrap();
        assert_eq!(read.left, []);
        let web = &read.file.services["web"];
        let value = |name: &str| web.environment.0[name].as_deref();
        assert_eq!(value("LOG"), Some("info"));
        assert_eq!(value("MODE"), Some("fast"));
        assert_eq!(value("PORT"), Some("80"));
        assert_eq!(value("SHELL_SET"), None);
        let labels: Vec<&String> = web.labels.0.keys().collect();
        assert_eq!(labels, ["team", "tier"]);
        let needed: Vec<&String> = web.depends_on.keys().collect();
        assert_eq!(needed, ["cache", "db"]);
        let build = serde_json::to_value(&web.build).unwrap();
        assert_eq!(
            (&build["context"], &build["target"]),
            (&"app".into(), &"web".into())
        );
    }

    #[test]
    fn what_is_no_compose_file_is_refused() {
        for text in ["a: [", "- a", "a: 1", ""] {
            assert!(File::read(text, &BTreeMap::new()).is_err(), "{text}");
        }
    }
}
