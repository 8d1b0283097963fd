//! Compose files of four shapes: imported, exported and imported again, and the shop as a Compose file.
//!
//! What is exported is held against the schema of the Compose Specification and against `docker-compose` itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use insta::assert_snapshot;
use platform_compose::File;
use platform_compose::model::Service;

use platform_testkit::needs;

use crate::docker::{build_responder, has_engine};
use crate::sandbox::Sandbox;

fn shape(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/compose/{name}"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// A sandbox with the files of a shape.
fn sandbox(name: &str) -> Sandbox {
    let sandbox = empty();
    copy(&shape(name), &sandbox.project());
    sandbox
}

/// A sandbox in which the engine is found as we find it.
fn empty() -> Sandbox {
    let mut sandbox = Sandbox::empty();
    for variable in ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        if let Ok(value) = std::env::var(variable) {
            sandbox.set(variable, value);
        }
    }
    sandbox
}

fn has(program: &str) -> bool {
    needs::is_there(needs::answers(program, &["--version"]), program)
}

/// Images that an exported file names; gone when dropped.
struct Images<'a>(&'a Sandbox, &'a str);

impl Drop for Images<'_> {
    fn drop(&mut self) {
        let own = regex::Regex::new(r"platform\.local/\S+").expect("a pattern");
        let text = fs::read_to_string(self.0.project().join(self.1)).unwrap_or_default();
        for name in own.find_iter(&text) {
            // By what it is, so that it goes under every name.
            let (_, tag) = name.as_str().rsplit_once(':').unwrap_or_default();
            let image = match tag.strip_prefix("sha256-") {
                Some(digits) => format!("sha256:{digits}"),
                None => name.as_str().to_owned(),
            };
            let _ = Command::new("docker").args(["rmi", "-f", &image]).output();
        }
    }
}

/// Holds a Compose file against the schema, and has `docker-compose` read it.
#[track_caller]
fn is_compose(folder: &Path, file: &str) {
    let checks: [(&str, &[&str]); 2] = [
        (
            "check-jsonschema",
            &["--builtin-schema", "vendor.compose-spec", file],
        ),
        ("docker-compose", &["--file", file, "config", "--quiet"]),
    ];
    for (program, words) in checks {
        if has(program) {
            let told = Command::new(program)
                .args(words)
                .current_dir(folder)
                .output()
                .expect("it runs");
            assert!(told.status.success(), "{program}: {told:?}");
        }
    }
}

/// Imports a shape's Compose file; what was seen.
fn import(sandbox: &Sandbox, file: &str) -> String {
    let seen = sandbox
        .run(&["import", "compose", file, "--format", "json"])
        .ok();
    let line = seen.line("imported");
    let left = line["left"].as_array().expect("a list");
    assert!(!left.is_empty());
    for one in left {
        let why = one["why"].as_str().expect("a reason");
        assert!(!why.is_empty() && one["code"].is_string(), "{one}");
    }
    for secret in line["secrets"].as_array().expect("a list") {
        let name = secret.as_str().expect("a name");
        sandbox.pipe(&["secrets", "set", name], "a-value").ok();
    }
    sandbox.run(&["validate"]).ok();
    let written = sandbox.read("platform.toml");
    for value in ["a-password-of-the-tests", "0123456789abcdef"] {
        assert!(!written.contains(value), "a secret is written: {written}");
        assert!(
            !format!("{}{}", seen.stdout, seen.stderr).contains(value),
            "a secret is told"
        );
    }
    written
}

#[test]
fn a_blueprint_is_made_of_each_shape() {
    for (name, file) in SHAPES {
        let written = import(&sandbox(name), file);
        assert_snapshot!(format!("import_{name}"), written);
    }
}

const SHAPES: [(&str, &str); 4] = [
    ("board", "docker-compose.yml"),
    ("federation", "compose.yaml"),
    ("monitoring", "docker-compose.yaml"),
    ("warehouse", "compose.yaml"),
];

/// What Compose says of a service in words that a blueprint has, too, in one form.
fn words(service: &Service) -> BTreeMap<&'static str, String> {
    let mut words = BTreeMap::new();
    let mut put = |key, value: Option<String>| words.extend(value.map(|value| (key, value)));
    let text = |text: &platform_compose::form::Text| text.0.clone();
    let limits = service.deploy.as_ref();
    let limits = limits.and_then(|deploy| deploy.resources.as_ref()?.limits.as_ref());
    let memory = service
        .mem_limit
        .as_ref()
        .or(limits.and_then(|own| own.memory.as_ref()));
    let cpus = service
        .cpus
        .as_ref()
        .or(limits.and_then(|own| own.cpus.as_ref()));
    put(
        "memory",
        memory
            .and_then(|own| platform_compose::form::bytes(&own.0))
            .map(|bytes| bytes.to_string()),
    );
    put("cpus", cpus.map(text));
    put("user", service.user.as_ref().map(text));
    put("folder", service.working_dir.clone());
    put(
        "signal",
        service
            .stop_signal
            .clone()
            .filter(|signal| signal != "SIGTERM"),
    );
    let grace = service
        .stop_grace_period
        .as_deref()
        .and_then(platform_compose::form::millis);
    put(
        "grace",
        grace
            .filter(|grace| *grace != 10_000)
            .map(|grace| grace.to_string()),
    );
    let restart = service.restart.as_ref().map(text);
    let restart = restart.map(|word| {
        word.split(':')
            .next()
            .unwrap_or_default()
            .replace("unless-stopped", "always")
    });
    put("restart", restart.filter(|word| word != "always"));
    let logs = service
        .logging
        .as_ref()
        .map(|logs| logs.options.clone().0)
        .unwrap_or_default();
    let size = logs.get("max-size").cloned().flatten();
    let size = size
        .and_then(|size| platform_compose::form::bytes(&size))
        .filter(|size| *size != 10 << 20);
    put("log size", size.map(|size| size.to_string()));
    words
}

