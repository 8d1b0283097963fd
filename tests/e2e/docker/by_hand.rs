//! What is done to an environment by hand is found, told and mended; and what it may ask for beside.

use std::net::TcpListener;
use std::process::Command;

use super::{AT_ONCE, Project, RESPONDS, answers, docker, has_engine};
use crate::responder::ask;
use crate::sandbox::free_port;

impl Project {
    /// Drift, plan and status tell of what was done by hand, and a deploy mends it.
    #[track_caller]
    fn mends(&self, told: &str, ready: bool) {
        for words in ["drift", "plan"] {
            let seen = self.run(&[words, "--detailed-exitcode"]);
            assert_eq!(seen.code, 2, "{seen:#?}");
            assert!(seen.stdout.contains(told), "{seen:#?}");
        }
        let status = self.run(&["status", "--detailed-exitcode"]);
        assert_eq!(status.code, if ready { 0 } else { 2 }, "{status:#?}");
        self.deploy();
        for words in ["drift", "plan", "status"] {
            self.run(&[words, "--detailed-exitcode"]).ok();
        }
        answers(self.port, "one");
    }
}

#[test]
fn what_was_done_by_hand_is_told_and_mended() {
    if !has_engine() {
        return;
    }
    let project = Project::new("hand");
    project.serves();
    let (first, gateway) = (project.container("api-r1-1"), project.container("gateway"));
    docker(&["pause", &gateway]);
    project.mends("it is paused", false);
    docker(&["stop", &gateway]);
    project.mends("its container is exited", false);
    docker(&["update", "--restart", "no", &gateway]);
    project.mends("its restart policy", true);

    docker(&["pause", &first]);
    let status = project.run(&["status"]).ok().stdout;
    assert!(status.contains("1/2"), "{status}");
    project.mends("has lost instances: 1 of 2 are left", false);
    docker(&["rm", "-f", &first]);
    let status = project.run(&["status"]).ok().stdout;
    assert!(status.contains("1/2"), "{status}");
    assert!(status.contains("1 of 2 are gone"), "{status}");
    let waited = project.run(&["wait", "--timeout", "1s"]);
    assert_eq!(waited.code, 1, "{waited:#?}");
    project.mends("has lost instances: 1 of 2 are left", false);

    let second = project.container("api-r1-2");
    docker(&[
        "update",
        "--memory",
        "256m",
        "--memory-swap",
        "512m",
        &second,
    ]);
    let told = "changed by hand: its memory limit";
    let status = project.run(&["status"]).ok().stdout;
    assert!(status.contains(told), "{status}");
    project.mends(told, true);
    project.down();
}

#[test]
fn a_keeper_that_was_sent_away_is_told_and_comes_back() {
    if !has_engine() {
        return;
    }
    let project = Project::new("away");
    project.serves();
    let keeper = project.container("keeper");
    for (by, told) in [
        (&["pause"][..], "it was paused"),
        (&["stop"], "its container was exited"),
        (&["rm", "-f"], "its container was removed"),
    ] {
        let away = || docker(&[by, &[&keeper]].concat());
        away();
        let doctor = project.run(&["doctor"]).ok().stdout;
        let line = doctor.lines().find(|line| line.contains(&keeper));
        let line = line.unwrap_or_else(|| panic!("{by:?}: {doctor}"));
        assert!(line.contains(told), "{line}");
        assert!(doctor.contains("brings it back"), "{doctor}");
        away();
        let status = project.run(&["status"]).ok().stdout;
        let told = format!("the keeper was away: {told}");
        assert!(status.contains(&told), "{by:?}: {status}");
        let again = project.run(&["status"]).ok().stdout;
        assert!(!again.contains("keeper"), "{by:?}: {again}");
        let doctor = project.run(&["doctor"]).ok().stdout;
        assert!(!doctor.contains(&keeper), "{by:?}: {doctor}");
    }
    answers(project.port, "one");
    project.down();
}

#[test]
fn a_service_may_have_no_instances_and_share_its_program() {
    if !has_engine() {
        return;
    }
    let project = Project::new("none");
    project.responder();
    let write = |replicas: u32| {
        let twin = format!(
            r#"{AT_ONCE}
[services.twin]
build = {{ program = "api" }}
{RESPONDS}
env = {{ RESPOND = "twin" }}
port = 9000
replicas = {replicas}
"#
        );
        let api = r#"build = { program = "api" }
env = { RESPOND = "one" }"#;
        project.blueprint(api, &twin);
    };
    let stands = || {
        for words in ["drift", "plan", "status"] {
            project.run(&[words, "--detailed-exitcode"]).ok();
        }
    };
    for replicas in [0, 1, 0] {
        write(replicas);
        project.deploy();
        stands();
    }
    project
        .run(&["export", "compose", "--out", "compose.yaml"])
        .ok();
    // Images of both go, and the name that the exported file has for ours.
    project.gone();
    let exported = format!("platform.local/platform:*-{}_docker", project.name);
    assert_eq!(docker(&["images", "-q", &exported]), "");
    project.down();
}

