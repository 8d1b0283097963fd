//! Tells the program what it is built for and from.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PLATFORM_COMMIT");
    if let Ok(target) = env::var("TARGET") {
        println!("cargo::rustc-env=PLATFORM_BUILD_TARGET={target}");
    }
    // A debug build would be made anew with every commit.
    let commit = env::var("PLATFORM_COMMIT").ok().or_else(|| {
        let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
        release.then(commit).flatten()
    });
    if let Some(commit) = commit {
        println!("cargo::rustc-env=PLATFORM_BUILD_COMMIT={commit}");
    }
}

fn commit() -> Option<String> {
    println!("cargo::rerun-if-changed=../.git/HEAD");
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
