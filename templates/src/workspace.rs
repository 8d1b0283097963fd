//! The cargo workspace of a new project, cut out of our own.

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::{Array, DocumentMut, Item, Table, Value};

use crate::embedded;

/// Folders of the packages that are carried inside the program, such as `services/orders`.
pub(crate) fn packages() -> BTreeSet<&'static str> {
    embedded::below("services")
        .filter(|(within, _)| within.ends_with("/Cargo.toml"))
        .map(|(_, file)| file.path.trim_end_matches("/Cargo.toml"))
        .collect()
}

fn parse(text: &str) -> DocumentMut {
    // Checked by a test: what is parsed here was built into this program.
    text.parse().unwrap_or_default()
}

/// The version requirement of a dependency, as this workspace has it.
pub(crate) fn requirement(dependency: &str) -> String {
    let root = parse(embedded::text("Cargo.toml"));
    let item = root
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(|dependencies| dependencies.get(dependency));
    let version = item.and_then(|item| item.as_str().or_else(|| item.get("version")?.as_str()));
    version.unwrap_or("*").to_owned()
}

/// The compiler's version that this workspace asks for, at least.
pub(crate) fn rust_version() -> String {
    let root = parse(embedded::text("Cargo.toml"));
    let version = root
        .get("workspace")
        .and_then(|workspace| workspace.get("package")?.get("rust-version")?.as_str());
    version.unwrap_or("1").to_owned()
}

/// The root manifest of a project that holds `packages`: members, shared dependencies that they use, lints, profiles.
pub(crate) fn manifest(packages: &BTreeSet<&str>) -> String {
    let ours = parse(embedded::text("Cargo.toml"));
    let mut used = BTreeSet::new();
    for package in packages {
        let manifest = parse(embedded::text(&format!("{package}/Cargo.toml")));
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = manifest.get(table).and_then(Item::as_table);
            used.extend(
                names
                    .into_iter()
                    .flat_map(Table::iter)
                    .map(|(name, _)| name.to_owned()),
            );
        }
    }
    let mut root = ours;
    root.retain(|key, _| matches!(key, "workspace" | "profile"));
    if let Some(workspace) = root.get_mut("workspace").and_then(Item::as_table_mut) {
        workspace.retain(|key, _| {
            matches!(
                key,
                "resolver" | "members" | "package" | "dependencies" | "lints"
            )
        });
        workspace.insert("members", toml_edit::value(members(packages)));
        if let Some(dependencies) = workspace
            .get_mut("dependencies")
            .and_then(Item::as_table_mut)
        {
            dependencies.retain(|name, _| used.contains(name));
            // Headings of dependencies that are not there any more would stand alone.
            for (mut key, _) in dependencies.iter_mut() {
                key.leaf_decor_mut().set_prefix("");
            }
        }
    }
    let text = root.to_string();
    format!("{}\n", text.trim())
}

fn members(packages: &BTreeSet<&str>) -> Array {
    let mut members: Array = packages.iter().copied().collect();
    for member in members.iter_mut() {
        member.decor_mut().set_prefix("\n    ");
    }
    members.set_trailing("\n");
    members.set_trailing_comma(true);
    members
}

/// Adds a member to a root manifest, unless a pattern covers it; `None` if there is nothing to do.
pub(crate) fn with_member(
    manifest: &str,
    member: &str,
) -> Result<Option<String>, toml_edit::TomlError> {
    let mut root: DocumentMut = manifest.parse()?;
    let workspace = root
        .entry("workspace")
        .or_insert_with(|| Item::Table(Table::new()));
    let Some(workspace) = workspace.as_table_like_mut() else {
        return Ok(None);
    };
    let members = workspace
        .entry("members")
        .or_insert_with(|| toml_edit::value(Array::new()));
    let Some(members) = members.as_array_mut() else {
        return Ok(None);
    };
    let covered = members.iter().filter_map(Value::as_str).any(|pattern| {
        pattern == member
            || pattern.strip_suffix("/*").is_some_and(|folder| {
                member
                    .rsplit_once('/')
                    .is_some_and(|(above, _)| above == folder)
            })
    });
    if covered {
        return Ok(None);
    }
    let decor = members.get(0).map(|first| first.decor().clone());
    members.push(member);
    if let (Some(decor), Some(last)) = (decor, members.iter_mut().last()) {
        *last.decor_mut() = decor;
    }
    Ok(Some(root.to_string()))
}

/// The part of our lock file that `packages` depend on.
///
/// It may name a few dependencies too many, which only other packages of this workspace switch on; cargo drops them.
pub(crate) fn lock(packages: &BTreeSet<&str>) -> String {
    let names: BTreeSet<String> = packages
        .iter()
        .map(|package| parse(embedded::text(&format!("{package}/Cargo.toml"))))
        .filter_map(|manifest| Some(manifest.get("package")?.get("name")?.as_str()?.to_owned()))
        .collect();
    part_of_lock(&names, &names)
}

