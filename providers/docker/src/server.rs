//! The servers behind resources: which image, where its data are, how it is told its credential and asked whether it is well.

use std::collections::BTreeMap;

use platform_blueprint::{Engine, Resource};
use platform_image::reference;

use crate::inside::SECRETS;

/// The last version of its usual image that was published.
const MINIO: &str = "RELEASE.2025-09-07T16-13-09Z";

/// A server of an engine, as its image wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// The usual image.
    pub(crate) image: String,
    /// What people call it.
    pub(crate) title: String,
    pub(crate) port: u16,
    /// The user it runs as, where the image does not say.
    pub(crate) user: Option<&'static str>,
    /// Where its data are.
    pub(crate) data: &'static str,
    /// Whether the image leaves it to us that its user may write there.
    pub(crate) owned: bool,
    /// Variables that anybody may see.
    pub(crate) variables: BTreeMap<String, String>,
    /// Files with what is secret, by name.
    pub(crate) files: BTreeMap<String, String>,
    /// Its command; what the image runs where there is none.
    pub(crate) command: Vec<String>,
    /// Arguments for the image's entry point, where there is no command.
    pub(crate) arguments: Vec<String>,
    /// Folders that are kept in memory.
    pub(crate) memory: &'static [&'static str],
    /// How it is asked.
    pub(crate) health: Asked,
    pub(crate) stop_signal: &'static str,
    pub(crate) stop_seconds: i64,
}