#[test]
fn what_was_carried_is_the_same_after_the_round() {
    if !has_engine() {
        return;
    }
    for (name, file) in SHAPES {
        let sandbox = sandbox(name);
        let blueprint = import(&sandbox, file);
        sandbox
            .run(&["export", "compose", "--out", "exported.yaml"])
            .ok();
        let _images = Images(&sandbox, "exported.yaml");
        is_compose(&sandbox.project(), "exported.yaml");
        let exported = sandbox.read("exported.yaml");
        assert!(!exported.contains("a-value"), "{name}: a secret is written");

        // Taken back, it is the blueprint that it was made of, and nothing of it is lost.
        let again = sandbox
            .run(&[
                "import",
                "compose",
                "exported.yaml",
                "-o",
                "again.toml",
                "--format",
                "json",
            ])
            .ok();
        assert_eq!(
            again.line("imported")["left"],
            serde_json::json!([]),
            "{name}"
        );
        assert_eq!(sandbox.read("again.toml"), blueprint, "{name}");

        // And its own words say what the first file's said, wherever the blueprint took them over.
        let read = |path: &str| {
            let variables = platform_compose::dotenv(
                &fs::read_to_string(sandbox.project().join(".env")).unwrap_or_default(),
                &BTreeMap::new(),
            );
            File::read(&sandbox.read(path), &variables).unwrap_or_else(|left| panic!("{left}"))
        };
        let (before, after) = (read(file), read("exported.yaml"));
        let mut compared = 0;
        for (service, asked) in &before.services {
            let own = service.replace('_', "-");
            let instances = [own.clone(), format!("{own}-1")];
            let Some(made) = instances.iter().find_map(|key| after.services.get(key)) else {
                continue;
            };
            if made
                .labels
                .0
                .get("platform.role")
                .cloned()
                .flatten()
                .as_deref()
                != Some("service")
            {
                continue;
            }
            if asked.build.is_none() {
                assert_eq!(made.image, asked.image, "{name}: {service}");
            }
            let made = words(made);
            for (word, value) in words(asked) {
                // A job is never started again, whatever was asked for.
                assert_eq!(made.get(word), Some(&value), "{name}: {service}: {word}");
            }
            compared += 1;
        }
        assert!(compared > 2, "{name}: {compared}");
    }
}

#[test]
fn a_file_that_was_changed_after_the_export_is_told_of() {
    if !has_engine() {
        return;
    }
    let sandbox = sandbox("monitoring");
    import(&sandbox, "docker-compose.yaml");
    sandbox.run(&["export", "compose"]).ok();
    let text = sandbox.read("compose.yaml");
    sandbox.write("first.yaml", &text);
    let _images = Images(&sandbox, "first.yaml");
    sandbox.write(
        "compose.yaml",
        &text.replace("pids_limit: 2048", "pids_limit: 64"),
    );
    let seen = sandbox
        .run(&[
            "import",
            "compose",
            "compose.yaml",
            "-o",
            "-",
            "--format",
            "json",
        ])
        .ok();
    let left = seen.line("imported")["left"].clone();
    assert_eq!(left[0]["code"], "compose::edited", "{left}");
    // It is ours still, so it is written anew; what is not ours is not.
    sandbox.run(&["export", "compose"]).ok();
    assert_eq!(sandbox.read("compose.yaml"), text);
    sandbox.write("compose.yaml", "services: {}\n");
    assert_snapshot!(
        "export_over_another",
        sandbox.platform(&["export", "compose"])
    );
}

#[test]
fn what_is_no_compose_file_is_refused_with_its_place() {
    let sandbox = Sandbox::empty();
    sandbox.write("bad.yaml", "services:\n  web:\n    image: [a\n");
    assert_snapshot!(
        "import_no_yaml",
        sandbox.platform(&["import", "compose", "bad.yaml"])
    );
    sandbox.write("none.yaml", "version: '3'\n");
    assert_snapshot!(
        "import_no_services",
        sandbox.platform(&["import", "compose", "none.yaml"])
    );
    sandbox.write("platform.toml", "");
    assert_snapshot!(
        "import_over_another",
        sandbox.platform(&["import", "compose", "none.yaml"])
    );
}