#[test]
fn a_port_that_another_has_is_told_before_anything_is_touched() {
    if !has_engine() {
        return;
    }
    let project = Project::new("taken");
    project.serves();
    let gateway = project.container("gateway");
    let id = || docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", &gateway]);
    let before = id();
    let elsewhere = |port: u16| {
        let own = format!("port = {}", project.port);
        let text = project.sandbox.read("platform.toml");
        let text = text.replace(&own, &format!("port = {port}"));
        project.sandbox.write("platform.toml", &text);
    };
    let other = TcpListener::bind("0.0.0.0:0").expect("a port");
    elsewhere(other.local_addr().expect("its address").port());
    for words in [&["plan"][..], &["deploy", "--yes"]] {
        let seen = project.run(words);
        assert_eq!(seen.code, 1, "{seen:#?}");
        assert!(seen.stderr.contains("preflight::port-taken"), "{seen:#?}");
    }
    assert_eq!(id(), before);
    answers(project.port, "one");
    project.down();
}

#[test]
fn nothing_is_made_where_there_is_nothing_to_go_back_to() {
    if !has_engine() {
        return;
    }
    let project = Project::new("never");
    project.responder();
    project.answering("one");
    project.secret("token", "hunter2");
    let is_bare = || {
        let own = format!("label=platform.project={}", project.name);
        for what in [&["ps", "-aq"][..], &["volume", "ls", "-q"]] {
            assert_eq!(docker(&[what, &["--filter", &own]].concat()), "");
        }
    };
    assert_eq!(project.run(&["rollback", "--yes"]).code, 1);
    project.run(&["stop", "--yes"]).ok();
    is_bare();

    // Nor where nobody can be asked.
    for words in [&["deploy"][..], &["destroy"]] {
        let seen = project.run(words);
        assert_eq!(seen.code, 64, "{seen:#?}");
        assert!(seen.stderr.contains("usage::needs-yes"), "{seen:#?}");
        is_bare();
    }

    // And nothing stays of what never had data: not even the credentials of none.
    project.deploy();
    project.run(&["destroy", "--yes"]).ok();
    is_bare();
    project.down();
}

#[test]
fn the_last_lines_of_a_release_that_was_taken_back_are_told() {
    if !has_engine() {
        return;
    }
    let project = Project::new("lines");
    project.serves();
    let api = r#"build = { program = "api" }
command = ["/app/api", "--no-such-word-is-known"]
restart.crash_loop = 2"#;
    project.blueprint("", AT_ONCE);
    let text = project.sandbox.read("platform.toml");
    let (head, rest) = text.split_once("command = ").expect("a command");
    let (_, rest) = rest.split_once('\n').expect("a line");
    project
        .sandbox
        .write("platform.toml", &format!("{head}{api}\n{rest}"));
    let seen = project.run(&["deploy", "--yes"]);
    assert_eq!(seen.code, 10, "{seen:#?}");
    assert!(seen.stderr.contains("no-such-word-is-known"), "{seen:#?}");
    answers(project.port, "one");

    // And are still there when its containers are gone.
    let containers = format!("name={}", project.container("api-r2"));
    assert_eq!(docker(&["ps", "-aq", "--filter", &containers]), "");
    let log = project.run(&["logs", "api", "--tail", "all"]).ok().stdout;
    let told = |line: &str| line.contains("api@r2.") && line.contains("no-such-word-is-known");
    assert!(log.lines().any(told), "{log}");
    let of_another = project.run(&["logs", "api", "--instance", "api@r1.1"]).ok();
    assert!(
        !of_another.stdout.contains("no-such-word"),
        "{of_another:#?}"
    );
    project.down();
}

#[test]
fn the_projects_own_authority_signs_for_the_gateway() {
    if !has_engine() {
        return;
    }
    let project = Project::new("localca");
    project.responder();
    let port = free_port();
    let rest = format!("{AT_ONCE}\n[gateway.tls]\nlocal_ca = true\nport = {port}\n");
    let api = r#"build = { program = "api" }
env = { RESPOND = "one" }"#;
    project.blueprint(api, &rest);
    project.deploy();
    let authority = project
        .sandbox
        .project()
        .join(".platform/development-ca/ca.pem");
    let told = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
        .arg(&authority)
        .arg(format!("https://localhost:{port}/"))
        .output()
        .expect("curl");
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(said.starts_with("one"), "{told:?}");
    // What is not secured leads there.
    assert!(ask(project.port, "/").is_none_or(|said| !said.starts_with("one")));
    project
        .run(&["export", "compose", "--out", "compose.yaml"])
        .ok();
    let file = project.sandbox.read("compose.yaml");
    assert!(file.contains("development-ca/ca.key"), "{file}");
    project.down();
}
