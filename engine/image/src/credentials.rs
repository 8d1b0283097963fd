//! Credentials for registries, from where Docker keeps them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;

use crate::error::ImageError;

/// How Docker calls its own registry in its configuration.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The user name by which a helper says that the secret is a token.
const TOKEN: &str = "<token>";

/// Who we are at a registry.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user's name; empty with a token.
    pub username: String,
    /// The password, or a token that stands for it.
    pub password: SecretString,
    /// Whether it is an identity token, which engines are handed in a field of its own.
    pub identity_token: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

// A secret has no business in a debug message.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The folder of Docker's configuration: `DOCKER_CONFIG`, else `~/.docker`.
fn folder() -> Option<PathBuf> {
    std::env::var_os("DOCKER_CONFIG")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker")))
}

/// Finds the credentials for a registry: a helper for it, the helper for all, or what the file itself holds.
///
/// - `registry`: a host with its port: `ghcr.io`, `localhost:5000`
/// - returns: `None` where there are none, so that one asks without
///
/// # Errors
///
/// [`ImageError::Credentials`] if the file cannot be understood or a helper fails.
pub async fn credentials(registry: &str) -> Result<Option<Credentials>, ImageError> {
    match folder() {
        Some(folder) => credentials_in(&folder, registry).await,
        None => Ok(None),
    }
}

/// The same with the folder of the configuration given.
///
/// # Errors
///
/// As [`credentials`].
pub async fn credentials_in(
    folder: &Path,
    registry: &str,
) -> Result<Option<Credentials>, ImageError> {
    let failed = |why: String| ImageError::Credentials {
        registry: registry.to_owned(),
        why,
    };
    let path = folder.join("config.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ImageError::file("read", &path)(error)),
    };
    // The message of a parser may quote what it stumbled over.
    let config: Config = serde_json::from_slice(&text).map_err(|error| {
        failed(format!(
            "`{}` is not valid at line {}",
            path.display(),
            error.line()
        ))
    })?;
    let server = if is_docker_hub(registry) {
        DOCKER_HUB
    } else {
        registry
    };
    let helper = config
        .cred_helpers
        .iter()
        .find(|(key, _)| host(key) == host(server))
        .map(|(_, helper)| helper)
        .or(config.creds_store.as_ref());
    if let Some(helper) = helper.filter(|helper| !helper.is_empty())
        && let Some(found) = ask(&program_of(helper), server).await.map_err(failed)?
    {
        return Ok(Some(found));
    }
    let entry = config
        .auths
        .iter()
        .find(|(key, _)| host(key) == host(server));
    entry
        .map(|(_, entry)| read(entry))
        .transpose()
        .map(Option::flatten)
        .map_err(|why| failed(why.to_owned()))
}

fn is_docker_hub(registry: &str) -> bool {
    matches!(
        registry,
        "docker.io" | "index.docker.io" | "registry-1.docker.io"
    )
}

/// The host of a key, which may be a whole address.
fn host(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn read(entry: &Entry) -> Result<Option<Credentials>, &'static str> {
    if !entry.identitytoken.is_empty() {
        return Ok(Some(Credentials {
            username: String::new(),
            password: entry.identitytoken.clone().into(),
            identity_token: true,
        }));
    }
    let (username, password) = if entry.auth.is_empty() {
        (entry.username.clone(), entry.password.clone())
    } else {
        let bytes = STANDARD
            .decode(&entry.auth)
            .or_else(|_| STANDARD_NO_PAD.decode(&entry.auth))
            .map_err(|_| "what `auth` holds is not base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "what `auth` holds is not text")?;
        let (name, password) = text
            .split_once(':')
            .ok_or("what `auth` holds has no colon")?;
        (name.to_owned(), password.trim_end_matches('\0').to_owned())
    };
    // An entry without anything stands for a login that a helper keeps.
    Ok((!username.is_empty()).then(|| Credentials {
        username,
        password: password.into(),
        identity_token: false,
    }))
}

fn program_of(helper: &str) -> PathBuf {
    PathBuf::from(format!("docker-credential-{helper}"))
}

/// Asks a credential helper, a program that answers one line on its input with JSON.
async fn ask(program: &Path, server: &str) -> Result<Option<Credentials>, String> {
    let name = program.display();
    let mut child = tokio::process::Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run `{name}`: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read its input may still answer.
        let _ = input.write_all(format!("{server}\n").as_bytes()).await;
    }
    let output = child
        .wait_with_output()
        .await
        .map_err(|error| format!("cannot run `{name}`: {error}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        return if words.contains("credentials not found") {
            Ok(None)
        } else {
            Err(format!("`{name}` failed: {words}"))
        };
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("what `{name}` answered cannot be understood"))?;
    let identity_token = answer.username == TOKEN;
    Ok(Some(Credentials {
        username: if identity_token {
            String::new()
        } else {
            answer.username
        },
        password: answer.secret.into(),
        identity_token,
    }))
}

