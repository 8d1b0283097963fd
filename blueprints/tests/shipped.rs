//! Every blueprint we ship, and every one shown in the documentation, is valid.

#![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]

#[path = "../benches/generate/mod.rs"]
mod generate;

use std::fs;
use std::path::{Path, PathBuf};

use platform_blueprint::{Blueprint, EnvironmentName, Strategy, format, service_order};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Parses a text, resolves each of its environments, and shows what is wrong.
fn valid(text: &str, name: &str) -> Blueprint {
    let parsed = Blueprint::parse(text, name)
        .map_err(|problems| panic!("{name}: {:?}", miette::Report::new(problems)))
        .unwrap();
    for environment in parsed.blueprint.environments() {
        let resolved = parsed.blueprint.resolve(Some(&environment.name)).unwrap();
        let json = serde_json::to_string(&resolved).unwrap();
        assert_eq!(
            serde_json::from_str::<platform_blueprint::Resolved>(&json).unwrap(),
            resolved,
            "{name} as a release keeps it"
        );
    }
    assert!(
        parsed.warnings.is_empty(),
        "{name}: {:?}",
        miette::Report::new(parsed.warnings)
    );
    parsed.blueprint
}

/// The files below a folder whose name ends so.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && !["target", "node_modules", "fuzz"].contains(&name.as_str()) {
            found.extend(files(&path, end));
        } else if name.ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The fenced blocks of a document that are blueprints: `toml blueprint`, or
/// `toml` with a `[project]` in it.
fn fenced(document: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<(bool, String)> = None;
    for line in document.lines() {
        match (&mut block, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => {
                let words: Vec<_> = info.split([' ', ',']).collect();
                let toml = words.first() == Some(&"toml");
                let marked = toml && words.contains(&"blueprint");
                block = Some((marked, if toml { String::new() } else { "\0".to_owned() }));
            }
            (Some(_), Some(_)) => {
                let (marked, text) = block.take().unwrap();
                if !text.starts_with('\0') && (marked || text.contains("[project]\n")) {
                    blocks.push(text);
                }
            }
            (Some((_, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn shipped_blueprints_are_valid_and_formatted() {
    let shipped = files(&root().join("blueprints"), "platform.toml");
    assert!(shipped.len() >= 2, "{shipped:?}");
    for path in shipped {
        let text = fs::read_to_string(&path).unwrap();
        valid(&text, &path.display().to_string());
        assert_eq!(
            format(&text).as_deref(),
            Some(text.as_str()),
            "{}",
            path.display()
        );
    }
}

#[test]
fn blueprints_in_documents_are_valid() {
    let root = root();
    let mut documents = files(&root.join("docs"), ".md");
    documents.push(root.join("README.md"));
    let mut count = 0;
    for path in documents.iter().filter(|path| path.is_file()) {
        for block in fenced(&fs::read_to_string(path).unwrap()) {
            // A part is shown without the project that it belongs to.
            let text = if block.contains("[project]") {
                block
            } else {
                format!("[project]\nname = \"shown\"\n\n{block}")
            };
            valid(&text, &path.display().to_string());
            count += 1;
        }
    }
    assert!(count > 0, "no blueprint in {documents:?}");
}

#[test]
fn shop_starts_its_database_before_orders_and_orders_before_web() {
    let path = root().join("blueprints/shop/platform.toml");
    let shop = valid(&fs::read_to_string(path).unwrap(), "shop");
    let local = shop.resolve(None).unwrap();
    assert_eq!(local.environment.name, "local");
    let layers: Vec<Vec<String>> = service_order(&local)
        .iter()
        .map(|layer| layer.iter().map(ToString::to_string).collect())
        .collect();
    assert_eq!(layers, [vec!["orders"], vec!["web"]]);
    let kubernetes = shop
        .resolve(Some(&EnvironmentName::new("kubernetes").unwrap()))
        .unwrap();
    assert_eq!(kubernetes.services["orders"].replicas, 3);
}

/// A canary that nobody asks anything has nothing to be judged by, and stays.
#[test]
fn shop_waits_for_traffic_only_where_there_is_some() {
    let path = root().join("blueprints/shop/platform.toml");
    let shop = valid(&fs::read_to_string(path).unwrap(), "shop");
    for (environment, strategy) in [
        ("local", Strategy::Rolling),
        ("docker", Strategy::Rolling),
        ("kubernetes", Strategy::Canary),
    ] {
        let name = EnvironmentName::new(environment).unwrap();
        let resolved = shop.resolve(Some(&name)).unwrap();
        for (service, spec) in &resolved.services {
            assert_eq!(
                spec.rollout.strategy, strategy,
                "{service} in {environment}"
            );
        }
    }
}

#[test]
fn generated_blueprints_are_valid() {
    for services in [1, 7, 100] {
        valid(&generate::generate(services), "generated");
    }
}
