//! The compiler and settings that cargo would use in a folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use platform_decide::digest::Digest;
use serde::{Deserialize, Serialize};
use toml::Table;

use super::super::error::BuildError;
use super::super::files::write_whole;

/// Variables that change what cargo builds.
const VARIABLES: [&str; 10] = [
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_INCREMENTAL",
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// Tables of `.cargo/config.toml` that change what is built. The rest is about networks, speed and taste.
const TABLES: [&str; 6] = ["build", "env", "patch", "profile", "target", "unstable"];

/// Keys of `[build]` that do not change what is built.
const TASTE: [&str; 4] = ["jobs", "target-dir", "build-dir", "incremental"];

/// Keys of `[build]` that name what is called as, or in place of, the compiler.
const PROGRAMS: [&str; 3] = ["rustc", "rustc-wrapper", "rustc-workspace-wrapper"];

/// Everything around the sources that a cargo build in a folder depends on, name by name.
pub(super) fn settings(folder: &Path) -> Result<BTreeMap<String, String>, BuildError> {
    let mut settings = BTreeMap::new();
    for (name, value) in std::env::vars() {
        if VARIABLES.contains(&name.as_str())
            || name.starts_with("CARGO_PROFILE_")
            || name.starts_with("CARGO_TARGET_") && name != "CARGO_TARGET_DIR"
        {
            settings.insert(name, value);
        }
    }
    let mut places: Vec<PathBuf> = folder.ancestors().map(|up| up.join(".cargo")).collect();
    places.extend(cargo_home());
    let mut configs = Vec::new();
    for place in places {
        for name in ["config.toml", "config"] {
            let path = place.join(name);
            if let Ok(text) = fs::read_to_string(&path) {
                let part = relevant(&text).map_err(|source| BuildError::BadManifest {
                    path,
                    source: Box::new(source),
                })?;
                settings.extend(programs(&part, &place));
                let part = part.to_string();
                if !part.is_empty() && !configs.contains(&part) {
                    configs.push(part);
                }
                break;
            }
        }
    }
    if !configs.is_empty() {
        settings.insert("config".to_owned(), configs.join("\n"));
    }
    if let Some((_, text)) = toolchain_file(folder) {
        settings.insert("toolchain".to_owned(), text);
    }
    Ok(settings)
}

fn relevant(text: &str) -> Result<Table, toml::de::Error> {
    let mut config: Table = text.parse()?;
    config.retain(|table, _| TABLES.contains(&table));
    if let Some(build) = config.get_mut("build").and_then(toml::Value::as_table_mut) {
        build.retain(|key, _| !TASTE.contains(&key));
    }
    Ok(config)
}

/// What the programs hold that settings name as, or in place of, the compiler, each under its key and name.
///
/// Those that a project brings itself: what the machine has is found in `PATH`, or where it is installed, and can be large.
///
/// - `place`: the `.cargo` folder of the settings; cargo reads such a name from the folder that this lies in
fn programs(config: &Table, place: &Path) -> Vec<(String, String)> {
    let named = |key: &&str| {
        let name = config.get("build")?.get(*key)?.as_str()?;
        let is_brought = name.contains('/') && !name.starts_with('/');
        let bytes = fs::read(place.parent()?.join(name)).ok();
        let digest = bytes.filter(|_| is_brought).map(|b| Digest::of(&b))?;
        Some((format!("{key} {name}"), digest.to_string()))
    };
    PROGRAMS.iter().filter_map(named).collect()
}

fn cargo_home() -> Option<PathBuf> {
    home_of("CARGO_HOME", ".cargo")
}

fn home_of(variable: &str, usual: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(usual)))
}

fn toolchain_file(folder: &Path) -> Option<(PathBuf, String)> {
    folder
        .ancestors()
        .flat_map(|up| [up.join("rust-toolchain.toml"), up.join("rust-toolchain")])
        .find_map(|path| Some((path.clone(), fs::read_to_string(&path).ok()?)))
}

/// A compiler's own words about itself, remembered with what they depend on.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    depends_on: Vec<String>,
    version: String,
}

