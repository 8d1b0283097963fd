//! The service of these tests: this very test program, started by a blueprint, good or bad as it is told.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "a service writes a log, and ends as it is told"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long an answer to `/slow` takes.
const SLOW: Duration = Duration::from_millis(150);

/// The blueprint's `command` that starts a service.
pub(crate) fn command() -> String {
    format!("{:?}", words())
}

/// The same, but without an ear for SIGTERM.
pub(crate) fn deaf_command() -> String {
    let words = words();
    let script = format!("trap '' TERM; exec {}", words.join(" "));
    format!("{:?}", ["sh", "-c", &script])
}

fn words() -> Vec<String> {
    let program = std::env::current_exe().expect("this program");
    vec![
        program.display().to_string(),
        "--exact".to_owned(),
        "withstand::program::behaves_as_told".to_owned(),
        "--nocapture".to_owned(),
        "--test-threads=1".to_owned(),
    ]
}

/// Serves where a blueprint started it; as a test it does nothing.
///
/// - `BEHAVE`: `good`, `never-ready`, `ill` (ready, and answers 500), `crash`, `exit-0`, `wrong-port`, `flood`, `leak`
/// - `ANSWER`: what it answers; at `/broken` it always fails
#[test]
fn behaves_as_told() {
    let Ok(manner) = std::env::var("BEHAVE") else {
        return;
    };
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    println!("starting as {}", variable("PLATFORM_INSTANCE"));
    let mut address = format!("{}:{}", variable("HOST"), variable("PORT"));
    match manner.as_str() {
        "crash" => {
            eprintln!("cannot find my configuration");
            std::process::exit(3);
        }
        "exit-0" => {
            println!("all done, goodbye");
            std::process::exit(0);
        }
        "wrong-port" => "127.0.0.1:0".clone_into(&mut address),
        "flood" => {
            thread::spawn(flood);
        }
        "leak" => {
            thread::spawn(leak);
        }
        _ => {}
    }
    let ready = manner != "never-ready";
    let ill = manner == "ill";
    let answer: Arc<str> = variable("ANSWER").into();
    let listener = TcpListener::bind(address).expect("its port");
    for connection in listener.incoming().flatten() {
        let answer = Arc::clone(&answer);
        thread::spawn(move || serve(connection, &answer, ready, ill));
    }
}

fn flood() {
    let line = format!("{}\n", "all is well ".repeat(80));
    let mut out = std::io::stdout().lock();
    while out.write_all(line.as_bytes()).is_ok() {}
}

fn leak() {
    // It serves for a while first.
    thread::sleep(Duration::from_millis(500));
    println!("remembering everything");
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1_u8; 1 << 20]);
        thread::sleep(Duration::from_millis(2));
    }
}

fn serve(connection: TcpStream, answer: &str, ready: bool, ill: bool) {
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
        let path = request.split(' ').nth(1).unwrap_or("");
        let status = match (ready, ill && path != "/health") {
            _ if path == "/broken" => "500 Broken",
            (false, _) => "503 Not Yet",
            (true, true) => "500 Ill",
            (true, false) => "200 OK",
        };
        let body = match path {
            "/slow" => {
                thread::sleep(SLOW);
                answer.to_owned()
            }
            "/kept" => fs::read_to_string(note()).unwrap_or_default(),
            _ => match path.strip_prefix("/keep/") {
                Some(text) => {
                    fs::write(note(), text).expect("a note");
                    text.to_owned()
                }
                None => answer.to_owned(),
            },
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let whole = format!("{head}{body}");
        if writer.write_all(whole.as_bytes()).is_err() {
            return;
        }
    }
}

/// A file in the object store that it needs.
fn note() -> String {
    let url = std::env::var("FILES_URL").unwrap_or_default();
    let folder = url.trim_start_matches("file:").to_owned();
    format!("{folder}/note")
}
