//! A small HTTP server for tests: this very test program, started by a blueprint.
//!
//! `platform` runs any program, and the one that is surely there is the one that runs the tests.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "it is a program, and writing and ending is what it is asked to do"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Requests of a responder that is `faulty`.
static FAULTS: AtomicU64 = AtomicU64::new(0);

/// The blueprint's `command` that starts a responder.
pub(crate) fn command() -> String {
    let program = std::env::current_exe().expect("this program");
    let arguments = [
        program.display().to_string(),
        "--exact".to_owned(),
        "responder::serves_when_a_blueprint_asks".to_owned(),
        "--nocapture".to_owned(),
        "--test-threads=1".to_owned(),
    ];
    format!("{arguments:?}")
}

/// Serves for ever where a blueprint started it; as a test it does nothing.
///
/// - `RESPOND`: what it answers; `crash` ends at once, `silent` never listens, `faulty` answers every fourth request with 500
#[test]
fn serves_when_a_blueprint_asks() {
    let Ok(answer) = std::env::var("RESPOND") else {
        return;
    };
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    println!("starting as {}", variable("PLATFORM_INSTANCE"));
    match answer.as_str() {
        "crash" => {
            eprintln!("cannot find my configuration");
            std::process::exit(3);
        }
        "silent" => loop {
            thread::park();
        },
        _ => {}
    }
    let address = format!("{}:{}", variable("HOST"), variable("PORT"));
    let listener = TcpListener::bind(address).expect("its port");
    for connection in listener.incoming().flatten() {
        let answer = answer.clone();
        thread::spawn(move || answer_all(connection, &answer));
    }
}

fn answer_all(connection: TcpStream, answer: &str) {
    let Ok(mut writer) = connection.try_clone() else {
        return;
    };
    let mut reader = BufReader::new(connection);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut header = String::new();
        while reader.read_line(&mut header).unwrap_or(0) > 2 {
            header.clear();
        }
        if !request.contains("/health") {
            println!("asked for {}", request.trim());
        }
        let release = std::env::var("PLATFORM_RELEASE").unwrap_or_default();
        let body = format!("{answer} {release}\n");
        let fails = answer == "faulty"
            && !request.contains("/health")
            && FAULTS.fetch_add(1, Ordering::Relaxed) % 4 == 3;
        let status = if fails {
            "500 Internal Server Error"
        } else {
            "200 OK"
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if writer
            .write_all(format!("{head}{body}").as_bytes())
            .is_err()
        {
            return;
        }
    }
}

/// Asks for a path and returns the answer's body; `None` where there is no answer of 200.
pub(crate) fn ask(port: u16, path: &str) -> Option<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    .ok()?;
    let mut reader = BufReader::new(connection);
    let mut status = String::new();
    reader.read_line(&mut status).ok()?;
    if !status.contains(" 200 ") {
        return None;
    }
    let mut line = String::new();
    let mut length = 0;
    while reader.read_line(&mut line).ok()? > 2 {
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    std::io::Read::read_exact(&mut reader, &mut body).ok()?;
    String::from_utf8(body).ok()
}
