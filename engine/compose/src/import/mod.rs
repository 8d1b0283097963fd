//! From a Compose file to a blueprint, and a list of all that a blueprint could not take over.

mod address;
mod build;
mod command;
mod document;
mod environment;
mod health;
mod leftover;
mod resource;
mod service;
mod storage;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::{InlineTable, Table};

use crate::files::Document;
use crate::left::{Code, Left};
use crate::model::{File, Service};
use crate::node::Node;
use crate::read::{Read, read};

/// What a Compose file is read with.
pub struct Inputs<'a> {
    /// The files, later ones over earlier ones.
    pub documents: &'a [Document<'a>],
    /// The name of the folder that the first lies in, which Compose calls the project after.
    pub folder: &'a str,
    /// Variables, of the environment and of `.env`.
    pub variables: &'a BTreeMap<String, String>,
    /// Profiles whose services are meant, too.
    pub profiles: &'a BTreeSet<String>,
    /// Reads a file that the Compose files name, by its path from the folder of the first.
    pub files: &'a dyn Fn(&str) -> Option<String>,
}

/// A blueprint that was made of a Compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The blueprint's text.
    pub blueprint: String,
    /// Names of the files that were read.
    pub files: Vec<String>,
    /// All that was not carried, or not as it was.
    pub left: Vec<Left>,
    /// Secrets whose values are to be set.
    pub secrets: BTreeSet<String>,
    /// How many services, resources and routes it has.
    pub counts: [usize; 3],
}

/// Makes a blueprint of a Compose file.
///
/// # Errors
///
/// If the text is no YAML, or no Compose file at all.
pub fn import(inputs: &Inputs<'_>) -> Result<Imported, Left> {
    let read = read(inputs.documents, inputs.variables, inputs.files)?;
    if let Some(imported) = document::exported(&read) {
        return Ok(imported);
    }
    let mut draft = Draft::new(inputs, &read);
    draft.left.splice(..0, read.left.iter().cloned());
    draft.top();
    draft.kinds();
    draft.needs();
    for name in draft.chosen.clone() {
        if draft.resources.contains_key(&name) {
            draft.resource(&name);
        } else {
            draft.service(&name);
        }
    }
    draft.routes();
    Ok(draft.finish())
}

/// A blueprint in the making.
struct Draft<'a> {
    inputs: &'a Inputs<'a>,
    file: &'a File,
    root: &'a Node,
    /// Names of the files that were read.
    files: Vec<String>,
    left: Vec<Left>,
    /// Services of the Compose file that are taken over, by their names there.
    chosen: Vec<String>,
    /// What they are called in the blueprint.
    names: BTreeMap<String, String>,
    /// Those that are resources, and what they are.
    resources: BTreeMap<String, resource::Kind>,
    /// Ports at which the gateway reaches services.
    ports: BTreeMap<String, u16>,
    /// Services that run to their end.
    jobs: BTreeSet<String>,
    /// What services need, by their names in the Compose file.
    needed: BTreeMap<String, Vec<String>>,
    /// Secrets by name, with the values that they stand for.
    secrets: BTreeMap<String, Option<String>>,
    /// The blueprint's tables.
    out: Tables,
}

/// The blueprint's tables.
#[derive(Default)]
struct Tables {
    services: BTreeMap<String, Table>,
    resources: BTreeMap<String, Table>,
    gateway: Table,
    routes: Vec<Table>,
}

impl<'a> Draft<'a> {
    fn new(inputs: &'a Inputs<'a>, read: &'a Read) -> Self {
        let mut draft = Self {
            inputs,
            file: &read.file,
            root: &read.root,
            files: read.files.clone(),
            left: Vec::new(),
            chosen: Vec::new(),
            names: BTreeMap::new(),
            resources: BTreeMap::new(),
            ports: BTreeMap::new(),
            jobs: BTreeSet::new(),
            needed: BTreeMap::new(),
            secrets: BTreeMap::new(),
            out: Tables::default(),
        };
        draft.choose();
        draft
    }

