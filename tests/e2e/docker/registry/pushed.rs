//! Images that are pushed to a registry.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{RIGHT, Registry, WRONG, committed, digest_of};
use crate::docker::{Project, docker};

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
