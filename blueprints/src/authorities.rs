//! Files of authorities' certificates that a blueprint names, beside it.

use std::ops::Range;

use crate::node::Step;
use crate::validate::nearest_place;
use crate::{Blueprint, Position, Resolved, toml_tree};

/// A file of authorities' certificates, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityFile {
    /// Relative to the blueprint, as written.
    pub name: String,
    /// The bytes of the text that name it.
    pub span: Option<Range<usize>>,
    /// Where those begin.
    pub position: Option<Position>,
}

impl Blueprint {
    /// The files of authorities that one of its environments names, in the order of the text.
    pub fn authorities(&self, resolved: &Resolved) -> Vec<AuthorityFile> {
        let mut named: Vec<(Vec<Step<'_>>, &str)> = Vec::new();
        let gateway = &resolved.gateway;
        let jwt = gateway.jwt.as_ref().and_then(|jwt| jwt.ca.as_deref());
        let otlp = gateway.otlp.as_ref().and_then(|otlp| otlp.ca.as_deref());
        for (key, name) in [("jwt", jwt), ("otlp", otlp)] {
            named.extend(name.map(|name| (vec!["gateway".into(), key.into(), "ca".into()], name)));
        }
        for (service, settings) in &resolved.services {
            let ca = settings.tls.as_ref().and_then(|tls| tls.ca.as_deref());
            named.extend(ca.map(|name| {
                let path = vec![
                    "services".into(),
                    service.as_str().into(),
                    "tls".into(),
                    "ca".into(),
                ];
                (path, name)
            }));
        }
        if named.is_empty() {
            return Vec::new();
        }
        // It was parsed before, so it can be parsed.
        let Ok(root) = toml_tree::parse(self.text()) else {
            return Vec::new();
        };
        let environment = resolved.environment.name.as_str();
        let environments = root.get("environments").and_then(|node| node.as_table());
        let over = environments.and_then(|table| table.get(environment)?.as_table());
        let mut found: Vec<AuthorityFile> = named
            .into_iter()
            .map(|(path, name)| {
                let span = nearest_place(&root, over, &path);
                AuthorityFile {
                    name: name.to_owned(),
                    position: span
                        .as_ref()
                        .and_then(|span| Position::of(self.text(), span.start)),
                    span,
                }
            })
            .collect();
        found.sort_by_key(|file| file.span.as_ref().map(|span| span.start));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = r#"[project]
name = "shop"

[services.orders]
command = ["orders"]
port = 8081
protocol = "https"
tls.ca = "orders.pem"

[gateway]
otlp = { url = "https://collector.example:4318", ca = "collector.pem" }
jwt = { issuer = "https://id.example", ca = "issuer.pem" }

[environments.local]
provider = "process"

[environments.staging]
provider = "docker"
gateway.jwt.ca = "tls/staging.pem"
"#;

    #[test]
    fn files_are_found_where_they_are_named() {
        let blueprint = Blueprint::parse(WRITTEN, "platform.toml")
            .unwrap()
            .blueprint;
        let check = |environment: &str, expected: &[(&str, usize, usize)]| {
            let environment = environment.parse().unwrap();
            let resolved = blueprint.resolve(Some(&environment)).unwrap();
            let found = blueprint.authorities(&resolved);
            let places = found.iter().map(|file| {
                let at = file.position.unwrap();
                (file.name.as_str(), at.line, at.column)
            });
            assert_eq!(places.collect::<Vec<_>>(), expected);
        };
        check(
            "local",
            &[
                ("orders.pem", 8, 10),
                ("collector.pem", 11, 55),
                ("issuer.pem", 12, 45),
            ],
        );
        check(
            "staging",
            &[
                ("orders.pem", 8, 10),
                ("collector.pem", 11, 55),
                ("tls/staging.pem", 19, 18),
            ],
        );
    }
}
