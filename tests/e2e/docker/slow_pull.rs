//! An image that never quite arrives: whoever waits for it is heard all the same, and nothing of it is left.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use platform_testkit::needs;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{AT_ONCE, Project, answers, docker, has_engine};
use crate::sandbox::eventually;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// What an engine may take until it asks for a layer, or lets go of one.
const SOON: Duration = Duration::from_secs(60);

/// How often a byte of the layer comes, of which there are a million.
const DROP_EVERY: Duration = Duration::from_millis(50);

/// What happens to the layer.
#[derive(Debug, PartialEq, Eq)]
enum Layer {
    Asked,
    LetGo,
}

/// A registry on a port of its own with one image, whose layer comes drop by drop.
struct Registry {
    host: String,
    told: Receiver<Layer>,
}

impl Registry {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let (tell, told) = channel();
        let own = host.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (host, tell) = (own.clone(), tell.clone());
                thread::spawn(move || serve(&stream, &host, &tell));
            }
        });
        Self { host, told }
    }

    fn image(&self) -> String {
        format!("{}/slow:1", self.host)
    }

    /// Waits until somebody waits for the layer.
    fn asked(&self) {
        assert_eq!(self.told.recv_timeout(SOON), Ok(Layer::Asked));
    }

    /// Waits until nobody waits for the layer any more.
    fn let_go(&self) {
        assert_eq!(self.told.recv_timeout(SOON), Ok(Layer::LetGo));
    }
}

fn digest(text: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}

/// - `host`: an engine fetches a layer, or what is in it, once for all who want it, so each registry has one of its own
fn config(host: &str) -> String {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [digest(&format!("what is in it, of {host}"))] },
    })
    .to_string()
}

fn manifest(host: &str) -> String {
    let config = config(host);
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": config.len(),
            "digest": digest(&config),
        },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "size": 1 << 20,
            "digest": digest(&format!("a layer of {host}")),
        }],
    })
    .to_string()
}

/// Answers what comes over a connection.
fn serve(stream: &TcpStream, host: &str, tell: &Sender<Layer>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    while let Some(first) = lines.next() {
        lines
            .by_ref()
            .take_while(|line| !line.is_empty())
            .for_each(drop);
        let path = first.split(' ').nth(1).unwrap_or_default();
        let (kind, content) = if path.contains("/manifests/") {
            (MANIFEST, manifest(host))
        } else if path.ends_with(&digest(&config(host))) {
            ("application/octet-stream", config(host))
        } else if path.contains("/blobs/") {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\nbegun",
                1 << 20
            );
            let _ = (&*stream).write_all(head.as_bytes());
            let _ = tell.send(Layer::Asked);
            // An engine lets go of a connection at the next byte that it has no use for.
            while (&*stream).write_all(b".").is_ok() {
                thread::sleep(DROP_EVERY);
            }
            let _ = tell.send(Layer::LetGo);
            return;
        } else {
            ("application/json", "{}".to_owned())
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ndocker-distribution-api-version: registry/2.0\r\ncontent-type: {kind}\r\n\
             docker-content-digest: {}\r\ncontent-length: {}\r\n\r\n",
            digest(&content),
            content.len()
        );
        let body = if first.starts_with("HEAD") {
            ""
        } else {
            &content
        };
        if (&*stream)
            .write_all(format!("{head}{body}").as_bytes())
            .is_err()
        {
            return;
        }
    }
}

impl Project {
    /// Has the service `api` run the image that does not arrive.
    fn pulling(&self, registry: &Registry) {
        let api = format!("image = \"{}\"\nreplicas = 2\n", registry.image());
        self.blueprint(&api, AT_ONCE);
    }

    /// Instances of the service `api`, with their states.
    fn instances(&self) -> String {
        let own = format!("label=platform.project={}", self.name);
        let words = [
            "ps",
            "-a",
            "--filter",
            &own,
            "--filter",
            "label=platform.service=api",
        ];
        docker(
            &[
                &words[..],
                &["--format", "{{.Label \"platform.group\"}} {{.State}}"],
            ]
            .concat(),
        )
    }
}

#[test]
fn whoever_stops_a_deploy_that_waits_for_an_image_is_heard() {
    if !has_engine() {
        return;
    }
    let registry = Registry::start();
    let project = Project::new("slow");
    project.pulling(&registry);
    let deploy = ["-e", "docker", "deploy", "--yes"];

    // A first deploy: nothing ran before, and nothing is left half-way.
    let run = project.sandbox.start(&deploy);
    registry.asked();
    let seen = run.end("-INT");
    assert_eq!(seen.code, 130, "{seen:#?}");
    registry.let_go();
    assert_eq!(project.instances(), "");
    project.serves();
    answers(project.port, "one");
    let serving = project.instances();
    assert_eq!(serving.lines().count(), 2, "{serving}");

    // A rollout: what served serves on.
    project.pulling(&registry);
    let run = project.sandbox.start(&deploy);
    registry.asked();
    let seen = run.end("-INT");
    assert_eq!(seen.code, 130, "{seen:#?}");
    registry.let_go();
    assert_eq!(project.instances(), serving);

    // The next run goes on with it, and is asked to go back.
    let run = project.sandbox.start(&deploy);
    registry.asked();
    // The image is fetched ahead, so the rollout may not have begun yet.
    eventually("there is a rollout to abort", || {
        project.run(&["rollout", "abort"]).code == 0
    });
    let seen = run.wait();
    assert_eq!(seen.code, 10, "{seen:#?}");
    registry.let_go();
    assert_eq!(project.instances(), serving);
    answers(project.port, "one");
    project.down();
}

#[test]
fn whoever_stops_a_deploy_that_waits_for_the_image_of_a_resource_is_heard() {
    if !has_engine() || !needs::docker_image("platform/redis:7") {
        return;
    }
    let registry = Registry::start();
    let project = Project::new("slowkv");
    let cached = |image: &str| {
        let cache =
            format!("\n[resources.cache]\nkind = \"redis\"\nimage = \"{image}\"\n{AT_ONCE}");
        project.blueprint(
            "build = { program = \"api\" }\nneeds = [\"cache\"]\nenv = { RESPOND = \"one\" }",
            &cache,
        );
    };
    project.responder();
    cached(&registry.image());
    let run = project.sandbox.start(&["-e", "docker", "deploy", "--yes"]);
    registry.asked();
    let seen = run.end("-INT");
    assert_eq!(seen.code, 130, "{seen:#?}");
    registry.let_go();
    cached("platform/redis:7");
    project.deploy();
    answers(project.port, "one");
    project.down();
}
