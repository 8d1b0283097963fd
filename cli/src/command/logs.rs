use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use futures::StreamExt as _;
use platform_port::{LogLine, LogQuery, Stream};
use serde_json::{Value, json};

use crate::error::CliError;
use crate::exit::Exit;
use crate::moment::{self, Moment};
use crate::paint::Paint;
use crate::parties::known_party;
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
    let asked = args.services.iter().chain(&args.also);
    let parties = asked
        .map(|name| known_party(resolved, name))
        .collect::<Result<_, _>>()?;
    let tail = match (args.tail, args.since) {
        (Some(Tail::All), _) | (None, Some(_)) => None,
        (Some(Tail::Lines(lines)), _) => Some(lines),
        (None, None) => Some(100),
    };
    let query = LogQuery {
        parties,
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
