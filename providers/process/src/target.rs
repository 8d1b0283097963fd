//! The target as the command line holds it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use hyper::Method;
use platform_blueprint::{EnvironmentName, ProjectName, ResourceName};
use platform_decide::desired::{Desired, DesiredResource};
use platform_decide::group::{GroupId, GroupSpec};
use platform_decide::observed::{GatewaySeen, Observed};
use platform_decide::traffic::Traffic;
use platform_port::{
    Attachment, ExecRequest, Finding, LogLine, LogQuery, Retry, SecretValues, Store, Tallies,
    Target, TargetError, TargetInfo,
};

use crate::build_id::build_id;
use crate::client::{self, AgentClient, AgentError};
use crate::layout::Layout;
use crate::options::AgentOptions;
use crate::protocol::{Changes, EnsureGateway, EnsureGroup, RouteTraffic};
use crate::store::FileStore;
use crate::{PROVIDER, durable, exec, log, preflight, removal, unattended};

/// What a target is made with.
#[derive(Debug, Clone)]
pub struct TargetOptions {
    /// The project.
    pub project: ProjectName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The folder of the blueprint, absolute.
    pub root: PathBuf,
    /// The state folder; `<root>/.platform/<environment>` unless given.
    pub state: Option<PathBuf>,
    /// The program that runs as agent and gateway; this very one unless given.
    pub program: Option<PathBuf>,
}

/// One environment of one project as processes of this machine.
#[derive(Debug)]
pub struct ProcessTarget {
    options: AgentOptions,
    layout: Layout,
    program: PathBuf,
    store: FileStore,
    /// The number of the last change that was heard of.
    heard: Mutex<u64>,
    /// One agent is started at a time.
    starting: tokio::sync::Mutex<()>,
}

impl ProcessTarget {
    /// Makes a target. Touches nothing.
    pub fn new(options: TargetOptions) -> Self {
        let state = options.state.unwrap_or_else(|| {
            options
                .root
                .join(".platform")
                .join(options.environment.as_str())
        });
        let layout = Layout::new(state);
        let program = options
            .program
            .or_else(|| std::env::current_exe().ok())
            .unwrap_or_else(|| "/proc/self/exe".into());
        Self {
            store: FileStore::new(layout.store()),
            options: AgentOptions {
                state: layout.root().to_owned(),
                root: options.root,
                project: options.project.to_string(),
                environment: options.environment.to_string(),
            },
            layout,
            program,
            heard: Mutex::new(0),
            starting: tokio::sync::Mutex::default(),
        }
    }

    /// Where everything of the environment lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The agent, started if none runs.
    async fn agent(&self, action: &str) -> Result<AgentClient, TargetError> {
        let _one_at_a_time = self.starting.lock().await;
        let build = build_id(&self.program);
        client::ensure(&self.program, &build, &self.options, &self.layout)
            .await
            .map_err(|error| fault(action, error))
    }

    fn running(&self) -> Option<AgentClient> {
        AgentClient::running(&self.layout).ok()
    }

    async fn change<T: serde::Serialize + Sync>(
        &self,
        action: &str,
        method: Method,
        path: &str,
        body: &T,
    ) -> Result<(), TargetError> {
        let agent = self.agent(action).await?;
        match agent.change(method.clone(), path, body).await {
            Err(AgentError::Broken(..)) => {
                // It died on the way. Everything asked of it is safe to repeat.
                let agent = self.agent(action).await?;
                agent.change(method, path, body).await
            }
            done => done,
        }
        .map_err(|error| fault(action, error))
    }
}

fn fault(action: &str, error: AgentError) -> TargetError {
    let (code, retry, help) = match &error {
        AgentError::Refused(fault) => (leak(&fault.code), Retry::Never, fault.help.clone()),
        AgentError::State(state) => {
            let fault = crate::protocol::Fault::from(durable::StateError::of(
                "write",
                Path::new(""),
                std::io::Error::other(""),
            ));
            let help = match state.code() {
                "state::read-only" => {
                    Some("make the project's `.platform` folder writable".to_owned())
                }
                "state::disk-full" => {
                    Some("free some disk space and run the command again".to_owned())
                }
                _ => fault.help,
            };
            (state.code(), Retry::Never, help)
        }
        AgentError::Absent(_) => ("target::not-running", Retry::Never, None),
        AgentError::NotStarted(_) => (
            "target::unreachable",
            Retry::Later,
            Some("look into `agent.log` in the state folder".to_owned()),
        ),
        AgentError::Broken(..) => ("target::unreachable", Retry::Later, None),
    };
    TargetError {
        code,
        action: action.to_owned(),
        provider: PROVIDER,
        retry,
        help,
        group: None,
        source: error.into(),
    }
}

