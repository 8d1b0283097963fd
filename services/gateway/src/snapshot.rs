//! One configuration, ready to serve: compiled once, then only read.

use std::collections::HashMap;
use std::sync::Arc;

use platform_gateway_api::{
    AccessLog, Config, ListenerKind, ListenerLimits, Match, Role, Route, Service, Traces,
    UpstreamTls,
};

use crate::crowd::Split;
use crate::endpoint::EndpointState;
use crate::identity::Verifier;
use crate::network::Networks;
use crate::registry::{Registry, RouteRuntime, ServiceRuntime, VersionRuntime};
use crate::router::Router;
use crate::shared::Shared;
use crate::tls::Secured;
use crate::upstream_tls::Trust;

/// What requests are served by, until the next configuration.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) revision: u64,
    pub(crate) config: Arc<Config>,
    pub(crate) router: Router<RouteState>,
    pub(crate) services: HashMap<String, Arc<ServiceState>>,
    pub(crate) listeners: HashMap<String, ListenerState>,
    pub(crate) trusted_proxies: Networks,
    pub(crate) shared_addresses: Networks,
    pub(crate) verifier: Option<Arc<Verifier>>,
    pub(crate) max_requests: u64,
    pub(crate) show_version: bool,
    pub(crate) access_log: AccessLog,
    pub(crate) traces: Option<Arc<Traces>>,
    pub(crate) shared: Option<Arc<Shared>>,
}

/// What was made from files that a configuration names.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Certificates of TLS listeners, by name.
    pub(crate) secured: HashMap<String, Arc<Secured>>,
    /// What is believed of endpoints.
    pub(crate) trust: HashMap<UpstreamTls, Arc<Trust>>,
    /// Where several gateways count together.
    pub(crate) shared: Option<Arc<Shared>>,
}

/// What a listener means.
#[derive(Debug)]
pub(crate) struct ListenerState {
    pub(crate) limits: ListenerLimits,
    /// The route of an internal listener.
    pub(crate) internal: Option<Arc<RouteState>>,
    /// Tells figures, and nothing else.
    pub(crate) metrics: bool,
    pub(crate) secured: Option<Arc<Secured>>,
    /// Sends every request to HTTPS on this port.
    pub(crate) https: Option<u16>,
}

/// One route with the service it leads to.
#[derive(Debug)]
pub(crate) struct RouteState {
    pub(crate) route: Route,
    pub(crate) service: Option<Arc<ServiceState>>,
    pub(crate) runtime: Arc<RouteRuntime>,
    pub(crate) allow: Networks,
    pub(crate) deny: Networks,
}

/// One service with its versions.
#[derive(Debug)]
pub(crate) struct ServiceState {
    pub(crate) name: String,
    pub(crate) settings: Service,
    pub(crate) versions: Vec<VersionState>,
    pub(crate) split: Split,
    pub(crate) runtime: Arc<ServiceRuntime>,
}

/// One version with its endpoints.
#[derive(Debug)]
pub(crate) struct VersionState {
    pub(crate) name: Arc<str>,
    pub(crate) weight: u32,
    pub(crate) role: Role,
    pub(crate) endpoints: Vec<Arc<EndpointState>>,
    pub(crate) runtime: Arc<VersionRuntime>,
    /// Set where the endpoints are spoken to over TLS.
    pub(crate) trust: Option<Arc<Trust>>,
    /// Whether the endpoints are asked in HTTP/2.
    pub(crate) http2: bool,
}

impl ServiceState {
    /// The position of a version.
    pub(crate) fn position(&self, version: &str) -> Option<usize> {
        self.versions
            .iter()
            .position(|state| &*state.name == version)
    }
}

impl Snapshot {
    /// The state before the first configuration: no listener, no route.
    pub(crate) fn empty(registry: &Registry) -> Self {
        Self::new(Config::default(), registry, &Made::default())
    }

