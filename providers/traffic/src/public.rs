//! The public side: listeners, certificates, who is believed.

use platform_blueprint as blueprint;
use platform_decide::desired::Ingress;
use platform_gateway_api as api;

use super::certificates::{authority_file, copied_file};
use super::{Parts, api_keys, key_file, millis};

/// The service of the project that has the signing keys, and the path there.
pub(super) fn keys_at(gateway: &blueprint::Gateway) -> Option<(&str, &str)> {
    let (service, path) = gateway.jwt.as_ref()?.jwks.as_deref()?.split_once(':')?;
    (path.starts_with('/') && !path.starts_with("//")).then_some((service, path))
}

/// Where the signing keys are.
fn keys_url(jwt: &blueprint::Jwt, parts: &Parts<'_>, gateway: &blueprint::Gateway) -> String {
    if let Some((service, path)) = keys_at(gateway)
        && let Some(internal) = parts
            .internal
            .iter()
            .find(|(name, _)| name.as_str() == service)
            .map(|(_, internal)| internal)
    {
        return format!("{}{path}", internal.url);
    }
    jwt.jwks
        .clone()
        .unwrap_or_else(|| format!("{}/.well-known/jwks.json", jwt.issuer.trim_end_matches('/')))
}

/// Listeners and what holds for every route.
pub(super) fn side(config: &mut api::Config, parts: &Parts<'_>, ingress: &Ingress) {
    let gateway = &ingress.gateway;
    let limits = api::ListenerLimits {
        head_ms: millis(gateway.limits.header_time),
        idle_ms: millis(gateway.limits.body_pause),
        keep_alive_ms: millis(gateway.limits.idle),
        connections: gateway.limits.connections,
        head_bytes: gateway.limits.headers.bytes(),
        head_fields: gateway.limits.header_count,
        target_bytes: gateway.limits.uri.bytes(),
    };
    let bind = parts.public.unwrap_or(gateway.address);
    let address = |port: blueprint::Port| std::net::SocketAddr::new(bind, port.get());
    let tls = gateway.tls.as_ref();
    let redirected = tls.filter(|tls| tls.redirect).map(|tls| tls.port.get());
    config.listeners.push(api::Listener {
        name: "public".to_owned(),
        address: address(gateway.port).to_string(),
        https: redirected,
        limits: limits.clone(),
        ..api::Listener::default()
    });
    if let Some(tls) = tls {
        config.listeners.push(api::Listener {
            name: "public-tls".to_owned(),
            address: address(tls.port).to_string(),
            tls: Some(secured(tls, parts, ingress)),
            limits,
            ..api::Listener::default()
        });
    }
    if let Some(figures) = &gateway.metrics {
        let at =
            std::net::SocketAddr::new(parts.public.unwrap_or(figures.address), figures.port.get());
        config.listeners.push(api::Listener {
            name: "metrics".to_owned(),
            address: at.to_string(),
            kind: api::ListenerKind::Metrics,
            ..api::Listener::default()
        });
    }
    config.trusted_proxies.clone_from(&gateway.trust);
    config.max_requests = gateway.limits.requests;
    config.cache_memory = gateway.limits.cache.bytes();
    config.access_log.sample = if gateway.access_log.on {
        u32::from(gateway.access_log.sample.tenths())
    } else {
        0
    };
    config
        .access_log
        .redact_query
        .extend(gateway.access_log.redact.iter().cloned());
    config.identity = gateway.jwt.as_ref().map(|jwt| api::Identity {
        issuer: jwt.issuer.clone(),
        audiences: jwt.audience.clone(),
        jwks: api::Jwks::Url(keys_url(jwt, parts, gateway)),
        leeway_seconds: jwt.leeway.duration().as_secs(),
        refresh_seconds: jwt.refresh.duration().as_secs(),
        scopes_claim: jwt.scopes.clone(),
        roles_claim: jwt.roles.clone(),
        ca: believed(jwt.ca.as_deref(), parts, ingress),
    });
    config.streams = gateway.limits.streams;
    config.traces = gateway.otlp.as_ref().map(|otlp| api::Traces {
        endpoint: otlp.url.clone(),
        sample: u32::from(gateway.trace.tenths()),
        ca: believed(otlp.ca.as_deref(), parts, ingress),
    });
}

/// Where the gateway finds the authorities of a file beside the blueprint.
fn believed(file: Option<&str>, parts: &Parts<'_>, ingress: &Ingress) -> Option<String> {
    let text = ingress.authority(file)?;
    let path = authority_file(parts.secret_files, text);
    Some(path.display().to_string())
}

/// The folder with the authority of `local_ca`, beside the blueprint; its certificate is `ca.pem` there, its key `ca.key`.
pub const LOCAL_AUTHORITY: &str = ".platform/development-ca";

fn secured(tls: &blueprint::Tls, parts: &Parts<'_>, ingress: &Ingress) -> api::Tls {
    let found = |name: &str| {
        let file = match parts.root {
            Some(root) => root.join(name),
            None => copied_file(parts.secret_files, name),
        };
        file.display().to_string()
    };
    let certificates = tls.certificates.iter().filter_map(|one| {
        let key = key_file(parts.secret_files, ingress, &one.key)?;
        Some(api::TlsCertificate {
            hosts: one.host.clone(),
            certificate: found(&one.certificate),
            key: key.display().to_string(),
        })
    });
    api::Tls {
        certificates: certificates.collect(),
        // Of the project, so that one that is believed stays so in every environment.
        development: tls.local_ca.then(|| found(LOCAL_AUTHORITY)),
        minimum: match tls.minimum {
            blueprint::TlsVersion::V12 => api::TlsVersion::V12,
            blueprint::TlsVersion::V13 => api::TlsVersion::V13,
        },
        client_ca: tls.client_ca.as_deref().map(found),
    }
}

/// The API keys that are known, as hashes.
pub(super) fn api_keys(parts: &Parts<'_>, ingress: &Ingress) -> Vec<api::ApiKey> {
    let list = ingress.gateway.api_keys.as_ref();
    let text = list.and_then(|list| parts.secrets.get(&list.keys));
    text.and_then(|text| api_keys::parse(text.reveal()).ok())
        .unwrap_or_default()
}
