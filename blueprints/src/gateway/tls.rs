//! Certificates: what the gateway shows to whom, and in which versions of TLS.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::one_or_many::one_or_many;
use crate::{Period, Port, SecretName};

/// Certificates that services with `protocol = "mtls"` and the gateway show each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mtls {
    /// How long one is valid, ten seconds to a year; with a third of that left another one takes its place.
    pub lasts: Period,
}

impl Default for Mtls {
    fn default() -> Self {
        Self {
            lasts: Period::from_secs(90 * 24 * 3600),
        }
    }
}

/// Certificates of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The port for TLS.
    pub port: Port,
    /// Certificates by host; the first is for clients that name none.
    pub certificates: Vec<Certificate>,
    /// Whether a local authority signs one for development.
    pub local_ca: bool,
    /// Whether plain HTTP is redirected to TLS.
    pub redirect: bool,
    /// The oldest version of TLS that is spoken.
    pub minimum: TlsVersion,
    /// A file of authorities, one of which must have signed a client's certificate.
    pub client_ca: Option<String>,
}

impl Tls {
    /// The files of certificates that it names: chains, then the authorities of clients.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let chains = self.certificates.iter().map(|one| &one.certificate);
        chains.chain(&self.client_ca).map(String::as_str)
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            port: Port::new(8443).unwrap_or(Port::MAX),
            certificates: Vec::new(),
            local_ca: false,
            redirect: true,
            minimum: TlsVersion::V12,
            client_ca: None,
        }
    }
}

/// A version of TLS.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The hosts it is for; those it names if empty.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "crate::one_or_many::OneOrMany")]
    pub host: Vec<String>,
    /// The file of the certificate chain, PEM.
    pub certificate: String,
    /// The secret that holds the key, PEM.
    pub key: SecretName,
}
