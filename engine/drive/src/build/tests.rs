//! Builds as a whole: real programs, real cargo.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use platform_blueprint::{ServiceName, Services};
use platform_decide::group::{Artifact, Place};

use super::{BuildError, BuildErrors, BuildEvent, BuildOptions, Builder};

struct Project {
    _temp: tempfile::TempDir,
    root: PathBuf,
    services: Services,
    events: Mutex<Vec<BuildEvent>>,
}

impl Project {
    fn new(files: &[(&str, &str)], services: &[(&str, &str)]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let project = Self {
            _temp: temp,
            root,
            services: services
                .iter()
                .map(|(name, json)| (name.parse().unwrap(), serde_json::from_str(json).unwrap()))
                .collect(),
            events: Mutex::default(),
        };
        for (path, text) in files {
            project.write(path, text);
        }
        project
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn builder(&self) -> Builder {
        Builder::new(&self.root)
    }

    fn keys(&self) -> BTreeMap<String, Artifact> {
        by_text(self.builder().keys(&self.services).unwrap())
    }

    async fn build(&self) -> Result<BTreeMap<String, Artifact>, BuildErrors> {
        self.build_with(&BuildOptions::default()).await
    }

    async fn build_with(
        &self,
        options: &BuildOptions,
    ) -> Result<BTreeMap<String, Artifact>, BuildErrors> {
        self.events.lock().unwrap().clear();
        let sink = |event| self.events.lock().unwrap().push(event);
        let built = self
            .builder()
            .build(&self.services, None, options, &sink)
            .await;
        built.map(by_text)
    }

    /// The services of each run of a program, in order.
    fn started(&self) -> Vec<Vec<String>> {
        let mut runs: Vec<Vec<String>> = Vec::new();
        let mut last = None;
        for event in self.events.lock().unwrap().iter() {
            match event {
                BuildEvent::Started { service, command } if last.as_ref() == Some(command) => {
                    runs.last_mut().unwrap().push(service.to_string());
                }
                BuildEvent::Started { service, command } => {
                    runs.push(vec![service.to_string()]);
                    last = Some(command.clone());
                }
                _ => last = None,
            }
        }
        runs
    }
}

fn by_text(artifacts: BTreeMap<ServiceName, Artifact>) -> BTreeMap<String, Artifact> {
    artifacts
        .into_iter()
        .map(|(name, artifact)| (name.to_string(), artifact))
        .collect()
}

fn folder(artifact: &Artifact) -> &Path {
    match &artifact.place {
        Place::Folder { path } => Path::new(path),
        other => panic!("{other:?}"),
    }
}

const SITE: &str = r#"{"build": {"command": "mkdir -p out/bin && cp index.html out/ && cp serve.sh out/bin/ && echo built >> ../log",
    "output": "out", "folder": "site"}}"#;

fn site() -> Project {
    Project::new(
        &[
            ("site/index.html", "one"),
            ("site/serve.sh", "#!/bin/sh\n"),
            ("other/x", ""),
            (".gitignore", "out\n"),
        ],
        &[("site", SITE)],
    )
}

#[tokio::test]
async fn a_command_is_run_when_its_inputs_change_and_only_then() {
    let project = site();
    let before = project.keys();
    let built = project.build().await.unwrap();
    assert_eq!(built, before, "a key is known before the build");
    let page = folder(&built["site"]).join("out/index.html");
    assert_eq!(fs::read_to_string(&page).unwrap(), "one");
    assert_eq!(project.build().await.unwrap(), built);
    project.write("other/x", "changed");
    assert_eq!(project.build().await.unwrap(), built);
    assert_eq!(
        fs::read_to_string(project.root.join("log")).unwrap(),
        "built\n"
    );
    project.write("site/index.html", "two");
    let again = project.build().await.unwrap();
    assert_ne!(again, built);
    let new_page = folder(&again["site"]).join("out/index.html");
    assert_eq!(fs::read_to_string(new_page).unwrap(), "two");
    assert_eq!(
        fs::read_to_string(page).unwrap(),
        "one",
        "the old artifact stays as it was"
    );
    // Back to what was built before: nothing to build.
    project.write("site/index.html", "one");
    assert_eq!(project.build().await.unwrap(), built);
    assert!(project.started().is_empty());
}

