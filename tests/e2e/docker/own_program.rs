//! What gateway and keeper run from: an image of the program that deploys, and of nothing it would have to be loaded with.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use platform_image::static_program;
use platform_testkit::needs::is_there;

use super::{Project, docker, has_engine};

/// The files of a container's image that are not empty. An engine adds empty ones, to lay its own over them.
fn files(container: &str) -> BTreeSet<String> {
    let mut exported = Command::new("docker")
        .args(["export", container])
        .stdout(Stdio::piped())
        .spawn()
        .expect("docker");
    let archive = exported.stdout.take().expect("its standard output");
    let listed = Command::new("tar")
        .args(["--list", "--verbose", "--numeric-owner"])
        .stdin(archive)
        .output()
        .expect("tar");
    assert!(listed.status.success(), "{listed:?}");
    assert!(exported.wait().expect("it ends").success());
    // `-rwxr-xr-x 0/0   11 1970-01-01 00:00 etc/group`
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words[0].starts_with('-') && words[2] != "0")
        .map(|words| words[5..].join(" "))
        .collect()
}

#[test]
fn gateway_and_keeper_run_from_one_static_program() {
    let own = Path::new(env!("CARGO_BIN_EXE_platform"));
    // What the machine lacks where it is not; then it is brought along with its libraries, which `platform-docker` tests.
    let lacks = "static C library of version 2.34 or newer, so `platform` is loaded with others";
    if !has_engine() || !is_there(static_program(own).is_ok(), lacks) {
        return;
    }
    let project = Project::new("own-program");
    project.serves();
    let containers = ["gateway", "keeper"].map(|what| project.container(what));
    let images = containers
        .each_ref()
        .map(|container| docker(&["inspect", "--format", "{{.Image}}", container]));
    assert_eq!(images[0], images[1]);

    let mut files = files(&containers[0]);
    // Only where this machine has them.
    files.remove("etc/ssl/certs/ca-certificates.crt");
    let expected = [
        "etc/group",
        "etc/nsswitch.conf",
        "etc/passwd",
        "platform/platform",
    ];
    assert_eq!(files, expected.map(str::to_owned).into());

    let copy = project.sandbox.project().join("copy");
    let from = format!("{}:/platform/platform", containers[0]);
    docker(&["cp", &from, &copy.display().to_string()]);
    let read = |path: &Path| std::fs::read(path).expect("a program");
    assert!(read(&copy) == read(own), "it is the one that deploys");
    project.down();
}
