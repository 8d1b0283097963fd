//! What is asked on a terminal, and what becomes of the answer.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::Shop;
use crate::sandbox::Running;

/// Runs a command on a terminal until it asks.
fn asked(shop: &Shop, words: &[&str]) -> (Running, File, String) {
    let terminal = nix::pty::openpty(None, None).expect("a terminal");
    let asked = shop
        .sandbox
        .command(words)
        .stdin(terminal.slave.try_clone().expect("its other end"))
        .stderr(terminal.slave)
        .spawn()
        .expect("the program runs");
    let mut screen = File::from(terminal.master);
    let mut seen = Vec::new();
    while !seen.ends_with(b"[y/N] ") {
        let mut byte = [0];
        screen.read_exact(&mut byte).expect("a question");
        seen.extend(byte);
    }
    let seen = String::from_utf8_lossy(&seen).into_owned();
    (Running::of(asked), screen, seen)
}

#[test]
fn the_word_to_stop_is_heard_while_a_question_is_asked() {
    let shop = Shop::deployed();
    let (asked, _screen, _) = asked(&shop, &["destroy"]);
    let ended = asked.end("-INT");
    assert_eq!(ended.code, 130, "{ended:#?}");
    assert!(shop.sandbox.run(&["status"]).ok().stdout.contains("api"));
}

#[test]
fn what_is_agreed_to_in_a_fresh_environment_is_planned_once() {
    let shop = Shop::new();
    let text = shop.sandbox.read("platform.toml");
    let guarded =
        format!("{text}\n[environments.local]\nprovider = \"process\"\nprotected = true\n");
    shop.sandbox.write("platform.toml", &guarded);
    let (mut deploying, mut screen, mut seen) = asked(&shop, &["-vv", "deploy"]);
    screen.write_all(b"y\n").expect("it is heard");
    let (telling, told) = mpsc::channel();
    thread::spawn(move || {
        let mut some = [0; 1024];
        while let Ok(length) = screen.read(&mut some) {
            if telling.send(some[..length].to_owned()).is_err() {
                return;
            }
        }
    });
    // Children of other tests have the terminal, too, so that its end tells nothing.
    loop {
        match told.recv_timeout(Duration::from_millis(200)) {
            Ok(some) => seen.push_str(&String::from_utf8_lossy(&some)),
            Err(_) if deploying.child().try_wait().expect("a child").is_some() => break,
            Err(_) => {}
        }
    }
    deploying.wait().ok();
    let plans = seen.lines().filter(|line| line.contains("planned"));
    let plans: Vec<&str> = plans.collect();
    assert_eq!(plans.len(), 1, "{plans:#?}");
    shop.sandbox.run(&["wait", "--timeout", "20s"]).ok();
}