#[tokio::test]
async fn a_key_does_not_depend_on_where_the_project_is() {
    assert_eq!(site().keys()["site"].key, site().keys()["site"].key);
}

#[tokio::test]
async fn declared_inputs_are_the_only_ones() {
    let build = r#"{"build": {"command": "cp a out", "output": "out", "inputs": ["a", "generated/**/*.js"]}}"#;
    let project = Project::new(
        &[
            ("a", "1"),
            ("b", "1"),
            (".gitignore", "generated\n"),
            ("generated/x/y.js", "1"),
        ],
        &[("x", build)],
    );
    let first = project.keys();
    project.write("b", "2");
    assert_eq!(project.keys(), first);
    project.write("generated/x/y.js", "2");
    let second = project.keys();
    assert_ne!(
        second, first,
        "inputs that are named count even if git ignores them"
    );
    project.write("a", "2");
    assert_ne!(project.keys(), second);
}

#[tokio::test]
async fn what_a_failed_build_said_is_told_verbatim() {
    let build = r#"{"build": {"command": "echo compiling; echo 'x.c:1: no' >&2; exit 4", "output": "out"}}"#;
    let project = Project::new(&[("x.c", "")], &[("api", build)]);
    let errors = project.build().await.unwrap_err().0;
    let [BuildError::Failed(failure)] = errors.as_slice() else {
        panic!("{errors:?}");
    };
    assert_eq!(failure.exit_code, Some(4));
    let mut tail = failure.tail.clone();
    tail.sort();
    assert_eq!(tail, ["compiling", "x.c:1: no"]);
    assert!(
        errors[0]
            .to_string()
            .starts_with("the build of `api` failed")
    );
    assert!(errors[0].to_string().ends_with("exited with 4"));
    assert!(fs::read_to_string(&failure.log).unwrap().contains("x.c:1"));
    assert!(!project.builder().is_built(
        &"api".parse().unwrap(),
        &project.services["api"],
        &project.keys()["api"]
    ));
}