/// How a server is asked whether it is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A command of the image's.
    Command(Vec<String>),
    /// A request of ours from inside, which is answered well: address and path.
    Http(&'static str, &'static str),
    /// Ours, which makes the bucket of this name where it is not there: address and name.
    Bucket(&'static str, String),
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn table(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// The database of a resource.
fn database(name: &str) -> String {
    name.replace('-', "_")
}

/// What most servers have in common.
fn usual(title: &str, image: &str, version: &str, port: u16) -> Server {
    Server {
        image: format!("{image}:{version}"),
        title: format!("{title} {version}"),
        port,
        user: None,
        data: "/data",
        owned: false,
        variables: BTreeMap::new(),
        files: BTreeMap::new(),
        command: Vec::new(),
        arguments: Vec::new(),
        memory: &[],
        health: Asked::Http("", ""),
        stop_signal: "SIGTERM",
        stop_seconds: 30,
    }
}

fn postgres(name: &str, resource: &Resource, credential: &str) -> Server {
    let database = database(name);
    let version = resource.version.as_deref().unwrap_or("16");
    Server {
        user: Some("postgres"),
        data: "/var/lib/postgresql/data",
        variables: table(&[
            ("POSTGRES_USER", "platform"),
            ("POSTGRES_DB", &database),
            ("POSTGRES_PASSWORD_FILE", &format!("{SECRETS}/password")),
            (
                "POSTGRES_INITDB_ARGS",
                "--auth-host=scram-sha-256 --data-checksums",
            ),
            ("PGDATA", "/var/lib/postgresql/data/pgdata"),
        ]),
        files: table(&[("password", credential)]),
        memory: &["/run/postgresql"],
        // While the database is made, its server listens on a socket alone.
        health: Asked::Command(words(&[
            "pg_isready",
            "-q",
            "-h",
            "127.0.0.1",
            "-U",
            "platform",
            "-d",
            &database,
        ])),
        // End sessions and close in good order.
        stop_signal: "SIGINT",
        stop_seconds: 60,
        ..usual("PostgreSQL", "postgres", version, 5432)
    }
}

fn redis(resource: &Resource, credential: &str) -> Server {
    let is_valkey = resource.engine == Engine::Valkey;
    let (title, program, image, version) = if is_valkey {
        ("Valkey", "valkey", "valkey/valkey", "8")
    } else {
        ("Redis", "redis", "redis", "7")
    };
    let version = resource.version.as_deref().unwrap_or(version);
    let settings =
        format!("requirepass {credential}\nappendonly yes\ndir /data\nprotected-mode no\n");
    let ask =
        format!("REDISCLI_AUTH=\"$(cat {SECRETS}/password)\" {program}-cli ping | grep -q PONG");
    Server {
        user: Some(program),
        files: table(&[("password", credential), ("server.conf", &settings)]),
        command: words(&[
            &format!("{program}-server"),
            &format!("{SECRETS}/server.conf"),
        ]),
        health: Asked::Command(words(&["sh", "-c", &ask])),
        ..usual(title, image, version, 6379)
    }
}

fn nats(resource: &Resource, credential: &str) -> Server {
    let settings = format!(
        "port: 4222\nhttp: \"127.0.0.1:8222\"\njetstream {{ store_dir: \"/data\" }}\n\
         authorization {{ user: \"platform\", password: \"{credential}\" }}\n"
    );
    let version = resource.version.as_deref().unwrap_or("2.10");
    Server {
        user: Some("65532:65532"),
        owned: true,
        files: table(&[("server.conf", &settings)]),
        arguments: words(&["--config", &format!("{SECRETS}/server.conf")]),
        health: Asked::Http("127.0.0.1:8222", "/healthz"),
        ..usual("NATS", "nats", version, 4222)
    }
}

fn object_store(name: &str, resource: &Resource, credential: &str) -> Server {
    let version = resource.version.as_deref().unwrap_or(MINIO);
    Server {
        user: Some("65532:65532"),
        owned: true,
        variables: table(&[
            ("MINIO_ROOT_USER_FILE", &format!("{SECRETS}/user")),
            ("MINIO_ROOT_PASSWORD_FILE", &format!("{SECRETS}/password")),
        ]),
        files: table(&[("user", "platform"), ("password", credential)]),
        arguments: words(&["server", "/data", "--address", ":9000"]),
        health: Asked::Bucket("127.0.0.1:9000", name.to_owned()),
        ..usual("S3 server", "minio/minio", version, 9000)
    }
}

/// The version that the tag of an image names, as `16` of `postgres:16-alpine`; `None` where it names none, or another image's.
fn version_of(image: &str) -> Option<&str> {
    let (_, tag) = reference::name_and_tag(image);
    let tag = tag?;
    let is_version = tag
        .trim_start_matches('v')
        .starts_with(|first: char| first.is_ascii_digit());
    is_version.then(|| tag.split('-').next().unwrap_or(tag))
}

impl Server {
    /// The server of a resource; `None` where this provider runs none.
    pub(crate) fn of(name: &str, resource: &Resource, credential: &str) -> Option<Self> {
        let mut server = match resource.engine {
            Engine::Postgres => postgres(name, resource, credential),
            Engine::Redis | Engine::Valkey => redis(resource, credential),
            Engine::Nats => nats(resource, credential),
            Engine::S3 => object_store(name, resource, credential),
            Engine::Auto | Engine::Embedded | Engine::Opensearch => return None,
        };
        // Another image than the usual one is of the version that it says, if it says one.
        if let (Some(image), None) = (&resource.image, &resource.version) {
            let kind = server.title.rsplit_once(' ');
            let kind = kind
                .map_or(server.title.as_str(), |(kind, _)| kind)
                .to_owned();
            server.title = match version_of(&image.to_string()) {
                Some(version) => format!("{kind} {version}"),
                None => kind,
            };
        }
        Some(server)
    }

    /// Where it is reached, with its credential.
    pub(crate) fn url(engine: Engine, name: &str, credential: &str) -> Option<String> {
        match engine {
            Engine::Postgres => Some(format!(
                "postgres://platform:{credential}@{name}:5432/{}",
                database(name)
            )),
            Engine::Redis | Engine::Valkey => Some(format!("redis://:{credential}@{name}:6379")),
            Engine::Nats => Some(format!("nats://platform:{credential}@{name}:4222")),
            Engine::S3 => Some(format!("s3://platform:{credential}@{name}:9000/{name}")),
            Engine::Auto | Engine::Embedded | Engine::Opensearch => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_says_the_version_that_runs() {
        let check = |written: serde_json::Value, title: &str| {
            let resource: Resource = serde_json::from_value(written.clone()).unwrap();
            let server = Server::of("orders-db", &resource, "hunter2").unwrap();
            assert_eq!(server.title, title, "{written}");
        };
        let postgres = |more: &str| {
            let text = format!(r#"{{ "kind": "postgres", "engine": "postgres"{more} }}"#);
            serde_json::from_str(&text).unwrap()
        };
        let digest = "0".repeat(64);
        check(postgres(""), "PostgreSQL 16");
        check(postgres(r#", "version": "15""#), "PostgreSQL 15");
        check(
            postgres(r#", "image": "platform/postgres:15""#),
            "PostgreSQL 15",
        );
        check(
            postgres(&format!(
                r#", "image": "postgres:17.2-alpine@sha256:{digest}""#
            )),
            "PostgreSQL 17.2",
        );
        check(
            postgres(r#", "image": "localhost:5000/postgres""#),
            "PostgreSQL",
        );
        check(postgres(r#", "image": "me/postgres:stable""#), "PostgreSQL");
        check(
            postgres(r#", "image": "me/postgres:stable", "version": "15""#),
            "PostgreSQL 15",
        );
        let store = r#"{ "kind": "object-store", "engine": "s3", "image": "garage:v1.0" }"#;
        check(serde_json::from_str(store).unwrap(), "S3 server v1.0");
    }

    #[test]
    fn a_credential_is_in_files_and_addresses_alone() {
        for (kind, engine) in [
            ("postgres", "postgres"),
            ("redis", "redis"),
            ("redis", "valkey"),
            ("nats", "nats"),
            ("object-store", "s3"),
        ] {
            let resource: Resource =
                serde_json::from_value(serde_json::json!({ "kind": kind, "engine": engine }))
                    .unwrap();
            let server = Server::of("orders-db", &resource, "hunter2").unwrap();
            assert!(server.files.values().any(|text| text.contains("hunter2")));
            let shown = Server {
                files: BTreeMap::new(),
                ..server
            };
            assert!(!format!("{shown:?}").contains("hunter2"), "{shown:?}");
            let url = Server::url(resource.engine, "orders-db", "hunter2").unwrap();
            assert!(url.contains("hunter2@orders-db:"), "{url}");
        }
    }
}
