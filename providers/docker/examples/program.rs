//! The program without the command line: what runs inside containers, the gateway, and a service that behaves as its words say.
//!
//! Words of `service`: `ready-after=MS`, `live-for=MS`, `exit-after=MS:CODE`, `leak=MIB`, `say=TEXT`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use platform_gateway::{LogTarget, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(word) if word == "inside" => platform_docker::inside::serve(arguments),
        Some(word) if word == "gateway" => gateway(arguments),
        Some(word) if word == "service" => service(
            &arguments
                .map(|word| word.to_string_lossy().into_owned())
                .collect::<Vec<_>>(),
        ),
        _ => ExitCode::from(64),
    }
}

fn runtime() -> Option<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().ok()
}

fn gateway(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let mut options = Options::default();
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        let path = Some(PathBuf::from(value));
        match name.to_str() {
            Some("--state") => options.state = path,
            Some("--admin") => options.admin = path,
            Some("--handover") => options.handover = path,
            Some("--access-log") => options.access_log = LogTarget::Stdout,
            Some("--drain") => {}
            _ => return ExitCode::from(64),
        }
    }
    match runtime().map(|runtime| runtime.block_on(platform_gateway::run(options))) {
        Some(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Manner {
    ready_after: u64,
    live_for: Option<u64>,
    exit_after: Option<(u64, u8)>,
    leak: usize,
}

#[expect(clippy::print_stdout, reason = "its output is what tests look at")]
fn service(words: &[String]) -> ExitCode {
    let begun = Instant::now();
    let mut manner = Manner::default();
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let (first, second) = value.split_once(':').unwrap_or((value, "0"));
        match name {
            "ready-after" => manner.ready_after = first.parse().unwrap_or(0),
            "live-for" => manner.live_for = first.parse().ok(),
            "exit-after" => manner.exit_after = first.parse().ok().zip(second.parse().ok()),
            "leak" => manner.leak = first.parse().unwrap_or(0),
            "say" => println!("{value}"),
            _ => return ExitCode::from(64),
        }
    }
    let Some(runtime) = runtime() else {
        return ExitCode::FAILURE;
    };
    runtime.block_on(async {
        let port = std::env::var("PORT")
            .ok()
            .and_then(|port| port.parse::<u16>().ok());
        if let Some(port) = port
            && let Ok(listener) = TcpListener::bind(("0.0.0.0", port)).await
        {
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer(stream, manner, begun));
                }
            });
        }
        if let Some((after, code)) = manner.exit_after {
            tokio::time::sleep(Duration::from_millis(after)).await;
            return ExitCode::from(code);
        }
        let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        let Ok(mut terminate) = terminate else {
            return ExitCode::FAILURE;
        };
        let mut held: Vec<Vec<u8>> = Vec::new();
        while held.len() < manner.leak {
            held.push(vec![1; 1 << 20]);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        terminate.recv().await;
        ExitCode::SUCCESS
    })
}

async fn answer(mut stream: TcpStream, manner: Manner, begun: Instant) {
    loop {
        let mut head = Vec::new();
        let mut piece = [0; 4096];
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            match stream.read(&mut piece).await {
                Ok(read) if read > 0 => head.extend_from_slice(&piece[..read]),
                _ => return,
            }
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let path = text.split(' ').nth(1).unwrap_or("/").to_owned();
        let elapsed = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (status, body) = if path == "/ready" && elapsed < manner.ready_after {
            ("503 Service Unavailable", "not yet".to_owned())
        } else if path == "/live" && manner.live_for.is_some_and(|limit| elapsed > limit) {
            ("500 Internal Server Error", "no more".to_owned())
        } else if let Some(millis) = path.strip_prefix("/slow/") {
            let millis = millis.parse().unwrap_or(0);
            let _ = std::fs::write("/tmp/slow", "begun");
            tokio::time::sleep(Duration::from_millis(millis)).await;
            ("200 OK", "at last".to_owned())
        } else if path == "/leak" {
            let mut leaked: Vec<Vec<u8>> = Vec::new();
            loop {
                leaked.push(vec![1; 1 << 20]);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        } else if let Some(name) = path.strip_prefix("/env/") {
            ("200 OK", std::env::var(name).unwrap_or_default())
        } else if let Some(name) = path.strip_prefix("/file") {
            let read = std::fs::read_to_string(name);
            ("200 OK", read.unwrap_or_else(|error| error.to_string()))
        } else if let Some(name) = path.strip_prefix("/write") {
            let written = std::fs::write(name, "x");
            (
                "200 OK",
                written.map_or_else(|error| error.to_string(), |()| "written".to_owned()),
            )
        } else {
            (
                "200 OK",
                std::env::var("PLATFORM_INSTANCE").unwrap_or_default(),
            )
        };
        let close = text.to_lowercase().contains("connection: close");
        let ending = if close { "connection: close\r\n" } else { "" };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{ending}\r\n{body}");
        if stream.write_all(answer.as_bytes()).await.is_err() || close {
            return;
        }
    }
}
