//! Images that are pulled from a registry, and what becomes of a deploy where they cannot be.

use std::fs;

use platform_testkit::needs;

use super::{REDIS, RIGHT, Registry, WRONG};
use crate::docker::{AT_ONCE, Project, answers, docker};

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
        "not found",
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
    for words in ["docker::not-pulled", "nauthorized", "docker login"] {
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
        &["docker::not-pulled", "nauthorized", "docker login"],
    );
    // and who cannot be reached is tried again for as long as a start may take.
    registry.child.kill().expect("a registry");
    registry.child.wait().expect("its end");
    goes_back(&project, &["docker::not-pulled", "connection refused"]);
    project.down();
}
