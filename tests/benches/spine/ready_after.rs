//! A service that is ready a known time after its start and then answers every request with 200. Without that time, or
//! with a program of a kind that compares with nothing, a deploy's wall time says little.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn main() {
    let wanted = |name: &str| std::env::var(name).expect("a variable");
    let delay = wanted("READY_AFTER_MS").parse().expect("milliseconds");
    std::thread::sleep(Duration::from_millis(delay));
    let address = format!("{}:{}", wanted("HOST"), wanted("PORT"));
    let listener = TcpListener::bind(address).expect("its own port");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(stream));
    }
}

/// Answers until the other side has had enough.
fn serve(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut request = [0; 2048];
    while let Ok(read @ 1..) = stream.read(&mut request) {
        let last = String::from_utf8_lossy(&request[..read]).contains("connection: close");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(answer).is_err() || last {
            return;
        }
    }
}
