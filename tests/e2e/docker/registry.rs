//! A real registry with users: images pushed to it and pulled from it with Docker's credentials, references pinned to its digests.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use platform_testkit::needs;
use serde_json::Value;

use super::{AT_ONCE, Project, answers, docker, has_engine};

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

#[test]
fn images_are_pushed_with_what_is_known_of_them() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let mut project = Project::new("push");
    project.images();
    let commit = committed(&project);
    let to = format!("{}/me", registry.host);
    let push = ["build", "--push", &to];
    // Nobody, the wrong one, a helper that fails, and one that knows.
    project.configured(registry.knows("none", "{}"));
    let refused = project.run(&push);
    assert_eq!(refused.code, 1, "{refused:#?}");
    assert!(
        refused.stderr.contains("image::unauthorized"),
        "{refused:#?}"
    );
    assert!(
        refused.stderr.contains("without credentials"),
        "{refused:#?}"
    );
    assert!(
        refused
            .stderr
            .contains(&format!("docker login {}", registry.host)),
        "{refused:#?}"
    );
    project.configured(registry.knows("wrong", &registry.with(WRONG)));
    let refused = project.run(&push);
    assert_eq!(refused.code, 1, "{refused:#?}");
    let said = refused
        .stderr
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(said.contains("credentials found for it"), "{refused:#?}");
    let bin = project.sandbox.project().join("bin");
    fs::create_dir(&bin).expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    project
        .sandbox
        .set("PATH", format!("{}:{path}", bin.display()));
    let by_helper = format!(r#"{{ "credHelpers": {{ "{}": "test" }} }}"#, registry.host);
    project.configured(registry.knows("helped", &by_helper));
    let helper = |text: &str| {
        let program = bin.join("docker-credential-test");
        fs::write(&program, format!("#!/bin/sh\nread -r server\n{text}\n")).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a program");
    };
    helper("echo the store is locked; exit 1");
    let refused = project.run(&push);
    assert!(
        refused.stderr.contains("image::credentials"),
        "{refused:#?}"
    );
    assert!(
        refused.stderr.contains("the store is locked"),
        "{refused:#?}"
    );
    helper(
        r#"test "$1" = get && echo "{ \"ServerURL\": \"$server\", \"Username\": \"me\", \"Secret\": \"secret\" }""#,
    );
    let json = [&push[..], &["--format", "json"]].concat();
    let pushed = project.run(&json).ok();
    let shown = pushed.line("artifacts");

    for service in ["api", "tool"] {
        let repository = format!("me/{}-{service}", project.name);
        registry.tells(&repository, &digest_of(&shown, service), service, &commit);
    }

    // Elsewhere the same commit makes the same image, and sends nothing again.
    let mut other = Project::new("push");
    other.images();
    assert_eq!(committed(&other), commit);
    other.configured(registry.knows("own", &registry.with(RIGHT)));
    let again = other.run(&json).ok();
    assert_eq!(
        digest_of(&again.line("artifacts"), "api"),
        digest_of(&shown, "api")
    );

    // Written to a folder, an image is one that an engine loads.
    project.run(&["build", "--save", "out"]).ok();
    let archive = project.sandbox.project().join("out/api.tar");
    let loaded = docker(&["load", "--quiet", "--input", &archive.display().to_string()]);
    let loaded = loaded.rsplit(": ").next().expect("a name").to_owned();
    let title = "{{index .Config.Labels \"org.opencontainers.image.title\"}}";
    assert_eq!(docker(&["image", "inspect", "-f", title, &loaded]), "api");
    docker(&["rmi", &loaded]);
    let layout = fs::read_to_string(project.sandbox.project().join("out/api/oci-layout"));
    assert!(layout.expect("a layout").contains("imageLayoutVersion"));
}