#[test]
fn the_shop_can_be_exported() {
    if !has_engine() {
        return;
    }
    let sandbox = empty();
    // A program that is there already takes the place of each build.
    let blueprint = include_str!("../../blueprints/shop/platform.toml");
    let lines = blueprint.lines().filter(|line| !line.contains(".build."));
    let lines = lines.map(|line| match line.strip_prefix("build = ") {
        Some(_) => "build = { program = \"program\" }",
        None => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    sandbox.write("platform.toml", &text);
    build_responder(&sandbox.project().join("program"));
    sandbox.run(&["-e", "docker", "export", "compose"]).ok();
    let _images = Images(&sandbox, "compose.yaml");
    is_compose(&sandbox.project(), "compose.yaml");
    let text = sandbox.read("compose.yaml");
    let (services, _) = text.split_once("x-platform:").expect("what it was made of");
    assert_snapshot!("export_shop", plain(services));
}

#[test]
fn a_service_called_gateway_keeps_its_name() {
    if !has_engine() {
        return;
    }
    let sandbox = empty();
    let service = |name: &str, rest: &str| {
        let build = "build = { program = \"program\" }\nport = 9000\n";
        format!("[services.{name}]\n{build}command = [\"program\"]\n{rest}\n")
    };
    let text = [
        "[project]\nname = \"own\"\n".to_owned(),
        service("gateway", ""),
        service("shop", "needs = [\"gateway\"]\n"),
        "[[routes]]\npath = \"/\"\nservice = \"shop\"\n".to_owned(),
        "[environments.docker]\nprovider = \"docker\"\n".to_owned(),
    ];
    sandbox.write("platform.toml", &text.join("\n"));
    build_responder(&sandbox.project().join("program"));
    sandbox.run(&["-e", "docker", "export", "compose"]).ok();
    let _images = Images(&sandbox, "compose.yaml");
    is_compose(&sandbox.project(), "compose.yaml");
    let text = sandbox.read("compose.yaml");
    let url = text.lines().find(|line| line.contains("GATEWAY_URL"));
    assert!(
        url.is_some_and(|url| url.contains("http://gateway-2:")),
        "{text}"
    );
    assert!(text.contains("hostname: gateway-2"), "{text}");
}

#[test]
fn zones_are_exported_to_instances_and_gateway() {
    if !has_engine() {
        return;
    }
    let sandbox = empty();
    let blueprint = r#"[project]
name = "zoned"

[services.api]
build = { program = "program" }
command = ["program"]
port = 9000
replicas = 2
zones = ["a", "b"]

[[routes]]
path = "/"
service = "api"

[gateway]
zone = "b"

[environments.docker]
provider = "docker"
"#;
    sandbox.write("platform.toml", blueprint);
    build_responder(&sandbox.project().join("program"));
    sandbox.run(&["-e", "docker", "export", "compose"]).ok();
    let _images = Images(&sandbox, "compose.yaml");
    is_compose(&sandbox.project(), "compose.yaml");
    let text = sandbox.read("compose.yaml");
    let (_, services) = text.split_once("\n  api-1:\n").expect("the first");
    let (first, rest) = services.split_once("\n  api-2:\n").expect("the second");
    for (service, zone) in [(first, "a"), (rest, "b")] {
        for line in ["PLATFORM_ZONE", "platform.zone"] {
            let line = format!("      {line}: {zone}");
            let is_there = service.lines().any(|written| written == line);
            assert!(is_there, "{line} in {service}");
        }
    }
    let config: serde_json::Value =
        serde_json::from_str(&sandbox.read(".platform/compose.files/gateway.json")).expect("JSON");
    let api = &config["services"]["api"];
    assert_eq!(api["zone"], "b", "{api:#}");
    let endpoints = &api["versions"]["r1"]["endpoints"];
    assert_eq!(endpoints[0]["zone"], "a", "{endpoints:#}");
    assert_eq!(endpoints[1]["zone"], "b", "{endpoints:#}");
}

/// A Compose file without what differs from build to build.
fn plain(text: &str) -> String {
    let filters = [
        // Our own program with what it is loaded with, if it is loaded with anything.
        (
            r"(?m)^( +- )/platform/(lib/.*\n +- --library-path\n +- /platform/lib\n +- /platform/)?platform$",
            "${1}[platform]",
        ),
        (
            r"platform\.local/platform:[0-9a-f]+",
            "platform.local/platform:[build]",
        ),
        (r"platform_program-[0-9a-f]+", "platform_program-[build]"),
        (r"sha256[:-][0-9a-f]{64}", "[digest]"),
    ];
    filters.iter().fold(text.to_owned(), |text, (pattern, by)| {
        let pattern = regex::Regex::new(pattern).expect("a pattern");
        pattern.replace_all(&text, *by).into_owned()
    })
}
