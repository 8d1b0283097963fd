//! Every option of a gateway, a route and a service reaches the gateway: none is left as it would be anyway.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::*;

/// Each key with a value that is not its default.
const WRITTEN: &str = r#"
[gateway]
address = "127.0.0.2"
port = 8090
trust = ["192.0.2.0/24"]
security_headers = false
retry_budget = "35%"
zone = "a"
otlp = { url = "https://127.0.0.1:4318", ca = "collector.pem" }
trace = "25%"
metrics = { port = 9465, address = "127.0.0.3" }
tls = { port = 8444, certificates = [{ host = ["shop.example"], certificate = "tls/shop.pem", key = "key" }], minimum = "1.3", client_ca = "tls/clients.pem", local_ca = true }
access_log = { sample = "20%", redact = ["session"] }
jwt = { issuer = "https://id.example", audience = ["shop"], jwks = "https://id.example/keys", ca = "issuer.pem", leeway = "7s", refresh = "11m", scopes = "scp", roles = "groups" }
api_keys = { header = "x-key", keys = "list" }
outliers = { failures = 6, errors = 8, leave_out = "12s", at_most = "30%" }
breaker = { errors = "40%", at_least = 30, window = "20s", pause = "9s" }

[gateway.limits]
body = "2MiB"
headers = "16KiB"
header_count = 50
uri = "4KiB"
connections = 1234
requests = 567
streams = 31
header_time = "3s"
body_pause = "14s"
idle = "41s"
cache = "5MiB"

[[routes]]
name = "orders"
path = { template = "/v1/orders/{id}" }
host = ["shop.example"]
methods = ["GET", "POST"]
headers = { x-api-version = "1", x-beta = { present = true }, accept = { prefix = "application/" } }
query = { view = "full" }
allow = ["10.0.0.0/8"]
deny = ["10.0.0.9"]
service = "orders"
rewrite = { path = "/orders/{id}", host = "orders.internal" }
request_headers = { set = { x-team = "shop" }, add = { x-via = "edge" }, remove = ["x-debug"] }
response_headers = { set = { x-frame-options = "DENY" }, add = { x-trace = "on" }, remove = ["server"] }
mirror = { service = "audit", share = "15%", methods = ["PUT"] }
balance = { strategy = "hash", on = "header:x-user" }
sticky = false
timeout = { total = "8s", connect = "700ms", first_byte = "5s", idle = "33s" }
retries = { attempts = 4, on = ["timeout", "error"], backoff = "40ms" }
cache = { fresh_for = "2m", stale_while_revalidate = "3m", stale_if_error = "4m", vary = ["accept-language"], max_body = "1MiB" }
compression = ["br"]
auth = { by = ["api-key"], scopes = ["orders:read"], roles = ["clerk"], audience = "orders", optional = true, failures = 17 }
rate_limit = { requests = 90, every = "2s", per = "api-key", burst = 120, shared = true }
max_body = "3MiB"
max_answer = "4MiB"
cors = { origins = ["https://app.example"], methods = ["PUT"], headers = ["x-a"], expose = ["x-b"], credentials = true, max_age = "5m" }
csrf = true
csp = "default-src 'self'"
escaped_slashes = "keep"

[[routes]]
path = { exact = "/shop" }
redirect = { to = "https://other.example/here", status = 302 }

[traffic]
balance = "round-robin"
concurrency = 70
concurrency_each = 9
slow_start = "6s"
outliers = { failures = 7, errors = 9, leave_out = "13s", at_most = "20%" }
breaker = { errors = "45%", at_least = 31, window = "21s", pause = "8s" }
pool = { keep = 12, idle = "4s" }
"#;

#[derive(Deserialize)]
struct Written {
    gateway: blueprint::Gateway,
    routes: Vec<blueprint::Route>,
    traffic: blueprint::Traffic,
}