#[test]
fn what_runs_is_pulled_and_stays_what_it_is_until_it_is_looked_up_anew() {
    let Some(registry) = Registry::start() else {
        return;
    };
    if !needs::docker_image(REDIS) {
        return;
    }
    let mut project = Project::new("pinned");
    project.configured(registry.knows("own", &registry.with(RIGHT)));
    registry.push(REDIS, "redis:7");
    let cache = format!("{}/redis:7", registry.host);
    project.cached(&registry.host, &cache);
    project.responder();
    project.deploy();
    answers(project.port, "one");
    let lock = project.sandbox.read("platform.lock");
    let line = lock
        .lines()
        .find(|line| line.contains(&cache))
        .expect("it is pinned");
    let digest = line
        .split('"')
        .rfind(|part| part.starts_with("sha256:"))
        .expect("a digest");
    let runs = |what: &str| {
        docker(&[
            "inspect",
            "-f",
            "{{.Config.Image}}",
            &project.container(what),
        ])
    };
    assert_eq!(runs("cache"), format!("{cache}@{digest}"));
    // Our own went over the registry, too.
    let own = format!("{}/me/{}-api@sha256:", registry.host, project.name);
    assert!(runs("api-r1-1").starts_with(&own), "{}", runs("api-r1-1"));

    // The tag moves, and nothing happens until somebody asks.
    let context = project.sandbox.project().join("other");
    fs::create_dir(&context).expect("a folder");
    fs::write(
        context.join("Dockerfile"),
        format!("FROM {REDIS}\nLABEL another=one\n"),
    )
    .expect("written");
    let other = format!("{}/other", registry.host);
    docker(&[
        "build",
        "--quiet",
        "--tag",
        &other,
        &context.display().to_string(),
    ]);
    registry.push(&other, "redis:7");
    assert_eq!(project.run(&["plan", "--detailed-exitcode"]).code, 0);
    let told = project.run(&["build", "--update-images"]).ok();
    assert!(
        told.stderr.contains(&format!("pinned {cache}")),
        "{told:#?}"
    );
    assert!(!project.sandbox.read("platform.lock").contains(digest));
    let plan = project.run(&["plan", "--detailed-exitcode"]);
    assert_eq!(plan.code, 2, "{plan:#?}");
    assert!(plan.stdout.contains("cache"), "{plan:#?}");
    project.deploy();
    assert_eq!(
        docker(&[
            "inspect",
            "-f",
            "{{.Config.Labels.another}}",
            &project.container("cache")
        ]),
        "one"
    );
    answers(project.port, "one");
    project.down();
}

#[test]
fn what_cannot_be_pulled_is_told_in_the_words_of_the_registry() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let mut project = Project::new("unpulled");
    let image = format!("{}/none:1", registry.host);
    let Project { name, sandbox, .. } = &project;
    sandbox.write(
        "platform.toml",
        &format!("[project]\nname = \"{name}\"\n\n[services.api]\nimage = \"{image}\"\nkind = \"worker\"\n\n[environments.docker]\nprovider = \"docker\"\n"),
    );
    // Not known while it is pinned.
    project.configured(registry.knows("own", &registry.with(RIGHT)));
    let missing = project.run(&["deploy", "--yes"]);
    assert_eq!(missing.code, 1, "{missing:#?}");
    assert!(missing.stderr.contains("image::not-found"), "{missing:#?}");
    assert!(missing.stderr.contains(&image), "{missing:#?}");
    // Pinned once, and gone from the registry since.
    let digest = "a".repeat(64);
    project.sandbox.write(
        "platform.lock",
        &format!("version = 1\n\n[images]\n\"{image}\" = \"sha256:{digest}\"\n"),
    );
    let missing = project.run(&["deploy", "--yes"]);
    assert_eq!(missing.code, 1, "{missing:#?}");
    for words in [
        "docker::not-pulled",
        "manifest unknown",
        &image,
        "check the image's name and tag",
    ] {
        assert!(
            missing.stderr.contains(words),
            "{words}: {}",
            missing.stderr
        );
    }
    project.configured(registry.knows("wrong", &registry.with(WRONG)));
    let refused = project.run(&["deploy", "--yes"]);
    assert_eq!(refused.code, 1, "{refused:#?}");
    for words in ["docker::not-pulled", "unauthorized", "docker login"] {
        assert!(
            refused.stderr.contains(words),
            "{words}: {}",
            refused.stderr
        );
    }
    project.down();
}

