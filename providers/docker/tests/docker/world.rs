//! One environment of its own for each test, and nothing left of it after.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use platform_blueprint::{DockerSettings, Gateway, Period, Port, Service};
use platform_decide::digest::Digest;
use platform_decide::group::{Artifact, GroupId, GroupSpec, Place};
use platform_decide::observed::{GroupSeen, InstanceSeen, InstanceState, Observed};
use platform_docker::{DockerTarget, TargetOptions};
use platform_port::{SecretValues, Target};
use platform_testkit::needs;
use platform_testkit::scene::{self, free_port};

pub(crate) use platform_testkit::scene::traffic;

/// How long a test waits for what it waits for.
pub(crate) const WITHIN: Duration = Duration::from_secs(40);

/// One environment on the engine.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) project: String,
    pub(crate) port: u16,
    program: PathBuf,
    pub(crate) target: DockerTarget,
}

/// Runs Docker's own client.
pub(crate) fn docker(words: &[&str]) -> String {
    let told = Command::new("docker").args(words).output().expect("docker");
    assert!(
        told.status.success(),
        "docker {words:?}: {}",
        String::from_utf8_lossy(&told.stderr)
    );
    String::from_utf8_lossy(&told.stdout).trim().to_owned()
}

/// Ends a container's first process, as an accident does. `docker kill` would be somebody's will.
pub(crate) fn end(container: &str) {
    let pid = docker(&["inspect", "-f", "{{.State.Pid}}", container]);
    let killed = Command::new("kill")
        .args(["-9", &pid])
        .status()
        .expect("kill");
    assert!(killed.success(), "{container} cannot be killed");
}

impl World {
    /// An environment, or `None` where there is no engine.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Self::of_build(test, &scene::example("program"))
    }

    /// The same with this file as our own program.
    pub(crate) fn of_build(test: &str, program: &Path) -> Option<Self> {
        if !needs::docker_engine() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let project = format!("t{}-{test}", std::process::id());
        let port = free_port();
        let target = Self::target(&project, port, folder.path(), program);
        Some(Self {
            folder,
            project,
            port,
            program: program.to_owned(),
            target,
        })
    }

    /// A target as another machine would make it.
    pub(crate) fn another(&self) -> DockerTarget {
        Self::target(&self.project, self.port, self.folder.path(), &self.program)
    }

    fn target(project: &str, port: u16, root: &Path, program: &Path) -> DockerTarget {
        DockerTarget::new(TargetOptions {
            project: project.parse().expect("a name"),
            environment: "docker".parse().expect("a name"),
            settings: DockerSettings::default(),
            root: root.to_owned(),
            gateway: Gateway {
                port: Port::new(port).expect("a port"),
                ..Gateway::default()
            },
            program: Some(program.to_owned()),
        })
        .expect("a target")
    }

    pub(crate) fn container(&self, what: &str) -> String {
        format!("{}_docker_{what}", self.project)
    }

    /// A service that runs the program with these words.
    pub(crate) fn service(words: &[&str]) -> Service {
        let mut command = vec!["/app/program".to_owned(), "service".to_owned()];
        command.extend(words.iter().map(ToString::to_string));
        let mut service = scene::service(command);
        service.health.start_within = Period::from_secs(20);
        service
    }

    /// An image with the program, on a base that has what it is linked with.
    fn image(&self) -> String {
        let name = format!("platform.local/{}-orders:test", self.project);
        let context = self.folder.path().join("context");
        if !context.exists() {
            std::fs::create_dir(&context).expect("a folder");
            std::fs::copy(scene::example("program"), context.join("program")).expect("a copy");
            let text =
                "FROM debian:bookworm-slim\nWORKDIR /app\nCOPY program .\nUSER 65532:65532\n";
            std::fs::write(context.join("Dockerfile"), text).expect("a file written");
            docker(&["build", "-q", "-t", &name, &context.display().to_string()]);
        }
        name
    }

    /// A group of that service.
    pub(crate) fn group(&self, id: &str, replicas: u32, service: Service) -> GroupSpec {
        let artifact = Artifact {
            key: Digest::of(self.project.as_bytes()),
            place: Place::Image {
                reference: self.image(),
            },
        };
        scene::group(id, replicas, artifact, service)
    }

    pub(crate) async fn ensure(&self, group: &GroupSpec) {
        self.target
            .ensure_group(group, &SecretValues::new())
            .await
            .unwrap_or_else(|error| panic!("{}: {error}: {}", group.id, error.source));
    }

    /// A gateway that sends everything to one group.
    pub(crate) async fn front(&self, id: &GroupId) {
        self.target.ensure_gateway().await.expect("a gateway");
        let traffic = traffic(self.port, id);
        let routed = self.target.route(&traffic, &SecretValues::new()).await;
        routed.unwrap_or_else(|error| panic!("{error}: {}", error.source));
    }

    /// Looks until `found` says so.
    pub(crate) async fn until(&self, what: &str, found: impl Fn(&Observed) -> bool) -> Observed {
        scene::until(&self.target, WITHIN, what, found).await
    }

    pub(crate) async fn until_ready(&self, group: &GroupSpec) -> GroupSeen {
        scene::until_ready(&self.target, WITHIN, group).await
    }

    pub(crate) async fn until_state(
        &self,
        group: &GroupSpec,
        state: InstanceState,
    ) -> InstanceSeen {
        scene::until_state(&self.target, WITHIN, group, state).await
    }

    /// Asks the gateway once; status and body.
    pub(crate) async fn ask(&self, path: &str) -> (u16, String) {
        scene::ask(self.port, path)
            .await
            .unwrap_or((0, String::new()))
    }

    /// Everything down; nothing of it may be left.
    pub(crate) async fn down(self) {
        self.target.destroy(true).await.expect("it is taken away");
        let own = format!("label=platform.project={}", self.project);
        for what in [
            &["ps", "-aq"][..],
            &["volume", "ls", "-q"],
            &["network", "ls", "-q"],
        ] {
            let words = [what, &["--filter", &own]].concat();
            assert_eq!(docker(&words), "", "{what:?} are left");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Only where a test failed on its way is anything left but the image.
        let own = format!("label=platform.project={}", self.project);
        let image = format!("platform.local/{}-orders:test", self.project);
        let all = format!(
            "docker ps -aq --filter {own} | xargs -r docker rm -fv; \
             docker volume ls -q --filter {own} | xargs -r docker volume rm -f; \
             docker network ls -q --filter {own} | xargs -r docker network rm; \
             docker rmi {image}"
        );
        let _ = Command::new("sh").args(["-c", &all]).output();
    }
}
