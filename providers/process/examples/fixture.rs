//! A service that behaves, or does not, as it is told on its command line.
//!
//! Words: `ready-after=MS`, `exit-after=MS:CODE`, `ignore-term`, `flood`, `leak=MIB`, `port=N`, `child`, `say=TEXT`,
//! `live-for=MS`, `no-listen`, `once=FILE:CODE` (exits with CODE unless FILE is there, and makes it),
//! `tell` (writes down what it is asked).

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of its own on the command line"
)]
#[derive(Debug, Clone, Default)]
struct Manner {
    ready_after: u64,
    live_for: Option<u64>,
    exit_after: Option<(u64, u8)>,
    ignore_term: bool,
    flood: bool,
    leak: Option<usize>,
    port: Option<u16>,
    child: bool,
    no_listen: bool,
    tell: bool,
}

#[expect(clippy::print_stdout, reason = "its output is what tests look at")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let begun = Instant::now();
    let mut manner = Manner::default();
    for word in std::env::args().skip(1) {
        let (name, value) = word.split_once('=').unwrap_or((&word, ""));
        let (first, second) = value.split_once(':').unwrap_or((value, "0"));
        match name {
            "ready-after" => manner.ready_after = first.parse().unwrap_or(0),
            "live-for" => manner.live_for = first.parse().ok(),
            "exit-after" => {
                manner.exit_after = first.parse().ok().zip(second.parse().ok());
            }
            "ignore-term" => manner.ignore_term = true,
            "flood" => manner.flood = true,
            "leak" => manner.leak = first.parse().ok(),
            "port" => manner.port = first.parse().ok(),
            "child" => manner.child = true,
            "no-listen" => manner.no_listen = true,
            "tell" => manner.tell = true,
            "say" => println!("{value}"),
            "once" if !std::path::Path::new(first).exists() => {
                let _ = std::fs::write(first, "");
                return ExitCode::from(second.parse().unwrap_or(1));
            }
            "once" => {}
            _ => return ExitCode::from(64),
        }
    }
    if manner.child {
        let _ = std::process::Command::new("sleep").arg("1000").spawn();
    }
    if manner.ignore_term {
        let ignored = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        std::mem::forget(ignored);
    }
    let port = manner.port.or_else(|| {
        std::env::var("PORT")
            .ok()
            .and_then(|port| port.parse().ok())
    });
    if let Some(port) = port.filter(|_| !manner.no_listen)
        && let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await
    {
        tokio::spawn(listen(listener, manner.clone(), begun));
    }
    if manner.flood {
        std::thread::spawn(|| {
            let line = "x".repeat(199);
            for number in 0_u64.. {
                println!("{number} {line}");
            }
        });
    }
    if let Some(most) = manner.leak {
        std::thread::spawn(move || {
            let mut held: Vec<Vec<u8>> = Vec::new();
            while held.len() < most {
                held.push(vec![1; 1 << 20]);
                std::thread::sleep(Duration::from_millis(2));
            }
            std::thread::sleep(Duration::from_secs(1000));
        });
    }
    if let Some((after, code)) = manner.exit_after {
        tokio::time::sleep(Duration::from_millis(after)).await;
        return ExitCode::from(code);
    }
    std::future::pending().await
}

async fn listen(listener: TcpListener, manner: Manner, begun: Instant) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, manner.clone(), begun));
    }
}

#[expect(clippy::print_stdout, reason = "its output is what tests look at")]
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
        if manner.tell {
            println!("asked {path}");
        }
        let elapsed = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (status, body) = if path == "/ready" && elapsed < manner.ready_after {
            ("503 Service Unavailable", "not yet".to_owned())
        } else if path == "/live" && manner.live_for.is_some_and(|limit| elapsed > limit) {
            ("500 Internal Server Error", "dead".to_owned())
        } else if let Some(name) = path.strip_prefix("/env/") {
            ("200 OK", std::env::var(name).unwrap_or_default())
        } else if let Some(pause) = path.strip_prefix("/slow/") {
            let pause = pause.parse().unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            ("200 OK", "slow".to_owned())
        } else {
            (
                "200 OK",
                std::env::var("PLATFORM_INSTANCE").unwrap_or_default(),
            )
        };
        let close = text.to_lowercase().contains("connection: close");
        let ending = if close { "connection: close\r\n" } else { "" };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{ending}\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() || close {
            return;
        }
    }
}
