//! Routes and the gateway.

use std::collections::{BTreeSet, HashMap};

use super::{Check, Scene, steps};
use crate::node::{Step, place};
use crate::reader::nearest;
use crate::{
    AuthBy, Code, Method, PathMatch, Period, Problem, Resource, ResourceKind, Route, ServiceName,
};

impl Check<'_, '_> {
    pub(super) fn routes(&mut self, scene: &Scene<'_>) {
        self.only_previews(scene);
        for (number, route) in scene.routes.iter().enumerate() {
            self.target(scene, number, route);
            self.captures(number, route);
            self.texts(number, route);
            self.star(number, route);
            if route.preview && route.service.is_none() && route.redirect.is_some() {
                let problem = Problem::new(
                    Code::Contradiction,
                    format!("the route `{}` leads to no release", route.title()),
                    self.at(steps!["routes", number, "preview"]),
                )
                .help("write `service` in place of `redirect`, or take `preview` out");
                self.report(problem);
            }
            if let Some(mirror) = &route.mirror {
                let place = [
                    Step::Key("routes"),
                    number.into(),
                    "mirror".into(),
                    "service".into(),
                ];
                if self.known_service(scene, &mirror.service, &place) {
                    self.callable(scene, &mirror.service, &place);
                }
            }
            self.proof(scene, number, route);
            if let Some(limit) = &route.rate_limit {
                let place = steps!["routes", number, "rate_limit"];
                if limit.requests == 0 || limit.every.is_zero() || limit.burst == Some(0) {
                    let problem = Problem::new(
                        Code::BadValue,
                        "a limit that lets nothing in, or knows no time, is none",
                        self.at(place),
                    )
                    .help(
                        "write how many requests in how much time, such as \
                           `{ requests = 100, every = \"1s\" }`",
                    );
                    self.report(problem);
                }
                if limit.shared && scene.gateway.shared.is_none() {
                    let problem = Problem::new(
                        Code::MissingSetting,
                        "gateways are to count together, and have nothing to do it through",
                        self.at(steps!["routes", number, "rate_limit", "shared"]),
                    )
                    .help("add `shared = \"NAME\"` of a redis resource to `[gateway]`");
                    self.report(problem);
                }
            }
            for list in ["allow", "deny"] {
                let networks = if list == "allow" {
                    &route.allow
                } else {
                    &route.deny
                };
                for (item, network) in networks.iter().enumerate() {
                    self.network(network, steps!["routes", number, list, item]);
                }
            }
            if let Some(cors) = &route.cors
                && cors.credentials
                && cors.origins.iter().any(|origin| origin == "*")
            {
                let problem = Problem::new(
                    Code::Contradiction,
                    "browsers refuse credentials where any origin may call",
                    self.at(steps!["routes", number, "cors"]),
                )
                .help("name the origins, or take out `credentials`");
                self.report(problem);
            }
        }
        self.duplicates(&scene.routes);
    }

    fn target(&mut self, scene: &Scene<'_>, number: usize, route: &Route) {
        let place = [Step::Key("routes"), number.into(), "service".into()];
        let title = route.title();
        match (&route.service, &route.redirect) {
            (Some(service), None) => {
                if self.known_service(scene, service, &place) {
                    self.callable(scene, service, &place);
                }
            }
            (None, Some(_)) => {}
            (Some(_), Some(_)) => {
                let problem = Problem::new(
                    Code::Contradiction,
                    format!("the route `{title}` has both a service and a redirect"),
                    self.at(&place),
                )
                .also(
                    self.at(steps!["routes", number, "redirect"]),
                    "the redirect",
                )
                .help("keep one");
                self.report(problem);
            }
            // One that could not be read has been reported.
            (None, None)
                if ["service", "redirect"]
                    .iter()
                    .any(|key| self.written(steps!["routes", number, *key])) => {}
            (None, None) => {
                let problem = Problem::new(
                    Code::MissingSetting,
                    format!("the route `{title}` leads nowhere"),
                    self.at(steps!["routes", number]),
                )
                .help("add `service = \"NAME\"` or `redirect = \"/elsewhere\"`");
                self.report(problem);
            }
        }
    }

    /// Checks that what stands in braces is in the route's template.
    fn captures(&mut self, number: usize, route: &Route) {
        let known: Vec<&str> = match &route.path {
            PathMatch::Template(template) => braced(template).collect(),
            _ => Vec::new(),
        };
        let redirect = route.redirect.iter().map(|redirect| {
            // A client must not choose the host that it is sent to.
            let host = redirect.to.find("://").map_or(0, |at| at + 3);
            let path = redirect.to[host..].find('/');
            let path = match host {
                0 => 0,
                _ => path.map_or(redirect.to.len(), |at| host + at),
            };
            ("redirect", &redirect.to[..path], &redirect.to[path..])
        });
        let rewrite = route.rewrite.iter().filter_map(|rewrite| {
            let path = rewrite.path.as_deref()?;
            Some(("rewrite", "", path))
        });
        for (key, host, path) in redirect.chain(rewrite) {
            let place = steps!["routes", number, key];
            if braced(host).next().is_some() {
                let problem = Problem::new(
                    Code::BadValue,
                    "segments of the path are put into a path alone",
                    self.at(place),
                )
                .help("write the host out");
                self.report(problem);
            }
            for name in braced(path).filter(|name| !known.contains(name)) {
                let problem = Problem::new(
                    Code::BadValue,
                    format!("`{{{name}}}` stands for nothing"),
                    self.at(place),
                );
                self.report(match nearest(name, known.iter().copied()) {
                    Some(name) => problem.help(format!("did you mean `{{{name}}}`?")),
                    None => problem.help(format!(
                        "name a segment so in the route's path, such as `/orders/{{{name}}}`"
                    )),
                });
            }
        }
    }

