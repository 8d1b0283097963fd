use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use futures::StreamExt as _;
use platform_blueprint::{Engine, Resolved, ResourceName, ServiceName};
use platform_port::{LogLine, LogQuery, Stream};
use serde_json::{Value, json};

use crate::error::CliError;
use crate::exit::Exit;
use crate::moment::{self, Moment};
use crate::paint::Paint;
use crate::view::Shown;
use crate::world::World;

/// Show what services wrote, also those that ended
#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// Services; all where none is named. `gateway` names the gateway, a resource's name its server
    services: Vec<String>,
    /// A service, as above; may be given several times
    #[arg(long = "service", value_name = "SERVICE")]
    also: Vec<String>,
    /// Of this instance alone, such as `orders@r5.2`
    #[arg(long, value_name = "INSTANCE")]
    instance: Option<String>,
    /// Go on with new lines as they come
    #[arg(short, long)]
    follow: bool,
    /// Not older than this: `10m`, or a time such as `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,
    /// So many of the newest lines of each service, or `all` [default: 100, or all with --since]
    #[arg(short = 'n', long, value_name = "COUNT")]
    tail: Option<Tail>,
    /// Write the lines alone, without time and instance
    #[arg(long)]
    raw: bool,
    /// The blueprint; without its short flag, which follows here
    // The same id as the global flag's, whose value this becomes.
    #[arg(
        id = "file",
        long = "file",
        env = "PLATFORM_FILE",
        value_name = "PATH",
        hide = true
    )]
    _file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    All,
    Lines(usize),
}

impl FromStr for Tail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.parse()
            .map(Self::Lines)
            .map_err(|_| "write a number of lines or `all`".to_owned())
    }
}

/// The services of these names, which the blueprint must have.
pub(crate) fn known_services(
    resolved: &Resolved,
    names: &[String],
) -> Result<Vec<ServiceName>, CliError> {
    names
        .iter()
        .map(|name| known_service(resolved, name))
        .collect()
}

/// The service of this name, which the blueprint must have.
pub(crate) fn known_service(resolved: &Resolved, name: &str) -> Result<ServiceName, CliError> {
    let parsed = ServiceName::new(name).ok();
    if let Some(parsed) = parsed.filter(|name| resolved.services.contains_key(name)) {
        return Ok(parsed);
    }
    let services = resolved.services.keys().map(ServiceName::as_str);
    Err(unknown(resolved, name, services))
}

/// The service of this name, or the resource with a server of ours; the blueprint must have it.
pub(crate) fn known_server(resolved: &Resolved, name: &str) -> Result<ServiceName, CliError> {
    let Some(resource) = resolved.resources.get(name) else {
        let services = resolved.services.keys().map(ServiceName::as_str);
        let resources = resolved.resources.keys().map(ResourceName::as_str);
        return known_service(resolved, name)
            .map_err(|_| unknown(resolved, name, services.chain(resources)));
    };
    let code = "resource::no-server";
    if let Some(external) = &resource.external {
        let message = format!("the server of `{name}` runs elsewhere");
        return Err(CliError::new(code, message).help(format!(
            "look at it there: its address is secret `{}`",
            external.secret
        )));
    }
    if resource.engine == Engine::Embedded {
        let message = format!("`{name}` has no server: it is embedded in what needs it");
        return Err(CliError::new(code, message)
            .help("look at the service that needs it; `platform status` says where the data are"));
    }
    ServiceName::new(name).map_err(|_| {
        let services = resolved.services.keys().map(ServiceName::as_str);
        unknown(resolved, name, services)
    })
}

fn unknown<'a>(
    resolved: &Resolved,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> CliError {
    let near = known
        .clone()
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(likeness, _)| 0.7 < *likeness)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let help = if let Some((_, near)) = near {
        format!("did you mean `{near}`?")
    } else {
        let names = known.map(|name| format!("`{name}`"));
        format!("it has {}", names.collect::<Vec<_>>().join(", "))
    };
    let message = format!(
        "environment `{}` has no service `{name}`",
        resolved.environment.name
    );
    CliError::new("usage::unknown-service", message).help(help)
}

struct Written<'a> {
    line: &'a LogLine,
    nth: usize,
    width: usize,
    raw: bool,
}

impl Shown for Written<'_> {
    fn kind(&self) -> &'static str {
        "log"
    }

    fn json(&self) -> Value {
        let line = self.line;
        json!({
            "at": line.at,
            "service": service_of(&line.instance),
            "instance": line.instance,
            "stream": line.stream,
            "text": line.text,
        })
    }

    fn human(&self, paint: Paint) -> String {
        let Self {
            line,
            nth,
            width,
            raw,
        } = self;
        if *raw {
            return format!("{}\n", line.text);
        }
        let bar = match line.stream {
            Stream::Stdout => paint.dim("|"),
            Stream::Stderr => paint.yellow("|"),
        };
        format!(
            "{} {} {bar} {}\n",
            paint.dim(&moment::time_of_day(line.at)),
            paint.nth(*nth, &format!("{:width$}", line.instance)),
            line.text
        )
    }
}

fn service_of(instance: &str) -> &str {
    instance
        .split_once('@')
        .map_or(instance, |(service, _)| service)
}

pub(crate) async fn run(args: &LogsArgs, world: &World) -> Result<Exit, CliError> {
    let resolved = world.resolved()?;
    let mut services = Vec::new();
    for name in args.services.iter().chain(&args.also) {
        match ServiceName::new(name.as_str()) {
            Ok(gateway) if name == "gateway" => services.push(gateway),
            _ => services.push(known_server(resolved, name)?),
        }
    }
    let tail = match (args.tail, args.since) {
        (Some(Tail::All), _) | (None, Some(_)) => None,
        (Some(Tail::Lines(lines)), _) => Some(lines),
        (None, None) => Some(100),
    };
    let query = LogQuery {
        services,
        instance: args.instance.clone(),
        version: None,
        since: args.since.map(|since| since.millis(world.clock.millis())),
        tail,
        follow: args.follow,
    };
    let target = world.target()?;
    let mut lines = target.logs(&query).await?;
    let mut colours: BTreeMap<String, usize> = BTreeMap::new();
    // As wide as an instance of any service is likely to be, so that lines stand in columns from the first.
    let names = resolved.services.keys().map(|name| name.as_str().len());
    let mut width = names.max().unwrap_or(0).max("gateway".len()) + "@r1.1".len();
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = world.stop.token().cancelled() => None,
        };
        let Some(line) = line else { break };
        let line = line?;
        width = width.max(line.instance.len());
        let next = colours.len();
        let nth = *colours
            .entry(service_of(&line.instance).to_owned())
            .or_insert(next);
        world.view.show(&Written {
            line: &line,
            nth,
            width,
            raw: args.raw,
        });
        if world.view.closed() {
            break;
        }
    }
    Ok(Exit::Done)
}
