use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use platform_blueprint::{ProviderKind, Resolved};
use platform_decide::observed::ResourceSeen;
use platform_port::{Attachment, Target};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::diagnostic::Severity;
use crate::error::CliError;
use crate::exit::Exit;
use crate::parties::known_service;
use crate::view::{Line, SharedView, Told};
use crate::world::World;

/// Pause after accepting failed, as when descriptors ran out.
const PAUSE: Duration = Duration::from_millis(50);

/// Listen here and carry connections to a service or resource
#[derive(Debug, clap::Args)]
pub(crate) struct PortForwardArgs {
    /// A service or resource of the blueprint
    name: String,
    /// Ports: `REMOTE`, `LOCAL:REMOTE`, `LOCAL:` or `:REMOTE`; what is left out is chosen
    #[arg(value_name = "[LOCAL:]REMOTE", default_value = ":")]
    ports: Ports,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    /// Where to listen; 0 chooses a free one.
    local: u16,
    /// Where to connect to; none chooses what the blueprint says.
    remote: Option<u16>,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| {
            text.parse::<u16>()
                .ok()
                .filter(|port| 0 < *port)
                .ok_or_else(|| format!("`{text}` is not a port; write 1 to 65535"))
        };
        let maybe = |text: &str| {
            if text.is_empty() {
                Ok(None)
            } else {
                port(text).map(Some)
            }
        };
        match text.split_once(':') {
            None => port(text).map(|port| Self {
                local: port,
                remote: Some(port),
            }),
            Some((local, remote)) => Ok(Self {
                local: maybe(local)?.unwrap_or(0),
                remote: maybe(remote)?,
            }),
        }
    }
}

pub(crate) async fn run(args: &PortForwardArgs, world: &World) -> Result<Exit, CliError> {
    let resolved = world.resolved()?;
    if !resolved.resources.contains_key(args.name.as_str()) {
        known_service(resolved, &args.name)?;
        let service = resolved.services.get(args.name.as_str());
        if args.ports.remote.is_none() && service.is_some_and(|service| service.port.is_none()) {
            let message = format!("`{}` has no `port` in the blueprint", args.name);
            return Err(
                CliError::new("port-forward::no-port", message).help(format!(
                    "if it listens all the same, say where: `platform port-forward {} REMOTE`",
                    args.name
                )),
            );
        }
    }
    let target = world.target()?;
    if let Some(resource) = resolved.resources.get(args.name.as_str())
        && resource.external.is_none()
    {
        let observed = target.observe().await?;
        if let Some(seen) = observed.resources.get(args.name.as_str()) {
            reachable(args, seen)?;
        }
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.ports.local))
        .await
        .map_err(|error| {
            let message = format!("cannot listen on 127.0.0.1:{}", args.ports.local);
            CliError::new("port-forward::cannot-listen", message)
                .because(&error)
                .help("choose another local port, or leave it out")
        })?;
    let local = listener.local_addr().map_err(|error| {
        CliError::new("port-forward::cannot-listen", "cannot tell the port").because(&error)
    })?;
    if leads_to_itself(resolved, args, local.port()) {
        let message = format!("{local} would lead to itself");
        return Err(
            CliError::new("port-forward::to-itself", message).help(format!(
                "local processes share this machine's ports, and nothing else listens on {port}; `platform \
                 port-forward {name}` leads to where `{name}` listens",
                port = local.port(),
                name = args.name
            )),
        );
    }
    let remote = args
        .ports
        .remote
        .map_or_else(String::new, |port| format!(":{port}"));
    world.view.tell(&Told::new(
        "forwarding",
        &json!({ "local": local.to_string(), "name": args.name, "port": args.ports.remote }),
        Line::Important(format!(
            "{local} leads to {}{remote}; Ctrl-C ends it",
            args.name
        )),
    ));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = world.stop.token().cancelled() => return Ok(Exit::Done),
        };
        let client = match accepted {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let target = Arc::clone(&target);
        let view = Arc::clone(&world.view);
        let (name, port) = (args.name.clone(), args.ports.remote);
        tokio::spawn(async move {
            carry(client, target, &name, port, &view).await;
        });
    }
}

