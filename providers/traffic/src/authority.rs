//! The environment's own authority: signs what services and the gateway show each other. Time is an argument.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use platform_port::SecretValue;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SubjectPublicKeyInfo,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use x509_parser::pem::parse_x509_pem;

/// How long the authority itself is valid.
const AUTHORITY_LASTS: Duration = Duration::from_hours(10 * 365 * 24);
/// Clocks differ: what is signed is valid from so long ago.
const BACKDATED: Duration = Duration::from_hours(1);
/// A certificate is replaced when this part of the time it lasts is left.
const LEFT: u32 = 3;

/// Whoever a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder<'a> {
    /// A service, which shows it to whoever connects.
    Service(&'a str),
    /// The gateway, which shows it to the services it asks.
    Gateway,
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// For everybody to see.
    pub certificate: String,
    /// For nobody but its owner.
    pub key: SecretValue,
}

/// Makes a key for somebody who does not give it away.
///
/// - returns: the key and the public side of it, PEM
///
/// # Errors
///
/// If the machine gives no random numbers.
pub fn own_key() -> Result<(SecretValue, String), rcgen::Error> {
    let pair = KeyPair::generate()?;
    let public = pair.public_key_pem();
    Ok((SecretValue::new(pair.serialize_pem()), public))
}

/// Signs for one environment.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never a key.
        formatter.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes the certificate of a fresh authority, and its key.
    ///
    /// # Errors
    ///
    /// If the machine gives no random numbers.
    pub fn make(name: &str, now: SystemTime) -> Result<Pair, rcgen::Error> {
        let mut wanted = CertificateParams::default();
        wanted.distinguished_name = called(name);
        wanted.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut wanted, now, AUTHORITY_LASTS);
        let pair = KeyPair::generate()?;
        let certificate = wanted.self_signed(&pair)?.pem();
        Ok(Pair {
            certificate,
            key: SecretValue::new(pair.serialize_pem()),
        })
    }

    /// Takes up an authority that was made before.
    ///
    /// # Errors
    ///
    /// If its certificate or key is none.
    pub fn of(own: &Pair) -> Result<Self, rcgen::Error> {
        let pair = KeyPair::from_pem(own.key.reveal())?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(&own.certificate, pair)?,
            certificate: own.certificate.clone(),
        })
    }

    /// Its own certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Signs a certificate with a key of its own.
    ///
    /// # Errors
    ///
    /// If the machine gives no random numbers.
    pub fn issue(
        &self,
        holder: Holder<'_>,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<Pair, rcgen::Error> {
        let pair = KeyPair::generate()?;
        Ok(Pair {
            certificate: self.signed(holder, &pair, lasts, now)?,
            key: SecretValue::new(pair.serialize_pem()),
        })
    }

    /// Signs a certificate, PEM, for a key that its owner keeps.
    ///
    /// - `public`: the public side of the key, PEM
    ///
    /// # Errors
    ///
    /// If that is none, or the holder's name cannot stand in a certificate.
    pub fn sign(
        &self,
        holder: Holder<'_>,
        public: &str,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<String, rcgen::Error> {
        let key = SubjectPublicKeyInfo::from_pem(public)?;
        self.signed(holder, &key, lasts, now)
    }

    fn signed(
        &self,
        holder: Holder<'_>,
        key: &impl PublicKeyData,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<String, rcgen::Error> {
        let (name, usage, names) = match holder {
            Holder::Service(name) => (
                name,
                ExtendedKeyUsagePurpose::ServerAuth,
                // The gateway asks for the name; the others are for whoever looks from this machine.
                vec![name, "localhost", "127.0.0.1", "::1"],
            ),
            Holder::Gateway => (
                "gateway",
                ExtendedKeyUsagePurpose::ClientAuth,
                vec!["gateway"],
            ),
        };
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut wanted = CertificateParams::new(names)?;
        wanted.distinguished_name = called(name);
        wanted.use_authority_key_identifier_extension = true;
        wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // What shows a service to the gateway shows nobody to a service.
        wanted.extended_key_usages = vec![usage];
        valid(&mut wanted, now, lasts);
        Ok(wanted.signed_by(key, &self.issuer)?.pem())
    }
}

/// How somebody asks services who believes an authority and shows them a certificate of his own.
///
/// - `authority`: its certificate, PEM
///
/// # Errors
///
/// If what is given is none, or does not fit together.
pub fn client(
    authority: &str,
    own: &Pair,
) -> Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(own.key.reveal().as_bytes())?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?)
}

