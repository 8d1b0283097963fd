//! A real registry with users: images pushed to it and pulled from it with Docker's credentials, references pinned to its digests.

mod pulled;
mod pushed;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use platform_testkit::needs;
use serde_json::Value;

use super::{Project, docker, has_engine};

/// `me` with the password `secret`, as `htpasswd -B` writes it.
const USERS: &str = "me:$2y$05$cTpVlPDVSB34vGfwiVYhQeiHN6PuX8bMnFeJ0r6h5d.bJ/Ggi5lcy\n";
/// `me:secret` and `me:wrong` as Docker keeps them.
const RIGHT: &str = "bWU6c2VjcmV0";
const WRONG: &str = "bWU6d3Jvbmc=";
const REDIS: &str = "platform/redis:7";

/// A registry on a port of its own; gone when dropped.
struct Registry {
    child: Child,
    host: String,
    folder: tempfile::TempDir,
}

impl Registry {
    /// Starts one; `None` where it is not installed.
    fn start() -> Option<Self> {
        let found = needs::answers("docker-registry", &["--version"]);
        if !has_engine() || !needs::is_there(found, "docker-registry") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (data, users) = (path("data"), path("users"));
        fs::write(&users, USERS).expect("written");
        let settings = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {data}\n\
             http:\n  addr: 127.0.0.1:0\nauth:\n  htpasswd:\n    realm: test\n    path: {users}\n"
        );
        fs::write(path("config.yml"), settings).expect("written");
        let mut child = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let host = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            rest.split(['"', ',']).next().map(str::to_owned)
        });
        // Somebody must read on, or it is stopped by a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let registry = Self {
            child,
            host: host.expect("it says where it listens"),
            folder,
        };
        registry.knows("own", &registry.with(RIGHT));
        Some(registry)
    }

    /// A configuration of Docker's with this login.
    fn with(&self, login: &str) -> String {
        format!(
            r#"{{ "auths": {{ "{}": {{ "auth": "{login}" }} }} }}"#,
            self.host
        )
    }

    /// Writes a configuration of Docker's; its folder.
    fn knows(&self, name: &str, config: &str) -> String {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("config.json"), config).expect("written");
        folder.display().to_string()
    }

    /// Pushes an image of the engine's with Docker's own client.
    fn push(&self, image: &str, name: &str) {
        let name = format!("{}/{name}", self.host);
        docker(&["tag", image, &name]);
        let config = self.folder.path().join("own").display().to_string();
        docker(&["--config", &config, "push", "--quiet", &name]);
    }

    fn get(&self, path: &str) -> String {
        let told = Command::new("curl")
            .args(["--silent", "--fail", "--user", "me:secret"])
            .args([
                "--header",
                "accept: application/vnd.oci.image.manifest.v1+json",
            ])
            .args([
                "--header",
                "accept: application/vnd.oci.image.index.v1+json",
            ])
            .arg(format!("http://{}/v2/{path}", self.host))
            .output()
            .expect("curl");
        assert!(told.status.success(), "{path}: {told:?}");
        String::from_utf8(told.stdout).expect("text")
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path)).expect("JSON")
    }

    /// What is attached to an image.
    fn attached(&self, repository: &str, digest: &str) -> Vec<Value> {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let manifest = |digest: &str| self.json(&format!("{repository}/manifests/{digest}"));
        let index = manifest(&digest.replace(':', "-"));
        let manifests = index["manifests"].as_array().expect("a list").iter();
        manifests
            .map(|one| manifest(&text(&one["digest"])))
            .map(|one| text(&one["layers"][0]["digest"]))
            .map(|blob| self.json(&format!("{repository}/blobs/{blob}")))
            .collect()
    }

    /// An image says where it is from, and has a statement of how it was made.
    fn tells(&self, repository: &str, digest: &str, title: &str, commit: &str) {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let manifest = |digest: &str| self.json(&format!("{repository}/manifests/{digest}"));
        let config = text(&manifest(digest)["config"]["digest"]);
        let config = self.json(&format!("{repository}/blobs/{config}"));
        let labels = &config["config"]["Labels"];
        let label = |name: &str| text(&labels[format!("org.opencontainers.image.{name}")]);
        assert_eq!(label("title"), title);
        assert_eq!(label("revision"), commit);
        assert_eq!(label("source"), "https://example.com/me/shop.git");
        let attached = self.attached(repository, digest);
        let [said] = &attached[..] else {
            panic!("one statement is attached to {repository}");
        };
        assert!(!said.to_string().contains("hunter2"), "{said}");
        assert_eq!(said["predicateType"], "https://slsa.dev/provenance/v1");
        let about = text(&said["subject"][0]["digest"]["sha256"]);
        assert_eq!(format!("sha256:{about}"), digest);
        let depends = &said["predicate"]["buildDefinition"]["resolvedDependencies"];
        assert_eq!(depends[0]["digest"]["gitCommit"], commit);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its names alone, as others' images may be the same ones.
        let all = format!(
            "docker images --digests --format '{{{{.Repository}}}}:{{{{.Tag}}}}\n{{{{.Repository}}}}@{{{{.Digest}}}}' \
             | grep '^{}/' | grep -v '<none>' | sort -u | xargs -r -n 1 docker rmi",
            self.host
        );
        let _ = Command::new("sh").args(["-c", &all]).output();
    }
}

