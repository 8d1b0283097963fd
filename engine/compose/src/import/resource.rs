//! Images that are recognised as resources.

use super::{Draft, size};
use crate::form::bytes;
use crate::left::Code;

/// A resource behind an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    /// The word in the blueprint.
    pub(super) word: &'static str,
    /// The engine, where there are several.
    engine: Option<&'static str>,
    /// The version in the image's tag.
    version: Option<String>,
    /// The image, where it is not the usual one.
    image: Option<String>,
    /// The port of the server.
    pub(super) port: u16,
}

impl Kind {
    /// What an image is, if it is a resource's server.
    pub(super) fn of(reference: &str) -> Option<Self> {
        let (name, digest) = match reference.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (reference, None),
        };
        let at = name.rfind(':').filter(|at| !name[*at..].contains('/'));
        let (repository, tag) = at.map_or((name, None), |at| (&name[..at], Some(&name[at + 1..])));
        let repository = repository
            .strip_prefix("docker.io/")
            .unwrap_or(repository)
            .strip_prefix("library/")
            .unwrap_or(repository);
        let last = repository.rsplit('/').next().unwrap_or(repository);
        let (kind, engine, usual, port) = match last {
            "postgres" | "postgresql" | "postgis" | "pgvector" | "timescaledb" => {
                ("postgres", None, "postgres", 5432)
            }
            "redis" => ("redis", None, "redis", 6379),
            "valkey" => ("redis", Some("valkey"), "valkey/valkey", 6379),
            "nats" => ("nats", None, "nats", 4222),
            "minio" => ("object-store", None, "minio/minio", 9000),
            _ => return None,
        };
        let is_usual = repository == usual && digest.is_none();
        let number = tag.and_then(|tag| {
            let begin = tag.find(|letter: char| letter.is_ascii_digit())?;
            let rest = &tag[begin..];
            let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
            Some(
                rest[..end.unwrap_or(rest.len())]
                    .trim_end_matches('.')
                    .to_owned(),
            )
        });
        let version = match tag {
            Some("latest") | None => None,
            Some(tag) if is_usual => Some(tag.to_owned()),
            Some(_) => number,
        };
        Some(Self {
            word: kind,
            engine,
            version,
            image: (!is_usual).then(|| reference.to_owned()),
            port,
        })
    }
}

impl Draft<'_> {
    /// Tells services from resources.
    pub(super) fn kinds(&mut self) {
        for name in &self.chosen {
            let service = &self.file.services[name];
            let image = service.image.as_deref().filter(|_| service.build.is_none());
            self.resources
                .extend(image.and_then(Kind::of).map(|kind| (name.clone(), kind)));
        }
    }

    /// Writes a resource.
    pub(super) fn resource(&mut self, name: &str) {
        let kind = self.resources[name].clone();
        let service = self.written(name);
        let mut table = toml_edit::Table::new();
        table.insert("kind", kind.word.into());
        if let Some(engine) = kind.engine {
            table.insert("engine", engine.into());
        }
        if let Some(version) = &kind.version {
            table.insert("version", version.into());
        }
        if let Some(image) = &kind.image {
            table.insert("image", image.into());
            if image.contains("bitnami") {
                self.leave(
                    Code::Otherwise,
                    &["services", name, "image"],
                    "images of Bitnami keep their data elsewhere than the official ones, whose ways a resource has",
                    Some("name an official image in `image`, or leave that out"),
                );
            }
        }
        let limits = service
            .deploy
            .as_ref()
            .and_then(|deploy| deploy.resources.as_ref());
        let limits = limits.and_then(|resources| resources.limits.as_ref());
        let memory = service
            .mem_limit
            .as_ref()
            .or(limits.and_then(|limits| limits.memory.as_ref()));
        if let Some(bytes) = memory.and_then(|memory| bytes(&memory.0)) {
            table.insert("memory", size(bytes).into());
        }
        let own = self.names[name].clone();
        self.out.resources.insert(own.clone(), table);
        self.servers_own(name, &own, &kind);
    }

    /// Tells what a resource does in its own way.
    fn servers_own(&mut self, name: &str, own: &str, kind: &Kind) {
        let service = self.written(name);
        if !service.environment.0.is_empty()
            || !service.env_file.is_empty()
            || !service.secrets.is_empty()
        {
            let address = platform_blueprint::address_variable(own);
            let why = format!(
                "user, password and database of a resource are made for it; services that need it find them in `{address}`"
            );
            let at = if service.environment.0.is_empty() {
                "image"
            } else {
                "environment"
            };
            self.leave(Code::Otherwise, &["services", name, at], why, None);
        }
        if service.command.is_some() || service.entrypoint.is_some() {
            let at = if service.command.is_some() {
                "command"
            } else {
                "entrypoint"
            };
            let why =
                "a resource's server is started in its own way, so its settings are not carried";
            self.leave(Code::NotCarried, &["services", name, at], why, None);
        }
        if !service.ports.is_empty() {
            let why =
                format!("resources are not published; `platform port-forward {own}` leads to it");
            self.leave(Code::NotCarried, &["services", name, "ports"], why, None);
        }
        for (index, mount) in service.volumes.iter().enumerate() {
            let (source, target) = super::storage::sides(mount);
            let index = index.to_string();
            let place = ["services", name, "volumes", &index];
            if source.is_some_and(super::storage::is_folder) {
                let why = format!(
                    "files at `{target}` are not carried: a resource's server has only its data"
                );
                self.leave(Code::NotCarried, &place, why, None);
            } else {
                let why = format!(
                    "its data are in a volume of its own, which begins empty (`{}`)",
                    kind.word
                );
                self.leave(
                    Code::Otherwise,
                    &place,
                    why,
                    Some("dump what is in the old one and load it"),
                );
            }
        }
        let replicas = service.scale.as_ref().map(|_| "scale").or(service
            .deploy
            .as_ref()
            .and_then(|deploy| deploy.replicas.as_ref().map(|_| "deploy")));
        if let Some(key) = replicas {
            let why = "a resource has one server, and standbys where the target runs those";
            self.leave(Code::NotCarried, &["services", name, key], why, None);
        }
        self.leftovers(
            name,
            &[
                "restart",
                "healthcheck",
                "stop_grace_period",
                "stop_signal",
                "logging",
                "mem_limit",
            ],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_recognised_by_their_images() {
        let check = |image: &str| {
            let kind = Kind::of(image)?;
            Some((kind.word, kind.version, kind.image.is_some()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            check("postgres:15-alpine"),
            Some(("postgres", some("15-alpine"), false))
        );
        assert_eq!(
            check("docker.io/library/redis"),
            Some(("redis", None, false))
        );
        assert_eq!(check("valkey/valkey:8"), Some(("redis", some("8"), false)));
        assert_eq!(
            check("localhost:5000/minio"),
            Some(("object-store", None, true))
        );
        assert_eq!(
            check("pgvector/pgvector:pg16"),
            Some(("postgres", some("16"), true))
        );
        assert_eq!(
            check("platform/nats:2.9"),
            Some(("nats", some("2.9"), true))
        );
        assert_eq!(check("redis-commander"), None);
    }
}