/// The codes an agent of the same build can answer with.
fn leak(code: &str) -> &'static str {
    const KNOWN: [&str; 15] = [
        "agent::unknown",
        "agent::bug",
        "agent::bad-request",
        "agent::stopping",
        "gateway::not-running",
        "gateway::refused",
        "gateway::silent",
        "resource::engine-missing",
        "secrets::not-sealed",
        "state::read-only",
        "state::disk-full",
        "state::unavailable",
        "exec::impossible",
        "connect::no-port",
        "target::refused",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == code)
        .unwrap_or("target::refused")
}

#[async_trait]
impl Target for ProcessTarget {
    fn info(&self) -> TargetInfo {
        TargetInfo {
            provider: PROVIDER.to_owned(),
            place: self.layout.root().display().to_string(),
            version: None,
        }
    }

    async fn preflight(&self, desired: &Desired) -> Result<Vec<Finding>, TargetError> {
        let (layout, root, desired) = (
            self.layout.clone(),
            self.options.root.clone(),
            desired.clone(),
        );
        tokio::task::spawn_blocking(move || preflight::preflight(&layout, &root, &desired))
            .await
            .map_err(|error| TargetError::refused(PROVIDER, "look ahead", error))
    }

    async fn doctor(&self) -> Vec<Finding> {
        let mut findings = preflight::doctor(&self.layout);
        if let Some(agent) = self.running()
            && let Ok(info) = agent.info().await
        {
            findings.extend(preflight::agent_notes(&info));
        }
        findings
    }

    async fn observe(&self) -> Result<Observed, TargetError> {
        if let Some(agent) = self.running() {
            match agent.get("/observed").await {
                Ok(observed) => return Ok(observed),
                Err(AgentError::Broken(..)) if client::record(&self.layout).is_none() => {}
                Err(error) => return Err(fault("look at what runs", error)),
            }
        }
        Ok(unattended::observe(&self.layout))
    }

    async fn changed(&self, at_most: Duration) {
        let after = self.heard.lock().map_or(0, |heard| *heard);
        let within = at_most.as_millis();
        let waiting = async {
            let agent = self.running()?;
            let path = format!("/changes?after={after}&within={within}");
            agent.get::<Changes>(&path).await.ok()
        };
        match tokio::time::timeout(at_most + Duration::from_secs(1), waiting).await {
            Ok(Some(changes)) => {
                if let Ok(mut heard) = self.heard.lock() {
                    *heard = changes.number;
                }
            }
            // Nobody tells: look again in a while.
            Ok(None) => tokio::time::sleep(at_most.min(Duration::from_millis(100))).await,
            Err(_) => {}
        }
    }

    async fn ensure_resource(
        &self,
        name: &ResourceName,
        resource: &DesiredResource,
    ) -> Result<(), TargetError> {
        let action = format!("create resource `{name}`");
        let path = format!("/resources/{name}");
        self.change(&action, Method::PUT, &path, resource).await
    }

    async fn remove_resource(
        &self,
        name: &ResourceName,
        remove_data: bool,
    ) -> Result<(), TargetError> {
        let action = format!("remove resource `{name}`");
        let path = format!("/resources/{name}?data={remove_data}");
        self.change(&action, Method::DELETE, &path, &()).await
    }

    async fn ensure_gateway(&self) -> Result<(), TargetError> {
        let body = EnsureGateway {
            program: self.program.clone(),
            build: build_id(&self.program),
        };
        self.change("start the gateway", Method::PUT, "/gateway", &body)
            .await
    }

    async fn route(&self, traffic: &Traffic, secrets: &SecretValues) -> Result<(), TargetError> {
        let asked = &traffic.ingress.secrets;
        let body = RouteTraffic {
            traffic: traffic.clone(),
            secrets: secrets
                .iter()
                .filter(|(name, _)| asked.contains_key(*name))
                .map(|(name, value)| (name.clone(), value.reveal().to_owned()))
                .collect(),
        };
        self.change("route traffic", Method::PUT, "/traffic", &body)
            .await
    }

