//! Commands inside instances, and connections to what listens on the network.

use std::pin::Pin;
use std::sync::Arc;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerInspectResponse, HostConfig};
use bollard::query_parameters::ResizeExecOptions;
use futures::{FutureExt, Stream, StreamExt};
use platform_decide::observed::{GatewaySeen, InstanceState};
use platform_port::{Attachment, ExecRequest, Signal, TargetError};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use crate::PROVIDER;
use crate::container::errand;
use crate::engine::{Engine, fault};
use crate::inside::MARK;
use crate::names::RESOURCE;
use crate::observe::Found;
use crate::program::FOLDER;
use crate::resource::Wanted;
use crate::site::Site;

/// Bytes that wait to be read.
const WAITING: usize = 64 * 1024;

type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

/// A command to run in a container.
struct Command {
    container: String,
    words: Vec<String>,
    tty: bool,
    /// By which it and what it starts are found again.
    mark: Option<String>,
}

impl Site {
    /// An instance by its name, or a service's: the first ready one.
    async fn instance(&self, service: &str, name: Option<&str>) -> Result<Found, TargetError> {
        let network = self
            .network()
            .await?
            .map_or_else(String::new, |found| found.name);
        let observed = self.observe().await?;
        let state = |found: &Found| {
            let group = observed.groups.get(&found.group);
            group
                .and_then(|group| group.instances.iter().find(|seen| seen.id == found.name()))
                .map(|seen| seen.state)
        };
        let mut own: Vec<Found> = self
            .found(&network)
            .await?
            .into_iter()
            .filter(|found| found.group.service.as_str() == service)
            .filter(|found| name.is_none_or(|name| name == found.name()))
            .collect();
        own.sort_by_key(|found| {
            let ready = state(found) == Some(InstanceState::Ready);
            (!ready, std::cmp::Reverse(found.group.version), found.number)
        });
        own.into_iter().next().ok_or_else(|| {
            let missing = match name {
                Some(name) => format!("there is no instance `{name}`"),
                None => format!("no instance of `{service}` runs"),
            };
            TargetError::refused(PROVIDER, "find an instance", missing)
                .with_code("target::not-running")
        })
    }

    /// Runs a command in an instance's container.
    pub(crate) async fn exec(
        self: &Arc<Self>,
        request: &ExecRequest,
    ) -> Result<Attachment, TargetError> {
        let party = request.party.as_str();
        let (container, name, seen) = if let Some(seen) = self.server(party).await? {
            (crate::site::name(&seen).to_owned(), party.to_owned(), seen)
        } else {
            let found = self.instance(party, request.instance.as_deref()).await?;
            (found.called(), found.name(), found.container)
        };
        let config = seen.config.as_ref();
        let entrypoint = config.and_then(|config| config.entrypoint.as_deref());
        let mut words = handing_over(entrypoint.unwrap_or_default()).to_vec();
        words.extend(request.command.iter().cloned());
        let command = Command {
            container,
            words,
            tty: request.tty,
            mark: Some(uuid::Uuid::new_v4().to_string()),
        };
        let action = format!("run a command in {name}");
        let (container, mark) = (command.container.clone(), command.mark.clone());
        let mut attachment = attach(&self.engine, command, action).await?;
        attachment.signal = mark.map(|mark| self.signalling(container, mark));
        Ok(attachment)
    }

