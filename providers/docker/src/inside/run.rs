//! An instance's first moment: takes the secrets handed to it and becomes its program.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use serde::{Deserialize, Serialize};

use super::{HANDED, SECRETS};
use crate::names::INSTANCE_VARIABLE;

/// The file in the volume of a resource's server.
pub(crate) const FILE: &str = "handed.json";

/// The file of an instance in the volume of its group: what siblings are handed may differ in their names and zones.
pub(crate) fn file_of(instance: &str) -> String {
    format!("{instance}.json")
}

/// What is handed to an instance. Never printed.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Handed {
    /// Variables by name.
    pub(crate) variables: BTreeMap<String, String>,
    /// Files by name.
    pub(crate) files: BTreeMap<String, String>,
    /// What shows the keeper of which service it is, where that speaks mtls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Who must have signed the certificate that its program shows, PEM, where our program beside it asks that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) authority: Option<String>,
}

/// `run PROGRAM ARGUMENT…`
pub(super) fn run(words: &[String]) -> ExitCode {
    let Some((program, arguments)) = words.split_first() else {
        return ExitCode::from(64);
    };
    let handed = match read(Path::new(HANDED)) {
        Ok(handed) => handed,
        Err(error) => return fail(&format!("cannot take the secrets: {HANDED}: {error}"), 1),
    };
    if let Err(error) = write(Path::new(SECRETS), &handed) {
        return fail(&format!("cannot keep the secrets: {SECRETS}: {error}"), 1);
    }
    // It returns only where it fails.
    let error = Command::new(program)
        .args(arguments)
        .envs(&handed.variables)
        .exec();
    unstarted(program, &error)
}

/// Says why a program did not start, and ends as a shell does then.
pub(super) fn unstarted(program: &str, error: &io::Error) -> ExitCode {
    if error.kind() == io::ErrorKind::NotFound {
        let told = format!(
            "cannot start `{program}`: {error}; an image made from a program holds nothing but that, no shell either"
        );
        return fail(&told, 127);
    }
    fail(&format!("cannot start `{program}`: {error}"), 126)
}

fn fail(words: &str, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "{words}");
    ExitCode::from(code)
}

/// Takes what was handed over to this container from its folder.
pub(super) fn read(folder: &Path) -> io::Result<Handed> {
    let file = env::var(INSTANCE_VARIABLE).map_or_else(|_| FILE.to_owned(), |own| file_of(&own));
    let text = fs::read(folder.join(file))?;
    // Its own words might show a value.
    serde_json::from_slice(&text).map_err(|_| io::Error::other("they cannot be made out"))
}

fn write(folder: &Path, handed: &Handed) -> io::Result<()> {
    if !handed.files.is_empty() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    for (name, value) in &handed.files {
        let path = folder.join(name);
        if fs::read(&path).is_ok_and(|there| there == value.as_bytes()) {
            continue; // A command beside the program finds what that has taken.
        }
        let _ = fs::remove_file(&path);
        fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o400)
            .open(path)?
            .write_all(value.as_bytes())?;
    }
    Ok(())
}