    pub(super) fn callable(&mut self, scene: &Scene<'_>, name: &ServiceName, place: &[Step<'_>]) {
        let service = scene.services.get(name);
        if service.is_some_and(|service| service.port.is_none()) && !self.writes(name, &["port"]) {
            let problem = Problem::new(
                Code::NoPort,
                format!("requests are led to `{name}`, which has no port"),
                self.at(place),
            )
            .also(self.at(steps!["services", name.as_str()]), "has no port")
            .help(format!("add `port` to `[services.{name}]`"));
            self.report(problem);
        }
    }

    fn proof(&mut self, scene: &Scene<'_>, number: usize, route: &Route) {
        let Some(auth) = &route.auth else {
            return;
        };
        let place = steps!["routes", number, "auth"];
        let lacking = auth.by.iter().find_map(|by| match by {
            AuthBy::Jwt if scene.gateway.jwt.is_none() => Some((
                "tokens",
                "add `jwt = { issuer = \"https://…\" }` to `[gateway]`",
            )),
            AuthBy::ApiKey if scene.gateway.api_keys.is_none() => Some((
                "API keys",
                "add `api_keys = { keys = \"NAME\" }` of a secret to `[gateway]`",
            )),
            _ => None,
        });
        if let Some((what, help)) = lacking {
            let problem = Problem::new(
                Code::MissingSetting,
                format!("the route asks for {what}, which the gateway is not told how to check"),
                self.at(place),
            )
            .help(help);
            self.report(problem);
        }
        if auth.by.is_empty() {
            let problem = Problem::new(
                Code::MissingSetting,
                "the route asks for proof and takes none",
                self.at(place),
            )
            .help("write `by = [\"jwt\"]`, `by = [\"api-key\"]` or both");
            self.report(problem);
        }
    }

    fn duplicates(&mut self, routes: &[Route]) {
        type Seen<'a> = HashMap<String, Vec<(usize, &'a [Method])>>;
        let mut seen: Seen<'_> = HashMap::with_capacity(routes.len());
        let any = ["*".to_owned()];
        for (number, route) in routes.iter().enumerate() {
            // A path that could not be read has been reported, and stands for none.
            if self.misread(steps!["routes", number, "path"]) {
                continue;
            }
            let hosts = if route.host.is_empty() {
                &any[..]
            } else {
                &route.host
            };
            let rest = format!(
                "{} {:?} {:?}",
                canonical(&route.path),
                route
                    .headers
                    .iter()
                    .map(|(k, v)| (k.to_ascii_lowercase(), v))
                    .collect::<Vec<_>>(),
                route.query
            );
            let mut first = None;
            for host in hosts {
                let others = seen
                    .entry(format!("{} {rest}", host.to_ascii_lowercase()))
                    .or_default();
                // A route for one method is more telling than one for any.
                let same = |methods: &[Method]| {
                    (methods.is_empty() && route.methods.is_empty())
                        || methods.iter().any(|method| route.methods.contains(method))
                };
                first = first.or(others
                    .iter()
                    .find(|(_, methods)| same(methods))
                    .map(|(at, _)| *at));
                others.push((number, &route.methods));
            }
            if let Some(first) = first {
                let problem = Problem::new(
                    Code::DuplicateRoute,
                    format!(
                        "two routes take the same requests, `{}`",
                        route.path.as_str()
                    ),
                    self.at(steps!["routes", number, "path"]),
                )
                .label("never reached")
                .also(
                    self.at(steps!["routes", first, "path"]),
                    "taken by this one",
                )
                .help(
                    "take one out, or tell them apart by `host`, `methods`, `headers` or `query`",
                );
                self.report(problem);
            }
        }
    }

    fn network(&mut self, network: &str, place: &[Step<'_>]) {
        let (address, bits) = match network.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (network, None),
        };
        let good = address.parse::<std::net::IpAddr>().is_ok_and(|address| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
        });
        if !good {
            let problem = Problem::new(
                Code::BadValue,
                format!("`{network}` is not an address or network"),
                self.at(place),
            )
            .help("write one such as `10.0.0.7`, `10.0.0.0/8` or `2001:db8::/32`");
            self.report(problem);
        }
    }

    /// A service that nobody reaches but by previews: all who want it meet what is on trial, and nobody judges that by them.
    fn only_previews(&mut self, scene: &Scene<'_>) {
        let mut told = BTreeSet::new();
        for (number, route) in scene.routes.iter().enumerate() {
            let Some(name) = route.service.as_ref().filter(|_| route.preview) else {
                continue;
            };
            let mut routes = scene.routes.iter();
            let reached =
                routes.any(|other| other.service.as_ref() == Some(name) && !other.preview);
            let mut needs = scene.services.values().flat_map(|service| &service.needs);
            if reached || needs.any(|need| need.as_str() == name.as_str()) || !told.insert(name) {
                continue;
            }
            let problem = Problem::new(
                Code::Contradiction,
                format!("nothing but previews leads to `{name}`"),
                self.at(steps!["routes", number, "preview"]),
            )
            .label("a release on trial gets all of these requests")
            .warning()
            .help("take it out, and write a second route for who tries a release out, such as one with another `host`");
            self.report(problem);
        }
    }

    /// Several gateways where one alone can run: said of an environment that asks for them itself, as the top may speak of others.
    fn gateways(&mut self, scene: &Scene<'_>) {
        let provider = scene.environment.provider.kind();
        let path = steps!["gateway", "replicas"];
        let asked = self
            .over
            .is_some_and(|over| place(over, path).1 == path.len());
        if asked && scene.gateway.replicas > 1 && !provider.has_several_machines() {
            let problem = Problem::new(
                Code::UnusedKey,
                format!("one gateway runs here, not {}", scene.gateway.replicas),
                self.at(path),
            )
            .label("sets nothing")
            .warning()
            .help(format!(
                "take it out: `{}` is one machine, which listens at an address once",
                provider.as_str()
            ));
            self.report(problem);
        }
    }

    pub(super) fn gateway(&mut self, scene: &Scene<'_>) {
        let gateway = &scene.gateway;
        self.gateways(scene);
        for (number, network) in gateway.trust.iter().enumerate() {
            self.network(network, steps!["gateway", "trust", number]);
        }
        let lasts = gateway.mtls.lasts;
        if lasts < Period::from_secs(10) || lasts > Period::from_secs(365 * 24 * 3600) {
            let problem = Problem::new(
                Code::BadValue,
                format!("a certificate between services cannot last {lasts}"),
                self.at(steps!["gateway", "mtls", "lasts"]),
            )
            .help("write ten seconds to a year, such as `\"90d\"`");
            self.report(problem);
        }
        // One that is written and could not be read has been reported.
        let written = || {
            self.written(steps!["gateway", "tls", "certificates", 0])
                || self.misread(steps!["gateway", "tls", "certificates"])
                || self.misread(steps!["gateway", "tls", "local_ca"])
        };
        if let Some(tls) = &gateway.tls
            && tls.certificates.is_empty()
            && !tls.local_ca
            && !written()
        {
            let problem = Problem::new(
                Code::MissingSetting,
                "the gateway is to speak TLS and has no certificate",
                self.at(steps!["gateway", "tls"]),
            )
            .help("add `certificates`, or `local_ca = true` for development");
            self.report(problem);
        }
        self.near(scene);
        self.counted(scene);
        self.gateway_texts(scene);
    }
}

