//! What the tests stand on: a gateway, services behind it, a client before it.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use platform_gateway::{LogTarget, Options};
use platform_gateway_api::client::Client as Admin;
use platform_gateway_api::{Config, Tallies};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How long anything awaited may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Makes an answer from a request's head and its number, counted from 1.
pub(crate) type Script =
    Arc<dyn Fn(&http::request::Parts, u64) -> Response<Full<Bytes>> + Send + Sync>;

/// What a service of the tests does.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    pub(crate) status: u16,
    pub(crate) delay: Duration,
    /// Reads the request and closes the connection without an answer.
    pub(crate) breaks: bool,
    /// Speaks HTTP/2 alone.
    pub(crate) http2: bool,
    pub(crate) script: Option<Script>,
}

/// A service behind the gateway. Answers what it was asked, as JSON.
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) asked: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Upstream {
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_with(name, Behaviour::default()).await
    }

    pub(crate) async fn start_with(name: &str, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(AtomicU64::new(0));
        let (count, own) = (asked.clone(), name.to_string());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (count, own, behaviour) = (count.clone(), own.clone(), behaviour.clone());
                let http2 = behaviour.http2;
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                        echo(request, own.clone(), behaviour.clone(), number)
                    });
                    let mut builder =
                        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    if http2 {
                        builder = builder.http2_only();
                    }
                    let _ = builder
                        .serve_connection_with_upgrades(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            name: name.into(),
            address,
            asked,
            task,
        }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn endpoint(&self) -> Value {
        json!({ "id": self.name, "address": self.address.to_string() })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn echo(
    request: Request<Incoming>,
    name: String,
    behaviour: Behaviour,
    number: u64,
) -> std::io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
    tokio::time::sleep(behaviour.delay).await;
    if behaviour.breaks {
        return Err(std::io::ErrorKind::ConnectionReset.into());
    }
    if let Some(script) = &behaviour.script {
        return Ok(script(&head, number));
    }
    let headers: serde_json::Map<String, Value> = head
        .headers
        .iter()
        .map(|(name, value)| {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.to_string(), Value::String(text))
        })
        .collect();
    let text = json!({
        "name": name,
        "method": head.method.as_str(),
        "target": head.uri.path_and_query().map(ToString::to_string),
        "authority": head.uri.authority().map(ToString::to_string),
        "headers": headers,
        "length": length,
    });
    let status = match behaviour.status {
        0 => StatusCode::OK,
        status => StatusCode::from_u16(status).expect("a status"),
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .body(Full::new(text.to_string().into()));
    Ok(response.expect("a response"))
}

/// A gateway run inside the test.
pub(crate) type Inside = JoinHandle<Result<(), platform_gateway::Error>>;

/// A gateway that runs: inside the test, or as a process.
pub(crate) struct Running<T = Inside> {
    pub(crate) admin: Admin,
    pub(crate) task: T,
}

/// Files of one test, removed in the end.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path().join("access.log")
    }

    /// Starts a gateway and waits until it answers.
    pub(crate) async fn gateway(&self) -> Running {
        let before = Admin::new(self.path().join("admin.sock")).status().await;
        let options = Options {
            state: Some(self.path().join("state")),
            admin: Some(self.path().join("admin.sock")),
            handover: Some(self.path().join("handover.sock")),
            access_log: LogTarget::File(self.log()),
            drain_deadline: Duration::from_secs(10),
            ..Options::default()
        };
        let task = tokio::spawn(platform_gateway::run(options));
        let admin = Admin::new(self.path().join("admin.sock"));
        let earlier = before.map(|status| status.epoch).unwrap_or_default();
        until("the gateway answers", async || {
            admin
                .status()
                .await
                .is_ok_and(|status| status.epoch != earlier)
        })
        .await;
        Running { admin, task }
    }
}

