//! What the suites of adapters have in common: groups to run, traffic to send, and waiting for what is to come.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use platform_blueprint::{
    Check, Gateway, Health, OptIn, Period, Port, Protocol, Route, Service, Stop,
};
use platform_decide::desired::{Ingress, Upstream};
use platform_decide::group::{Artifact, GroupId, GroupSpec, ServiceSpec};
use platform_decide::observed::{GroupSeen, InstanceSeen, InstanceState, Observed};
use platform_decide::traffic::{Split, Traffic};
use platform_port::Target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A program that was built beside the tests.
///
/// # Panics
///
/// Where the test runs from no target folder.
pub fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let built = own
        .parent()
        .and_then(Path::parent)
        .expect("a target folder");
    built.join("examples").join(name)
}

/// A port that nobody listens on.
///
/// # Panics
///
/// If there is none.
pub fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("an address").port()
}

/// A service on port 8080 that is ready when `/ready` says so, looked at often and stopped soon.
pub fn service(command: Vec<String>) -> Service {
    Service {
        command,
        port: Port::new(8080),
        health: Health {
            ready: Some(Check::Http("/ready".to_owned())),
            interval: Period::from_millis(200),
            start_within: Period::from_secs(10),
            ..Health::default()
        },
        stop: Stop {
            grace: Period::from_secs(2),
            ..Stop::default()
        },
        ..Service::default()
    }
}

/// A group of a service that needs nothing.
///
/// # Panics
///
/// If `id` is no group's.
pub fn group(
    id: &str,
    replicas: u32,
    artifact: Artifact,
    service: impl Into<Arc<Service>>,
) -> GroupSpec {
    let spec = ServiceSpec {
        artifact,
        needs: Vec::new(),
        secrets: BTreeMap::new(),
        authority: None,
        service: service.into(),
    };
    GroupSpec {
        id: id.parse().expect("a group"),
        replicas,
        digest: spec.digest(),
        spec,
    }
}

/// All requests to one group, from a gateway on `port`.
///
/// # Panics
///
/// If `port` is 0.
pub fn traffic(port: u16, id: &GroupId) -> Traffic {
    let upstream = Upstream {
        internal: true,
        protocol: Protocol::Http,
        traffic: platform_blueprint::Traffic::default(),
        opt_in: OptIn::default(),
        slow_after: 250,
    };
    Traffic {
        ingress: Ingress {
            gateway: Gateway {
                port: Port::new(port).expect("a port"),
                ..Gateway::default()
            },
            routes: vec![Route {
                service: Some(id.service.clone()),
                ..Route::default()
            }],
            services: BTreeMap::from([(id.service.clone(), upstream)]),
            secrets: BTreeMap::new(),
            authorities: BTreeMap::new(),
            certificates: BTreeMap::new(),
        },
        splits: BTreeMap::from([(id.service.clone(), Split::all(id.clone()))]),
    }
}

/// Looks at a target until `found` says so.
///
/// # Panics
///
/// If it does not `within` that time.
pub async fn until(
    target: &dyn Target,
    within: Duration,
    what: &str,
    found: impl Fn(&Observed) -> bool,
) -> Observed {
    let begun = Instant::now();
    loop {
        let seen = target.observe().await;
        if let Ok(seen) = &seen
            && found(seen)
        {
            return seen.clone();
        }
        assert!(
            begun.elapsed() < within,
            "waited in vain for {what}: {seen:#?}"
        );
        target.changed(Duration::from_millis(200)).await;
    }
}

/// Looks at a target until a group is as asked for and ready.
///
/// # Panics
///
/// If it is not `within` that time.
pub async fn until_ready(target: &dyn Target, within: Duration, group: &GroupSpec) -> GroupSeen {
    let what = format!("{} to be ready", group.id);
    let ready = |seen: &Observed| {
        seen.groups.get(&group.id).is_some_and(|seen| {
            seen.settled()
                && seen.digest == group.digest
                && seen.instances.len() == group.replicas as usize
        })
    };
    let seen = until(target, within, &what, ready).await;
    seen.groups[&group.id].clone()
}

/// Looks at a target until an instance of a group is in a state.
///
/// # Panics
///
/// If none is `within` that time.
pub async fn until_state(
    target: &dyn Target,
    within: Duration,
    group: &GroupSpec,
    state: InstanceState,
) -> InstanceSeen {
    let what = format!("{} to be {state:?}", group.id);
    let found = |seen: &Observed| {
        let group = seen.groups.get(&group.id)?;
        group
            .instances
            .iter()
            .find(|one| one.state == state)
            .cloned()
    };
    let seen = until(target, within, &what, |seen| found(seen).is_some()).await;
    found(&seen).expect("it was just there")
}

/// Asks on a port of this machine once; status and body.
///
/// # Errors
///
/// If nobody answers in HTTP, within ten seconds.
pub async fn ask(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    ask_with(port, path, "").await
}

/// Asks once with more header lines, each with its end; status and body.
///
/// # Errors
///
/// If nobody answers in HTTP, within ten seconds.
pub async fn ask_with(port: u16, path: &str, headers: &str) -> std::io::Result<(u16, String)> {
    ask_at(&format!("127.0.0.1:{port}"), path, headers).await
}

/// The same at an address, `HOST:PORT`.
///
/// # Errors
///
/// If nobody answers in HTTP, within ten seconds.
pub async fn ask_at(address: &str, path: &str, headers: &str) -> std::io::Result<(u16, String)> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status, body.to_owned()))
    };
    tokio::time::timeout(ANSWER_WITHIN, asking)
        .await
        .unwrap_or(Err(std::io::ErrorKind::TimedOut.into()))
}
