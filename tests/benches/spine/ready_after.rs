//! A service that is ready a known time after its start and then answers every request with 200. Without that time, or
//! with a program of a kind that compares with nothing, a deploy's wall time says little.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

fn main() {
    let wanted = |name: &str| std::env::var(name).expect("a variable");
    let delay = wanted("READY_AFTER_MS").parse().expect("milliseconds");
    std::thread::sleep(Duration::from_millis(delay));
    let address = format!("{}:{}", wanted("HOST"), wanted("PORT"));
    let listener = TcpListener::bind(address).expect("its own port");
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let _ = stream.read(&mut [0; 2048]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
}
