//! Requests under constant load while everything around them is replaced or killed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use nix::sys::signal::Signal;

use super::project::{Api, Project, kill};
use crate::load::Load;
use crate::sandbox::eventually;

const RATE: u32 = 200;

/// Waits until so many more requests were answered, so that what happened before has had its effect.
pub(super) fn goes_on(load: &Load, requests: u64) {
    let before = load.so_far().answered;
    eventually("the load goes on", || {
        load.so_far().answered >= before + requests
    });
}

/// Kills an instance and waits until another stands in its place, which shows that somebody looks after them.
fn is_supervised(project: &Project) {
    let before = project.instances();
    assert_eq!(before.len(), 2, "{:?}", project.processes());
    kill(before[0], Signal::SIGKILL);
    eventually("the killed instance has a successor", || {
        let now = project.instances();
        now.len() == 2 && !now.contains(&before[0])
    });
    eventually("all is ready again", || {
        let seen = project.sandbox.run(&["status", "--detailed-exitcode"]);
        seen.code == 0
    });
}

#[test]
fn rolling_deploys_and_rollbacks_lose_no_request() {
    let project = Project::deployed();
    let load = Load::on(project.port, RATE);
    goes_on(&load, 50);
    for answer in ["two", "three"] {
        project.change(&Api::good(answer));
        project.deploy().ok();
        assert_eq!(project.answer().as_deref(), Some(answer));
    }
    project.sandbox.run(&["rollback", "--yes"]).ok();
    assert_eq!(project.answer().as_deref(), Some("two"));
    project.sandbox.run(&["rollback", "r1", "--yes"]).ok();
    assert_eq!(project.answer().as_deref(), Some("one"));
    goes_on(&load, 50);
    let tally = load.end().unharmed();
    assert_eq!(tally.reconnected, 0, "{tally:#?}");
    for answer in ["one", "two", "three"] {
        assert!(tally.answers[answer] > 50, "{tally:#?}");
    }
    project.down();
}

#[test]
fn an_agent_that_is_killed_is_missed_by_no_request() {
    let project = Project::deployed();
    let load = Load::on(project.port, RATE);
    for _ in 0..3 {
        let agent = project.agent("process").expect("an agent");
        kill(agent, Signal::SIGKILL);
        goes_on(&load, 50);
        eventually("another agent is there", || {
            project.agent("process").is_some_and(|pid| pid != agent)
        });
        goes_on(&load, 50);
    }
    let tally = load.end().unharmed();
    assert_eq!(tally.reconnected, 0, "{tally:#?}");
    is_supervised(&project);
    project.is_clean("one");
    project.down();
}

#[test]
fn an_agent_killed_with_its_keeper_is_missed_by_no_request() {
    let project = Project::deployed();
    let load = Load::on(project.port, RATE);
    let (keeper, agent) = (project.agent("keeper"), project.agent("process"));
    kill(keeper.expect("a keeper"), Signal::SIGKILL);
    kill(agent.expect("an agent"), Signal::SIGKILL);
    goes_on(&load, 100);
    // Nobody is left to start another; the next command that changes something does.
    project.change(&Api::good("two"));
    project.deploy().ok();
    goes_on(&load, 50);
    let tally = load.end().unharmed();
    assert_eq!(tally.reconnected, 0, "{tally:#?}");
    is_supervised(&project);
    project.is_clean("two");
    project.down();
}

#[test]
fn a_keeper_that_is_killed_alone_gets_a_successor() {
    let project = Project::deployed();
    let load = Load::on(project.port, RATE);
    let keeper = project.agent("keeper").expect("a keeper");
    kill(keeper, Signal::SIGKILL);
    eventually("another keeper is there", || {
        project.agent("keeper").is_some_and(|pid| pid != keeper)
    });
    goes_on(&load, 50);
    load.end().unharmed();
    is_supervised(&project);
    project.is_clean("one");
    project.down();
}

#[test]
fn a_gateway_that_is_replaced_loses_no_request() {
    let project = Project::deployed();
    let load = Load::on(project.port, RATE);
    goes_on(&load, 50);
    let before = project.gateways();
    assert_eq!(before.len(), 1, "{:?}", project.processes());
    // The same program as another build.
    let program = project.sandbox.project().join("platform-next");
    fs::copy(env!("CARGO_BIN_EXE_platform"), &program).expect("a copy");
    let file = fs::OpenOptions::new().append(true).open(&program);
    file.and_then(|mut file| file.write_all(b"next"))
        .expect("it differs");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("permissions");
    project.change(&Api::good("two"));
    let template = project.sandbox.command(&["deploy", "--yes"]);
    let mut deploy = Command::new(&program);
    deploy
        .args(["deploy", "--yes"])
        .current_dir(project.sandbox.project())
        .env_clear();
    for (name, value) in template.get_envs() {
        deploy.env(name, value.unwrap_or_default());
    }
    let seen = deploy.output().expect("it runs");
    assert!(seen.status.success(), "{seen:?}");
    assert_eq!(project.answer().as_deref(), Some("two"));
    goes_on(&load, 100);
    eventually("the gateway before is gone", || {
        let now = project.gateways();
        now.len() == 1 && now != before
    });
    goes_on(&load, 100);
    load.end().unharmed();
    project.down();
}

#[test]
fn a_gateway_told_to_end_answers_what_it_took_and_comes_back() {
    let project = Project::deployed();
    let load = Load::on(project.port, RATE);
    goes_on(&load, 50);
    let before = project.gateways();
    kill(before[0], Signal::SIGTERM);
    eventually("another gateway is there", || {
        let now = project.gateways();
        !now.is_empty() && now != before
    });
    goes_on(&load, 100);
    let tally = load.end();
    // Nobody listens for a moment, but what was taken is answered.
    assert_eq!(tally.failed, tally.refused, "{tally:#?}");
    project.is_clean("one");
    project.down();
}

#[test]
fn a_gateway_that_is_killed_is_back_without_being_asked() {
    let project = Project::deployed();
    let before = project.gateways();
    kill(before[0], Signal::SIGKILL);
    eventually("it answers again", || {
        project.answer().as_deref() == Some("one")
    });
    eventually("the agent knows the new one", || {
        let seen = project.sandbox.run(&["status", "--detailed-exitcode"]);
        seen.code == 0
    });
    project.is_clean("one");
    project.down();
}
