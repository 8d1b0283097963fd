//! The engine that Docker's own client is pointed at by `docker context use`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What the client calls the engine at the usual socket, of which it keeps nothing.
const USUAL: &str = "default";

/// Where the engine of a context is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) host: String,
    /// The folder with `ca.pem`, `cert.pem` and `key.pem`, where the context has its own.
    pub(crate) certificates: Option<PathBuf>,
}

/// A context is chosen of which no address is known.
#[derive(Debug, thiserror::Error)]
#[error("Docker's context `{name}` is chosen by {by}, and tells no address of an engine")]
pub(crate) struct UnknownContext {
    name: String,
    by: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    name: String,
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    host: Option<String>,
}

/// The context that is chosen: by `DOCKER_CONTEXT`, else by Docker's configuration; `None` for the usual engine.
///
/// Source: docker/cli, `cli/command/cli.go` (`resolveContextName`) and `cli/context/store` for the files.
///
/// # Errors
///
/// If one is chosen that is not there: any other engine would be one that nobody asked for.
pub(crate) fn chosen(
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Chosen>, UnknownContext> {
    let set = |name| environment(name).filter(|value| !value.is_empty());
    let Some(folder) = set("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(set("HOME")?).join(".docker")))
    else {
        return Ok(None);
    };
    let (name, by) = match set("DOCKER_CONTEXT") {
        Some(name) => (name.to_string_lossy().into_owned(), "`DOCKER_CONTEXT`"),
        None => match configured(&folder) {
            Some(name) => (name, "`docker context use`"),
            None => return Ok(None),
        },
    };
    if name == USUAL {
        return Ok(None);
    }
    let known = kept(&folder.join("contexts"), &name);
    known.map(Some).ok_or(UnknownContext { name, by })
}

/// What `config.json` says; one that cannot be read is told of where credentials are wanted.
fn configured(folder: &Path) -> Option<String> {
    let text = fs::read(folder.join("config.json")).ok()?;
    let config: Config = serde_json::from_slice(&text).ok()?;
    config.current_context.filter(|name| !name.is_empty())
}

/// The context of a name. Its files lie under a digest of that, which is not made here but found.
fn kept(contexts: &Path, name: &str) -> Option<Chosen> {
    fs::read_dir(contexts.join("meta")).ok()?.find_map(|entry| {
        let entry = entry.ok()?;
        let text = fs::read(entry.path().join("meta.json")).ok()?;
        let meta: Meta = serde_json::from_slice(&text).ok()?;
        let host = meta.endpoints.docker?.host.filter(|host| !host.is_empty());
        let certificates = contexts.join("tls").join(entry.file_name()).join("docker");
        (meta.name == name).then_some(Chosen {
            host: host?,
            certificates: certificates.is_dir().then_some(certificates),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_the_one_that_dockers_client_is_pointed_at() {
        let home = tempfile::tempdir().unwrap();
        let docker = home.path().join(".docker");
        let write = |path: &str, text: &str| {
            let path = docker.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let check = |variable: Option<&str>| {
            let seen = chosen(|name| match name {
                "HOME" => Some(home.path().into()),
                "DOCKER_CONTEXT" => variable.map(Into::into),
                _ => None,
            });
            seen.map_err(|error| error.to_string())
        };
        let at = |host: &str, certificates: Option<&str>| {
            Ok(Some(Chosen {
                host: host.to_owned(),
                certificates: certificates.map(|path| docker.join(path)),
            }))
        };
        assert_eq!(check(None), Ok(None));
        write("config.json", r#"{"auths": {}, "currentContext": "far"}"#);
        let missing = "Docker's context `far` is chosen by `docker context use`, and tells no address of an engine";
        assert_eq!(check(None), Err(missing.to_owned()));
        let meta = r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:2376","SkipTLSVerify":false}}}"#;
        write("contexts/meta/0a/meta.json", meta);
        let meta =
            r#"{"Name":"desk","Endpoints":{"docker":{"Host":"unix:///run/user/1/docker.sock"}}}"#;
        write("contexts/meta/0b/meta.json", meta);
        assert_eq!(check(None), at("tcp://far:2376", None));
        write("contexts/tls/0a/docker/ca.pem", "");
        let folder = "contexts/tls/0a/docker";
        assert_eq!(check(None), at("tcp://far:2376", Some(folder)));
        let desk = at("unix:///run/user/1/docker.sock", None);
        assert_eq!(check(Some("desk")), desk);
        assert_eq!(check(Some("default")), Ok(None));
        assert_eq!(check(Some("")), check(None));
        let missing = check(Some("none")).unwrap_err();
        assert!(
            missing.contains("`none` is chosen by `DOCKER_CONTEXT`"),
            "{missing}"
        );
    }
}
