//! A local authority for development: signs a certificate for each name a client asks for.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use platform_gateway_api::local_authority::{LocalAuthority, ORGANIZATION};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

/// Names that certificates are kept for.
const MOST: usize = 256;
/// How long what is signed here is valid, in days; browsers take no more than 825.
const DAYS: i64 = 800;

/// The authority, with what it has signed.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    signed: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never a key.
        formatter.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Takes up the authority in a folder, or makes one there.
    ///
    /// # Errors
    ///
    /// In words.
    pub(crate) fn open(folder: &Path) -> Result<Self, String> {
        let unusable = |error: &dyn std::fmt::Display| {
            format!(
                "cannot use the local authority in `{}`: {error}",
                folder.display()
            )
        };
        let own = LocalAuthority::take_up(folder).map_err(|error| unusable(&error))?;
        let pair = KeyPair::from_pem(&own.key).map_err(|error| unusable(&error))?;
        let text = own.certificate;
        let issuer = Issuer::from_ca_cert_pem(&text, pair).map_err(|error| unusable(&error))?;
        let certificate = rustls::pki_types::pem::PemObject::from_pem_slice(text.as_bytes())
            .map_err(|error| unusable(&error))?;
        Ok(Self {
            issuer,
            certificate,
            signed: Mutex::default(),
        })
    }

    /// A certificate for a name, or for this machine where none is asked for.
    pub(crate) fn sign(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let wanted = name.unwrap_or("localhost").to_ascii_lowercase();
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = signed.get(&wanted) {
            return Some(known.clone());
        }
        if signed.len() >= MOST {
            signed.clear();
        }
        let fresh = match self.issue(&wanted) {
            Ok(fresh) => Arc::new(fresh),
            Err(error) => {
                tracing::warn!(name = wanted, %error, "no certificate can be signed");
                return None;
            }
        };
        signed.insert(wanted, fresh.clone());
        Some(fresh)
    }

    fn issue(&self, name: &str) -> Result<CertifiedKey, Box<dyn std::error::Error>> {
        let mut names = vec![name.to_owned()];
        if name == "localhost" {
            names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        }
        let mut wanted = CertificateParams::new(names)?;
        wanted.distinguished_name = called(name);
        wanted.use_authority_key_identifier_extension = true;
        wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        valid(&mut wanted);
        let pair = KeyPair::generate()?;
        let leaf = wanted.signed_by(&pair, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        let key = aws_lc_rs::sign::any_supported_type(&key)?;
        Ok(CertifiedKey::new(chain, key))
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut own = DistinguishedName::new();
    own.push(DnType::OrganizationName, ORGANIZATION);
    own.push(DnType::CommonName, name);
    own
}

/// From yesterday, as clocks differ.
fn valid(wanted: &mut CertificateParams) {
    let now = std::time::SystemTime::now();
    let day = std::time::Duration::from_secs(86_400);
    wanted.not_before = (now - day).into();
    wanted.not_after = (now + day * u32::try_from(DAYS).unwrap_or(1)).into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_made_once_and_signs_for_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("authority");
        let first = Authority::open(&own).unwrap();
        let again = Authority::open(&own).unwrap();
        assert_eq!(first.certificate, again.certificate);
        let signed = again.sign(Some("shop.test")).unwrap();
        assert_eq!(signed.cert.len(), 2);
        signed.keys_match().unwrap();
        let known = again.sign(Some("SHOP.test")).unwrap();
        assert!(Arc::ptr_eq(&signed, &known));
    }
}
