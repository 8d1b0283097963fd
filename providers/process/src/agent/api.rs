//! The agent's side of [`crate::protocol`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use platform_decide::desired::DesiredResource;
use platform_decide::group::GroupId;
use platform_decide::observed::InstanceState;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};

use super::gateway::HEARD_WITHIN;
use super::instance::Instance;
use super::state::{Agent, End};
use super::{group, observe, resource, start};
use crate::probe::local;
use crate::process_table::EXEC_VARIABLE;
use crate::protocol::{
    Address, AgentInfo, Changes, EnsureGateway, EnsureGroup, ExecSurroundings, Fault, RouteTraffic,
};

/// Larger than any blueprint.
const LARGEST: usize = 64 * 1024 * 1024;

/// Answers requests until the agent ends.
pub(super) async fn serve(agent: Rc<Agent>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(connection(Rc::clone(&agent), stream));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(agent: Rc<Agent>, stream: UnixStream) {
    // The folder is closed to others already; this holds where somebody opened it.
    let ours = stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == nix::unistd::getuid().as_raw() || peer.uid() == 0);
    if !ours {
        return;
    }
    let service = service_fn(|request| {
        let agent = Rc::clone(&agent);
        async move { Ok::<_, Infallible>(answer(&agent, request).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Answer = Result<Option<Vec<u8>>, Fault>;

async fn answer(agent: &Rc<Agent>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, body) = match dispatch(agent, request).await {
        Ok(Some(body)) => (StatusCode::OK, body),
        Ok(None) => (StatusCode::NO_CONTENT, Vec::new()),
        Err(fault) => {
            let status = if fault.code == "agent::unknown" {
                StatusCode::NOT_FOUND
            } else {
                StatusCode::UNPROCESSABLE_ENTITY
            };
            (status, serde_json::to_vec(&fault).unwrap_or_default())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

fn unknown(what: impl Into<String>) -> Fault {
    Fault::new("agent::unknown", what)
}

fn json<T: Serialize>(value: &T) -> Answer {
    serde_json::to_vec(value)
        .map(Some)
        .map_err(|error| Fault::new("agent::bug", error.to_string()))
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Fault> {
    let bad = |error: String| Fault::new("agent::bad-request", error);
    let bytes = Limited::new(request.into_body(), LARGEST)
        .collect()
        .await
        .map_err(|error| bad(error.to_string()))?
        .to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))
}

fn query(request: &Request<Incoming>) -> BTreeMap<String, String> {
    request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace("%40", "@")))
        .collect()
}

async fn dispatch(agent: &Rc<Agent>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    let query = query(&request);
    let flag = |name: &str| query.get(name).is_some_and(|value| value == "true");
    let changing = !matches!(*request.method(), Method::GET);
    if changing && agent.stopping.get() && words != ["stop"] {
        return Err(Fault::new("agent::stopping", "everything is being stopped"));
    }
    match (request.method().as_str(), words.as_slice()) {
        ("GET", ["agent"]) => json(&AgentInfo {
            build: agent.build.clone(),
            pid: nix::unistd::getpid().as_raw(),
            notes: agent.notes.borrow().clone(),
        }),
        ("GET", ["observed"]) => {
            let hangs = agent.gateway.hangs(HEARD_WITHIN).await;
            json(&observe::observe(agent, hangs))
        }
        ("GET", ["changes"]) => changes(agent, &query).await,
        ("PUT", ["groups"]) => {
            let asked: EnsureGroup = body(request).await?;
            detached(
                agent,
                |agent| async move { group::ensure(&agent, asked).await },
            )
            .await
        }
        ("DELETE", ["groups", id]) => {
            let id: GroupId = id
                .replace("%40", "@")
                .parse()
                .map_err(|_| unknown(format!("`{id}` is no group")))?;
            detached(
                agent,
                |agent| async move { group::remove(&agent, &id).await },
            )
            .await
        }
        ("PUT", ["resources", name]) => {
            let name = name
                .parse()
                .map_err(|_| unknown(format!("`{name}` is no resource")))?;
            let wanted: DesiredResource = body(request).await?;
            detached(agent, |agent| async move {
                resource::ensure(&agent, name, wanted).await
            })
            .await
        }
        ("DELETE", ["resources", name]) => {
            let name = name
                .parse()
                .map_err(|_| unknown(format!("`{name}` is no resource")))?;
            let data = flag("data");
            detached(agent, move |agent| async move {
                resource::remove(&agent, &name, data).await
            })
            .await
        }
        ("PUT", ["gateway"]) => {
            let asked: EnsureGateway = body(request).await?;
            detached(agent, |agent| async move {
                group::ensure_gateway(&agent, asked).await
            })
            .await
        }
        ("PUT", ["traffic"]) => {
            let asked: RouteTraffic = body(request).await?;
            detached(agent, |agent| async move {
                agent.gateway.route(&agent, asked).await
            })
            .await
        }
        ("GET", ["tallies"]) => tallies(agent).await,
        ("GET", ["surroundings"]) => surroundings(agent, &query),
        ("GET", ["address"]) => address(agent, &query),
        ("POST", ["stop"]) => {
            detached(agent, |agent| async move { group::stop_all(&agent).await }).await
        }
        ("POST", ["leave"]) => {
            agent.end.send_replace(Some(End::Left));
            Ok(None)
        }
        _ => Err(unknown(format!("{} {path} is not known", request.method()))),
    }
}

/// Carries a change through also when who asked for it goes away.
async fn detached<F, W>(agent: &Rc<Agent>, work: W) -> Answer
where
    W: FnOnce(Rc<Agent>) -> F + 'static,
    F: Future<Output = Result<(), Fault>> + 'static,
{
    let task = tokio::task::spawn_local(work(Rc::clone(agent)));
    match task.await {
        Ok(done) => done.map(|()| None),
        Err(error) => Err(Fault::new("agent::bug", error.to_string())),
    }
}

async fn changes(agent: &Agent, query: &BTreeMap<String, String>) -> Answer {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<u64>().ok());
    let after = number("after").unwrap_or(0);
    let within = Duration::from_millis(number("within").unwrap_or(0).min(600_000));
    let mut changes = agent.changes();
    let _ = tokio::time::timeout(within, changes.wait_for(|number| *number != after)).await;
    let number = *changes.borrow();
    json(&Changes { number })
}

async fn tallies(agent: &Agent) -> Answer {
    if !agent.gateway.answers() {
        return Err(Fault::new("gateway::silent", "the gateway does not answer"));
    }
    let counted = agent
        .gateway
        .client
        .tallies()
        .await
        .map_err(|error| Fault::new("gateway::silent", error.to_string()))?;
    json(&platform_traffic::tallies(&counted))
}

/// An instance by its name, or a service's ready one.
fn find(agent: &Agent, service: &str, name: Option<&String>) -> Result<Rc<Instance>, Fault> {
    let instances = agent.instances.borrow();
    let mut own: Vec<&Rc<Instance>> = instances
        .values()
        .filter(|instance| instance.group.service.as_str() == service)
        .filter(|instance| name.is_none_or(|name| *name == instance.name))
        .collect();
    // Ready ones first, the newest version first among them.
    own.sort_by_key(|instance| {
        let ready = instance.state() == InstanceState::Ready;
        (
            !ready,
            std::cmp::Reverse(instance.group.version),
            instance.number,
        )
    });
    own.first()
        .map(|instance| Rc::clone(instance))
        .ok_or_else(|| match name {
            Some(name) => unknown(format!("there is no instance `{name}`")),
            None => unknown(format!("no instance of `{service}` runs")),
        })
}

fn surroundings(agent: &Agent, query: &BTreeMap<String, String>) -> Answer {
    let service = query.get("service").map_or("", String::as_str);
    let instance = find(agent, service, query.get("instance"))?;
    let kept = agent.kept.borrow();
    let spec = kept
        .groups
        .get(&instance.group)
        .ok_or_else(|| unknown(format!("`{}` is on its way out", instance.name)))?;
    let fault = |why: String| Fault::new("exec::impossible", why);
    let found = start::surroundings_of(agent, &instance, spec).map_err(fault)?;
    let mut environment = found.environment;
    environment.insert(EXEC_VARIABLE.to_owned(), "1".to_owned());
    json(&ExecSurroundings {
        instance: instance.name.clone(),
        environment,
        folder: found.folder,
        search: found.search,
        control_groups: agent.control_groups.existing(&instance.name).folders(),
        user: start::user_of(spec.spec.service.user.as_deref()).map_err(fault)?,
    })
}

fn address(agent: &Agent, query: &BTreeMap<String, String>) -> Answer {
    let name = query.get("name").map_or("", String::as_str);
    let asked = query.get("port").and_then(|port| port.parse::<u16>().ok());
    let kept = agent.kept.borrow();
    if let Some((_, wanted)) = kept.resources.iter().find(|(own, _)| own.as_str() == name) {
        let port = agent.ports.borrow().get(&format!("resource:{name}"));
        let port = asked.or(port).ok_or_else(|| {
            let what = super::engine::describe(&wanted.resource);
            Fault::new(
                "connect::no-port",
                format!("`{name}` is a {what}; it has no port"),
            )
        })?;
        return json(&Address {
            address: local(port).to_string(),
        });
    }
    let (service, instance) = match name.split_once('@') {
        Some((service, _)) => (service, Some(name.to_owned())),
        None => (name, None),
    };
    let instance = find(agent, service, instance.as_ref())?;
    let declared = kept
        .groups
        .get(&instance.group)
        .and_then(|group| group.spec.service.port);
    // The port of the blueprint means the one that stands in for it here.
    let own = instance.record().port;
    let port = match asked {
        Some(asked) if Some(asked) != declared.map(platform_blueprint::Port::get) => Some(asked),
        _ => own,
    };
    let port = port.ok_or_else(|| {
        Fault::new(
            "connect::no-port",
            format!("`{}` listens on no port", instance.name),
        )
    })?;
    json(&Address {
        address: local(port).to_string(),
    })
}