    /// Takes those services that are started without being asked for.
    fn choose(&mut self) {
        // In the order of the file, so that names that clash are given to the first.
        let order: Vec<&str> = self
            .root
            .get("services")
            .into_iter()
            .flat_map(Node::entries)
            .map(|(name, _)| name)
            .collect();
        let mut taken = BTreeSet::new();
        for name in order {
            let profiles = &self.file.services[name].profiles;
            if !profiles.is_empty()
                && !profiles
                    .iter()
                    .any(|own| self.inputs.profiles.contains(own))
            {
                let why = format!(
                    "it is started only with profile `{}`, so it is left out",
                    profiles.join("` or `")
                );
                self.leave(
                    Code::Profile,
                    &["services", name, "profiles"],
                    why,
                    Some("take it in with `--profile NAME`"),
                );
                continue;
            }
            let mut own = name_of(name, "service");
            while !taken.insert(own.clone()) {
                own = longer(&own, "2");
            }
            if own != name {
                let why = format!(
                    "its name is `{own}` now, as names are lower-case letters, digits and `-`"
                );
                self.leave(Code::Otherwise, &["services", name], why, None);
            }
            self.names.insert(name.to_owned(), own);
            self.chosen.push(name.to_owned());
        }
    }

    /// Notes that something was not carried, or not as it was.
    fn leave(&mut self, code: Code, place: &[&str], why: impl Into<String>, help: Option<&str>) {
        let node = self.root.nearest(place);
        let left = Left::at(node, code, place.join("."), why);
        self.left.push(Left {
            help: help.map(str::to_owned),
            ..left
        });
    }

    fn written(&self, name: &str) -> &'a Service {
        &self.file.services[name]
    }

    /// A secret for a value; another one where the name is spoken for by another value.
    fn secret(&mut self, wanted: &str, service: &str, value: Option<&str>) -> String {
        let plain = name_of(wanted, "secret");
        let own = name_of(&format!("{}-{plain}", self.names[service]), "secret");
        for name in [plain, own.clone()] {
            let known = self
                .secrets
                .entry(name.clone())
                .or_insert_with(|| value.map(str::to_owned));
            if known.as_deref() == value {
                return name;
            }
        }
        own
    }
}

/// A name as a blueprint takes it.
fn name_of(text: &str, otherwise: &str) -> String {
    let mut name: String = text
        .to_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .collect();
    while let Some(at) = name.find("--") {
        name.remove(at);
    }
    let name = name.trim_matches('-');
    let name = match name.chars().next() {
        None => otherwise.to_owned(),
        Some(first) if first.is_ascii_digit() => format!("{otherwise}-{name}"),
        Some(_) => name.to_owned(),
    };
    let end = name.len().min(platform_blueprint::LONGEST_NAME);
    name[..end].trim_end_matches('-').to_owned()
}

/// The name with something after it, and still a name.
fn longer(name: &str, end: &str) -> String {
    let most = platform_blueprint::LONGEST_NAME - end.len() - 1;
    format!(
        "{}-{end}",
        name[..name.len().min(most)].trim_end_matches('-')
    )
}

/// A table in one line.
fn inline(pairs: impl IntoIterator<Item = (String, toml_edit::Value)>) -> toml_edit::Value {
    let mut table = InlineTable::new();
    for (name, value) in pairs {
        table.insert(&name, value);
    }
    table.into()
}

/// A list of texts.
fn texts<T: AsRef<str>>(words: &[T]) -> toml_edit::Value {
    let list: toml_edit::Array = words.iter().map(AsRef::as_ref).collect();
    list.into()
}

/// A length of time as a blueprint writes it.
fn period(millis: u64) -> String {
    match millis {
        whole if whole % 1_000 == 0 => format!("{}s", whole / 1_000),
        _ => format!("{millis}ms"),
    }
}

