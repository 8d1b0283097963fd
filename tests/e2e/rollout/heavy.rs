//! One client that makes far more requests than others, and what becomes of a rollout that meets it.

use super::users::{Answers, Users};
use crate::sandbox::eventually;
use crate::withstand::project::{Api, Project};

/// Requests of all ordinary clients in a second, and of the heavy one: three of ten.
const ORDINARY: u32 = 140;
const HEAVY: u32 = 60;

/// An address that its hash puts on the new release at half of the requests.
const FALLS_TO_THE_NEW: &str = "192.0.2.7";

const CANARY: &str = r#"strategy = "canary"
steps = ["50%"]
hold = "2s"
bake = "2s"
analysis = { errors = "0.5%", slow = "20%", slow_after = "2s", at_least = "1s", at_most = "3m", min_samples = 50 }"#;

/// One of a hundred clients.
fn ordinary(number: u32) -> String {
    format!("x-forwarded-for: 198.51.100.{}\r\n", 1 + number % 100)
}

fn heavy(_: u32) -> String {
    format!("x-forwarded-for: {FALLS_TO_THE_NEW}\r\n")
}

/// Has the service answer so, behind a gateway that believes whom a proxy says it asks for.
fn wants(project: &Project, answer: &str) {
    project.change(&Api::good(answer));
    let text = project.sandbox.read("platform.toml");
    let (head, _) = text.split_once("[rollout]").expect("a policy");
    let port = format!("port = {}\n", project.port);
    let head = head.replace(&port, &format!("{port}trust = [\"127.0.0.1\"]\n"));
    let text = format!("{head}[rollout]\n{CANARY}\n");
    project.sandbox.write("platform.toml", &text);
}

fn count(answers: &Answers, of: impl Fn(&str, u16) -> bool) -> u64 {
    let fitting = answers
        .iter()
        .filter(|((version, status), _)| of(version, *status));
    fitting.map(|(_, count)| count).sum()
}

#[test]
fn a_client_whose_every_request_fails_on_both_releases_takes_none_back() {
    let project = Project::new(&Api::good("one"));
    wants(&project, "one");
    project.deploy().ok();
    let others = Users::ask_as(project.port, "/", ORDINARY, ordinary);
    let batch = Users::ask_as(project.port, "/broken", HEAVY, heavy);
    eventually("the gateway knows its clients", || {
        count(&others.so_far(), |_, _| true) > 400 && count(&batch.so_far(), |_, _| true) > 100
    });
    wants(&project, "two");
    let seen = project.deploy();
    let (others, batch) = (others.end(), batch.end());
    assert_eq!(seen.code, 0, "{seen:#?}");
    assert_eq!(project.answer().as_deref(), Some("two"));
    assert_eq!(count(&others, |_, status| status != 200), 0, "{others:?}");
    // All that it asked failed, on the new release, too: compared, that would be one bad answer in three.
    assert_eq!(count(&batch, |_, status| status != 500), 0, "{batch:?}");
    let report = project
        .sandbox
        .run(&["rollout", "report", "--format", "json"])
        .ok();
    let report = report.line("rollout_report")["report"].clone();
    let stage = &report["stages"][0];
    assert_eq!(stage["stage"], "50 %", "{report:#}");
    let side = &stage["sides"][0];
    let left_out = side["new"]["left_out"].as_u64().expect("a count");
    assert!(left_out > 50, "{report:#}");
    assert_eq!(side["new"]["bad"], 0, "{report:#}");
    let page = project.sandbox.run(&["rollout", "report"]).ok();
    let said = "are in no comparison, as they come from clients that stay with one side";
    assert!(page.stdout.contains(said), "{page:#?}");
    project.down();
}
