//! What an instance finds around itself: its command, its variables, what is handed to it in secret.

use std::collections::BTreeMap;

use platform_blueprint::{
    CERTIFICATE_VARIABLES, Check, DRAIN_DELAY, SecretForm, ZONE_VARIABLE, ZoneName, expand,
    folder_variable, references,
};
use platform_decide::group::GroupSpec;
use platform_port::SecretValues;

use crate::inside::{Handed, SECRETS};
use crate::names::{INSTANCE_VARIABLE, Names};

/// Where a need is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// For everybody to see.
    Plain(String),
    /// With credentials.
    Secret(String),
    /// In a folder of a volume: volume, path, URL.
    Folder(String, String, String),
}

/// What an instance's surroundings are made of.
pub(crate) struct Inputs<'a> {
    pub(crate) names: &'a Names,
    pub(crate) group: &'a GroupSpec,
    /// The instance's name.
    pub(crate) instance: &'a str,
    /// The zone it stands in.
    pub(crate) zone: Option<&'a ZoneName>,
    /// Where needs are reached, by variable.
    pub(crate) needs: BTreeMap<String, Address>,
    pub(crate) secrets: &'a SecretValues,
    /// What shows the keeper that it is of its service, where that speaks mtls.
    pub(crate) token: Option<&'a str>,
    /// Whether it is taken out of the gateway before it is stopped.
    pub(crate) leaves_first: bool,
    /// What the image runs by itself.
    pub(crate) image_command: &'a [String],
}

/// What an instance runs and finds. Holds secrets; never printed.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// Program and arguments. Whoever may list processes sees them, so nothing secret is among them.
    pub(crate) command: Vec<String>,
    /// Variables that anybody may see.
    pub(crate) variables: BTreeMap<String, String>,
    /// What only the instance sees.
    pub(crate) handed: Handed,
    /// Volumes and where they are found.
    pub(crate) folders: Vec<(String, String)>,
    /// The folder it runs in, where that is not the image's.
    pub(crate) folder: Option<String>,
}

impl Surroundings {
    /// Whether anything is handed over in secret.
    pub(crate) fn is_handed(&self) -> bool {
        let handed = &self.handed;
        !handed.variables.is_empty()
            || !handed.files.is_empty()
            || handed.token.is_some()
            || handed.authority.is_some()
    }
}

/// Makes an instance's surroundings.
///
/// # Errors
///
/// The reason in words, such as a secret whose value is not known, or one that the command names.
pub(crate) fn surroundings(inputs: &Inputs<'_>) -> Result<Surroundings, String> {
    let service = &inputs.group.spec.service;
    let mut own = Surroundings {
        folder: service
            .folder
            .clone()
            .filter(|folder| folder.starts_with('/')),
        variables: given(inputs),
        ..Surroundings::default()
    };
    own.handed.token = inputs.token.map(str::to_owned);
    if inputs.leaves_first && matches!(service.health.live, Some(Check::Http(_))) {
        own.handed
            .authority
            .clone_from(&inputs.group.spec.authority);
    }
    for (name, address) in &inputs.needs {
        match address {
            Address::Plain(url) => {
                own.variables.insert(name.clone(), url.clone());
            }
            Address::Secret(url) => {
                own.handed.variables.insert(name.clone(), url.clone());
            }
            Address::Folder(volume, path, url) => {
                own.variables.insert(name.clone(), url.clone());
                own.folders.push((volume.clone(), path.clone()));
            }
        }
    }
    let mut declared = Vec::new();
    for (name, value) in &service.env {
        if let Some(text) = value.text() {
            let known = |name: &str| {
                let handed = &own.handed.variables;
                own.variables
                    .get(name)
                    .or_else(|| handed.get(name))
                    .cloned()
            };
            // What is made of something secret is secret.
            let is_secret = references(&text).any(|name| own.handed.variables.contains_key(name));
            let text = expand(&text, known).into_owned();
            declared.push((name.clone(), text, is_secret));
        } else if let Some(asked) = value.secret() {
            let secret = inputs
                .secrets
                .get(&asked.secret)
                .ok_or_else(|| format!("the value of secret `{}` is not known", asked.secret))?;
            match asked.handed_as {
                SecretForm::Env => {
                    declared.push((name.clone(), secret.reveal().to_owned(), true));
                }
                SecretForm::File => {
                    declared.push((name.clone(), format!("{SECRETS}/{name}"), false));
                    let files = &mut own.handed.files;
                    files.insert(name.clone(), secret.reveal().to_owned());
                }
            }
        }
    }
    for (name, value, is_secret) in declared {
        if is_secret {
            own.variables.remove(&name);
            own.handed.variables.insert(name, value);
        } else {
            own.handed.variables.remove(&name);
            own.variables.insert(name, value);
        }
    }
    let mut written = service.command.iter().chain(&service.args);
    let secret = written
        .find_map(|word| references(word).find(|name| own.handed.variables.contains_key(*name)));
    if let Some(name) = secret {
        return Err(format!(
            "its command names `${{{name}}}`, which is secret, and commands are shown to whoever may list processes"
        ));
    }
    let command = if service.command.is_empty() {
        inputs.image_command
    } else {
        &service.command
    };
    if command.is_empty() {
        return Err("it has no command, and neither has its image".to_owned());
    }
    own.command = command
        .iter()
        .chain(&service.args)
        .map(|word| {
            let known = |name: &str| own.variables.get(name).cloned();
            expand(word, known).into_owned()
        })
        .collect();
    Ok(own)
}

