//! Two machines that share an engine: one waits for the other's lock, and goes on with what that left when it was lost.

use super::own_engine::may_start_engines;
use super::{Project, answers, docker, has_engine};
use crate::sandbox::{Sandbox, eventually};

#[test]
fn another_machine_waits_for_the_lock_and_takes_it_from_one_that_is_lost() {
    if !has_engine() || !may_start_engines() {
        return;
    }
    let mut project = Project::new("machines");
    project.sandbox.on_machine("here");
    project.serves();

    // Another machine has the project, too.
    let mut elsewhere = Project {
        name: project.name.clone(),
        port: project.port,
        sandbox: Sandbox::empty(),
    };
    for name in ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        if let Ok(value) = std::env::var(name) {
            elsewhere.sandbox.set(name, value);
        }
    }
    elsewhere.sandbox.on_machine("elsewhere");
    let program = |of: &Project| of.sandbox.project().join("api");
    std::fs::copy(program(&project), program(&elsewhere)).expect("a copy");

    // The first holds the lock for as long as its gate is asked.
    let door = project.sandbox.project().join("door");
    let gate = format!("until [ -e {} ]; do sleep 0.1; done", door.display());
    let policy = format!(
        "\n[rollout]\nhold = \"0s\"\nbake = \"0s\"\nanalysis = false\n\
         gates = [{{ when = \"before-start\", timeout = \"5m\", command = [\"sh\", \"-c\", \"{gate}\"] }}]\n"
    );
    for one in [&project, &elsewhere] {
        one.answering_by("two", &policy);
    }
    elsewhere.secret("token", "hunter2");
    let mut first = project.sandbox.start(&["-e", "docker", "deploy", "--yes"]);
    eventually("it is rolling out", || {
        let seen = elsewhere.run(&["rollout", "status", "--format", "json"]);
        seen.code == 0 && seen.line("rollout_status")["over"] == false
    });
    let refused = elsewhere.run(&["deploy", "--yes"]);
    assert_eq!(refused.code, 75, "{refused:#?}");
    assert!(refused.stderr.contains("tester@here"), "{refused:#?}");

    let words = ["-e", "docker", "deploy", "--yes", "--lock-timeout", "2m"];
    let mut second = elsewhere.sandbox.start(&words);
    second.until_told("waiting for");
    // Lost without a word: nobody elsewhere can tell but by its silence.
    first.child().kill().expect("it runs");
    first.child().wait().expect("its end");
    std::fs::write(&door, "open").expect("written");
    let second = second.wait().ok();
    assert!(second.stderr.contains("serves"), "{second:#?}");
    answers(project.port, "two");
    let again = project.run(&["plan", "--detailed-exitcode"]);
    assert_eq!(again.code, 0, "{again:#?}");
    let left = docker(&[
        "ps",
        "-q",
        "--filter",
        &format!("name={}", project.container("api-")),
    ]);
    assert_eq!(left.lines().count(), 2, "{left}");
    project.down();
}