/// A repository around the project, so that its commit is known.
fn committed(project: &Project) -> String {
    let folder = project.sandbox.project();
    let git = |words: &[&str]| {
        let told = Command::new("git")
            .args([
                "-c",
                "user.name=tester",
                "-c",
                "user.email=tester@localhost",
            ])
            .args(words)
            .current_dir(&folder)
            .env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z")
            .env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z")
            .output()
            .expect("git");
        assert!(told.status.success(), "{words:?}: {told:?}");
        String::from_utf8_lossy(&told.stdout).trim().to_owned()
    };
    git(&["init", "--quiet"]);
    git(&[
        "remote",
        "add",
        "origin",
        "https://me:hunter2@example.com/me/shop.git",
    ]);
    git(&["commit", "--quiet", "--allow-empty", "--message", "one"]);
    git(&["rev-parse", "HEAD"])
}

impl Project {
    /// Two services: one assembled from a program, one by a Dockerfile; neither is deployed.
    fn images(&self) {
        let Self { name, sandbox, .. } = self;
        self.responder();
        // Small, as it is packed for the registry by a program that is not optimized here.
        let text = "FROM scratch\nCOPY note /note\nUSER 65532:65532\nCMD [\"/note\"]\n";
        sandbox.write("tool/Dockerfile", text);
        sandbox.write("tool/note", "a note\n");
        sandbox.write(
            "platform.toml",
            &format!(
                r#"[project]
name = "{name}"

[services.api]
build = {{ program = "api" }}
command = ["api"]
port = 9000

[services.tool]
build = {{ dockerfile = "tool" }}
kind = "job"

[environments.docker]
provider = "docker"
"#
            ),
        );
    }

    /// A service that goes over a registry, and a cache from there.
    fn cached(&self, host: &str, cache: &str) {
        let api = r#"build = { program = "api" }
needs = ["cache"]
env = { RESPOND = "one" }"#;
        let rest = format!(
            r#"registry = "{host}/me"

[resources.cache]
kind = "redis"
image = "{cache}"
"#
        );
        self.blueprint(api, &rest);
    }

    /// Uses a configuration of Docker's from now on.
    fn configured(&mut self, folder: String) {
        self.sandbox.set("DOCKER_CONFIG", folder);
    }
}

/// The digest at the end of a reference in what `build` shows.
fn digest_of(shown: &Value, service: &str) -> String {
    let rows = shown["artifacts"].as_array().expect("artifacts");
    let row = rows
        .iter()
        .find(|row| row["service"] == service)
        .expect("a row");
    let reference = row["place"]["reference"].as_str().expect("a reference");
    reference.rsplit('@').next().expect("a digest").to_owned()
}