impl Check<'_, '_> {
    /// Checks that what gateways count through is a redis resource.
    fn counted(&mut self, scene: &Scene<'_>) {
        let Some(name) = &scene.gateway.shared else {
            return;
        };
        let redis = |resource: &Resource| resource.kind == ResourceKind::Redis;
        let kind = match scene.resources.get(name) {
            Some(resource) if redis(resource) => return,
            Some(resource) => Some(resource.kind),
            // One that could not be read has been reported.
            None if self.written(steps!["resources", name.as_str()]) => return,
            None => None,
        };
        let all = scene.resources.iter();
        let fitting = all
            .filter(|(_, resource)| redis(resource))
            .map(|(name, _)| name.as_str());
        let help = match (nearest(name.as_str(), fitting), kind) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(kind)) => {
                let kind = kind.as_str();
                format!("`{name}` is of kind `{kind}`; name one of kind `redis`")
            }
            (None, None) => format!("add `[resources.{name}]` with `kind = \"redis\"`"),
        };
        let problem = Problem::new(
            Code::MissingSetting,
            format!("there is no redis resource `{name}`"),
            self.at(steps!["gateway", "shared"]),
        );
        self.report(problem.help(help));
    }
}

/// The names in braces, without the dots of one that stands for the rest.
fn braced(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| {
        let (name, _) = rest.split_once('}')?;
        Some(name.strip_suffix("...").unwrap_or(name))
    })
}

/// A path with the names of its template's segments left out.
fn canonical(path: &PathMatch) -> String {
    match path {
        PathMatch::Prefix(path) => format!("prefix {}", path.trim_end_matches('/')),
        PathMatch::Exact(path) => format!("exact {path}"),
        PathMatch::Template(path) => {
            let segments: Vec<_> = path
                .split('/')
                .map(|segment| match segment {
                    _ if segment.ends_with("...}") => "{...}",
                    _ if segment.starts_with('{') => "{}",
                    other => other,
                })
                .collect();
            format!("template {}", segments.join("/"))
        }
    }
}
