//! `Cargo.lock`: packages, and what each depends on.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Lock {
    #[serde(default)]
    version: u32,
    #[serde(default)]
    package: Vec<LockedPackage>,
}

/// One package of a lock file.
#[derive(Debug, Deserialize)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its exact version.
    pub version: String,
    /// Where it is from, such as `registry+https://…`; `None` for a package of the workspace.
    pub source: Option<String>,
    /// SHA-256 of its archive in hexadecimal, where a registry has one.
    pub checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// A lock file. Packages are known by their place in it.
#[derive(Debug)]
pub struct LockedPackages {
    /// Version of the format.
    pub version: u32,
    packages: Vec<LockedPackage>,
    by_name: BTreeMap<String, Vec<usize>>,
}

impl LockedPackages {
    /// Reads the text of a lock file.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let Lock { version, package } = toml::from_str(text)?;
        let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, package) in package.iter().enumerate() {
            by_name.entry(package.name.clone()).or_default().push(place);
        }
        Ok(Self {
            version,
            packages: package,
            by_name,
        })
    }

    /// The package at a place that this lock file gave.
    pub fn at(&self, place: usize) -> &LockedPackage {
        &self.packages[place]
    }

    /// Places of the packages of a name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = usize> {
        self.by_name.get(name).into_iter().flatten().copied()
    }

    /// Places of the packages that one depends on itself.
    pub fn direct(&self, place: usize) -> impl Iterator<Item = usize> {
        self.packages[place]
            .dependencies
            .iter()
            .flat_map(move |dependency| {
                // "name", "name version" or "name version (source)", as short as is unambiguous.
                let mut words = dependency.split(' ');
                let name = words.next().unwrap_or_default();
                let version = words.next();
                let source = words.next().map(|word| word.trim_matches(['(', ')']));
                self.named(name).filter(move |place| {
                    let candidate = &self.packages[*place];
                    version.is_none_or(|version| candidate.version == version)
                        && source.is_none_or(|source| candidate.source.as_deref() == Some(source))
                })
            })
    }

    /// Places of these packages and of all that they depend on.
    pub fn reached(&self, from: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut queue: Vec<usize> = from.into_iter().collect();
        while let Some(place) = queue.pop() {
            if reached.insert(place) {
                queue.extend(self.direct(place));
            }
        }
        reached
    }
}
