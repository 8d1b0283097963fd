//! Certificates that the gateway shows, named as files beside the blueprint: what they hold now, and whether it is of use with
//! the key that is set.

use std::collections::BTreeMap;
use std::path::Path;

use platform_blueprint::{Certificate, Gateway, Tls};
use platform_decide::digest::Digest;
use platform_drive::deploy::Prepared;
use platform_port::SecretValue;
use platform_secrets::Keyring;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::diagnostic::Diagnostic;
use crate::error::CliError;
use crate::world::World;

/// Digests of what the files hold that `gateway.tls` names, by name. A file that cannot be read has none; preflight tells it.
///
/// - `folder`: that of the blueprint
pub(crate) fn digests(folder: &Path, gateway: &Gateway) -> BTreeMap<String, Digest> {
    let files = gateway.tls.iter().flat_map(Tls::files);
    let read = files.filter_map(|file| {
        let held = std::fs::read(folder.join(file)).ok()?;
        Some((file.to_owned(), Digest::of(&held)))
    });
    read.collect()
}

/// Chains that a plan has the gateway show with the key of another, as after a renewal of which only the file came.
///
/// # Errors
///
/// If the secrets cannot be read.
pub(crate) fn unfit(world: &World, prepared: &Prepared) -> Result<Vec<Diagnostic>, CliError> {
    let tls = prepared.plan.release.ingress.gateway.tls.as_ref();
    let Some(tls) = tls.filter(|_| !prepared.plan.is_empty()) else {
        return Ok(Vec::new());
    };
    let file = world.secrets()?;
    let set = file.versions()?;
    let keys = tls.certificates.iter().map(|one| &one.key);
    let keys = keys.filter(|key| set.contains_key(*key));
    let values = file.values(keys, Keyring::load_or_create)?;
    let folder = &world.folder()?;
    let pairs = tls.certificates.iter();
    let told = pairs.filter_map(|one| told(folder, one, values.get(&one.key)?));
    Ok(told.collect())
}

/// Why a chain and its key are of no use together; `None` where they are, or where the chain cannot be read.
fn told(folder: &Path, pair: &Certificate, key: &SecretValue) -> Option<Diagnostic> {
    let chain = std::fs::read(folder.join(&pair.certificate)).ok()?;
    let why = misfit(&chain, key.reveal().as_bytes())?;
    let Certificate {
        certificate, key, ..
    } = pair;
    let message = format!("`{certificate}` is of no use with the key in the secret `{key}`: {why}");
    let help =
        format!("set the key that belongs to `{certificate}` with `platform secrets set {key}`");
    Some(Diagnostic::error("preflight::certificate-key", message).help(help))
}

/// Why a chain and a key, PEM, are of no use together, in words; never a part of the key.
fn misfit(chain: &[u8], key: &[u8]) -> Option<String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = match chain {
        Ok(chain) if chain.is_empty() => return Some("the file holds no certificate".to_owned()),
        Ok(chain) => chain,
        Err(error) => return Some(format!("the file: {error}")),
    };
    let Ok(key) = PrivateKeyDer::from_pem_slice(key) else {
        return Some("the secret holds no key in PEM".to_owned());
    };
    let Ok(key) = any_supported_type(&key) else {
        return Some("the secret holds a key of a kind that is not known".to_owned());
    };
    let matched = CertifiedKey::new(chain, key).keys_match();
    matched.err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn a_chain_is_of_use_with_its_own_key_alone() {
        let pair = || {
            let key = KeyPair::generate().unwrap();
            let chain = CertificateParams::default().self_signed(&key).unwrap();
            (chain.pem(), key.serialize_pem())
        };
        let ((chain, key), (_, other)) = (pair(), pair());
        let check = |chain: &str, key: &str, expected: &[&str]| {
            let why = misfit(chain.as_bytes(), key.as_bytes());
            assert_eq!(why.is_some(), !expected.is_empty(), "{why:?}");
            let why = why.unwrap_or_default();
            assert!(expected.iter().all(|part| why.contains(part)), "{why}");
        };
        check(&chain, &key, &[]);
        check(&chain, &other, &["keys may not be consistent"]);
        check("", &key, &["the file holds no certificate"]);
        check(&chain, "none", &["the secret holds no key in PEM"]);
    }

    #[test]
    fn files_that_are_there_have_digests() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("shop.pem"), "a chain").unwrap();
        let gateway: Gateway = serde_json::from_value(serde_json::json!({
            "tls": { "certificates": [{ "certificate": "shop.pem", "key": "key" }], "client_ca": "gone.pem" }
        }))
        .unwrap();
        let expected = [("shop.pem".to_owned(), Digest::of(b"a chain"))];
        assert_eq!(digests(folder.path(), &gateway), expected.into());
    }
}
