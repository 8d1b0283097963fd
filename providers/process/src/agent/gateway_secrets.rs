//! Secrets that the gateway reads as files: the keys of its certificates, the address of the Redis that it counts through.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use platform_blueprint::SecretName;
use platform_decide::desired::Ingress;
use platform_port::{SecretValue, SecretValues};
use platform_traffic::certificates::authority_files;
use platform_traffic::{api_keys, key_file, shared_file};

use super::resource;
use super::state::Agent;
use crate::protocol::Fault;

/// The folder of the files, in memory where there is such a place.
pub(super) fn folder(agent: &Agent) -> PathBuf {
    agent.secret_files.join("gateway")
}

fn files<'a>(
    folder: &'a Path,
    ingress: Option<&'a Ingress>,
) -> impl Iterator<Item = (&'a SecretName, PathBuf)> {
    let certificates = ingress.into_iter().flat_map(|ingress| {
        let tls = ingress.gateway.tls.iter();
        tls.flat_map(move |tls| tls.certificates.iter().map(move |one| (ingress, one)))
    });
    certificates.filter_map(|(ingress, certificate)| {
        let path = key_file(folder, ingress, &certificate.key)?;
        Some((&certificate.key, path))
    })
}

/// The file with the address of the Redis of `gateway.shared`, and the address; nothing where no server stands behind it.
pub(super) fn shared(agent: &Agent, ingress: &Ingress) -> Option<(PathBuf, SecretValue)> {
    let name = ingress.gateway.shared.as_ref()?;
    let resource = agent.kept.borrow().resources.get(name)?.resource.clone();
    if resource.external.is_none() && !resource::is_server(&resource) {
        return None;
    }
    match resource::url(agent, name, &agent.secrets.borrow().gateway) {
        Ok(url) => {
            let file = shared_file(&folder(agent), ingress, &resource, &url)?;
            Some((file, SecretValue::new(url)))
        }
        Err(error) => {
            tracing::error!(resource = %name, error, "the gateway counts for itself");
            None
        }
    }
}

/// The files of authorities that the gateway itself believes. They are no secret, and lie where the others do.
pub(super) fn authorities(agent: &Agent, ingress: &Ingress) -> Vec<(PathBuf, SecretValue)> {
    let files = authority_files(&folder(agent), ingress).into_iter();
    files
        .map(|(file, text)| (file, SecretValue::new(text)))
        .collect()
}

/// Checks that every secret is there and what it should be.
///
/// # Errors
///
/// The name of the first that is not, and why.
pub(super) fn check(ingress: &Ingress, secrets: &SecretValues) -> Result<(), Fault> {
    let refuse = |name: &SecretName, why: String| {
        Err(Fault::new(
            "gateway::refused",
            format!("secret `{name}`{why}"),
        ))
    };
    for name in ingress.secrets.keys() {
        let Some(value) = secrets.get(name) else {
            return refuse(name, ": its value was not handed over".to_owned());
        };
        let list = ingress.gateway.api_keys.as_ref();
        if list.is_some_and(|list| list.keys == *name)
            && let Err(line) = api_keys::parse(value.reveal())
        {
            let why = format!(", line {line}: not `NAME SHA256 SCOPE…`");
            return refuse(name, why);
        }
    }
    Ok(())
}

/// Writes the files that are not there yet.
///
/// - `more`: files beside those that the ingress names
///
/// # Errors
///
/// If the folder takes no writes.
pub(super) fn write(
    agent: &Agent,
    ingress: Option<&Ingress>,
    more: &[(PathBuf, SecretValue)],
) -> io::Result<()> {
    let secrets = agent.secrets.borrow();
    let folder = folder(agent);
    let named =
        files(&folder, ingress).filter_map(|(name, path)| Some((path, secrets.gateway.get(name)?)));
    let more = more.iter().map(|(path, value)| (path.clone(), value));
    for (path, value) in named.chain(more) {
        if fs::read(&path).is_ok_and(|known| known == value.reveal().as_bytes()) {
            continue;
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let fresh = path.with_extension("new");
        let mut file: File = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(value.reveal().as_bytes())?;
        fs::rename(&fresh, &path)?;
    }
    Ok(())
}

/// Removes the files that nothing names any more.
pub(super) fn prune(agent: &Agent, ingress: Option<&Ingress>, more: &[(PathBuf, SecretValue)]) {
    let folder = folder(agent);
    let named: BTreeSet<PathBuf> = files(&folder, ingress)
        .map(|(_, path)| path)
        .chain(more.iter().map(|(path, _)| path.clone()))
        .collect();
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        if !named.contains(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
