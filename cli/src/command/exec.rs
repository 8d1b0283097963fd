use std::future::Future;
use std::io::{self, IsTerminal};
use std::time::Duration;

use platform_blueprint::ProviderKind;
use platform_port::{Attachment, ExecRequest, Party, Signal, TargetError};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc::UnboundedSender;

use crate::error::CliError;
use crate::exit::Exit;
use crate::globals::Format;
use crate::parties::known_server;
use crate::terminal::{self, Raw};
use crate::view::{Line, SharedView, Told};
use crate::world::World;

/// How long a command that was told to end may take to do so.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// Run a command in a service's surroundings: its folder, its variables, its secrets
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with the command's own code. Ctrl-C is passed on to it; what has not ended 10 s later is killed."
)]
pub(crate) struct ExecArgs {
    /// The service; on Docker also a resource, for its server
    service: String,
    /// In this instance's surroundings; otherwise the first ready one's
    #[arg(long, value_name = "INSTANCE")]
    instance: Option<String>,
    /// Give it no terminal, even where there is one
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// The command and its arguments, after `--`
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) async fn run(args: &ExecArgs, world: &World) -> Result<Exit, CliError> {
    let resolved = world.resolved()?;
    let party = known_server(resolved, &args.service)?;
    let is_process = resolved.environment.provider.kind() == ProviderKind::Process;
    if is_process && matches!(party, Party::Resource(_)) {
        let name = &args.service;
        let message =
            format!("`{name}` is a process of this machine, without surroundings of its own");
        return Err(CliError::new("exec::impossible", message).help(format!(
            "run the command here; `platform port-forward {name}` leads to the server"
        )));
    }
    let target = world.target()?;
    let json = world.globals.format == Format::Json;
    let tty = !args.no_tty && !json && io::stdin().is_terminal() && io::stdout().is_terminal();
    let request = ExecRequest {
        party,
        instance: args.instance.clone(),
        command: args.command.clone(),
        tty,
    };
    let starting = async { Ok(target.exec(&request).await?) };
    let attachment = world.until_stopped(starting).await?;
    let raw = if tty { Raw::enter() } else { None };
    let outcome = attend(attachment, world, json, tty).await;
    drop(raw);
    let code = outcome?;
    if json {
        let told = Told::new("exit", &json!({ "code": code }), Line::Nothing);
        world.view.tell(&told);
    }
    Ok(Exit::Passed(u8::try_from(code).unwrap_or(1)))
}

async fn attend(
    attachment: Attachment,
    world: &World,
    json: bool,
    tty: bool,
) -> Result<i32, CliError> {
    let Attachment {
        input,
        output,
        errors,
        exit,
        resize,
        signal,
    } = attachment;
    let feeding = tokio::spawn(feed(input));
    if let Some(resize) = resize {
        if let Some(size) = terminal::size() {
            let _ = resize.send(size);
        }
        if let Ok(mut changes) = tokio::signal::unix::signal(SignalKind::window_change()) {
            tokio::spawn(async move {
                while changes.recv().await.is_some() {
                    if let Some(size) = terminal::size()
                        && resize.send(size).is_err()
                    {
                        break;
                    }
                }
            });
        }
    }
    let writing = async {
        let errors = async {
            match errors {
                Some(errors) if json => tell(errors, "stderr", &world.view).await,
                Some(errors) => copy(errors, tokio::io::stderr()).await,
                None => {}
            }
        };
        let output = async {
            if json {
                tell(output, "stdout", &world.view).await;
            } else {
                copy(output, tokio::io::stdout()).await;
            }
        };
        tokio::join!(output, errors);
    };
    let ended = async {
        let ((), code) = tokio::join!(writing, exit);
        code
    };
    tokio::pin!(ended);
    let code = tokio::select! {
        code = &mut ended => code.map_err(CliError::from),
        () = world.stop.token().cancelled() => {
            let asked = match world.stop.exit() {
                // At a terminal Ctrl-C is a key like others, so whoever ends us there takes the terminal away.
                _ if tty => Signal::HangUp,
                Some(Exit::Terminated) => Signal::Terminate,
                _ => Signal::Interrupt,
            };
            world.stop.stands("the command was told to end, and may not have yet");
            told_to_end(&mut ended, asked, signal).await
        }
    };
    feeding.abort();
    code
}

/// Passes the word to stop on to the command, and sees to it that it ends.
async fn told_to_end(
    mut ended: impl Future<Output = Result<i32, TargetError>> + Unpin,
    asked: Signal,
    signal: Option<UnboundedSender<Signal>>,
) -> Result<i32, CliError> {
    for word in [asked, Signal::Kill] {
        // Where nobody passes it on, leaving is all there is.
        let sent = signal
            .as_ref()
            .is_some_and(|signal| signal.send(word).is_ok());
        if !sent {
            break;
        }
        if let Ok(code) = tokio::time::timeout(ENDED_WITHIN, &mut ended).await {
            return code.map_err(CliError::from);
        }
    }
    Err(CliError::new(
        "run::stopped",
        "left the command before it ended",
    ))
}

async fn feed(mut input: Box<dyn AsyncWrite + Send + Unpin>) {
    let mut stdin = tokio::io::stdin();
    // The command may end before its input does.
    let _ = tokio::io::copy(&mut stdin, &mut input).await;
    let _ = input.shutdown().await;
}

/// Copies as it comes; whoever reads may leave early.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                if to.write_all(&buffer[..read]).await.is_err() || to.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn tell(from: impl AsyncRead + Unpin, stream: &str, view: &SharedView) {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.strip_suffix('\n').unwrap_or(&text);
                let fields = json!({ "stream": stream, "text": text });
                view.tell(&Told::new("output", &fields, Line::Nothing));
            }
        }
    }
}