/// The part of our lock file that one package's dependencies come to; cargo adds the package itself.
pub(crate) fn lock_for(manifest: &str) -> String {
    let manifest = parse(manifest);
    let names = ["dependencies", "dev-dependencies"]
        .iter()
        .filter_map(|table| manifest.get(table)?.as_table())
        .flat_map(Table::iter)
        .map(|(name, _)| name.to_owned())
        .collect();
    part_of_lock(&names, &BTreeSet::new())
}

/// - `roots`: names of packages that are needed
/// - `local`: names of packages that the project has itself
fn part_of_lock(roots: &BTreeSet<String>, local: &BTreeSet<String>) -> String {
    let mut lock = parse(embedded::text("Cargo.lock"));
    let Some(all) = lock
        .get_mut("package")
        .and_then(Item::as_array_of_tables_mut)
    else {
        return String::new();
    };
    let text = |table: &Table, key: &str| {
        table
            .get(key)
            .and_then(Item::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    // What is local and none of the packages does not exist for the new project.
    let foreign: BTreeSet<String> = all
        .iter()
        .filter(|table| table.get("source").is_none() && !local.contains(&text(table, "name")))
        .map(|table| text(table, "name"))
        .collect();
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, table) in all.iter().enumerate() {
        by_name.entry(text(table, "name")).or_default().push(place);
    }
    let mut reached = BTreeSet::new();
    let mut queue: Vec<usize> = roots
        .iter()
        .filter_map(|name| by_name.get(name))
        .flatten()
        .copied()
        .collect();
    while let Some(place) = queue.pop() {
        let Some(table) = all.get(place).filter(|_| reached.insert(place)) else {
            continue;
        };
        for dependency in dependencies(table) {
            let mut words = dependency.split(' ');
            let name = words.next().unwrap_or_default();
            let version = words.next();
            let candidates = by_name.get(name).into_iter().flatten().copied();
            queue.extend(candidates.filter(|place| {
                !foreign.contains(name)
                    && version.is_none_or(|version| {
                        all.get(*place)
                            .is_some_and(|table| text(table, "version") == version)
                    })
            }));
        }
    }
    let mut place = 0;
    all.retain(|_| {
        place += 1;
        reached.contains(&(place - 1))
    });
    for table in all.iter_mut() {
        if let Some(list) = table.get_mut("dependencies").and_then(Item::as_array_mut) {
            list.retain(|value| {
                let name = value
                    .as_str()
                    .unwrap_or_default()
                    .split(' ')
                    .next()
                    .unwrap_or_default();
                !foreign.contains(name)
            });
        }
    }
    lock.to_string()
}

fn dependencies(table: &Table) -> impl Iterator<Item = &str> {
    table
        .get("dependencies")
        .and_then(Item::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_workspace_has_what_its_packages_use_and_no_more() {
        let packages = packages();
        assert!(packages.contains("services/orders") && packages.contains("services/kit"));
        let text = manifest(&packages);
        let root: DocumentMut = text.parse().unwrap();
        let workspace = &root["workspace"];
        assert_eq!(
            workspace["members"].as_array().unwrap().len(),
            packages.len()
        );
        let dependencies = workspace["dependencies"].as_table().unwrap();
        assert!(dependencies.contains_key("axum") && dependencies.contains_key("platform-kit"));
        assert!(!dependencies.contains_key("clap") && !dependencies.contains_key("platform-drive"));
        assert!(root.get("patch").is_none());
        for (_, item) in dependencies {
            let path = item.get("path").and_then(Item::as_str);
            assert!(path.is_none_or(|path| packages.contains(path)), "{item}");
        }
    }

    #[test]
    fn a_new_lock_file_is_closed() {
        let text = lock(&packages());
        let lock: DocumentMut = text.parse().unwrap();
        let all = lock["package"].as_array_of_tables().unwrap();
        let names: BTreeSet<_> = all
            .iter()
            .filter_map(|table| table["name"].as_str())
            .collect();
        assert!(names.contains("orders") && names.contains("axum"));
        assert!(!names.contains("clap") && !names.contains("platform-drive"));
        for dependency in all.iter().flat_map(dependencies) {
            let name = dependency.split(' ').next().unwrap();
            assert!(names.contains(name), "{dependency}");
        }
    }

    #[test]
    fn members_are_added_once() {
        let text = "[workspace]\nmembers = [\n    \"a\", # the first\n]\n";
        let with = with_member(text, "services/b").unwrap().unwrap();
        assert!(
            with.contains("# the first") && with.contains("\"services/b\""),
            "{with}"
        );
        assert_eq!(with_member(&with, "services/b").unwrap(), None);
        assert_eq!(
            with_member("[workspace]\nmembers = [\"services/*\"]\n", "services/b").unwrap(),
            None
        );
        let fresh = with_member("", "services/b").unwrap().unwrap();
        assert!(fresh.contains("members = [\"services/b\"]"), "{fresh}");
    }

    #[test]
    fn requirements_are_those_of_this_workspace() {
        assert_ne!(requirement("axum"), "*");
        assert_ne!(requirement("serde"), "*");
    }
}
