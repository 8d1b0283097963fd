//! Instances in two zones, and a gateway in one of them.

use nix::sys::signal::Signal;

use super::project::{Api, Project, kill};
use super::traffic::goes_on;
use crate::load::Load;
use crate::sandbox::eventually;

/// Has the service answer with the zone of the instance, each being away for a while once it was killed.
///
/// - `zones`: of its instances, as the environment has them
/// - `own`: the gateway's
fn change(project: &Project, zones: &[&str], own: &str) {
    project.change(&Api::good("one"));
    let text = project.sandbox.read("platform.toml");
    let environment = format!(
        r#"
[environments.local]
provider = "process"
gateway.zone = "{own}"
services.api.zones = {zones:?}
services.api.env.ANSWER = "${{PLATFORM_ZONE}}"
services.api.restart.backoff = "2s"
"#
    );
    project
        .sandbox
        .write("platform.toml", &(text + &environment));
}

/// Waits until a hundred requests were answered by one zone alone; what was under way before may still be another's.
fn only(load: &Load, zone: &str) {
    eventually("one zone answers alone", || {
        let before = load.so_far();
        goes_on(load, 100);
        let mut now = load.so_far().answers;
        for (answer, count) in before.answers {
            now.entry(answer).and_modify(|all| *all -= count);
        }
        now.iter()
            .all(|(answer, count)| answer == zone || *count == 0)
    });
}

/// The process of the instance in a zone.
fn instance(project: &Project, zone: &str) -> i32 {
    let processes = project.processes();
    let stands = |variable: &str, value: &str| {
        let found = processes.iter();
        let found = found.filter(|process| process.variable(variable) == Some(value));
        found.map(|process| process.pid).collect::<Vec<_>>()
    };
    let api = stands("PLATFORM_SERVICE", "api");
    let there = stands("PLATFORM_ZONE", zone);
    let found: Vec<i32> = there.into_iter().filter(|pid| api.contains(pid)).collect();
    assert_eq!(found.len(), 1, "{zone}: {processes:?}");
    found[0]
}

#[test]
fn requests_stay_in_the_zone_of_the_gateway_while_an_instance_there_is_well() {
    let project = Project::new(&Api::good("one"));
    change(&project, &["a", "b"], "a");
    project.deploy().ok();
    let status = project.sandbox.run(&["status", "--format", "json"]).ok();
    let instances = &status.line("status")["services"][0]["instances"];
    assert_eq!(instances[0]["zone"], "a", "{instances:#}");
    assert_eq!(instances[1]["zone"], "b", "{instances:#}");
    let shown = project.sandbox.run(&["status"]).ok().stdout;
    assert!(shown.contains(" in a, 127.0.0.1:"), "{shown}");

    let load = Load::on(project.port, 200);
    goes_on(&load, 200);
    let tally = load.so_far();
    assert_eq!(
        tally.answers.keys().collect::<Vec<_>>(),
        ["a"],
        "{tally:#?}"
    );

    // While it is away the other zone answers, and no request is lost.
    kill(instance(&project, "a"), Signal::SIGKILL);
    eventually("the other zone answers", || {
        load.so_far().answers.contains_key("b")
    });
    only(&load, "b");
    only(&load, "a");
    let tally = load.end().unharmed();
    assert!(tally.answers["b"] >= 100, "{tally:#?}");
    project.is_clean("a");

    // A gateway that moves goes on at once; no instance is replaced for that.
    let before = project.instances();
    change(&project, &["a", "b"], "b");
    let plan = project.sandbox.run(&["plan"]).ok().stdout;
    assert!(plan.contains("gateway.zone"), "{plan}");
    project.deploy().ok();
    assert_eq!(project.instances(), before);
    project.is_clean("b");

    // Other zones are another release of the service.
    change(&project, &["b", "c"], "b");
    let plan = project.sandbox.run(&["plan"]).ok().stdout;
    assert!(plan.contains("zones"), "{plan}");
    let load = Load::on(project.port, 200);
    goes_on(&load, 50);
    project.deploy().ok();
    only(&load, "b");
    load.end().unharmed();
    project.is_clean("b");
    project.down();
}