    async fn ensure_group(
        &self,
        group: &GroupSpec,
        secrets: &SecretValues,
    ) -> Result<(), TargetError> {
        let asked = &group.spec.secrets;
        let body = EnsureGroup {
            group: group.clone(),
            secrets: secrets
                .iter()
                .filter(|(name, _)| asked.contains_key(*name))
                .map(|(name, value)| (name.clone(), value.reveal().to_owned()))
                .collect(),
        };
        self.change(
            &format!("start {}", group.id),
            Method::PUT,
            "/groups",
            &body,
        )
        .await
        .map_err(|error| error.about(group.id.clone()))
    }

    async fn remove_group(&self, group: &GroupId) -> Result<(), TargetError> {
        let path = format!("/groups/{}", group.to_string().replace('@', "%40"));
        self.change(&format!("remove {group}"), Method::DELETE, &path, &())
            .await
            .map_err(|error| error.about(group.clone()))
    }

    async fn stop(&self) -> Result<(), TargetError> {
        let action = "stop everything";
        if self.running().is_none()
            && unattended::nothing_left(&self.layout)
            && removal::agent_called_off(&self.layout)
                .map_err(|error| TargetError::refused(PROVIDER, action, error))?
        {
            return Ok(());
        }
        self.change(action, Method::POST, "/stop", &()).await?;
        removal::agent_gone(&self.layout).await;
        Ok(())
    }

    async fn destroy(&self, remove_data: bool) -> Result<(), TargetError> {
        if !self.layout.root().exists() {
            return Ok(());
        }
        self.stop().await?;
        let layout = self.layout.clone();
        let refused = |error: Box<dyn std::error::Error + Send + Sync>| {
            TargetError::refused(PROVIDER, "remove the environment", error)
        };
        tokio::task::spawn_blocking(move || removal::remove(&layout, remove_data))
            .await
            .map_err(|error| refused(error.into()))?
            .map_err(|error| refused(error.into()))
    }

    async fn tallies(&self) -> Result<Tallies, TargetError> {
        let action = "read the gateway's counts";
        let agent = AgentClient::running(&self.layout).map_err(|error| fault(action, error))?;
        agent
            .get("/tallies")
            .await
            .map_err(|error| fault(action, error))
    }

    async fn logs(
        &self,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, TargetError>>, TargetError> {
        Ok(log::lines(&self.layout.logs(), query).map(Ok).boxed())
    }

    async fn exec(&self, request: &ExecRequest) -> Result<Attachment, TargetError> {
        let action = format!("run a command beside `{}`", request.party);
        let agent = AgentClient::running(&self.layout).map_err(|error| fault(&action, error))?;
        let mut path = format!("/surroundings?service={}", request.party);
        if let Some(instance) = &request.instance {
            let _ = write!(path, "&instance={}", instance.replace('@', "%40"));
        }
        let found = agent
            .get(&path)
            .await
            .map_err(|error| fault(&action, error))?;
        exec::run(&self.program, &found, &request.command, request.tty).map_err(|error| {
            TargetError::refused(PROVIDER, action, error).with_code("exec::failed")
        })
    }

    async fn connect(&self, name: &str, port: Option<u16>) -> Result<Attachment, TargetError> {
        let action = format!("connect to `{name}`");
        let agent = AgentClient::running(&self.layout).map_err(|error| fault(&action, error))?;
        let mut path = format!("/address?name={}", name.replace('@', "%40"));
        if let Some(port) = port {
            let _ = write!(path, "&port={port}");
        }
        let found: crate::protocol::Address = agent
            .get(&path)
            .await
            .map_err(|error| fault(&action, error))?;
        exec::connect(&found.address)
            .await
            .map_err(|error| TargetError::unreachable(PROVIDER, action, error))
    }

    async fn connect_gateway(&self, gateway: &GatewaySeen) -> Result<Attachment, TargetError> {
        let address = gateway.url.rsplit("://").next().unwrap_or_default();
        let action = "connect to the gateway";
        exec::connect(address)
            .await
            .map_err(|error| TargetError::unreachable(PROVIDER, action, error))
    }

    fn store(&self) -> &dyn Store {
        &self.store
    }
}
