//! `Cargo.lock`, cut down to what one package depends on.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Lock {
    #[serde(default)]
    version: u32,
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// A parsed lock file.
#[derive(Debug)]
pub(super) struct LockFile(Lock);

impl LockFile {
    /// Reads the text of a lock file.
    pub(super) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text).map(Self)
    }

    /// The locked packages that the local packages named depend on, each in one line.
    ///
    /// Another service's new dependency leaves them as they are.
    pub(super) fn part_for(&self, packages: &BTreeSet<String>) -> Vec<String> {
        let Lock { version, package } = &self.0;
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, package) in package.iter().enumerate() {
            by_name.entry(&package.name).or_default().push(place);
        }
        let mut reached = BTreeSet::new();
        let mut queue: Vec<usize> = packages
            .iter()
            .filter_map(|name| by_name.get(name.as_str()))
            .flatten()
            .copied()
            .filter(|place| package[*place].source.is_none())
            .collect();
        while let Some(place) = queue.pop() {
            if !reached.insert(place) {
                continue;
            }
            for dependency in &package[place].dependencies {
                // "name", "name version" or "name version (source)", as short as is unambiguous.
                let mut words = dependency.split(' ');
                let name = words.next().unwrap_or_default();
                let wanted = words.next();
                let candidates = by_name.get(name).into_iter().flatten().copied();
                queue.extend(
                    candidates.filter(|place| {
                        wanted.is_none_or(|wanted| package[*place].version == wanted)
                    }),
                );
            }
        }
        let mut lines: Vec<String> = reached
            .into_iter()
            .map(|place| {
                let package = &package[place];
                format!(
                    "{} {} {} {}",
                    package.name,
                    package.version,
                    package.source.as_deref().unwrap_or("local"),
                    package.checksum.as_deref().unwrap_or("-")
                )
            })
            .collect();
        lines.sort();
        lines.insert(0, format!("lock version {version}"));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4
[[package]]
name = "orders"
version = "0.1.0"
dependencies = ["serde", "rand 0.9.0"]
[[package]]
name = "web"
version = "0.1.0"
dependencies = ["rand 0.8.0"]
[[package]]
name = "serde"
version = "1.0.1"
source = "registry+x"
checksum = "aa"
[[package]]
name = "rand"
version = "0.8.0"
source = "registry+x"
checksum = "bb"
[[package]]
name = "rand"
version = "0.9.0"
source = "registry+x"
checksum = "cc"
"#;

    #[test]
    fn a_package_is_locked_to_what_it_depends_on() {
        let lock = LockFile::parse(LOCK).unwrap();
        assert_eq!(
            lock.part_for(&BTreeSet::from(["orders".to_owned()])),
            [
                "lock version 4",
                "orders 0.1.0 local -",
                "rand 0.9.0 registry+x cc",
                "serde 1.0.1 registry+x aa",
            ]
        );
    }
}
