//! A job that ended well is done, whatever becomes of its container.

use super::{AT_ONCE, Project, answers, docker, has_engine};

impl Project {
    /// A service that needs a job, which is told this.
    fn migrates(&self, to: &str) {
        let api = format!(
            r#"build = {{ program = "api" }}
needs = ["migrate"]
env = {{ RESPOND = "one" }}

[services.migrate]
build = {{ program = "api" }}
kind = "job"
command = ["/app/api", "--list"]
env = {{ TO = "{to}" }}"#
        );
        self.blueprint(&api, AT_ONCE);
    }

    /// Containers of the job, by the group that they are of.
    fn jobs(&self) -> String {
        let own = format!("label=platform.project={}", self.name);
        let words = ["ps", "-a", "--filter", &own, "--filter"];
        let shown = [
            "label=platform.service=migrate",
            "--format",
            "{{.Label \"platform.group\"}}",
        ];
        docker(&[&words[..], &shown].concat())
    }

    /// Nothing is to be done, and nothing is missing.
    #[track_caller]
    fn is_whole(&self) {
        for words in ["plan", "drift", "status"] {
            self.run(&[words, "--detailed-exitcode"]).ok();
        }
        answers(self.port, "one");
    }
}

#[test]
fn a_job_that_ended_well_does_not_run_again() {
    if !has_engine() {
        return;
    }
    let project = Project::new("job");
    project.responder();
    project.migrates("first");
    project.deploy();
    project.is_whole();
    assert_eq!(project.jobs(), "migrate@r1");

    docker(&["rm", &project.container("migrate-r1-1")]);
    project.is_whole();
    project.deploy();
    project.run(&["wait", "--timeout", "30s"]).ok();
    project.run(&["stop", "--yes"]).ok();
    project.deploy();
    project.is_whole();
    assert_eq!(project.jobs(), "");

    project.migrates("second");
    project.deploy();
    project.is_whole();
    assert_eq!(project.jobs(), "migrate@r2");
    project.down();
}