#[test]
fn a_release_that_cannot_be_pulled_goes_back_with_the_words_of_who_refused() {
    let Some(mut registry) = Registry::start() else {
        return;
    };
    let mut project = Project::new("unpulled-2");
    project.serves();
    let image = format!("{}/api:2", registry.host);
    let digest = "a".repeat(64);
    project.sandbox.write(
        "platform.lock",
        &format!("version = 1\n\n[images]\n\"{image}\" = \"sha256:{digest}\"\n"),
    );
    let api = format!("image = \"{image}\"\nreplicas = 2");
    project.blueprint(&api, AT_ONCE);
    let text = project.sandbox.read("platform.toml");
    let text = text.replace("start_within = \"30s\"", "start_within = \"2s\"");
    project.sandbox.write("platform.toml", &text);
    let goes_back = |project: &Project, because: &[&str]| {
        let seen = project.run(&["deploy", "--yes"]);
        assert_eq!(seen.code, 10, "{seen:#?}");
        let mut lines = seen.stderr.lines();
        let said = lines.find(|line| line.contains("rolled back: "));
        let said = said.expect("a reason");
        for words in because {
            assert!(said.contains(words), "{words}: {}", seen.stderr);
        }
        answers(project.port, "one");
    };

    // It is known at once who is not let in,
    project.configured(registry.knows("wrong", &registry.with(WRONG)));
    goes_back(
        &project,
        &["docker::not-pulled", "unauthorized", "docker login"],
    );
    // and who cannot be reached is tried again for as long as a start may take.
    registry.child.kill().expect("a registry");
    registry.child.wait().expect("its end");
    goes_back(&project, &["docker::not-pulled", "connection refused"]);
    project.down();
}

#[test]
fn a_cargo_build_is_pushed_with_its_bill_of_materials() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let mut project = Project::new("bill");
    let files = [
        (
            "Cargo.toml",
            "[package]\nname = \"tea\"\nversion = \"1.2.0\"\nedition = \"2024\"\n\n[dependencies]\nleaf = { path = \"leaf\" }\n\n[workspace]\n",
        ),
        (
            "Cargo.lock",
            "version = 4\n\n[[package]]\nname = \"leaf\"\nversion = \"0.3.0\"\n\n[[package]]\nname = \"tea\"\nversion = \"1.2.0\"\ndependencies = [\n \"leaf\",\n]\n",
        ),
        ("src/main.rs", "fn main() {\n    leaf::steep();\n}\n"),
        (
            "leaf/Cargo.toml",
            "[package]\nname = \"leaf\"\nversion = \"0.3.0\"\nedition = \"2024\"\n",
        ),
        ("leaf/src/lib.rs", "pub fn steep() {}\n"),
    ];
    for (path, text) in files {
        project.sandbox.write(path, text);
    }
    let name = &project.name;
    project.sandbox.write(
        "platform.toml",
        &format!("[project]\nname = \"{name}\"\n\n[services.tea]\nbuild = {{ cargo = \"tea\", profile = \"dev\" }}\nkind = \"worker\"\n\n[environments.docker]\nprovider = \"docker\"\n"),
    );
    project.configured(registry.knows("own", &registry.with(RIGHT)));
    let to = format!("{}/me", registry.host);
    let pushed = project
        .run(&["build", "--push", &to, "--format", "json"])
        .ok();
    let digest = digest_of(&pushed.line("artifacts"), "tea");
    let attached = registry.attached(&format!("me/{}-tea", project.name), &digest);
    let bills = attached.iter();
    let bills: Vec<_> = bills
        .filter(|one| one["bomFormat"] == "CycloneDX")
        .collect();
    let [bill] = &bills[..] else {
        panic!("one bill of materials among {attached:#?}");
    };
    assert_eq!(bill["metadata"]["component"]["name"], "tea", "{bill:#}");
    assert_eq!(
        bill["metadata"]["component"]["version"], "1.2.0",
        "{bill:#}"
    );
    let parts = bill["components"].as_array().expect("a list");
    let [leaf] = &parts[..] else {
        panic!("one part: {bill:#}");
    };
    assert_eq!(leaf["name"], "leaf", "{leaf:#}");
    assert_eq!(leaf["version"], "0.3.0", "{leaf:#}");
}
