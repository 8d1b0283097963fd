//! One environment of its own for each test, and nothing left of it after.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use platform_blueprint::{
    Check, DockerSettings, Gateway, Health, Period, Port, Route, Service, Stop,
};
use platform_decide::desired::{Ingress, Upstream};
use platform_decide::digest::Digest;
use platform_decide::group::{Artifact, GroupId, GroupSpec, Place, ServiceSpec};
use platform_decide::observed::{GroupSeen, InstanceSeen, InstanceState, Observed};
use platform_decide::traffic::{Split, Traffic};
use platform_docker::{DockerTarget, TargetOptions};
use platform_port::{SecretValues, Target};

/// How long a test waits for what it waits for.
pub(crate) const WITHIN: Duration = Duration::from_secs(40);

/// One environment on the engine.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) project: String,
    pub(crate) port: u16,
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

#[expect(clippy::print_stderr, reason = "who runs the tests is to know")]
/// Whether there is an engine to test on. Where nothing may be skipped there must be one.
pub(crate) fn has_engine() -> bool {
    let asked = Command::new("docker").arg("info").output();
    let found = asked.is_ok_and(|told| told.status.success());
    let must = std::env::var("PLATFORM_TEST_NOTHING_SKIPPED").is_ok_and(|value| value == "1");
    assert!(
        found || !must,
        "no Docker engine was found, and nothing may be skipped"
    );
    if !found {
        eprintln!("skipped: no Docker engine answers at DOCKER_HOST or the usual socket");
    }
    found
}

/// The program that was built beside the tests.
fn program() -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let built = own
        .parent()
        .and_then(Path::parent)
        .expect("a target folder");
    built.join("examples").join("program")
}

impl World {
    /// An environment, or `None` where there is no engine.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !has_engine() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let project = format!("t{}-{test}", std::process::id());
        let port = free_port();
        let target = Self::target(&project, port, folder.path());
        Some(Self {
            folder,
            project,
            port,
            target,
        })
    }

    /// A target as another machine would make it.
    pub(crate) fn another(&self) -> DockerTarget {
        Self::target(&self.project, self.port, self.folder.path())
    }

    fn target(project: &str, port: u16, root: &Path) -> DockerTarget {
        DockerTarget::new(TargetOptions {
            project: project.parse().expect("a name"),
            environment: "docker".parse().expect("a name"),
            settings: DockerSettings::default(),
            root: root.to_owned(),
            gateway: Gateway {
                port: Port::new(port).expect("a port"),
                ..Gateway::default()
            },
            program: Some(program()),
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
        Service {
            command,
            port: Port::new(8080),
            health: Health {
                ready: Some(Check::Http("/ready".to_owned())),
                interval: Period::from_millis(200),
                start_within: Period::from_secs(20),
                ..Health::default()
            },
            stop: Stop {
                grace: Period::from_secs(2),
                ..Stop::default()
            },
            ..Service::default()
        }
    }

    /// An image with the program, on a base that has what it is linked with.
    fn image(&self) -> String {
        let name = format!("platform.local/{}-orders:test", self.project);
        let context = self.folder.path().join("context");
        if !context.exists() {
            std::fs::create_dir(&context).expect("a folder");
            std::fs::copy(program(), context.join("program")).expect("a copy");
            let text =
                "FROM debian:bookworm-slim\nWORKDIR /app\nCOPY program .\nUSER 65532:65532\n";
            std::fs::write(context.join("Dockerfile"), text).expect("a file written");
            docker(&["build", "-q", "-t", &name, &context.display().to_string()]);
        }
        name
    }

    /// A group of that service.
    pub(crate) fn group(&self, id: &str, replicas: u32, service: Service) -> GroupSpec {
        let spec = ServiceSpec {
            artifact: Artifact {
                key: Digest::of(self.project.as_bytes()),
                place: Place::Image {
                    reference: self.image(),
                },
            },
            needs: Vec::new(),
            secrets: BTreeMap::new(),
            service: service.into(),
        };
        GroupSpec {
            id: id.parse().expect("a group"),
            replicas,
            digest: spec.digest(),
            spec,
        }
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
        let begun = Instant::now();
        loop {
            let seen = self.target.observe().await;
            if let Ok(seen) = &seen
                && found(seen)
            {
                return seen.clone();
            }
            assert!(
                begun.elapsed() < WITHIN,
                "waited in vain for {what}: {seen:#?}"
            );
            self.target.changed(Duration::from_millis(200)).await;
        }
    }

    pub(crate) async fn until_ready(&self, group: &GroupSpec) -> GroupSeen {
        let what = format!("{} to be ready", group.id);
        let seen = self
            .until(&what, |seen| {
                seen.groups.get(&group.id).is_some_and(|seen| {
                    seen.settled()
                        && seen.digest == group.digest
                        && seen.instances.len() == group.replicas as usize
                })
            })
            .await;
        seen.groups[&group.id].clone()
    }

    pub(crate) async fn until_state(
        &self,
        group: &GroupSpec,
        state: InstanceState,
    ) -> InstanceSeen {
        let what = format!("{} to be {state:?}", group.id);
        let found = |seen: &Observed| -> Option<InstanceSeen> {
            let group = seen.groups.get(&group.id)?;
            group
                .instances
                .iter()
                .find(|one| one.state == state)
                .cloned()
        };
        let seen = self.until(&what, |seen| found(seen).is_some()).await;
        found(&seen).expect("it was just there")
    }

    /// Asks the gateway once; status and body.
    pub(crate) async fn ask(&self, path: &str) -> (u16, String) {
        ask(self.port, path).await.unwrap_or((0, String::new()))
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

pub(crate) fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("an address").port()
}

/// All requests to one group, from a gateway on `port`.
pub(crate) fn traffic(port: u16, id: &GroupId) -> Traffic {
    let upstream = Upstream {
        internal: true,
        protocol: platform_blueprint::Protocol::Http,
        traffic: platform_blueprint::Traffic::default(),
        opt_in: platform_blueprint::OptIn::default(),
        slow_after: 250,
    };
    Traffic {
        ingress: Ingress {
            gateway: Gateway {
                port: Port::new(port).expect("a port"),
                ..Gateway::default()
            },
            routes: vec![Route {
                service: Some(id.service.clone()),
                ..Route::default()
            }],
            services: BTreeMap::from([(id.service.clone(), upstream)]),
            secrets: BTreeMap::new(),
        },
        splits: BTreeMap::from([(id.service.clone(), Split::all(id.clone()))]),
    }
}

async fn ask(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let asking = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status, body.to_owned()))
    };
    tokio::time::timeout(Duration::from_secs(10), asking)
        .await
        .unwrap_or(Err(std::io::ErrorKind::TimedOut.into()))
}
