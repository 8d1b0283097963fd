//! What the gateway is to know: routes, settings, and of each service how it is asked.

use std::collections::{BTreeMap, BTreeSet};

use platform_blueprint::{
    Analysis, Gateway, NeedName, OptIn, Protocol, Resolved, Route, SecretName, ServiceName,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address_of;
use crate::digest::Digest;

/// Routes and the gateway's settings, as the blueprint has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ingress {
    /// Listener, protection and identity settings.
    pub gateway: Gateway,
    /// Routes, in the order of the blueprint.
    pub routes: Vec<Route>,
    /// What the gateway needs to know of each service that has a port.
    pub services: BTreeMap<ServiceName, Upstream>,
    /// Version of each secret that the gateway is handed: keys of certificates, hashes of API keys, the address of a
    /// Redis that somebody else runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretName, u32>,
    /// What the files of authorities hold that `gateway` and services name, PEM by the name of the file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub authorities: BTreeMap<String, String>,
    /// Digest of what each file of certificates held that `gateway.tls` names, by the name of the file. The gateway is
    /// handed what a file holds when it is, as a chain is of use with the key of today alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates: BTreeMap<String, Digest>,
}

impl Ingress {
    /// The authorities that are believed of whom the gateway asks over TLS, PEM.
    ///
    /// - `file`: as the blueprint names it
    pub fn authority(&self, file: Option<&str>) -> Option<&str> {
        self.authorities.get(file?).map(String::as_str)
    }
}

/// What the gateway needs to know of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Upstream {
    /// Others need it, so the gateway listens for it inside the environment.
    pub internal: bool,
    /// What the service speaks.
    pub protocol: Protocol,
    /// Balancing, bulkhead, breaker.
    pub traffic: platform_blueprint::Traffic,
    /// By which header or cookie a request asks for the new version.
    pub opt_in: OptIn,
    /// Above which time a good answer counts as slow, in milliseconds.
    pub slow_after: u64,
}

/// The secrets that the gateway is handed, each once.
pub fn secrets_of_gateway(resolved: &Resolved) -> BTreeSet<&SecretName> {
    let gateway = &resolved.gateway;
    let certificates = gateway.tls.iter().flat_map(|tls| &tls.certificates);
    let keys = certificates.map(|certificate| &certificate.key);
    let shared = gateway.shared.as_ref();
    let shared = shared.and_then(|name| address_of(resolved.resources.get(name)?));
    keys.chain(gateway.api_keys.iter().map(|list| &list.keys))
        .chain(shared)
        .collect()
}

/// The ingress of a blueprint, whose files nobody has read yet.
///
/// - `secrets`: the version of each that the gateway is handed
pub(super) fn ingress_of(resolved: &Resolved, secrets: BTreeMap<SecretName, u32>) -> Ingress {
    let needed: BTreeSet<&str> = resolved
        .services
        .values()
        .flat_map(|service| service.needs.iter().map(NeedName::as_str))
        .collect();
    let usual = Analysis::default();
    let services = resolved
        .services
        .iter()
        .filter(|(_, service)| service.port.is_some())
        .map(|(name, service)| {
            let analysis = service.rollout.analysis.as_ref();
            let slow_after = analysis.map_or(usual.slow_after, |own| own.slow_after);
            let slow_after = slow_after.duration().as_millis();
            let upstream = Upstream {
                internal: needed.contains(name.as_str()),
                protocol: service.protocol,
                traffic: service.traffic.clone(),
                opt_in: service.rollout.opt_in.clone(),
                slow_after: u64::try_from(slow_after).unwrap_or(u64::MAX),
            };
            (name.clone(), upstream)
        })
        .collect();
    Ingress {
        gateway: resolved.gateway.clone(),
        routes: resolved.routes.clone(),
        services,
        secrets,
        authorities: BTreeMap::new(),
        certificates: BTreeMap::new(),
    }
}
