//! Gathers what is carried inside the program: the templates, and the sources of the services that the reference
//! blueprint builds, found from the blueprint and the manifests, so that nothing has to be listed twice.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// The folders of templates, each one template.
const TEMPLATES: [&str; 6] = ["shop", "minimal", "axum", "fastapi", "express", "static"];

/// Names that are never part of a template or of sources.
const LEFT_OUT: [&str; 6] = [
    "target",
    ".git",
    ".platform",
    "node_modules",
    "__pycache__",
    ".venv",
];

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let root = here.join("..").canonicalize()?;
    let mut files = BTreeMap::new();
    for template in TEMPLATES {
        let folder = here.join(template);
        gather(&folder, &format!("templates/{template}"), &mut files)?;
    }
    for path in [
        "Cargo.toml",
        "Cargo.lock",
        "clippy.toml",
        "rustfmt.toml",
        "blueprints/shop/platform.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
        files.insert(path.to_owned(), root.join(path));
    }
    for folder in sources(&root)? {
        let path = root.join(&folder);
        gather(&path, &folder, &mut files)?;
    }
    let mut text = String::from("&[\n");
    for (name, path) in files {
        let executable = fs::metadata(&path)?.permissions().mode() & 0o111 != 0;
        writeln!(
            text,
            "    Embedded {{ path: {name:?}, executable: {executable}, content: include_bytes!({:?}) }},",
            path.to_str().ok_or("a path that is no text")?
        )?;
    }
    text.push_str("]\n");
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("embedded.rs");
    fs::write(out, text)?;
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}

/// The folders of the packages that the reference blueprint builds, with the local packages they depend on.
fn sources(root: &Path) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let manifest: Table = fs::read_to_string(root.join("Cargo.toml"))?.parse()?;
    let workspace = manifest["workspace"].as_table().ok_or("no workspace")?;
    let mut packages = BTreeMap::new();
    for member in workspace["members"].as_array().into_iter().flatten() {
        let folder = member.as_str().unwrap_or_default();
        let manifest: Table = fs::read_to_string(root.join(folder).join("Cargo.toml"))?.parse()?;
        if let Some(name) = manifest
            .get("package")
            .and_then(|package| package.get("name"))
        {
            let name = name.as_str().unwrap_or_default().to_owned();
            packages.insert(name, (folder.to_owned(), manifest));
        }
    }
    let blueprint: Table =
        fs::read_to_string(root.join("blueprints/shop/platform.toml"))?.parse()?;
    let mut queue: Vec<String> = blueprint["services"]
        .as_table()
        .into_iter()
        .flat_map(Table::values)
        .filter_map(|service| service.get("build")?.get("cargo")?.as_str())
        .map(str::to_owned)
        .collect();
    let mut folders = BTreeSet::new();
    while let Some(name) = queue.pop() {
        let (folder, manifest) = packages
            .get(&name)
            .ok_or_else(|| format!("no package `{name}` in the workspace"))?;
        if !folders.insert(folder.clone()) {
            continue;
        }
        let local = |dependency: &str, value: &Value| {
            let shared = value.get("workspace").and_then(Value::as_bool) == Some(true);
            let value = if shared {
                workspace.get("dependencies")?.get(dependency)?
            } else {
                value
            };
            value.get("path")?;
            let package = value.get("package").and_then(Value::as_str);
            Some(package.unwrap_or(dependency).to_owned())
        };
        for table in ["dependencies", "build-dependencies", "dev-dependencies"] {
            if let Some(table) = manifest.get(table).and_then(Value::as_table) {
                queue.extend(table.iter().filter_map(|(name, value)| local(name, value)));
            }
        }
    }
    Ok(folders)
}

fn gather(
    folder: &Path,
    name: &str,
    files: &mut BTreeMap<String, PathBuf>,
) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let own = path.file_name().unwrap_or_default().to_string_lossy();
        if LEFT_OUT.contains(&own.as_ref()) {
            continue;
        }
        let name = format!("{name}/{own}");
        if path.is_dir() {
            gather(&path, &name, files)?;
        } else {
            println!("cargo::rerun-if-changed={}", path.display());
            files.insert(name, path);
        }
    }
    Ok(())
}
