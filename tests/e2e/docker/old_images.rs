//! Images of releases long past go from the engine; those that may be asked for stay.

use std::fs::File;
use std::io::Write as _;

use super::{Project, answers, docker, has_engine};

impl Project {
    /// Makes another program of the service's, which does the same, and deploys it.
    fn deploys_another(&self) {
        let program = self.sandbox.project().join("api");
        let mut program = File::options()
            .append(true)
            .open(program)
            .expect("a program");
        program.write_all(b"more").expect("written");
        self.deploy();
    }

    fn kept(&self) -> usize {
        let own = format!("platform.local/{}-api", self.name);
        docker(&["images", "--format", "{{.Tag}}", &own])
            .lines()
            .count()
    }
}

#[test]
fn images_that_no_release_may_ask_for_are_removed() {
    if !has_engine() {
        return;
    }
    let project = Project::new("old-images");
    project.responder();
    project.answering("one");
    project.secret("token", "hunter2");
    for _ in 0..12 {
        project.deploys_another();
    }
    assert_eq!(project.kept(), 10);
    // The oldest that is kept, and one that is not but lies beside the blueprint still.
    project.run(&["rollback", "--yes", "r3"]).ok();
    answers(project.port, "one");
    project.run(&["rollback", "--yes", "r1"]).ok();
    answers(project.port, "one");

    // What another environment of the project may go back to nobody here knows.
    let label = format!("platform.project={}", project.name);
    let other = format!("{}_staging_platform_state", project.name);
    let labels = ["--label", &label, "--label", "platform.environment=staging"];
    docker(&[&["volume", "create"], &labels[..], &[&other]].concat());
    let before = project.kept();
    project.deploys_another();
    assert_eq!(project.kept(), before + 1);
    docker(&["volume", "rm", &other]);
    project.down();
}