/// A size as a blueprint writes it.
fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = units
        .iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    whole.map_or_else(
        || format!("{bytes}B"),
        |(shift, unit)| format!("{}{unit}", bytes >> shift),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a file that has nothing beside it.
    pub(super) fn alone(text: &str) -> Imported {
        import(&Inputs {
            documents: &[Document {
                name: "compose.yml",
                text,
            }],
            folder: "shop",
            variables: &BTreeMap::new(),
            profiles: &BTreeSet::new(),
            files: &|_| None,
        })
        .unwrap()
    }

    #[test]
    fn names_become_those_of_a_blueprint() {
        for (text, name) in [
            ("web", "web"),
            ("My_Web.App", "my-web-app"),
            ("_x_", "x"),
            ("3proxy", "service-3proxy"),
            ("__", "service"),
        ] {
            assert_eq!(name_of(text, "service"), name, "{text}");
        }
        assert_eq!(
            longer(&"a".repeat(40), "2"),
            format!("{}-2", "a".repeat(38))
        );
        assert_eq!(
            (period(1500), period(60_000)),
            ("1500ms".to_owned(), "60s".to_owned())
        );
        assert_eq!(
            (size(128 << 20), size(1000)),
            ("128MiB".to_owned(), "1000B".to_owned())
        );
    }

    #[test]
    fn what_names_a_resource_is_told_however_it_does() {
        let text = r#"
services:
  web:
    image: web:1
    environment:
      DB_HOST: db_main
      cache_addr: cache:6379
      ASYNC_DSN: postgresql+asyncpg://app:x@db_main/app
      STORE: http://files:9000
      POSTGRES_DB: cache
      REDIS_URL: redis://cache/1
  db_main: { image: "postgres:15" }
  cache: { image: "redis:7" }
  files: { image: "minio/minio:1" }
"#;
        let imported = alone(text);
        let own = imported.left.iter().filter_map(|left| {
            let variable = left.place.strip_prefix("services.web.environment.")?;
            Some((variable, (left.why.as_str(), left.help.as_deref()?)))
        });
        let told: BTreeMap<&str, (&str, &str)> = own.collect();
        let places: Vec<&&str> = told.keys().collect();
        assert_eq!(places, [&"ASYNC_DSN", &"DB_HOST", &"STORE", &"cache_addr"]);
        let (why, help) = told["DB_HOST"];
        for word in [
            "found as `db-main`",
            "all of its address is `${DB_MAIN_URL}`",
        ] {
            assert!(why.contains(word), "{word} in {why}");
        }
        assert!(help.contains("`DB_MAIN_URL`"), "{help}");
        let blueprint = &imported.blueprint;
        // So that it is handed what it is told to read.
        for written in [
            r#"needs = ["cache", "db-main", "files"]"#,
            r#"REDIS_URL = "${CACHE_URL}/1""#,
            r#"DB_HOST = "db_main""#,
        ] {
            assert!(blueprint.contains(written), "{written} in {blueprint}");
        }
    }

    #[test]
    fn what_may_be_secret_is_written_nowhere() {
        let text = r#"
services:
  web:
    build:
      context: .
      args: { INDEX: "https://me:hunter2@pypi.example/x", MODE: release }
    command: ["serve", "--dsn", "postgres://app:hunter2@db/app", "--quiet"]
    environment:
      DSN: "host=db user=me password=hunter2"
      BASIC_AUTH: "admin:hunter2"
    labels: { api_key: hunter2, team: shop }
  db:
    image: postgres:15
    environment: { POSTGRES_PASSWORD: hunter2 }
"#;
        let imported = alone(text);
        let blueprint = &imported.blueprint;
        assert!(!blueprint.contains("hunter2"), "{blueprint}");
        // What is left of the command is whole: no option waits for the address that was left out.
        assert!(
            blueprint.contains(r#"command = ["serve", "--quiet"]"#),
            "{blueprint}"
        );
        assert!(blueprint.contains(r#"team = "shop""#), "{blueprint}");
        for place in ["build.args.INDEX", "command", "labels.api_key"] {
            let place = format!("services.web.{place}");
            assert!(
                imported.left.iter().any(|left| left.place == place),
                "{place}"
            );
        }
        let found = platform_blueprint::Blueprint::parse(blueprint, "platform.toml");
        assert!(found.is_ok(), "{blueprint}");
    }
}
