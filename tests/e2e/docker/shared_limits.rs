//! A rate limit that is counted in a Redis on the engine, whose address nobody but the gateway sees.

use platform_testkit::needs;

use super::{COUNTS, Project, RESPONDS, docker, has_engine};
use crate::shared_limits::{LIMIT, let_in, status, use_up};

const REDIS: &str = "platform/redis:7";

impl Project {
    fn limited(&self) {
        let Self {
            name,
            port,
            sandbox,
        } = self;
        sandbox.write(
            "platform.toml",
            &format!(
                r#"[project]
name = "{name}"

[services.api]
build = {{ program = "api" }}
{RESPONDS}
port = 9000
env = {{ RESPOND = "one" }}

{COUNTS}
[gateway]
port = {port}
shared = "counts"

[[routes]]
path = "/"
service = "api"
rate_limit = {{ requests = {LIMIT}, every = "1d", per = "route", shared = true }}

[environments.docker]
provider = "docker"
"#
            ),
        );
    }
}

#[test]
fn a_limit_holds_when_the_gateway_is_made_anew() {
    if !has_engine() || !needs::docker_image(REDIS) {
        return;
    }
    let project = Project::new("limits");
    project.responder();
    project.limited();
    project.deploy();
    assert!(use_up(project.port) >= LIMIT);
    let (gateway, counts) = (project.container("gateway"), project.container("counts"));
    docker(&["rm", "--force", &gateway]);
    project.deploy();
    assert!(let_in(project.port) < LIMIT);
    project.run(&["plan", "--detailed-exitcode"]).ok();

    // Only the file tells the address; its name, the kept configuration, labels, arguments and logs do not.
    let password = docker(&["exec", &counts, "cat", "/dev/shm/secrets/password"]);
    let told = [
        docker(&["inspect", &gateway]),
        docker(&["logs", &gateway]),
        project.run(&["status", "--format", "json"]).ok().stdout,
    ];
    assert!(!password.is_empty() && told.iter().all(|text| !text.contains(&password)));
    let holds = |path: &str| {
        let copied = std::process::Command::new("docker")
            .args(["cp", &format!("{gateway}:{path}"), "-"])
            .output()
            .expect("docker");
        assert!(copied.status.success(), "{path}: {copied:?}");
        String::from_utf8_lossy(&copied.stdout).contains(&password)
    };
    assert!(!holds("/state") && holds("/run/certificates"));

    docker(&["stop", &counts]);
    assert_eq!(status(project.port), Some(200));
    project.down();
}