/// Variables that every instance of a kind finds.
fn given(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let service = &inputs.group.spec.service;
    let id = &inputs.group.id;
    let mut own = BTreeMap::new();
    let mut plain = |name: &str, value: String| own.insert(name.to_owned(), value);
    plain("HOST", "0.0.0.0".to_owned());
    if let Some(port) = service.port {
        plain("PORT", port.to_string());
    }
    plain("PLATFORM_SERVICE", id.service.to_string());
    plain("PLATFORM_RELEASE", id.version.to_string());
    plain(INSTANCE_VARIABLE, inputs.instance.to_owned());
    if let Some(zone) = inputs.zone {
        plain(ZONE_VARIABLE, zone.to_string());
    }
    plain("PLATFORM_ENVIRONMENT", inputs.names.environment.to_string());
    plain("PLATFORM_PROJECT", inputs.names.project.to_string());
    if inputs.leaves_first {
        let (name, none) = DRAIN_DELAY;
        plain(name, none.to_owned());
    }
    for volume in &service.volumes {
        plain(&folder_variable(volume.name.as_str()), volume.path.clone());
    }
    if inputs.token.is_some() {
        for name in CERTIFICATE_VARIABLES {
            plain(name, format!("{SECRETS}/{name}"));
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use platform_blueprint::Service;
    use platform_decide::digest::Digest;
    use platform_decide::group::{Artifact, Place, ServiceSpec};
    use platform_port::SecretValue;

    use super::*;

    fn made_of(service: serde_json::Value) -> Result<Surroundings, String> {
        let service: Service = serde_json::from_value(service).unwrap();
        let spec = ServiceSpec {
            service: std::sync::Arc::new(service),
            artifact: Artifact {
                key: Digest::of(b"x"),
                place: Place::Installed,
            },
            needs: Vec::new(),
            secrets: BTreeMap::new(),
            authority: None,
        };
        let group = GroupSpec {
            id: "orders@r1".parse().unwrap(),
            replicas: 1,
            digest: spec.digest(),
            spec,
        };
        let names = Names {
            project: "shop".parse().unwrap(),
            environment: "docker".parse().unwrap(),
        };
        let secrets = SecretValues::from([("token".parse().unwrap(), SecretValue::new("hunter2"))]);
        let url = "postgres://app:hunter2@db/app".to_owned();
        surroundings(&Inputs {
            names: &names,
            group: &group,
            instance: "orders@r1.1",
            zone: group.zone(1),
            needs: BTreeMap::from([("DB_URL".to_owned(), Address::Secret(url))]),
            secrets: &secrets,
            token: Some("hunter2"),
            leaves_first: true,
            image_command: &[],
        })
    }

    #[test]
    fn what_is_secret_is_seen_by_the_instance_alone() {
        let written = serde_json::json!({
            "port": 8080,
            "command": ["orders", "--port=${PORT}", "--key=${KEY}", "$${DB_URL}"],
            "env": {
                "LOG": "info",
                "TOKEN": { "secret": "token" },
                "KEY": { "secret": "token", "as": "file" },
                "POOL": "${DB_URL}?pool=2",
            },
        });
        let made = made_of(written.clone()).unwrap();
        assert_eq!(
            made.command,
            [
                "orders",
                "--port=8080",
                "--key=/dev/shm/secrets/KEY",
                "${DB_URL}"
            ]
        );
        let shown = format!("{:?} {:?}", made.variables, made.command);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(made.variables["KEY"], "/dev/shm/secrets/KEY");
        let handed: Vec<&str> = made.handed.variables.keys().map(String::as_str).collect();
        assert_eq!(handed, ["DB_URL", "POOL", "TOKEN"]);
        assert_eq!(made.handed.files["KEY"], "hunter2");
        assert_eq!(made.variables["PLATFORM_DRAIN_DELAY"], "0s");
        assert!(!made.variables.contains_key("PLATFORM_ZONE"));
        let mut zoned = written.clone();
        zoned["zones"] = serde_json::json!(["rack-1", "rack-2"]);
        assert_eq!(made_of(zoned).unwrap().variables["PLATFORM_ZONE"], "rack-1");
        let file = &made.variables["TLS_KEY_FILE"];
        assert_eq!(file, "/dev/shm/secrets/TLS_KEY_FILE");
        for named in ["${DB_URL}", "--pool=${POOL}", "${TOKEN}"] {
            let mut written = written.clone();
            written["args"] = serde_json::json!([named]);
            let refused = made_of(written).err().unwrap();
            assert!(refused.contains("which is secret"), "{refused}");
        }
    }
}
