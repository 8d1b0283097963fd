//! Images that the engine builds from Dockerfiles.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Project, answers, build_responder, docker, has_engine};

const DOCKERFILE: &str = r#"FROM debian:bookworm-slim
ARG GREETING
RUN --mount=type=secret,id=token sha256sum </run/secrets/token | grep -q ^f52fbd32b2b3b86f && echo "$GREETING" >/greeting
COPY . /app
RUN test "$(cat /greeting)" = hello && test ! -e /app/left-out
USER 65532:65532
"#;

impl Project {
    /// A service made by a Dockerfile, from the responder in its folder.
    pub(super) fn dockerfile(&self, text: &str, keys: &str, answer: &str) {
        let Self { sandbox, .. } = self;
        sandbox.write("api/Dockerfile", text);
        sandbox.write("api/.dockerignore", "left-out\n");
        sandbox.write("api/left-out", "");
        let api = format!(
            r#"build = {{ dockerfile = "api", {keys} }}
env = {{ RESPOND = "{answer}" }}"#
        );
        self.blueprint(&api, "");
    }

    fn image(&self) -> String {
        let own = format!("platform.local/{}-api", self.name);
        let images = docker(&["images", "--no-trunc", "-q", &own]);
        images.lines().next().expect("an image").to_owned()
    }
}

/// Whether some bytes are anywhere in a saved image. Engines that keep images in containerd save their layers packed.
fn holds(saved: &Path, bytes: &[u8]) -> bool {
    let unpacked = tempfile::tempdir().expect("a folder");
    let extracted = Command::new("tar")
        .args(["-xf", &saved.display().to_string(), "-C"])
        .arg(unpacked.path())
        .status();
    assert!(
        extracted.is_ok_and(|status| status.success()),
        "{}",
        saved.display()
    );
    let search = r#"find "$0" -type f -exec gzip -cdf {} +"#;
    let told = Command::new("sh")
        .args(["-c", search])
        .arg(unpacked.path())
        .output()
        .expect("sh");
    assert!(told.status.success(), "{:?}", told.stderr);
    let mut parts = told.stdout.windows(bytes.len());
    parts.any(|part| part == bytes)
}

#[test]
fn a_dockerfile_is_built_and_its_secrets_are_in_no_layer() {
    if !has_engine() {
        return;
    }
    let project = Project::new("dockerfile");
    fs::create_dir(project.sandbox.project().join("api")).expect("a folder");
    build_responder(&project.sandbox.project().join("api/api"));
    let keys = r#"args = { GREETING = "hello" }, secrets = ["token"]"#;
    project.dockerfile(DOCKERFILE, keys, "one");
    project.secret("token", "hunter2");
    project.deploy();
    answers(project.port, "one");

    let image = project.image();
    let history = docker(&["history", "--no-trunc", &image]);
    assert!(!history.contains("hunter2"), "{history}");
    let saved = project.sandbox.project().join("saved.tar");
    docker(&["save", "-o", &saved.display().to_string(), &image]);
    assert!(holds(&saved, b"serves_when_a_blueprint_asks"));
    assert!(!holds(&saved, b"hunter2"), "the secret is in a layer");

    // What is built is built once, also where only its surroundings change.
    project.dockerfile(DOCKERFILE, keys, "two");
    let deployed = project.run(&["deploy", "--yes"]).ok();
    answers(project.port, "two");
    assert!(!deployed.stderr.contains("build api"), "{deployed:#?}");
    assert_eq!(project.image(), image);

    // What went with the environment is built again once it is needed.
    project.run(&["destroy", "--yes"]).ok();
    let own = format!("platform.local/{}-api", project.name);
    assert_eq!(docker(&["images", "-q", &own]), "");
    project.deploy();
    answers(project.port, "two");

    // What cannot be built is told in the engine's words, and is no step whose output is missing.
    let missing = format!("{DOCKERFILE}COPY absent /app\n");
    project.dockerfile(&missing, keys, "three");
    let failed = project.run(&["deploy", "--yes"]);
    assert_eq!(failed.code, 1, "{failed:#?}");
    for words in ["build::failed", "absent"] {
        assert!(failed.stderr.contains(words), "{words}: {}", failed.stderr);
    }
    let help = "where secrets are mounted";
    for words in ["Grpc", help] {
        assert!(!failed.stderr.contains(words), "{words}: {}", failed.stderr);
    }
    let failing = format!("{DOCKERFILE}RUN [\"/bin/false\"]\n");
    project.dockerfile(&failing, keys, "three");
    let failed = project.run(&["deploy", "--yes"]);
    assert!(failed.stderr.contains(help), "{}", failed.stderr);
    answers(project.port, "two");
    project.down();
}

#[test]
fn a_step_that_fails_is_shown_and_the_old_release_serves() {
    if !has_engine() {
        return;
    }
    let project = Project::new("step");
    fs::create_dir(project.sandbox.project().join("api")).expect("a folder");
    build_responder(&project.sandbox.project().join("api/api"));
    let plain = "FROM debian:bookworm-slim\nCOPY . /app\nUSER 65532:65532\n";
    project.dockerfile(plain, r#"file = "Dockerfile""#, "one");
    project.deploy();
    let failing = format!("{plain}RUN echo the-last-words; ls /not-there\n");
    project.dockerfile(&failing, r#"file = "Dockerfile""#, "two");
    let failed = project.run(&["deploy", "--yes"]);
    assert_eq!(failed.code, 1, "{failed:#?}");
    for words in [
        "build::failed",
        "the-last-words",
        "cannot access '/not-there'",
    ] {
        assert!(failed.stderr.contains(words), "{words}: {}", failed.stderr);
    }
    answers(project.port, "one");
    project.down();
}