impl Credentials {
    /// As the registry client wants them.
    pub(crate) fn auth(&self) -> oci_client::secrets::RegistryAuth {
        let password = self.password.expose_secret().to_owned();
        let username = if self.identity_token {
            // Under this name registries that hand out such tokens take them as a password.
            "00000000-0000-0000-0000-000000000000".to_owned()
        } else {
            self.username.clone()
        };
        oci_client::secrets::RegistryAuth::Basic(username, password)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    async fn found(config: &str, registry: &str) -> Result<Option<(String, String, bool)>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let found = credentials_in(folder.path(), registry).await;
        found
            .map(|found| {
                found.map(|found| {
                    let password = found.password.expose_secret().to_owned();
                    (found.username, password, found.identity_token)
                })
            })
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_file_itself_holds_them_by_host() {
        let config = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "bWU6c2VjcmV0"},
            "localhost:5000": {"auth": "eW91OmE6Yg=="},
            "ghcr.io": {},
            "acr.example": {"identitytoken": "long"}
        }}"#;
        let plain =
            |name: &str, password: &str| Ok(Some((name.to_owned(), password.to_owned(), false)));
        assert_eq!(found(config, "docker.io").await, plain("me", "secret"));
        assert_eq!(found(config, "localhost:5000").await, plain("you", "a:b"));
        assert_eq!(found(config, "ghcr.io").await, Ok(None));
        assert_eq!(found(config, "quay.io").await, Ok(None));
        assert_eq!(
            found(config, "acr.example").await,
            Ok(Some((String::new(), "long".to_owned(), true)))
        );
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_without_the_secret() {
        let error = found(r#"{"auths": {"a": {"auth": "not base64 hunter2"}}}"#, "a").await;
        assert!(
            error.clone().is_err_and(|error| !error.contains("hunter2")),
            "{error:?}"
        );
        let error = found("{\"auths\": {\"a\": {\"auth\": hunter2", "a").await;
        assert!(
            error.clone().is_err_and(|error| !error.contains("hunter2")),
            "{error:?}"
        );
        let error = found(r#"{"credsStore": "none-such"}"#, "a")
            .await
            .unwrap_err();
        assert!(error.contains("docker-credential-none-such"), "{error}");
    }

    #[tokio::test]
    async fn helpers_are_asked_and_may_know_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let helper = |name: &str, script: &str| {
            let path = folder.path().join(program_of(name));
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let knows = helper(
            "knows",
            r#"read server; printf '{"ServerURL":"%s","Username":"me@%s","Secret":"s"}' "$server" "$server""#,
        );
        let found = ask(&knows, "r.example").await.unwrap().unwrap();
        assert_eq!(found.username, "me@r.example");
        assert_eq!(found.password.expose_secret(), "s");
        let blank = helper(
            "blank",
            "echo 'credentials not found in native keychain'; exit 1",
        );
        assert!(ask(&blank, "r.example").await.unwrap().is_none());
        let broken = helper("broken", "echo 'the keychain is locked'; exit 1");
        let error = ask(&broken, "r.example").await.unwrap_err();
        assert!(error.contains("the keychain is locked"), "{error}");
    }
}
