//! What a program is made from, as a `CycloneDX` document, read from `Cargo.lock`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::locked::{LockedPackage, LockedPackages};

/// The package's address in the package-URL scheme, which serves as its name in the document.
fn purl(package: &LockedPackage) -> String {
    let plain = format!("pkg:cargo/{}@{}", package.name, package.version);
    match package.source.as_deref() {
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
    let lock = LockedPackages::parse(lock)?;
    let own = lock.named(package);
    let Some(root) = own.min_by_key(|place| lock.at(*place).source.is_some()) else {
        return Ok(None);
    };
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    for place in lock.reached([root]) {
        let needed: BTreeSet<String> = lock
            .direct(place)
            .map(|needed| purl(lock.at(needed)))
            .collect();
        dependencies.push(json!({ "ref": purl(lock.at(place)), "dependsOn": needed }));
        if place != root {
            components.push(component(lock.at(place), "library"));
        }
    }
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": component(lock.at(root), "application"),
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

fn component(package: &LockedPackage, kind: &str) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": purl(package),
        "name": package.name,
        "version": package.version,
        "purl": purl(package),
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