    /// Compiles a valid configuration. Counts and health of what stays are taken over.
    ///
    /// - `made`: what was made from files that it names
    pub(crate) fn new(config: Config, registry: &Registry, made: &Made) -> Self {
        let services: HashMap<String, Arc<ServiceState>> = config
            .services
            .iter()
            .map(|(name, service)| {
                let state = compile_service(name, service, registry, made);
                (name.clone(), Arc::new(state))
            })
            .collect();
        let compile = |route: &Route| {
            let service = route.service.as_ref();
            Arc::new(RouteState {
                service: service.and_then(|name| services.get(name)).cloned(),
                runtime: registry.route(&route.name),
                allow: Networks::parse(&route.allow),
                deny: Networks::parse(&route.deny),
                route: route.clone(),
            })
        };
        let routes: Vec<(Match, Arc<RouteState>)> = config
            .routes
            .iter()
            .map(|route| (route.matches.clone(), compile(route)))
            .collect();
        let listeners = config
            .listeners
            .iter()
            .map(|listener| {
                let internal = match &listener.kind {
                    ListenerKind::Public | ListenerKind::Metrics => None,
                    ListenerKind::Internal { service } => Some(compile(&Route {
                        name: format!("internal/{service}"),
                        service: Some(service.clone()),
                        ..Route::default()
                    })),
                };
                let state = ListenerState {
                    limits: listener.limits.clone(),
                    internal,
                    metrics: listener.kind == ListenerKind::Metrics,
                    secured: made.secured.get(&listener.name).cloned(),
                    https: listener.https,
                };
                (listener.name.clone(), state)
            })
            .collect();
        registry.keep_only(&config);
        Self {
            revision: config.revision,
            router: Router::new(routes.into_iter()),
            services,
            listeners,
            trusted_proxies: Networks::parse(&config.trusted_proxies),
            shared_addresses: Networks::parse(&config.shared_addresses),
            verifier: registry.verifier(config.identity.as_ref()),
            max_requests: config.max_requests.into(),
            show_version: config.show_version,
            access_log: config.access_log.clone(),
            traces: config.traces.clone().map(Arc::new),
            shared: made.shared.clone(),
            config: Arc::new(config),
        }
    }
}

fn compile_service(
    name: &str,
    service: &Service,
    registry: &Registry,
    made: &Made,
) -> ServiceState {
    let prove = service.health.as_ref().is_some_and(|health| health.prove);
    let versions: Vec<VersionState> = service
        .versions
        .iter()
        .map(|(version, settings)| {
            let version: Arc<str> = version.as_str().into();
            VersionState {
                weight: settings.weight,
                role: settings.role,
                endpoints: settings
                    .endpoints
                    .iter()
                    .map(|endpoint| registry.endpoint(name, &version, endpoint, prove))
                    .collect(),
                runtime: registry.version(name, &version),
                trust: settings
                    .tls
                    .as_ref()
                    .or(service.tls.as_ref())
                    .and_then(|tls| made.trust.get(tls))
                    .cloned(),
                http2: settings.http2.unwrap_or(service.http2),
                name: version,
            }
        })
        .collect();
    ServiceState {
        name: name.into(),
        settings: service.clone(),
        split: split(&versions),
        versions,
        runtime: registry.service(name),
    }
}

/// How requests are shared out among the versions that can answer them.
fn split(versions: &[VersionState]) -> Split {
    let weights = versions
        .iter()
        .filter(|version| version.role.takes_traffic() && !version.endpoints.is_empty())
        .map(|version| version.weight);
    let all: u32 = weights.clone().sum();
    let shared = weights.clone().filter(|weight| *weight > 0);
    match (weights.count(), shared.clone().count(), shared.min()) {
        (0 | 1, ..) => Split::None,
        (_, 2.., Some(least)) => Split::Shared(f64::from(least) / f64::from(all)),
        _ => Split::One,
    }
}
