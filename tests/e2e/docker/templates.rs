//! The Dockerfiles of templates, built on a Debian base and run as a target runs them.
//!
//! Official base images may be out of reach, so `.ci/docker` makes stand-ins of Debian's packages; they come in by the Dockerfiles'
//! own arguments.

use std::process::Command;

use platform_testkit::needs;

use super::{docker, has_engine};
use crate::sandbox::{Sandbox, eventually};

/// An image and its container, gone when dropped.
struct Built(String);

impl Drop for Built {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", &self.0]).output();
        let _ = Command::new("docker").args(["rmi", "-f", &self.0]).output();
    }
}

/// Makes a service from a template, its image from the service's Dockerfile, and has that answer under a target's restrictions.
fn check(template: &str, argument: &str, stand_in: &str) {
    if !has_engine() || !needs::docker_image(stand_in) {
        return;
    }
    let sandbox = Sandbox::with("[project]\nname = \"shop\"\n");
    let words = ["new", "service", "front", "--template", template];
    sandbox.run(&words).ok();
    let folder = sandbox.project().join("services/front");
    let built = Built(format!("e{}-{template}", std::process::id()));
    let told = Command::new("docker")
        .args(["build", "--network", "host", "--tag", &built.0])
        .args(["--build-arg", &format!("{argument}={stand_in}")])
        .arg(&folder)
        .output()
        .expect("docker");
    assert!(told.status.success(), "{told:#?}");
    docker(&[
        "run",
        "--detach",
        "--name",
        &built.0,
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        &built.0,
    ]);
    let host = docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", &built.0]);
    let port = docker(&[
        "inspect",
        "-f",
        "{{range .Config.Env}}{{println .}}{{end}}",
        &built.0,
    ]);
    let port = port
        .lines()
        .find_map(|line| line.strip_prefix("PORT="))
        .expect("a port")
        .to_owned();
    let path = format!("http://{host}:{port}/health/ready");
    eventually("it is ready", || {
        let asked = Command::new("curl")
            .args(["--silent", "--fail", &path])
            .output();
        asked.expect("curl").status.success()
    });
    assert_eq!(docker(&["exec", &built.0, "id", "-u"]), "65532");
    // Told to end, it ends by itself.
    docker(&["stop", "--time", "20", &built.0]);
    let code = docker(&["inspect", "-f", "{{.State.ExitCode}}", &built.0]);
    assert!(["0", "143"].contains(&code.as_str()), "{code}");
}

#[test]
fn the_python_template_has_an_image() {
    check("fastapi", "PYTHON_IMAGE", "platform/stand-in-python");
}

#[test]
fn the_node_template_has_an_image() {
    check("express", "NODE_IMAGE", "platform/stand-in-node");
}