    /// Passes signals on to a marked command in a container.
    fn signalling(
        self: &Arc<Self>,
        container: String,
        mark: String,
    ) -> mpsc::UnboundedSender<Signal> {
        let (tell, mut told) = mpsc::unbounded_channel();
        let site = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(signal) = told.recv().await {
                if let Err(error) = site.signal(&container, &mark, signal).await {
                    tracing::warn!(%error, container, "cannot pass a signal on");
                }
            }
        });
        tell
    }

    /// Signals a marked command, by a container that sees the processes of its container and does nothing else.
    async fn signal(&self, container: &str, mark: &str, signal: Signal) -> Result<(), TargetError> {
        let name = format!("{container}_{mark}");
        // It becomes the instance's user, whoever that is.
        let may = HostConfig {
            pid_mode: Some(format!("container:{container}")),
            cap_add: Some(vec!["SETUID".to_owned(), "SETGID".to_owned()]),
            // Whoever asked for it is gone as soon as the command has ended.
            auto_remove: Some(true),
            ..errand()
        };
        let body = self.errand(&["signal", mark, signal.as_str()], may)?;
        self.create_own(&name, body).await?;
        let started = self.start(&name).await;
        if started.is_err() {
            self.remove(&name, None).await?;
        }
        started
    }

    /// Opens a connection to a port of a service's instance or of a resource.
    pub(crate) async fn connect(
        &self,
        name: &str,
        port: Option<u16>,
    ) -> Result<Attachment, TargetError> {
        let action = format!("connect to `{name}`");
        let address = if let Some(own) = self.resource_port(name).await? {
            format!("{name}:{}", port.unwrap_or(own))
        } else {
            let (service, instance) = match name.split_once('@') {
                Some((service, _)) => (service, Some(name)),
                None => (name, None),
            };
            let found = self.instance(service, instance).await?;
            let own = found.address.as_deref();
            match (own.and_then(|own| own.rsplit_once(':')), port) {
                (Some((host, _)), Some(port)) => format!("{host}:{port}"),
                (Some((host, own)), None) => format!("{host}:{own}"),
                (None, Some(port)) => {
                    format!("{}:{port}", crate::names::alias(&found.group, found.number))
                }
                (None, None) => {
                    let refused = "it has no port of its own";
                    return Err(TargetError::refused(PROVIDER, action, refused)
                        .with_code("connect::no-port"));
                }
            }
        };
        self.relay(&address, action).await
    }

    /// Connects to the gateway's port, which may be published on another machine's loopback.
    pub(crate) async fn connect_gateway(
        &self,
        gateway: &GatewaySeen,
    ) -> Result<Attachment, TargetError> {
        let port = gateway.url.rsplit(':').next().unwrap_or_default();
        let address = format!("127.0.0.1:{port}");
        self.relay(&address, "connect to the gateway".to_owned())
            .await
    }

    async fn relay(&self, address: &str, action: String) -> Result<Attachment, TargetError> {
        // The gateway is on the network, wherever the engine is.
        let mut words = self.program()?.command(FOLDER);
        words.extend(["inside", "relay", address].map(str::to_owned));
        let command = Command {
            container: self.names.gateway(),
            words,
            tty: false,
            mark: None,
        };
        attach(&self.engine, command, action).await
    }

    /// What a command says in a container of ours.
    pub(crate) async fn output(
        &self,
        container: &str,
        words: Vec<String>,
    ) -> Result<String, TargetError> {
        let command = Command {
            container: container.to_owned(),
            words,
            tty: false,
            mark: None,
        };
        let action = format!("run a command in `{container}`");
        let mut attached = attach(&self.engine, command, action.clone()).await?;
        let mut said = String::new();
        let read = attached.output.read_to_string(&mut said).await;
        read.map_err(|error| TargetError::refused(PROVIDER, action, error))?;
        Ok(said)
    }

    /// The container of a resource's server, whatever it is called by now; `None` where there is no such resource.
    async fn server(&self, name: &str) -> Result<Option<ContainerInspectResponse>, TargetError> {
        let own = self.names.resource(name);
        let seen = match self.inspect(&own).await? {
            None => match self.renamed(&own).await? {
                Some(id) => self.inspect(&id).await?,
                None => None,
            },
            seen => seen,
        };
        Ok(seen.filter(|seen| self.is_own(seen) && crate::site::label(seen, RESOURCE).is_some()))
    }

    async fn resource_port(&self, name: &str) -> Result<Option<u16>, TargetError> {
        if self.server(name).await?.is_none() {
            return Ok(None);
        }
        let wanted = self.wanted(crate::keeper::Reach::IfKept).await?;
        Ok(server_port(&wanted, name))
    }
}

/// The port of a resource's server; none where there is no server.
pub(crate) fn server_port(wanted: &Wanted, name: &str) -> Option<u16> {
    let (_, wanted) = wanted
        .resources
        .iter()
        .find(|(own, _)| own.as_str() == name)?;
    let server = crate::server::Server::of(name, &wanted.resource, "")?;
    Some(server.port)
}

/// The words with which an instance takes what is handed to it, so that a command beside it finds the same. Who asks whether
/// it lives stands beside the service alone.
fn handing_over(entrypoint: &[String]) -> &[String] {
    let inside = |what: &str| {
        entrypoint
            .windows(2)
            .position(|two| two == ["inside", what])
    };
    let ours = entrypoint
        .first()
        .is_some_and(|own| own.starts_with(FOLDER));
    let Some(run) = inside("run").filter(|_| ours) else {
        return &[];
    };
    // `live` is followed by what it is told, and then by the program itself.
    let begin = inside("live")
        .filter(|live| *live < run)
        .map_or(0, |live| live + 3);
    &entrypoint[begin..run + 2]
}

