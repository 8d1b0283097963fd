//! Certificates that a gateway on an engine shows, renewed while clients come.

use super::{AT_ONCE, Project, has_engine};
use crate::renewed::Renewals;

#[test]
fn a_renewed_certificate_is_planned_and_comes_to_the_engine_and_no_request_is_lost() {
    if !has_engine() {
        return;
    }
    let project = Project::new("renewed");
    project.responder();
    let renewals = Renewals::new(&project.sandbox, &["-e", "docker"]);
    let rest = format!("{AT_ONCE}\n{}", renewals.blueprint());
    let answers = |answer: &str| {
        let api = format!("build = {{ program = \"api\" }}\nenv = {{ RESPOND = \"{answer}\" }}");
        project.blueprint(&api, &rest);
    };
    renewals.check(answers, false);
    project.down();
}
