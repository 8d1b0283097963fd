//! How an image was made, as an in-toto statement with SLSA provenance.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::blob::digits;
use crate::image::Image;

/// How an image was made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Provenance {
    /// The image's name, without registry.
    pub name: String,
    /// The service's build as the blueprint has it.
    pub build: Value,
    /// What the key of its inputs was made of, by name; long ones as digests.
    pub inputs: BTreeMap<String, String>,
    /// The key.
    pub key: String,
    /// The command that was run.
    pub command: String,
    /// The commit that was checked out, where there is a repository.
    pub commit: Option<String>,
    /// The repository's address, where it has one.
    pub repository: Option<String>,
}

impl Provenance {
    /// Writes the statement about an image.
    ///
    /// It says nothing of time and machine, so whoever builds the same from the same says the same.
    ///
    /// Source: in-toto Statement v1, SLSA Provenance v1.
    pub fn statement(&self, image: &Image) -> Vec<u8> {
        let mut depends = Vec::new();
        if let Some(commit) = &self.commit {
            let mut source = json!({ "digest": { "gitCommit": commit } });
            if let Some(repository) = &self.repository {
                source["uri"] = format!("git+{repository}").into();
            } else {
                source["name"] = "the project's repository".into();
            }
            depends.push(source);
        }
        depends.push(json!({ "name": "inputs", "digest": { "sha256": digits(&self.key) } }));
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{ "name": self.name, "digest": { "sha256": digits(image.digest()) } }],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": "https://platform.invalid/build/v1",
                    "externalParameters": { "build": self.build },
                    "internalParameters": { "command": self.command, "inputs": self.inputs },
                    "resolvedDependencies": depends,
                },
                "runDetails": {
                    "builder": {
                        "id": "https://platform.invalid/platform",
                        "version": { "platform": env!("CARGO_PKG_VERSION") },
                    },
                },
            },
        });
        statement.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::example;

    #[test]
    fn a_statement_is_about_the_image_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let image = example(folder.path(), |_| {});
        let provenance = Provenance {
            name: "shop-orders".to_owned(),
            key: format!("sha256:{}", "b".repeat(64)),
            commit: Some("c0ffee".to_owned()),
            ..Provenance::default()
        };
        let statement = provenance.statement(&image);
        assert_eq!(statement, provenance.statement(&image));
        let read: Value = serde_json::from_slice(&statement).unwrap();
        assert_eq!(
            read["subject"][0]["digest"]["sha256"],
            image.digest().trim_start_matches("sha256:")
        );
        let depends = &read["predicate"]["buildDefinition"]["resolvedDependencies"];
        assert_eq!(depends[0]["digest"]["gitCommit"], "c0ffee");
    }
}
