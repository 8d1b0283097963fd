//! `Cargo.lock`, cut down to what one package depends on.

use std::collections::BTreeSet;

use platform_image::LockedPackages;

/// The locked packages that the local packages named depend on, each in one line.
///
/// Another service's new dependency leaves them as they are.
pub(super) fn part_for(lock: &LockedPackages, packages: &BTreeSet<String>) -> Vec<String> {
    let named = packages.iter().flat_map(|name| lock.named(name));
    let local = named.filter(|place| lock.at(*place).source.is_none());
    let reached = lock.reached(local).into_iter();
    let mut lines: Vec<String> = reached
        .map(|place| {
            let package = lock.at(place);
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
    lines.insert(0, format!("lock version {}", lock.version));
    lines
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
        let lock = LockedPackages::parse(LOCK).unwrap();
        assert_eq!(
            part_for(&lock, &BTreeSet::from(["orders".to_owned()])),
            [
                "lock version 4",
                "orders 0.1.0 local -",
                "rand 0.9.0 registry+x cc",
                "serde 1.0.1 registry+x aa",
            ]
        );
    }
}
