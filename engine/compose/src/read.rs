//! Reading Compose files: YAML, variables, then typed values, each mistake with its place.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::files::{Document, Files};
use crate::left::{Code, Left};
use crate::model::File;
use crate::node::{Node, Value};

/// A Compose file that was read.
pub(crate) struct Read {
    /// What it says.
    pub(crate) file: File,
    /// The same with places.
    pub(crate) root: Node,
    /// Names of the files that it was read from.
    pub(crate) files: Vec<String>,
    /// What could not be made out.
    pub(crate) left: Vec<Left>,
}

/// Reads Compose files, later ones over earlier ones.
///
/// - `files`: reads what they name, by its path from the folder of the first
///
/// # Errors
///
/// If a text is no YAML, or all of them together are no Compose file.
pub(crate) fn read(
    documents: &[Document<'_>],
    variables: &BTreeMap<String, String>,
    files: &dyn Fn(&str) -> Option<String>,
) -> Result<Read, Left> {
    let mut files = Files::new(files);
    let root = files.read(documents, variables)?;
    if !matches!(
        root.get("services").map(|node| &node.value),
        Some(Value::Table(_))
    ) {
        let why = "it has no services, so it is no Compose file";
        return Err(Left::at(&root, Code::Syntax, "services", why));
    }
    let Files {
        names, mut left, ..
    } = files;
    let mut file: File = whole(&root, "", &["services"], &mut left);
    for (name, node) in root.get("services").into_iter().flat_map(Node::entries) {
        let place = format!("services.{name}");
        let service = whole(node, &place, &[], &mut left);
        file.services.insert(name.to_owned(), service);
    }
    Ok(Read {
        file,
        root,
        files: names,
        left,
    })
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
            Err(error) => {
                let place = format!("{place}.{key}");
                let why = format!("it cannot be read: {error}");
                let place = place.trim_start_matches('.');
                left.push(Left::at(inside, Code::BadValue, place, why));
            }
        }
    }
    serde_json::from_value(good.into()).unwrap_or_default()
}

/// Reads a Compose file that names no other.
fn alone(text: &str, variables: &BTreeMap<String, String>) -> Result<Read, Left> {
    let name = "compose.yaml";
    read(&[Document { name, text }], variables, &|_| None)
}

impl File {
    /// Reads a Compose file, leaving out what cannot be made out.
    ///
    /// # Errors
    ///
    /// If the text is no YAML, or no Compose file at all.
    pub fn read(text: &str, variables: &BTreeMap<String, String>) -> Result<Self, Left> {
        alone(text, variables).map(|read| read.file)
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
        let read = alone(text, &BTreeMap::new())
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
        let read = alone(text, &BTreeMap::new())
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
