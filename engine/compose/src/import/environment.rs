//! Variables, and what of them is secret.

use std::collections::BTreeMap;

use platform_blueprint::{INSTANCE_VARIABLES, looks_secret};

use super::address::is_reference;
use super::{Draft, inline};
use crate::left::Code;
use crate::model::{EnvFile, GrantForm};
use crate::variable::dotenv;

/// Where Compose puts secrets.
const SECRETS: &str = "/run/secrets/";

/// Words in the names of variables that hold secrets.
const SECRET_WORDS: [&str; 11] = [
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "TOKEN",
    "CREDENTIAL",
    "PRIVATE_KEY",
    "API_KEY",
    "APIKEY",
    "ACCESS_KEY",
    "SALT",
];
/// Ends of those that say something about one.
const ABOUT: [&str; 9] = [
    "_FILE", "_PATH", "_URL", "_TTL", "_EXPIRY", "_LENGTH", "_ENABLED", "_NAME", "_HEADER",
];

/// Whether a variable may well hold a secret. What is written down wrongly cannot be taken back, so in doubt it does.
pub(super) fn sounds_secret(variable: &str, value: &str) -> bool {
    let name = variable.to_ascii_uppercase();
    let said = SECRET_WORDS.iter().any(|word| name.contains(word))
        && !ABOUT.iter().any(|end| name.ends_with(end))
        && !name.contains("PUBLIC");
    let harmless = value.is_empty()
        || value.parse::<bool>().is_ok()
        || (value.len() < 6 && value.parse::<u64>().is_ok());
    said && !harmless
}

impl Draft<'_> {
    /// The variables of a service, those of its files among them.
    pub(super) fn variables(&self, name: &str) -> BTreeMap<String, Option<String>> {
        let service = self.written(name);
        let mut all = BTreeMap::new();
        for file in &service.env_file {
            let (EnvFile::Path(path) | EnvFile::Full { path, .. }) = file;
            if let Some(text) = (self.inputs.files)(path) {
                let found = dotenv(&text, self.inputs.variables);
                all.extend(found.into_iter().map(|(name, value)| (name, Some(value))));
            }
        }
        all.extend(service.environment.0.clone());
        all
    }

    /// Writes the variables of a service.
    pub(super) fn environment(&mut self, name: &str, table: &mut toml_edit::Table) {
        let service = self.written(name);
        for file in &service.env_file {
            let (path, required) = match file {
                EnvFile::Path(path) => (path, true),
                EnvFile::Full { path, required } => (path, *required),
            };
            if required && (self.inputs.files)(path).is_none() {
                let why = format!("`{path}` cannot be read, so its variables are not carried");
                self.leave(
                    Code::FileMissing,
                    &["services", name, "env_file"],
                    why,
                    None,
                );
            }
        }
        let mut env: BTreeMap<String, toml_edit::Value> = BTreeMap::new();
        let mut files = self.granted(name);
        for (variable, value) in self.variables(name) {
            let place = ["services", name, "environment", &variable];
            let value = value.or_else(|| self.inputs.variables.get(&variable).cloned());
            let Some(value) = value else {
                let why = "it is taken from the shell that starts Compose, where it is not set now";
                self.leave(Code::UnsetVariable, &place, why, None);
                continue;
            };
            if variable == "PORT" {
                if self.ports.get(name).map(ToString::to_string) != Some(value) {
                    let why = "instances are handed the port at which they are called";
                    self.leave(Code::Otherwise, &place, why, Some("set it with `port`"));
                }
                continue;
            }
            let reserved = INSTANCE_VARIABLES.contains(&variable.as_str()) && variable != "HOST";
            let good = variable
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && !variable.starts_with(|first: char| first.is_ascii_digit())
                && !variable.is_empty();
            if reserved || !good {
                let why = "no variable can have this name";
                self.leave(Code::NotCarried, &place, why, None);
                continue;
            }
            let secret = value
                .strip_prefix(SECRETS)
                .and_then(|file| files.remove(file));
            if let Some(secret) = secret {
                env.insert(variable, file_secret(&secret));
                continue;
            }
            let text = self.addressed(name, &place, &value);
            if text == format!("${{{variable}}}") {
                continue; // It is handed that anyhow.
            }
            let is_secret =
                looks_secret(&variable, &text).is_some() || sounds_secret(&variable, &text);
            if is_secret && !is_reference(&text) {
                let secret = self.secret(&variable, name, Some(&value));
                env.insert(variable, inline([("secret".to_owned(), secret.into())]));
            } else {
                env.insert(variable, text.into());
            }
        }
        for (file, secret) in files {
            let variable = format!(
                "{}_FILE",
                file.to_uppercase()
                    .replace(|c: char| !c.is_ascii_alphanumeric(), "_")
            );
            let why = format!(
                "the program finds it where `{variable}` says, and not at `{SECRETS}{file}`"
            );
            self.leave(Code::Otherwise, &["services", name, "secrets"], why, None);
            env.entry(variable).or_insert_with(|| file_secret(&secret));
        }
        if env.is_empty() {
            return;
        }
        if env.len() > 3 {
            let mut own = toml_edit::Table::new();
            for (variable, value) in env {
                own.insert(&variable, toml_edit::value(value));
            }
            table.insert("env", own.into());
        } else {
            table.insert("env", toml_edit::value(inline(env)));
        }
    }

    /// Files with secrets that a service is handed: the file's name below the usual folder, and the secret.
    fn granted(&mut self, name: &str) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        for grant in &self.written(name).secrets {
            let (source, target) = match grant {
                GrantForm::Short(source) => (source, None),
                GrantForm::Full(grant) => (&grant.source, grant.target.as_deref()),
            };
            let secret = self.secret(source, name, Some(&format!("file {source}")));
            let target = target.map_or(source.as_str(), |target| {
                target.strip_prefix(SECRETS).unwrap_or(target)
            });
            files.insert(target.to_owned(), secret);
        }
        files
    }
}

fn file_secret(secret: &str) -> toml_edit::Value {
    inline([
        ("secret".to_owned(), secret.into()),
        ("as".to_owned(), "file".into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_doubt_a_variable_is_secret() {
        for (name, value) in [
            ("SECRET_KEY_BASE", "0123abcd"),
            ("db_password", "x"),
            ("APP_TOKEN_SIGNING", "abc"),
        ] {
            assert!(sounds_secret(name, value), "{name}");
        }
        for (name, value) in [
            ("TOKEN_TTL", "3600"),
            ("PASSWORD_RESET", "true"),
            ("SECRET_FILE", "/x"),
            ("PUBLIC_TOKEN", "abc"),
            ("LOG", "info"),
        ] {
            assert!(!sounds_secret(name, value), "{name}");
        }
    }
}
