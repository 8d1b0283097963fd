//! What an instance finds around itself: its environment, its folder, its program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use platform_blueprint::{
    CERTIFICATE_VARIABLES, DRAIN_DELAY, SecretForm, SecretName, ZONE_VARIABLE, ZoneName,
};
use platform_decide::group::{GroupSpec, Place};
use platform_port::SecretValue;

use crate::process_table::{INSTANCE_VARIABLE, STATE_VARIABLE};

/// Everything that an instance's surroundings are made of.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    /// The group.
    pub(crate) group: &'a GroupSpec,
    /// The instance's name.
    pub(crate) instance: &'a str,
    /// The zone it stands in.
    pub(crate) zone: Option<&'a ZoneName>,
    /// The port it is to listen on.
    pub(crate) port: Option<u16>,
    /// Addresses of what it needs, by variable.
    pub(crate) needs: BTreeMap<String, String>,
    /// Values of its secrets.
    pub(crate) secrets: &'a BTreeMap<SecretName, SecretValue>,
    /// Where the values of secrets are that are handed over as files.
    pub(crate) secret_files: &'a Path,
    /// The project.
    pub(crate) project: &'a str,
    /// The environment.
    pub(crate) environment: &'a str,
    /// The folder of the blueprint.
    pub(crate) root: &'a Path,
    /// The tag of the state folder.
    pub(crate) tag: &'a str,
    /// What is passed on of our own environment: `PATH`, `HOME` and the like.
    pub(crate) inherited: &'a BTreeMap<String, String>,
    /// Where volumes lie, by name.
    pub(crate) volumes: BTreeMap<String, PathBuf>,
    /// Whether it is handed certificates, in the folder of its secrets.
    pub(crate) certificates: bool,
}

/// What an instance runs, where, and with which environment. Holds secret values.
#[derive(Clone)]
pub(crate) struct Surroundings {
    /// Program and arguments, references replaced.
    pub(crate) command: Vec<String>,
    /// Its whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// The folder it runs in.
    pub(crate) folder: PathBuf,
    /// Where its program is looked for first.
    pub(crate) search: Vec<PathBuf>,
    /// Secrets to be written to files before it starts.
    pub(crate) files: Vec<(PathBuf, SecretValue)>,
}

/// Variables passed on from our own environment.
const INHERITED: [&str; 8] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
];

/// What is passed on of our own environment.
pub(crate) fn inherited() -> BTreeMap<String, String> {
    let mut passed: BTreeMap<String, String> = INHERITED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    passed.entry("PATH".to_owned()).or_insert_with(|| {
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()
    });
    passed
}

/// Makes an instance's surroundings.
///
/// # Errors
///
/// The reason in words, such as a secret whose value is not known.
pub(crate) fn surroundings(inputs: &Inputs<'_>) -> Result<Surroundings, String> {
    let service = &inputs.group.spec.service;
    let mut known: BTreeMap<String, String> = inputs.inherited.clone();
    known.extend(inputs.needs.clone());
    let mut own = |name: &str, value: String| known.insert(name.to_owned(), value);
    own("HOST", "127.0.0.1".to_owned());
    if let Some(port) = inputs.port {
        own("PORT", port.to_string());
    }
    own("PLATFORM_SERVICE", inputs.group.id.service.to_string());
    own("PLATFORM_RELEASE", inputs.group.id.version.to_string());
    own(INSTANCE_VARIABLE, inputs.instance.to_owned());
    if let Some(zone) = inputs.zone {
        own(ZONE_VARIABLE, zone.to_string());
    }
    own("PLATFORM_ENVIRONMENT", inputs.environment.to_owned());
    own("PLATFORM_PROJECT", inputs.project.to_owned());
    own(STATE_VARIABLE, inputs.tag.to_owned());
    own(DRAIN_DELAY.0, DRAIN_DELAY.1.to_owned());

    if inputs.certificates {
        for variable in CERTIFICATE_VARIABLES {
            own(
                variable,
                inputs.secret_files.join(variable).display().to_string(),
            );
        }
    }
    for (name, folder) in &inputs.volumes {
        let variable = format!("{}_DIR", name.to_uppercase().replace('-', "_"));
        known.insert(variable, folder.display().to_string());
    }

    let mut files = Vec::new();
    let mut declared = BTreeMap::new();
    for (name, value) in &service.env {
        if let Some(text) = value.text() {
            declared.insert(name.clone(), expand(&text, &known));
        } else if let Some(reference) = value.secret() {
            let secret = inputs.secrets.get(&reference.secret).ok_or_else(|| {
                format!("the value of secret `{}` is not known", reference.secret)
            })?;
            match reference.handed_as {
                SecretForm::Env => {
                    declared.insert(name.clone(), secret.reveal().to_owned());
                }
                SecretForm::File => {
                    let path = inputs.secret_files.join(name);
                    declared.insert(name.clone(), path.display().to_string());
                    files.push((path, secret.clone()));
                }
            }
        }
    }
    known.extend(declared);

    let artifact = match &inputs.group.spec.artifact.place {
        Place::Folder { path } => Some(PathBuf::from(path)),
        Place::Image { .. } | Place::Installed => None,
    };
    // What was built runs where its files are, as it does in an image.
    let folder = match (&service.folder, &artifact) {
        (Some(folder), _) => inputs.root.join(folder),
        (None, Some(artifact)) => artifact.clone(),
        (None, None) => inputs.root.to_owned(),
    };
    let mut command: Vec<String> = service
        .command
        .iter()
        .chain(&service.args)
        .map(|word| expand(word, &known))
        .collect();
    if service.command.is_empty() {
        let program = artifact
            .as_deref()
            .and_then(only_program)
            .ok_or("it has no command, and its artifact is not one single program")?;
        command.insert(0, program);
    }
    Ok(Surroundings {
        command,
        environment: known,
        folder,
        search: artifact.into_iter().collect(),
        files,
    })
}