impl<T> Running<T> {
    /// Puts a configuration in force; routes and listeners have defaults.
    pub(crate) async fn configure(&self, config: Value) -> u64 {
        self.admin
            .put_config(&configuration(config))
            .await
            .expect("a valid configuration")
    }

    /// Where a listener listens.
    pub(crate) async fn address(&self, name: &str) -> SocketAddr {
        let status = self.admin.status().await.expect("a status");
        let found = status
            .listeners
            .iter()
            .find(|listener| listener.name == name)
            .expect("the listener");
        found.address.parse().expect("an address")
    }

    pub(crate) async fn tallies(&self) -> Tallies {
        self.admin.tallies().await.expect("tallies")
    }

    /// The tallies once no request is under way: a client has its answer before it is counted.
    pub(crate) async fn counted(&self) -> Tallies {
        until("no request is under way", async || {
            self.admin.status().await.expect("a status").requests == 0
        })
        .await;
        self.tallies().await
    }
}

impl Running {
    /// Waits for the end of a gateway that was told to go.
    pub(crate) async fn ended(self) {
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended
            .expect("the gateway ends in time")
            .expect("it does not panic")
            .expect("it ends well");
    }

    pub(crate) async fn drain(self) {
        self.admin.drain().await.expect("it drains");
        self.ended().await;
    }
}

/// Fills in a public listener and a route to everything.
pub(crate) fn configuration(mut config: Value) -> Config {
    let object = config.as_object_mut().expect("an object");
    object
        .entry("listeners")
        .or_insert(json!([{ "name": "public", "address": "127.0.0.1:0" }]));
    if !object.contains_key("routes") {
        let service = object
            .get("services")
            .and_then(Value::as_object)
            .and_then(|services| services.keys().next().cloned());
        if let Some(service) = service {
            object.insert(
                "routes".into(),
                json!([{ "name": "all", "service": service }]),
            );
        }
    }
    object.entry("revision").or_insert(json!(1));
    serde_json::from_value(config).expect("a configuration")
}

/// One service `orders` of one version with these instances.
pub(crate) fn orders(instances: &[&Upstream]) -> Value {
    let endpoints: Vec<Value> = instances.iter().map(|one| one.endpoint()).collect();
    json!({ "orders": { "versions": { "r1": { "weight": 1000, "endpoints": endpoints } } } })
}

/// One service `orders` of one version with one instance, whatever is at that address.
pub(crate) fn at(address: impl Display) -> Value {
    json!({ "orders": { "versions": { "r1": { "weight": 1000, "endpoints": [
        { "id": "one", "address": address.to_string() }] } } } })
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Name of the instance that answered.
    pub(crate) fn name(&self) -> String {
        self.json()["name"].as_str().unwrap_or("nobody").into()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }
}

pub(crate) type Http = HttpClient<HttpConnector, Full<Bytes>>;

pub(crate) fn client() -> Http {
    HttpClient::builder(TokioExecutor::new()).build_http()
}

/// Asks, with headers, and reads the answer.
pub(crate) async fn ask(
    client: &Http,
    method: &str,
    address: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://{address}{target}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body)))?;
    let exchange = async {
        let answer = client.request(request).await?;
        let (head, body) = answer.into_parts();
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    };
    tokio::time::timeout(PATIENCE, exchange).await?
}

pub(crate) async fn get(client: &Http, address: SocketAddr, target: &str) -> Answer {
    ask(client, "GET", address, target, &[], b"")
        .await
        .expect("an answer")
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A port that nobody listens on.
pub(crate) fn closed_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// Says that a test is left out; with `PLATFORM_TEST_NOTHING_SKIPPED=1` that is a failure.
#[expect(clippy::print_stderr, reason = "who runs the tests is to know")]
pub(crate) fn skip(why: &str) {
    let must = std::env::var("PLATFORM_TEST_NOTHING_SKIPPED").is_ok_and(|value| value == "1");
    assert!(!must, "{why}, and nothing may be skipped");
    eprintln!("skipped: {why}");
}