/// How somebody asks services that show certificates of their own.
///
/// - `authorities`: who must have signed those, PEM; the public ones if not given
///
/// # Errors
///
/// If what is given is none.
pub fn believing(
    authorities: Option<&str>,
) -> Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(text) => {
            for one in CertificateDer::pem_slice_iter(text.as_bytes()) {
                roots.add(one?)?;
            }
        }
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// When a certificate is to be replaced: with a third of `lasts` left, at once if it lasts longer than that or cannot be read.
pub fn replace_at(certificate: &[u8], lasts: Duration, now: SystemTime) -> SystemTime {
    match ends(certificate) {
        Some(ends) if ends <= now + lasts => ends - lasts / LEFT,
        _ => now,
    }
}

fn ends(certificate: &[u8]) -> Option<SystemTime> {
    let (_, pem) = parse_x509_pem(certificate).ok()?;
    let ends = pem.parse_x509().ok()?.validity().not_after.timestamp();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(ends).ok()?))
}

fn called(name: &str) -> DistinguishedName {
    let mut own = DistinguishedName::new();
    own.push(DnType::OrganizationName, "platform");
    own.push(DnType::CommonName, name);
    own
}

fn valid(wanted: &mut CertificateParams, now: SystemTime, lasts: Duration) {
    wanted.not_before = (now - BACKDATED).into();
    wanted.not_after = (now + lasts).into();
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn authority(now: SystemTime) -> Authority {
        Authority::of(&Authority::make("shop local", now).unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_is_replaced_with_a_third_of_its_time_left() {
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let issued = authority(now).issue(Holder::Service("orders"), 90 * DAY, now);
        let certificate = issued.unwrap().certificate.into_bytes();
        let check = |lasts: u32, at: u32, expected: u32| {
            let at = now + at * DAY;
            let found = replace_at(&certificate, lasts * DAY, at);
            assert_eq!(found, now + expected * DAY, "{lasts} {at:?}");
        };
        check(90, 0, 60);
        check(90, 59, 60);
        check(90, 80, 60);
        check(30, 0, 0); // Of one that lasts too long, at once,
        check(30, 70, 80); // unless it has come of age.
        assert_eq!(replace_at(b"none", 90 * DAY, now), now);
    }

    #[test]
    fn a_service_and_the_gateway_are_told_apart() {
        let now = SystemTime::now();
        let authority = authority(now);
        for (holder, server) in [(Holder::Service("orders"), true), (Holder::Gateway, false)] {
            let pair = authority.issue(holder, 90 * DAY, now).unwrap();
            let (_, pem) = parse_x509_pem(pair.certificate.as_bytes()).unwrap();
            let certificate = pem.parse_x509().unwrap();
            let usage = certificate.extended_key_usage().unwrap().unwrap().value;
            assert_eq!((usage.server_auth, usage.client_auth), (server, !server));
            assert!(!certificate.is_ca());
            assert!(!format!("{pair:?}").contains("PRIVATE"), "{pair:?}");
        }
    }

    #[test]
    fn a_key_that_is_kept_is_signed_by_its_public_side() {
        let now = SystemTime::now();
        let authority = authority(now);
        let sign = |public: &str| authority.sign(Holder::Service("orders"), public, DAY, now);
        let (key, public) = own_key().unwrap();
        let certificate = sign(&public).unwrap();
        // Certificate and key fit together, or nobody could be asked with them.
        client(authority.certificate(), &Pair { certificate, key }).unwrap();
        for other in ["", key_text().as_str(), authority.certificate()] {
            assert!(sign(other).is_err(), "{other}");
        }
    }

    fn key_text() -> String {
        KeyPair::generate().unwrap().serialize_pem()
    }
}