async fn attach(
    engine: &Engine,
    command: Command,
    action: String,
) -> Result<Attachment, TargetError> {
    let mut variables = Vec::new();
    if command.tty {
        let kind = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        variables.push(format!("TERM={kind}"));
    }
    variables.extend(command.mark.map(|mark| format!("{MARK}={mark}")));
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(command.tty),
        env: Some(variables),
        cmd: Some(command.words),
        ..CreateExecOptions::default()
    };
    let failed = |error| fault(action.clone(), error).with_code("exec::failed");
    let made = engine.docker.create_exec(&command.container, options).await;
    let made = made.map_err(failed)?;
    let options = StartExecOptions {
        tty: command.tty,
        ..StartExecOptions::default()
    };
    let started = engine.docker.start_exec(&made.id, Some(options)).await;
    let StartExecResults::Attached { output, input } = started.map_err(failed)? else {
        return Err(TargetError::refused(PROVIDER, action, "it runs without us"));
    };
    let (out, output_end) = tokio::io::duplex(WAITING);
    let (err, errors_end) = tokio::io::duplex(WAITING);
    let (tell, ended) = oneshot::channel();
    tokio::spawn(carry(output, output_end, errors_end, tell));
    let resize = command.tty.then(|| resizing(engine, made.id.clone()));
    Ok(Attachment {
        input: Box::new(Unpinned(input)),
        output: Box::new(out),
        errors: (!command.tty).then(|| Box::new(err) as _),
        exit: exit_of(engine.clone(), made.id, action, ended).boxed(),
        resize,
        signal: None,
    })
}

/// An end of a connection that may be moved.
struct Unpinned(Pin<Box<dyn AsyncWrite + Send>>);

impl AsyncWrite for Unpinned {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.0.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        self.0.as_mut().poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        self.0.as_mut().poll_shutdown(context)
    }
}

/// Carries what a command writes to whoever reads.
async fn carry(
    mut output: Output,
    mut out: impl AsyncWrite + Unpin,
    mut err: impl AsyncWrite + Unpin,
    ended: oneshot::Sender<()>,
) {
    while let Some(Ok(piece)) = output.next().await {
        let written = match piece {
            LogOutput::StdErr { message } => err.write_all(&message).await,
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                out.write_all(&message).await
            }
            LogOutput::StdIn { .. } => Ok(()),
        };
        if written.is_err() {
            break;
        }
    }
    let _ = ended.send(());
}

async fn exit_of(
    engine: Engine,
    id: String,
    action: String,
    ended: oneshot::Receiver<()>,
) -> Result<i32, TargetError> {
    let _ = ended.await;
    // The engine notes the end a moment after the output has.
    for _ in 0..100 {
        let seen = engine.docker.inspect_exec(&id).await;
        let seen = seen.map_err(|error| fault(action.clone(), error))?;
        if seen.running != Some(true)
            && let Some(code) = seen.exit_code
        {
            return Ok(i32::try_from(code).unwrap_or(1));
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(1)
}

fn resizing(engine: &Engine, id: String) -> mpsc::UnboundedSender<(u16, u16)> {
    let (tell, mut told) = mpsc::unbounded_channel::<(u16, u16)>();
    let docker = Arc::new(engine.docker.clone());
    tokio::spawn(async move {
        while let Some((columns, rows)) = told.recv().await {
            let options = ResizeExecOptions {
                h: i32::from(rows),
                w: i32::from(columns),
            };
            let _ = docker.resize_exec(&id, options).await;
        }
    });
    tell
}

#[cfg(test)]
mod tests {
    use super::handing_over;

    #[test]
    fn a_command_takes_the_secrets_and_asks_nobody_whether_it_lives() {
        let check = |entrypoint: &str, wanted: &str| {
            let words: Vec<String> = entrypoint.split(' ').map(str::to_owned).collect();
            assert_eq!(handing_over(&words).join(" "), wanted, "{entrypoint}");
        };
        let own = "/platform/lib/ld.so --library-path /platform/lib /platform/platform";
        let run = format!("{own} inside run");
        check(&format!("{run} orders --port 80"), &run);
        check(&format!("{own} inside live {{}} {run} orders"), &run);
        check(&format!("{own} inside live {{}} orders"), "");
        check("orders inside run", "");
    }
}