/// What `rustc -vV` says in a folder; `None` where there is no compiler.
///
/// Asking takes a twentieth of a second where rustup chooses the compiler, so the answer is kept in `cache` for as long
/// as nothing changed that the choice depends on.
pub(super) fn compiler(folder: &Path, cache: &Path) -> Option<String> {
    let program = super::super::process::find("rustc")?;
    let depends_on = dependencies_of_choice(&program, folder);
    let remembered = fs::read(cache)
        .ok()
        .and_then(|text| serde_json::from_slice::<Vec<Remembered>>(&text).ok())
        .unwrap_or_default();
    if let Some(hit) = remembered
        .iter()
        .find(|entry| entry.depends_on == depends_on)
    {
        return Some(hit.version.clone());
    }
    let answer = Command::new(program)
        .arg("-vV")
        .current_dir(folder)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let version = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    let mut entries = remembered;
    entries.truncate(7);
    entries.insert(
        0,
        Remembered {
            depends_on,
            version: version.clone(),
        },
    );
    if let Ok(text) = serde_json::to_vec_pretty(&entries)
        && let Err(error) = write_whole(cache, &text)
    {
        tracing::debug!(%error, "the compiler's version is not remembered");
    }
    Some(version)
}

fn dependencies_of_choice(program: &Path, folder: &Path) -> Vec<String> {
    let mut all = vec![
        state_of(program),
        format!(
            "RUSTUP_TOOLCHAIN={:?}",
            std::env::var_os("RUSTUP_TOOLCHAIN")
        ),
    ];
    if let Ok(real) = program.canonicalize() {
        all.push(state_of(&real));
    }
    if let Some((path, text)) = toolchain_file(folder) {
        all.push(format!("{} {text}", path.display()));
    }
    if let Some(rustup) = home_of("RUSTUP_HOME", ".rustup") {
        all.push(state_of(&rustup.join("settings.toml")));
        all.push(state_of(&rustup.join("toolchains")));
        // One small file per toolchain, rewritten by each update.
        let mut updates: Vec<_> = fs::read_dir(rustup.join("update-hashes"))
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| state_of(&entry.path()))
            .collect();
        updates.sort();
        all.extend(updates);
        // Folders with a toolchain of their own are in the settings, by path.
        if let Ok(text) = fs::read_to_string(rustup.join("settings.toml"))
            && text.contains("[overrides]")
        {
            all.push(folder.display().to_string());
        }
    }
    all
}

fn state_of(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(meta) => format!(
            "{} {} {} {}.{}",
            path.display(),
            meta.len(),
            meta.ino(),
            meta.ctime(),
            meta.ctime_nsec()
        ),
        Err(_) => format!("{} none", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_change_what_is_built_count() {
        let text =
            "[net]\noffline = true\n[build]\njobs = 2\nrustflags = [\"-Ctarget-cpu=native\"]\n";
        let part = relevant(text).unwrap().to_string();
        assert!(part.contains("rustflags"));
        assert!(!part.contains("jobs") && !part.contains("offline"));
    }

    #[test]
    fn a_wrapper_that_the_project_brings_counts_by_what_it_holds() {
        let temp = tempfile::tempdir().unwrap();
        let cargo = temp.path().join(".cargo");
        fs::create_dir(&cargo).unwrap();
        let config = "[build]\nrustc-workspace-wrapper = \".cargo/wrapper\"\n";
        fs::write(cargo.join("config.toml"), config).unwrap();
        let holding = |text: &str| {
            fs::write(cargo.join("wrapper"), text).unwrap();
            settings(&temp.path().join("member")).unwrap()
        };
        let first = holding("exec \"$@\"");
        assert_ne!(holding("exec \"$@\" -O"), first);
        assert_eq!(holding("exec \"$@\""), first);
    }

    #[test]
    fn the_compiler_is_asked_once() {
        let temp = tempfile::tempdir().unwrap();
        let cache = temp.path().join("cache/compilers.json");
        let Some(first) = compiler(temp.path(), &cache) else {
            return; // No compiler: the tests themselves could not have been built here.
        };
        assert!(first.contains("release:") && first.contains("host:"));
        assert!(cache.exists());
        assert_eq!(compiler(temp.path(), &cache), Some(first));
    }
}