/// Replaces `${NAME}` by the variable's value; unknown ones stay as they are, `$$` is a dollar.
pub(crate) fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix("${") {
            // `$${NAME}` is a reference left to the program.
            out.push_str("${");
            rest = after;
        } else if let Some((name, after)) = after
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
        {
            if let Some(value) = known.get(name) {
                out.push_str(value);
            } else {
                out.push_str("${");
                out.push_str(name);
                out.push('}');
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

fn executable(path: &Path) -> bool {
    path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}

/// The one program in a folder.
fn only_program(folder: &Path) -> Option<String> {
    let programs: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| executable(path))
        .collect();
    match programs.as_slice() {
        [one] => Some(one.display().to_string()),
        _ => None,
    }
}

/// Finds a program: a path from `folder`, else in the folders of `search`, else as the shell would.
pub(crate) fn find_program(name: &str, search: &[PathBuf], folder: &Path) -> Option<PathBuf> {
    if name.contains('/') {
        return search
            .iter()
            .map(PathBuf::as_path)
            .chain([folder])
            .map(|base| base.join(name))
            .find(|path| executable(path));
    }
    let path = inherited().remove("PATH").unwrap_or_default();
    search
        .iter()
        .flat_map(|base| [base.join(name), base.join("bin").join(name)])
        .chain(std::env::split_paths(&path).map(|base| base.join(name)))
        .find(|path| executable(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_others_left() {
        let known = BTreeMap::from([("PORT".to_owned(), "81".to_owned())]);
        let check = |text, expected: &str| assert_eq!(expand(text, &known), expected);
        check("--port=${PORT}", "--port=81");
        check("${PORT}${PORT}", "8181");
        check("${OTHER} $PORT $", "${OTHER} $PORT $");
        check("$${PORT}", "${PORT}");
        check("${PORT", "${PORT");
    }

    /// What an instance of a service finds that stands in this zone.
    fn made_of(service: serde_json::Value, zone: Option<&ZoneName>) -> Surroundings {
        let service: platform_blueprint::Service = serde_json::from_value(service).unwrap();
        let spec = platform_decide::group::ServiceSpec {
            service: std::sync::Arc::new(service),
            artifact: platform_decide::group::Artifact {
                key: platform_decide::digest::Digest::of(b"x"),
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
        surroundings(&Inputs {
            group: &group,
            instance: "orders@r1.1",
            zone,
            port: Some(81),
            needs: BTreeMap::new(),
            secrets: &BTreeMap::new(),
            secret_files: Path::new("/secrets"),
            project: "shop",
            environment: "local",
            root: Path::new("/shop"),
            tag: "tag",
            inherited: &BTreeMap::new(),
            volumes: BTreeMap::new(),
            certificates: false,
        })
        .unwrap()
    }

    #[test]
    fn an_instance_need_not_go_on_accepting_once_it_is_to_stop() {
        let check = |env: serde_json::Value, expected: &str| {
            let service = serde_json::json!({ "command": ["sleep"], "port": 8080, "env": env });
            let made = made_of(service, None);
            assert_eq!(made.environment["PLATFORM_DRAIN_DELAY"], expected);
        };
        check(serde_json::json!({}), "0s");
        check(serde_json::json!({ "PLATFORM_DRAIN_DELAY": "1s" }), "1s");
    }

    #[test]
    fn an_instance_is_told_its_zone_where_it_has_one() {
        let zone: ZoneName = "rack-1".parse().unwrap();
        let told = |zone: Option<&ZoneName>| {
            let service = serde_json::json!({ "command": ["orders", "--in=${PLATFORM_ZONE}"] });
            let made = made_of(service, zone);
            let variable = made.environment.get("PLATFORM_ZONE").cloned();
            (made.command[1].clone(), variable)
        };
        let expected = ("--in=rack-1".to_owned(), Some("rack-1".to_owned()));
        assert_eq!(told(Some(&zone)), expected);
        assert_eq!(told(None), ("--in=${PLATFORM_ZONE}".to_owned(), None));
    }

    #[test]
    fn a_program_is_found_in_the_artifact_first() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("sh");
        std::fs::copy("/bin/sh", &own).unwrap();
        let search = vec![folder.path().to_owned()];
        assert_eq!(find_program("sh", &search, Path::new("/")), Some(own));
        let installed = find_program("sh", &[], Path::new("/")).unwrap();
        assert!(installed.ends_with("sh"));
        assert_eq!(
            find_program("no-such-program", &search, Path::new("/")),
            None
        );
        assert!(only_program(folder.path()).unwrap().ends_with("/sh"));
    }
}
