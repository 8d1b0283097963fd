//! The Dockerfiles of templates, built on a Debian base and run as a target runs them.
//!
//! Official base images may be out of reach, so `.ci/docker` makes stand-ins of Debian's packages; they come in by the Dockerfiles'
//! own arguments.

use std::path::Path;
use std::process::Command;

use platform_testkit::needs;

use super::{docker, has_engine};
use crate::sandbox::{Sandbox, eventually};

/// An image and its container, gone when dropped.
struct Built {
    name: String,
    /// What the build told, with the images of its steps.
    told: String,
}

impl Drop for Built {
    fn drop(&mut self) {
        let run = |words: &[&str]| {
            let told = Command::new("docker").args(words).output();
            told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned())
                .unwrap_or_default()
        };
        run(&["rm", "-f", &self.name]);
        run(&["rmi", "-f", &self.name]);
        // The stage of the compiler has no name, and is left behind.
        let nameless = run(&["images", "-q", "--filter", "dangling=true"]);
        for image in nameless.lines().filter(|image| self.told.contains(image)) {
            run(&["rmi", image]);
        }
    }
}

/// Makes a service from a template, its image from the service's Dockerfile, and has that answer under a target's restrictions.
fn check(template: &str, argument: &str, stand_in: &str) {
    let Some(sandbox) = made(template, stand_in) else {
        return;
    };
    let folder = sandbox.project().join("services/front");
    Built::from(&sandbox, template, &folder, &[argument, stand_in].join("=")).serves();
}

/// A project with a service from a template.
fn made(template: &str, stand_in: &str) -> Option<Sandbox> {
    if !has_engine() || !needs::docker_image(stand_in) {
        return None;
    }
    let sandbox = Sandbox::with("[project]\nname = \"shop\"\n");
    let words = ["new", "service", "front", "--template", template];
    sandbox.run(&words).ok();
    Some(sandbox)
}

impl Built {
    fn from(sandbox: &Sandbox, template: &str, context: &Path, argument: &str) -> Self {
        let name = format!("e{}-{template}", std::process::id());
        let dockerfile = sandbox.project().join("services/front/Dockerfile");
        let told = Command::new("docker")
            .args(["build", "--network", "host", "--tag", &name])
            .args(["--build-arg", argument, "--file"])
            .args([&dockerfile, context])
            .output()
            .expect("docker");
        assert!(told.status.success(), "{told:#?}");
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        Self { name, told }
    }

    /// What the engine knows of an image.
    fn says(&self, format: &str) -> String {
        docker(&["image", "inspect", "-f", format, &self.name])
    }

    /// It answers, as nobody, and ends when it is told to.
    fn serves(&self) {
        docker(&[
            "run",
            "--detach",
            "--init",
            "--name",
            &self.name,
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
            &self.name,
        ]);
        let host = docker(&[
            "inspect",
            "-f",
            "{{.NetworkSettings.IPAddress}}",
            &self.name,
        ]);
        let port = docker(&[
            "inspect",
            "-f",
            "{{range .Config.Env}}{{println .}}{{end}}",
            &self.name,
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
        assert_eq!(docker(&["exec", &self.name, "id", "-u"]), "65532");
        // Told to end, it ends by itself.
        docker(&["stop", "--time", "20", &self.name]);
        let code = docker(&["inspect", "-f", "{{.State.ExitCode}}", &self.name]);
        assert!(["0", "143"].contains(&code.as_str()), "{code}");
    }
}

#[test]
fn the_python_template_has_an_image() {
    check("fastapi", "PYTHON_IMAGE", "platform/stand-in-python");
}

#[test]
fn the_node_template_has_an_image() {
    check("express", "NODE_IMAGE", "platform/stand-in-node");
}

/// Answers every request, with nothing but the standard library: there is no network while the image is built.
const PROGRAM: &str = r#"use std::io::{Read, Write};

fn main() -> std::io::Result<()> {
    let set = |name| std::env::var(name).unwrap_or_default();
    let listener = std::net::TcpListener::bind(format!("{}:{}", set("HOST"), set("PORT")))?;
    loop {
        let (mut stream, _) = listener.accept()?;
        let _ = stream.read(&mut [0; 4096])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nready")?;
    }
}
"#;

#[test]
fn the_rust_template_has_an_image() {
    let stand_in = "platform/stand-in-rust";
    let Some(sandbox) = made("axum", stand_in) else {
        return;
    };
    let manifest = sandbox.read("services/front/Cargo.toml");
    let (own, _) = manifest.split_once("[dependencies]").expect("some");
    sandbox.write("services/front/Cargo.toml", own);
    sandbox.write("services/front/src/main.rs", PROGRAM);
    let argument = format!("RUST_IMAGE={stand_in}");
    let built = Built::from(&sandbox, "axum", &sandbox.project(), &argument);
    assert_eq!(built.says("{{.Config.User}}"), "65532:65532");
    assert_eq!(
        built.says("{{json .Config.Entrypoint}}"),
        r#"["/usr/local/bin/front"]"#
    );
    let size = |said: String| said.parse::<u64>().expect("a size");
    let base = docker(&[
        "image",
        "inspect",
        "-f",
        "{{.Size}}",
        "debian:bookworm-slim",
    ]);
    let added = size(built.says("{{.Size}}")) - size(base);
    // The program alone, and nothing of the compiler.
    assert!((1..4 << 20).contains(&added), "{added}");
    built.serves();
}
