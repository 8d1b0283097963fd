//! What somebody paused is told, and goes on with the next deploy.

use std::process::Command;

use platform_testkit::needs;

use super::{AT_ONCE, Project, answers, docker, has_engine};

const REDIS: &str = "platform/redis:7";

/// Whether a container is paused.
fn is_paused(container: &str) -> bool {
    docker(&["inspect", "-f", "{{.State.Paused}}", container]) == "true"
}

#[test]
fn whatever_is_paused_goes_on_with_the_next_deploy() {
    if !has_engine() || !needs::docker_image(REDIS) {
        return;
    }
    let project = Project::new("paused");
    project.responder();
    let api = r#"build = { program = "api" }
needs = ["cache"]
env = { RESPOND = "one" }"#;
    let cache = format!(
        "\n[resources.cache]\nkind = \"redis\"\nversion = \"7\"\nimage = \"{REDIS}\"\n{AT_ONCE}"
    );
    project.blueprint(api, &cache);
    project.deploy();
    answers(project.port, "one");

    for what in ["keeper", "gateway", "cache"] {
        let container = project.container(what);
        docker(&["pause", &container]);
        // It is no reason not to look.
        let status = project.run(&["status"]);
        assert_ne!(status.code, 69, "{what}: {status:#?}");
        project.deploy();
        assert!(!is_paused(&container), "{what} is paused");
        answers(project.port, "one");
        let again = project.run(&["plan", "--detailed-exitcode"]);
        assert_eq!(again.code, 0, "{what}: {again:#?}");
    }
    // Whoever is paused can be taken away.
    for what in ["keeper", "gateway", "cache"] {
        docker(&["pause", &project.container(what)]);
    }
    project.down();
}

/// Sends every process of a container a signal, which the engine knows nothing of.
fn signal(container: &str, signal: &str) {
    let top = docker(&["top", container, "-o", "pid"]);
    let pids = top.lines().skip(1).map(str::trim);
    let sent = Command::new("kill").arg(signal).args(pids).status();
    assert!(sent.expect("kill").success(), "{container}");
}

#[test]
fn a_gateway_that_hangs_is_named_and_started_anew() {
    if !has_engine() {
        return;
    }
    let project = Project::new("hangs");
    project.serves();
    let gateway = project.container("gateway");
    signal(&gateway, "-STOP");

    let status = project.run(&["status", "--detailed-exitcode"]);
    assert_eq!(status.code, 2, "{status:#?}");
    assert!(status.stdout.contains("gateway not ready"), "{status:#?}");
    let waited = project.run(&["wait", "--timeout", "1s"]);
    assert_eq!(waited.code, 1, "{waited:#?}");
    for told in ["wait::timed-out", "gateway not ready"] {
        assert!(waited.stderr.contains(told), "{told}: {waited:#?}");
    }
    for command in ["plan", "drift"] {
        let seen = project.run(&[command, "--detailed-exitcode"]);
        assert_eq!(seen.code, 2, "{seen:#?}");
        let told = "it runs and does not answer";
        assert!(seen.stdout.contains(told), "{command}: {seen:#?}");
    }
    project.answering("two");
    project.deploy();
    answers(project.port, "two");
    project.run(&["drift", "--detailed-exitcode"]).ok();
    project.run(&["wait", "--timeout", "30s"]).ok();
    project.down();
}