#[tokio::test]
async fn errors_have_codes() {
    for (build, code) in [
        (
            r#"{"command": "true", "output": "dist"}"#,
            "build::no-output",
        ),
        (
            r#"{"command": "no-such-program x", "output": "dist"}"#,
            "build::program-missing",
        ),
        (
            r#"{"command": "true", "folder": "none"}"#,
            "build::input-missing",
        ),
        (
            r#"{"command": "true", "inputs": "a[", "output": "d"}"#,
            "build::bad-pattern",
        ),
        (r#"{"program": "none"}"#, "build::input-missing"),
        (r#"{"cargo": "order"}"#, "build::package-unknown"),
        (
            r#"{"cargo": "order", "folder": "empty"}"#,
            "build::package-unknown",
        ),
        (r#"{"dockerfile": "."}"#, "build::not-for-this-provider"),
    ] {
        let service = format!(r#"{{"build": {build}}}"#);
        let project = Project::new(
            &[
                ("Cargo.toml", "[package]\nname = \"orders\"\n"),
                ("empty/x", ""),
                ("Dockerfile", "FROM scratch"),
            ],
            &[("api", &service)],
        );
        let errors = project.build().await.unwrap_err().0;
        assert_eq!(errors[0].code(), code, "{build}");
    }
}

#[tokio::test]
async fn a_build_sees_one_state_of_its_sources() {
    // The first run writes a lock file, as package managers do.
    let build =
        r#"{"build": {"command": "test -f lock || echo 1 > lock; cp lock out", "output": "out"}}"#;
    let project = Project::new(&[("a", "1")], &[("api", build)]);
    let before = project.keys();
    let artifacts = project.build().await.unwrap();
    assert_ne!(artifacts, before);
    assert_eq!(artifacts, project.keys());
    assert_eq!(project.started().len(), 2);
    // One that never holds still is refused, and named.
    let build = r#"{"build": {"command": "echo x >> noise; cp a out", "output": "out"}}"#;
    let project = Project::new(&[("a", "1")], &[("api", build)]);
    let errors = project.build().await.unwrap_err().0;
    assert_eq!(errors[0].code(), "build::sources-changed");
    assert!(errors[0].help().unwrap().contains("noise"));
}

#[tokio::test]
async fn builds_run_side_by_side_but_not_more_than_allowed() {
    // Each waits for the other: alone, neither ends.
    let build = |mine: &str, other: &str| {
        format!(
            r#"{{"build": {{"command": "touch ../{mine}; while ! test -f ../{other}; do sleep 0.01; done; cp x out",
                "output": "out", "folder": "{mine}-sources"}}}}"#
        )
    };
    let project = Project::new(
        &[("a-sources/x", ""), ("b-sources/x", "")],
        &[("a", &build("a", "b")), ("b", &build("b", "a"))],
    );
    let options = BuildOptions {
        parallelism: 2,
        ..BuildOptions::default()
    };
    tokio::time::timeout(Duration::from_secs(60), project.build_with(&options))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn an_interrupted_build_leaves_nothing_half_done() {
    let build = r#"{"build": {"command": "mkdir -p out; echo half > out/a; echo ready; sleep 1000", "output": "out"}}"#;
    let project = Project::new(&[("a", "1")], &[("api", build)]);
    let options = BuildOptions::default();
    let stop = options.stop.clone();
    let sink = |event| {
        if matches!(event, BuildEvent::Output { .. }) {
            stop.cancel();
        }
    };
    let outcome = project
        .builder()
        .build(&project.services, None, &options, &sink)
        .await;
    assert_eq!(outcome.unwrap_err().0[0].code(), "build::interrupted");
    let artifacts = project.root.join(".platform/artifacts");
    assert_eq!(fs::read_dir(artifacts).map_or(0, Iterator::count), 0);
}

#[tokio::test]
async fn a_program_is_kept_with_what_it_needs_beside_it() {
    let service = r#"{"build": {"program": "bin/run.sh", "with": ["bin/data", "LICENSE"]}}"#;
    let project = Project::new(
        &[
            ("bin/run.sh", "#!/bin/sh\n"),
            ("bin/data/x", "1"),
            ("LICENSE", ""),
        ],
        &[("api", service)],
    );
    let first = project.build().await.unwrap();
    for path in ["run.sh", "data/x", "LICENSE"] {
        assert!(folder(&first["api"]).join(path).is_file(), "{path}");
    }
    project.write("bin/data/x", "2");
    assert_ne!(project.keys(), first);
}

#[tokio::test]
async fn an_installed_program_is_known_by_its_command_and_its_files() {
    let service = r#"{"command": ["nginx", "-c", "nginx.conf"], "folder": "edge"}"#;
    let project = Project::new(
        &[("edge/nginx.conf", "1"), ("edge/x", "1")],
        &[("edge", service)],
    );
    let first = project.build().await.unwrap();
    assert_eq!(first["edge"].place, Place::Installed);
    project.write("edge/x", "2");
    assert_eq!(project.keys(), first);
    project.write("edge/nginx.conf", "2");
    assert_ne!(project.keys(), first);
}

const MAIN: &str = "fn main() { println!(\"{}\", kit::hello()); }\n";

/// A workspace of three packages. Their names begin with `mark`, as all tests may share one target folder.
fn workspace(mark: &str) -> Project {
    let member = |name: &str| {
        format!(
            "[package]\nname = \"{mark}-{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
             [dependencies]\nkit.workspace = true\n"
        )
    };
    let build =
        |name: &str| format!(r#"{{"build": {{"cargo": "{mark}-{name}", "profile": "dev"}}}}"#);
    Project::new(
        &[
            (
                "Cargo.toml",
                &format!(
                    "[workspace]\nmembers = [\"s/*\"]\nresolver = \"2\"\n[workspace.dependencies]\n\
                     kit = {{ package = \"{mark}-kit\", path = \"s/kit\" }}\n"
                ),
            ),
            (
                "s/kit/Cargo.toml",
                &format!(
                    "[package]\nname = \"{mark}-kit\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"
                ),
            ),
            (
                "s/kit/src/lib.rs",
                "pub fn hello() -> &'static str { include_str!(\"../../../hello.txt\") }\n",
            ),
            ("hello.txt", "hello"),
            ("s/a/Cargo.toml", &member("a")),
            ("s/a/src/main.rs", MAIN),
            ("s/b/Cargo.toml", &member("b")),
            ("s/b/src/main.rs", MAIN),
        ],
        &[
            ("a", &build("a")),
            ("b", &build("b")),
            ("b-too", &build("b")),
        ],
    )
}

#[tokio::test]
async fn cargo_builds_all_packages_in_one_run_and_only_what_changed() {
    let project = workspace("one-run");
    let first = project.build().await.unwrap();
    // The lock file that the first run writes is an input, so there are two.
    assert!(
        project
            .started()
            .iter()
            .all(|run| *run == ["a", "b", "b-too"])
    );
    assert_eq!(first["b"].key, first["b-too"].key);
    let program = folder(&first["a"]).join("one-run-a");
    let said = std::process::Command::new(program).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "hello\n");
    let uncovered = project.events.lock().unwrap().iter().any(|event| {
        matches!(event, BuildEvent::Uncovered { files, .. } if files == &[PathBuf::from("hello.txt")])
    });
    assert!(
        uncovered,
        "a file read from outside its package is told: {:?}",
        project.events
    );

    let declared = first_with_inputs(&project);
    project.write("hello.txt", "good day");
    assert_ne!(
        first_with_inputs(&project),
        declared,
        "inputs that are named count"
    );

    project.write("s/a/src/main.rs", "fn main() {}\n");
    let second = project.build().await.unwrap();
    assert_eq!(project.started(), [["a"]]);
    assert_ne!(second["a"].key, first["a"].key);
    assert_eq!(second["b"].key, first["b"].key);

    project.write("s/kit/src/lib.rs", "pub fn hello() -> u8 { 1 }\n");
    let third = project.build().await.unwrap();
    assert!(
        third
            .iter()
            .all(|(name, artifact)| artifact.key != second[name].key)
    );
}

/// The key of `a`, had its build named the file it reads from outside.
fn first_with_inputs(project: &Project) -> platform_decide::digest::Digest {
    let build = r#"{"build": {"cargo": "one-run-a", "profile": "dev", "inputs": "*.txt"}}"#;
    let services = BTreeMap::from([("a".parse().unwrap(), serde_json::from_str(build).unwrap())]);
    let artifacts = by_text(project.builder().keys(&services).unwrap());
    artifacts["a"].key.clone()
}

#[tokio::test]
async fn one_broken_package_does_not_keep_the_others_from_being_built() {
    let project = workspace("broken");
    project.write("s/a/src/main.rs", "fn main() { oops }\n");
    let errors = project.build().await.unwrap_err().0;
    let [BuildError::Failed(failure)] = errors.as_slice() else {
        panic!("{errors:?}");
    };
    assert_eq!(failure.services, ["a".parse::<ServiceName>().unwrap()]);
    assert!(
        failure
            .tail
            .iter()
            .any(|line| line.contains("cannot find value `oops`"))
    );
    let keys = project.keys();
    assert!(project.builder().store().is_built(&keys["b"].key));
    assert!(!project.builder().store().is_built(&keys["a"].key));
}

#[tokio::test]
async fn ten_thousand_files_are_known_in_a_blink() {
    let project = Project::new(
        &[],
        &[(
            "x",
            r#"{"build": {"command": "true", "folder": "src", "output": "out"}}"#,
        )],
    );
    for folder in 0..100 {
        let folder = project.root.join(format!("src/{folder}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..100 {
            fs::write(folder.join(format!("{file}.rs")), format!("{file}")).unwrap();
        }
    }
    let started = Instant::now();
    let first = project.keys();
    // Unoptimised and on a busy machine; well under a second otherwise.
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(project.keys(), first);
}

#[tokio::test]
async fn only_the_named_services_are_built() {
    let project = workspace("only");
    let only = BTreeSet::from(["a".parse().unwrap()]);
    let built = project
        .builder()
        .build(
            &project.services,
            Some(&only),
            &BuildOptions::default(),
            &|_| {},
        )
        .await
        .unwrap();
    assert_eq!(built.keys().cloned().collect::<BTreeSet<_>>(), only);
    let keys = project.keys();
    assert!(!project.builder().store().is_built(&keys["b"].key));
}
