//! Chains of the gateway's certificates: copies of those that belong to the keys it has. A gateway that is started anew finds a pair in
//! them, whatever has become of the files beside the blueprint.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use platform_blueprint::Certificate;
use platform_decide::desired::Ingress;
use platform_decide::digest::Digest;
use platform_gateway_api::Config;
use platform_port::SecretValue;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::state::Agent;
use crate::durable::{self, StateError, Survives};

/// How often the files beside the blueprint are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What was found out of chains, by their names in the blueprint.
#[derive(Default)]
pub(super) struct Chains(RefCell<BTreeMap<String, Known>>);

struct Known {
    chain: Vec<u8>,
    key: SecretValue,
    belong: bool,
}

impl Chains {
    /// Whether a chain and a key belong together. The same are not looked into again.
    fn belong(&self, name: &str, chain: &[u8], key: &SecretValue) -> bool {
        let mut all = self.0.borrow_mut();
        if let Some(known) = all.get(name)
            && known.chain == chain
            && known.key == *key
        {
            return known.belong;
        }
        let belong = belong(chain, key.reveal().as_bytes());
        let known = Known {
            chain: chain.to_owned(),
            key: key.clone(),
            belong,
        };
        all.insert(name.to_owned(), known);
        belong
    }
}

/// Whether a chain and a key, PEM, belong together.
fn belong(chain: &[u8], key: &[u8]) -> bool {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let key = PrivateKeyDer::from_pem_slice(key)
        .ok()
        .and_then(|key| any_supported_type(&key).ok());
    match (chain, key) {
        (Ok(chain), Some(key)) => {
            !chain.is_empty() && CertifiedKey::new(chain, key).keys_match().is_ok()
        }
        _ => false,
    }
}

fn folder(agent: &Agent) -> PathBuf {
    agent.layout.gateway().join("chains")
}

fn named(ingress: Option<&Ingress>) -> impl Iterator<Item = &Certificate> {
    let tls = ingress.and_then(|ingress| ingress.gateway.tls.as_ref());
    tls.into_iter().flat_map(|tls| &tls.certificates)
}

/// Where a copy of a chain lies. Another chain is in another file, so that the gateway is told of it.
fn file(folder: &Path, name: &str, chain: &[u8]) -> PathBuf {
    folder.join(format!("{}{}", prefix(name), Digest::of(chain).short()))
}

fn prefix(name: &str) -> String {
    format!("{}.", Digest::of(name.as_bytes()).short())
}

/// The copy of each chain, by the file it is of; made where there is none yet. A chain without a key that belongs to it has the
/// copy of the one before, and none where there was none.
///
/// # Errors
///
/// If the folder takes no writes.
pub(super) fn copies(
    agent: &Agent,
    ingress: Option<&Ingress>,
) -> Result<BTreeMap<PathBuf, PathBuf>, StateError> {
    let folder = folder(agent);
    let secrets = agent.secrets.borrow();
    let mut copies = BTreeMap::new();
    for Certificate {
        certificate: name,
        key,
        ..
    } in named(ingress)
    {
        let Some(key) = secrets.gateway.get(key) else {
            continue;
        };
        let original = agent.options.root.join(name);
        let chain = fs::read(&original).ok();
        let chain = chain.filter(|chain| agent.gateway.chains.belong(name, chain, key));
        if let Some(chain) = chain {
            let copy = file(&folder, name, &chain);
            if fs::read(&copy).is_ok_and(|there| there == chain) {
                copies.insert(original, copy);
                continue;
            }
            fs::create_dir_all(&folder).map_err(|error| StateError::of("make", &folder, error))?;
            durable::replace(&copy, &chain, Survives::PowerLoss)?;
            copies.insert(original, copy);
        } else if let Some(copy) = before(&folder, name, key) {
            copies.insert(original, copy);
        }
    }
    Ok(copies)
}

/// The copy of an earlier chain of this name that belongs to a key.
fn before(folder: &Path, name: &str, key: &SecretValue) -> Option<PathBuf> {
    let prefix = prefix(name);
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut own = entries.filter(|entry| {
        let is_own = entry.file_name().to_string_lossy().starts_with(&prefix);
        let chain = || fs::read(entry.path()).unwrap_or_default();
        is_own && belong(&chain(), key.reveal().as_bytes())
    });
    own.next().map(|entry| entry.path())
}

/// Has the gateway find the copies in place of the files that they are of.
pub(super) fn stand_in(config: &mut Config, copies: &BTreeMap<PathBuf, PathBuf>) {
    let listeners = config.listeners.iter_mut();
    let tls = listeners.filter_map(|listener| listener.tls.as_mut());
    for one in tls.flat_map(|tls| &mut tls.certificates) {
        if let Some(copy) = copies.get(Path::new(&one.certificate)) {
            one.certificate = copy.display().to_string();
        }
    }
}

/// Removes the copies that nothing names any more.
pub(super) fn prune(agent: &Agent, copies: &BTreeMap<PathBuf, PathBuf>) {
    let named: BTreeSet<&PathBuf> = copies.values().collect();
    let there = fs::read_dir(folder(agent)).into_iter().flatten().flatten();
    for entry in there.filter(|entry| !named.contains(&entry.path())) {
        let _ = fs::remove_file(entry.path());
    }
}

/// Has the gateway told of chains that were renewed.
pub(super) async fn watching(agent: Rc<Agent>) {
    let mut changes = agent.changes();
    let mut known = marks(&agent);
    loop {
        if known.is_empty() {
            if changes.changed().await.is_err() {
                return;
            }
        } else {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let seen = marks(&agent);
        if seen != known {
            known = seen;
            agent.touch();
        }
    }
}

/// What a file is known by: device, number, size and time of the last change.
type Mark = (u64, u64, u64, (i64, i64));

fn marks(agent: &Agent) -> Vec<Option<Mark>> {
    let mark = |seen: Metadata| {
        let time = (seen.mtime(), seen.mtime_nsec());
        (seen.dev(), seen.ino(), seen.size(), time)
    };
    let kept = agent.kept.borrow();
    let ingress = kept.traffic.as_ref().map(|traffic| &traffic.ingress);
    named(ingress)
        .map(|one| {
            fs::metadata(agent.options.root.join(&one.certificate))
                .ok()
                .map(mark)
        })
        .collect()
}