/// The paths at which two values are the same.
fn unchanged(given: &impl Serialize, usual: &impl Serialize) -> Vec<String> {
    fn walk(given: &Value, usual: &Value, at: &str, same: &mut Vec<String>) {
        if let (Value::Object(given), Value::Object(usual)) = (given, usual)
            && !usual.is_empty()
        {
            for (key, usual) in usual {
                let below = format!("{at}/{key}");
                walk(given.get(key).unwrap_or(&Value::Null), usual, &below, same);
            }
        } else if given == usual {
            same.push(at.to_owned());
        }
    }
    let mut same = Vec::new();
    let values = [serde_json::to_value(given), serde_json::to_value(usual)].map(Result::unwrap);
    walk(&values[0], &values[1], "", &mut same);
    same
}

fn configured() -> api::Config {
    let written: Written = toml::from_str(WRITTEN).unwrap();
    joined(|ingress| {
        ingress.gateway = written.gateway;
        ingress.gateway.shared = Some("limits".parse().unwrap());
        ingress.routes = written.routes;
        ingress.secrets = [("key", 1), ("list", 1)]
            .map(|(name, version)| (name.parse().unwrap(), version))
            .into();
        ingress.authorities = ["issuer.pem", "collector.pem"]
            .map(|file| (file.to_owned(), format!("what {file} holds")))
            .into();
        let orders = ingress.services.get_mut("orders").unwrap();
        orders.traffic = written.traffic;
    })
}

#[test]
fn of_a_route() {
    let config = configured();
    let usual = api::Route {
        rewrite: Some(api::Rewrite::default()),
        rate_limit: Some(api::RateLimit::default()),
        auth: Some(api::Auth::default()),
        cors: Some(api::Cors::default()),
        cache: Some(api::Cache::default()),
        ..api::Route::default()
    };
    // A prefix is for another kind of path, a version is a preview's, a redirect has a route of its own, and the gateway adds
    // no security headers by itself.
    let same = unchanged(&config.routes[0], &usual);
    assert_eq!(
        same,
        [
            "/redirect",
            "/rewrite/prefix",
            "/security_headers",
            "/version"
        ]
    );
    insta::assert_json_snapshot!(config.routes[0]);
    insta::assert_json_snapshot!(config.routes[1].redirect, @r#"
    {
      "origin": "https://other.example",
      "path": "/here",
      "status": 302
    }
    "#);
}

#[test]
fn of_a_service() {
    let config = configured();
    let usual = api::Service {
        breaker: Some(api::Breaker::default()),
        ..api::Service::default()
    };
    // How it is spoken to is each version's, checks are the target's, and nothing is on trial that could be asked for. Round robin is what the gateway does by itself, not a blueprint.
    let same = unchanged(&config.services["orders"], &usual);
    assert_eq!(
        same,
        ["/balance", "/health", "/http2", "/overrides", "/tls"]
    );
    // Nothing of `users` stands in a zone, so no request looks for what is near.
    assert_eq!(config.services["users"].zone, None);
    insta::assert_json_snapshot!(config.services["orders"]);
}

#[test]
fn of_the_gateway() {
    let mut config = configured();
    let usual = api::Config {
        identity: Some(api::Identity::default()),
        traces: Some(api::Traces::default()),
        shared: Some(api::Shared::default()),
        ..api::Config::default()
    };
    // The target numbers its configurations, knows which addresses clients share, and has the URL of a Redis in a file.
    let same = unchanged(&config, &usual);
    assert_eq!(same, ["/revision", "/shared/url", "/shared_addresses"]);
    let listeners = std::mem::take(&mut config.listeners);
    let same = unchanged(
        &listeners[1],
        &api::Listener {
            tls: Some(api::Tls::default()),
            ..api::Listener::default()
        },
    );
    assert_eq!(same, ["/https", "/kind"]);
    config.routes.clear();
    config.services.clear();
    insta::assert_json_snapshot!(config);
    insta::assert_json_snapshot!(listeners);
}
