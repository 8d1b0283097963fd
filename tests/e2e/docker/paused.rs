//! What somebody paused is told, and goes on with the next deploy.

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
