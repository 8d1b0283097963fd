//! Every way to move from one release to the next, on an engine, while requests come.

use super::{Project, answers, has_engine};
use crate::load::Load;

/// Changes the project's answer by a strategy, and takes it back, under load that loses nothing.
fn moves(test: &str, strategy: &str) {
    if !has_engine() {
        return;
    }
    let project = Project::new(test);
    project.serves();
    let load = Load::on(project.port, 40);
    project.answering("two");
    let told = project.run(&["deploy", "--yes", strategy]).ok();
    answers(project.port, "two");
    project.run(&["rollback", "--yes"]).ok();
    answers(project.port, "one");
    let tally = load.end().unharmed();
    let new = tally
        .answers
        .iter()
        .find(|(said, _)| said.starts_with("two"));
    assert!(new.is_some(), "{told:#?} {tally:#?}");
    project.down();
}

#[test]
fn a_canary_is_promoted_and_nobody_notices() {
    moves("canary", "--canary=50%");
}

#[test]
fn colours_are_switched_and_nobody_notices() {
    moves("colours", "--blue-green");
}
