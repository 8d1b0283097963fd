//! What a program is made from, as a `CycloneDX` document, read from `Cargo.lock`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
struct Lock {
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

impl Package {
    /// The package's address in the package-URL scheme, which serves as its name in the document.
    fn purl(&self) -> String {
        let plain = format!("pkg:cargo/{}@{}", self.name, self.version);
        match self.source.as_deref() {
            Some(source) if source.starts_with("git+") => {
                format!("{plain}?vcs_url={}", escaped(source))
            }
            Some(source) if !source.contains("crates.io") => {
                let address = source
                    .split_once('+')
                    .map_or(source, |(_, address)| address);
                format!("{plain}?repository_url={}", escaped(address))
            }
            _ => plain,
        }
    }
}

/// Writes the bill of materials of one package: all that it and what it depends on are locked to.
///
/// The lock file also lists what only tests and other platforms need, and so does the document. It has no serial number
/// and no time: equal lock files give equal documents.
///
/// - `lock`: the text of `Cargo.lock`
/// - `package`: the package's name
/// - returns: the document, or `None` if the lock file does not have the package
///
/// # Errors
///
/// If the lock file is not one.
///
/// Source: `CycloneDX` 1.5, JSON.
pub fn cyclonedx(lock: &str, package: &str) -> Result<Option<Vec<u8>>, toml::de::Error> {
    let Lock { package: packages } = toml::from_str(lock)?;
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, package) in packages.iter().enumerate() {
        by_name.entry(&package.name).or_default().push(place);
    }
    let direct = |place: usize| {
        packages[place].dependencies.iter().flat_map(|dependency| {
            // "name", "name version" or "name version (source)", as short as is unambiguous.
            let mut words = dependency.split(' ');
            let name = words.next().unwrap_or_default();
            let version = words.next();
            let source = words.next().map(|word| word.trim_matches(['(', ')']));
            let candidates = by_name.get(name).into_iter().flatten().copied();
            let packages = &packages;
            candidates.filter(move |candidate| {
                let candidate = &packages[*candidate];
                version.is_none_or(|version| candidate.version == version)
                    && source.is_none_or(|source| candidate.source.as_deref() == Some(source))
            })
        })
    };
    let own = by_name.get(package).into_iter().flatten().copied();
    let Some(root) = own.min_by_key(|place| packages[*place].source.is_some()) else {
        return Ok(None);
    };
    let mut reached = BTreeSet::new();
    let mut queue = vec![root];
    while let Some(place) = queue.pop() {
        if reached.insert(place) {
            queue.extend(direct(place));
        }
    }
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    for place in &reached {
        let needed: BTreeSet<String> = direct(*place)
            .map(|needed| packages[needed].purl())
            .collect();
        dependencies.push(json!({ "ref": packages[*place].purl(), "dependsOn": needed }));
        if *place != root {
            components.push(component(&packages[*place], "library"));
        }
    }
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": component(&packages[root], "application"),
            "tools": { "components": [{
                "type": "application",
                "name": "platform",
                "version": env!("CARGO_PKG_VERSION"),
            }] },
        },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(Some(document.to_string().into_bytes()))
}

fn component(package: &Package, kind: &str) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": package.purl(),
        "name": package.name,
        "version": package.version,
        "purl": package.purl(),
    });
    if let Some(checksum) = &package.checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4
[[package]]
name = "orders"
version = "0.1.0"
dependencies = ["kit", "rand 0.9.0"]
[[package]]
name = "kit"
version = "0.2.0"
source = "git+https://example.com/kit?branch=main#abc"
[[package]]
name = "web"
version = "0.1.0"
dependencies = ["rand 0.8.0"]
[[package]]
name = "rand"
version = "0.8.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "bb"
[[package]]
name = "rand"
version = "0.9.0"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "cc"
"#;

    #[test]
    fn a_bill_of_materials_names_what_the_package_is_locked_to() {
        let document = cyclonedx(LOCK, "orders").unwrap().unwrap();
        assert_eq!(document, cyclonedx(LOCK, "orders").unwrap().unwrap());
        let read: Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(read["metadata"]["component"]["name"], "orders");
        let names: Vec<_> = read["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|component| component["purl"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "pkg:cargo/kit@0.2.0?vcs_url=git%2Bhttps://example.com/kit%3Fbranch%3Dmain%23abc",
                "pkg:cargo/rand@0.9.0"
            ]
        );
        assert_eq!(read["components"][1]["hashes"][0]["content"], "cc");
        assert!(cyclonedx(LOCK, "none").unwrap().is_none());
    }
}