/// Refuses a port on which a resource does not listen, and one that listens on none.
fn reachable(args: &PortForwardArgs, seen: &ResourceSeen) -> Result<(), CliError> {
    let Some(address) = &seen.address else {
        return Ok(());
    };
    let name = &args.name;
    let port = address
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse::<u16>().ok());
    match (port, args.ports.remote) {
        (None, _) => {
            let message = format!("`{name}` is a {}, which listens nowhere", seen.engine);
            let help = format!("it is `{address}`, and services are handed that");
            Err(CliError::new("port-forward::no-port", message).help(help))
        }
        (Some(port), Some(asked)) if asked != port => {
            let message = format!("`{name}` listens on port {port}, not on {asked}");
            let local = match args.ports.local {
                0 => String::new(),
                local => local.to_string(),
            };
            Err(
                CliError::new("port-forward::wrong-port", message).help(format!(
                    "leave it out: `platform port-forward {name} {local}:` finds it"
                )),
            )
        }
        _ => Ok(()),
    }
}

/// Whether what listens at this port of 127.0.0.1 would connect to that very port.
///
/// The port that a service of local processes has in the blueprint stands for another one there.
fn leads_to_itself(resolved: &Resolved, args: &PortForwardArgs, local: u16) -> bool {
    let declared = resolved
        .services
        .get(args.name.as_str())
        .and_then(|service| service.port)
        .map(platform_blueprint::Port::get);
    resolved.environment.provider.kind() == ProviderKind::Process
        && args.ports.remote == Some(local)
        && declared != Some(local)
}

/// Carries one connection to its end.
async fn carry(
    client: TcpStream,
    target: Arc<dyn Target>,
    name: &str,
    port: Option<u16>,
    view: &SharedView,
) {
    let attachment = match target.connect(name, port).await {
        Ok(attachment) => attachment,
        Err(error) => {
            // Others may get through: what is forwarded may be starting.
            for diagnostic in CliError::from(error).diagnostics() {
                view.diagnose(&diagnostic.clone().severity(Severity::Warning));
            }
            return;
        }
    };
    let Attachment {
        mut input,
        mut output,
        ..
    } = attachment;
    let (mut reads, mut writes) = client.into_split();
    let there = async {
        let _ = tokio::io::copy(&mut reads, &mut input).await;
        let _ = input.shutdown().await;
    };
    let back = async {
        let _ = tokio::io::copy(&mut output, &mut writes).await;
        let _ = writes.shutdown().await;
    };
    tokio::join!(there, back);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_reached_on_its_own_port_alone() {
        let check = |ports: &str, address: Option<&str>| {
            let args = PortForwardArgs {
                name: "db".to_owned(),
                ports: ports.parse().unwrap(),
            };
            let seen = ResourceSeen {
                crash_looping: false,
                digest: platform_decide::digest::Digest::of_value(&()),
                ready: true,
                engine: "PostgreSQL 15".to_owned(),
                address: address.map(str::to_owned),
                reason: None,
            };
            let refused = reachable(&args, &seen).err();
            refused.map(|error| format!("{:?}", error.diagnostics()))
        };
        assert_eq!(check(":", Some("127.0.0.1:7001")), None);
        assert_eq!(check("5432:7001", Some("127.0.0.1:7001")), None);
        assert_eq!(check("5432", None), None);
        let wrong = "[port-forward::wrong-port: `db` listens on port 7001, not on 5432]";
        assert_eq!(
            check("5432", Some("127.0.0.1:7001")).as_deref(),
            Some(wrong)
        );
        let nowhere = "[port-forward::no-port: `db` is a PostgreSQL 15, which listens nowhere]";
        assert_eq!(
            check(":", Some(".platform/data/db")).as_deref(),
            Some(nowhere)
        );
    }

    #[test]
    fn ports_may_be_left_out() {
        let ports = |local, remote| Ok(Ports { local, remote });
        assert_eq!("5432".parse(), ports(5432, Some(5432)));
        assert_eq!("15432:5432".parse(), ports(15432, Some(5432)));
        assert_eq!(":5432".parse(), ports(0, Some(5432)));
        assert_eq!("15432:".parse(), ports(15432, None));
        assert_eq!(":".parse(), ports(0, None));
        assert!("0".parse::<Ports>().is_err());
        assert!("1:2:3".parse::<Ports>().is_err());
    }
}
