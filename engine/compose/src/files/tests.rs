//! What is read of several files.

use super::*;
use crate::read::{Read, read};

/// What is read of files, the first of which are named.
fn of(named: usize, files: &[(&str, &str)]) -> Read {
    let documents: Vec<Document<'_>> = files[..named]
        .iter()
        .map(|(name, text)| Document { name, text })
        .collect();
    let open = |path: &str| {
        let mut found = files.iter().filter(|(name, _)| *name == path);
        found.next().map(|(_, text)| (*text).to_owned())
    };
    let read = read(&documents, &BTreeMap::new(), &open);
    read.map_err(|left| left.to_string()).unwrap()
}

/// What was told, with its files and lines.
fn told(read: &Read) -> Vec<String> {
    let one = |left: &Left| format!("{}:{} {left}", read.files[left.file], left.line);
    read.left.iter().map(one).collect()
}

#[test]
fn a_file_is_laid_over_those_before() {
    let read = of(
        2,
        &[
            (
                "compose.yml",
                "
services:
  web:
    image: web:1
    command: [serve]
    ports: ['80:80', '81:81']
    volumes: ['data:/data', 'cache:/cache']
    environment: [LOG=info, MODE=slow]
volumes: { data: , cache: }
",
            ),
            (
                "compose.override.yml",
                "
services:
  web:
    command: [serve, --debug]
    ports: ['80:80', '9000:9000']
    volumes: ['./data:/data']
    environment: { LOG: debug }
  mail: { image: 'mail:1', ports: [{ target: x, published: [] }] }
",
            ),
        ],
    );
    let told = told(&read);
    assert_eq!(told.len(), 1, "{told:?}");
    let place = "compose.override.yml:8 services.mail.ports: it cannot be read";
    assert!(told[0].starts_with(place), "{told:?}");
    let web = read.root.nearest(&["services", "web"]).json();
    assert_eq!(web["command"], serde_json::json!(["serve", "--debug"]));
    assert_eq!(
        web["ports"],
        serde_json::json!(["81:81", "80:80", "9000:9000"])
    );
    assert_eq!(
        web["volumes"],
        serde_json::json!(["cache:/cache", "./data:/data"])
    );
    let web = &read.file.services["web"];
    assert_eq!(web.environment.0["LOG"].as_deref(), Some("debug"));
    assert_eq!(web.environment.0["MODE"].as_deref(), Some("slow"));
    assert!(read.file.services.contains_key("mail"));
}

#[test]
fn what_is_included_or_extended_keeps_its_own_folder() {
    let read = of(
        1,
        &[
            (
                "compose.yml",
                "
include:
  - infra/compose.yml
  - path: [extra/one.yml, extra/two.yml]
    project_directory: .
services:
  web:
    extends: { file: common/base.yml, service: app }
    environment: { LOG: debug }
",
            ),
            (
                "common/base.yml",
                "
services:
  root: { build: ../app, env_file: [base.env, { path: more.env, required: false }] }
  app:
    extends: root
    volumes: ['./conf:/conf', 'data:/data', { type: bind, source: x, target: /x }]
    environment: { LOG: info, MODE: slow }
",
            ),
            (
                "infra/compose.yml",
                "
services: { db: { image: 'postgres:${PG}', secrets: [key] } }
secrets: { key: { file: key.txt } }
",
            ),
            ("infra/.env", "PG=15"),
            ("extra/one.yml", "services: { one: { build: one } }"),
            ("extra/two.yml", "services: { one: { command: two } }"),
        ],
    );
    assert_eq!(told(&read), <[String; 0]>::default());
    let seen = read.root.json();
    let web = &seen["services"]["web"];
    assert_eq!(web["build"], "./app");
    assert_eq!(
        web["env_file"],
        serde_json::json!(["./common/base.env", { "path": "./common/more.env", "required": false }])
    );
    assert_eq!(
        web["volumes"],
        serde_json::json!(["./common/conf:/conf", "data:/data", { "type": "bind", "source": "./common/x", "target": "/x" }])
    );
    assert_eq!(
        web["environment"],
        serde_json::json!({ "LOG": "debug", "MODE": "slow" })
    );
    assert_eq!(seen["services"]["db"]["image"], "postgres:15");
    assert_eq!(seen["secrets"]["key"]["file"], "./infra/key.txt");
    assert_eq!(seen["services"]["one"]["build"], "one");
    assert_eq!(seen["services"]["one"]["command"], "two");
}

#[test]
fn what_cannot_be_followed_is_told_where_it_stands() {
    let read = of(
        1,
        &[
            (
                "compose.yml",
                "
include: [gone.yml, both.yml, broken.yml, compose.yml]
services:
  web: { extends: { file: gone.yml, service: web } }
  api: { extends: api }
  job: { extends: { file: both.yml, service: none } }
  both: { image: a }
  tagged:
    ports: !reset []
",
            ),
            ("both.yml", "services: { both: { image: b } }"),
            ("broken.yml", "services: {"),
        ],
    );
    let told = told(&read);
    let has = |line: &str| {
        assert!(
            told.iter().any(|one| one.starts_with(line)),
            "{line}: {told:#?}"
        );
    };
    has("compose.yml:4 services.web.extends: `gone.yml` cannot be read");
    has("compose.yml:5 services.api.extends: it extends itself");
    has("compose.yml:6 services.job.extends: there is no such service");
    has("compose.yml:2 include: `gone.yml` cannot be read");
    has("compose.yml:7 services.both: the file that is included has it, too");
    has("broken.yml:1 it cannot be read as YAML");
    has("compose.yml:2 include: a file includes itself");
    has("compose.yml:9 `!reset` is not followed");
    assert_eq!(read.file.services["both"].image.as_deref(), Some("a"));
}

#[test]
fn a_file_that_many_extend_is_read_once_and_circles_end() {
    let read = of(
        1,
        &[
            (
                "compose.yml",
                "
include: [a.yml]
services:
  one: { extends: { file: base.yml, service: app } }
  two: { extends: { file: base.yml, service: app } }
",
            ),
            ("base.yml", "services: { app: { image: 'app:${TAG}' } }"),
            (
                "a.yml",
                "{ include: [b.yml, b.yml], services: { a: { image: a } } }",
            ),
            (
                "b.yml",
                "{ include: [a.yml, a.yml], services: { b: { image: b } } }",
            ),
        ],
    );
    let times = |name: &str| read.files.iter().filter(|file| *file == name).count();
    assert_eq!(times("base.yml"), 1);
    assert!(times("a.yml") + times("b.yml") < 8, "{:?}", read.files);
    let circles = told(&read);
    assert!(
        circles
            .iter()
            .any(|one| one.starts_with("b.yml:1 include: a file includes itself")),
        "{circles:?}"
    );
    let services: Vec<&String> = read.file.services.keys().collect();
    assert_eq!(services, ["a", "b", "one", "two"]);
}
