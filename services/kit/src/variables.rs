//! Typed configuration from environment variables, every problem reported at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::quantity;
use crate::secret::Secret;

/// A size in bytes, written as `64KiB` or `1MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A value that can be read from a variable's text.
pub trait Setting: Sized {
    /// Reads the value.
    ///
    /// # Errors
    ///
    /// Says what was expected, in words that fit after the variable's name.
    fn read(text: &str) -> Result<Self, String>;
}

macro_rules! parsed {
    ($($kind:ty: $expected:literal),* $(,)?) => {$(
        impl Setting for $kind {
            fn read(text: &str) -> Result<Self, String> {
                text.parse()
                    .map_err(|_| format!(concat!("`{}` is not ", $expected), text))
            }
        }
    )*};
}

parsed! {
    u16: "a whole number up to 65535",
    u32: "a whole number",
    u64: "a whole number",
    usize: "a whole number",
    bool: "`true` or `false`",
    IpAddr: "an IP address",
}

impl Setting for String {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Setting for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl Setting for Secret {
    fn read(text: &str) -> Result<Self, String> {
        Ok(Self::new(text))
    }
}

impl Setting for Duration {
    fn read(text: &str) -> Result<Self, String> {
        quantity::duration(text)
    }
}

impl Setting for ByteSize {
    fn read(text: &str) -> Result<Self, String> {
        quantity::bytes(text).map(Self)
    }
}

/// The environment a service was started with, and what was wrong in it.
///
/// Each variable `NAME` can be given as `NAME_FILE` instead: the path of a file whose text, without its last line break,
/// is the value. Read everything first, then build the settings, so that one start shows every problem.
#[derive(Debug)]
pub struct Variables {
    values: BTreeMap<String, OsString>,
    problems: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    name: String,
    what: String,
}

/// The configuration was not usable; shows every problem, one a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigurationError {
    problems: Vec<Problem>,
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} problem{plural} in the configuration")?;
        for Problem { name, what } in &self.problems {
            write!(f, "\n  {name}: {what}")?;
        }
        Ok(())
    }
}

impl Variables {
    /// Takes the variables of this process.
    pub fn of_process() -> Self {
        Self::new(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))),
        )
    }

    /// Takes the given variables, for tests.
    pub fn new<N: Into<String>, V: Into<OsString>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self {
            values: pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            problems: Vec::new(),
        }
    }

    /// Reads a variable that may be missing; an empty one counts as missing.
    pub fn optional<T: Setting>(&mut self, name: &str) -> Option<T> {
        let text = match self.text(name) {
            Ok(text) => text?,
            Err(what) => {
                self.problem(name, what);
                return None;
            }
        };
        match T::read(&text) {
            Ok(value) => Some(value),
            Err(what) => {
                self.problem(name, what);
                None
            }
        }
    }

    /// Reads a variable, or takes `default` where it is missing.
    pub fn or<T: Setting>(&mut self, name: &str, default: T) -> T {
        self.optional(name).unwrap_or(default)
    }

    /// Reads a variable that must be there; `meaning` tells the reader what to set it to.
    pub fn required<T: Setting>(&mut self, name: &str, meaning: &str) -> Option<T> {
        let before = self.problems.len();
        let value = self.optional(name);
        if value.is_none() && self.problems.len() == before {
            self.problem(name, format!("not set; {meaning}"));
        }
        value
    }

    /// Records what else is wrong with a variable.
    pub fn problem(&mut self, name: &str, what: impl Into<String>) {
        self.problems.push(Problem {
            name: name.to_owned(),
            what: what.into(),
        });
    }

    /// Returns `settings` if nothing was wrong.
    ///
    /// # Errors
    ///
    /// Every problem found since the start.
    pub fn finish<T>(&mut self, settings: Option<T>) -> Result<T, ConfigurationError> {
        match settings {
            Some(settings) if self.problems.is_empty() => Ok(settings),
            _ => Err(ConfigurationError {
                problems: std::mem::take(&mut self.problems),
            }),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        let file_name = format!("{name}_FILE");
        let given = |name: &str| self.values.get(name).filter(|value| !value.is_empty());
        match (given(name), given(&file_name)) {
            (Some(_), Some(_)) => Err(format!("{file_name} is set as well; give one of them")),
            (None, None) => Ok(None),
            (Some(value), None) => match value.to_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err("is not UTF-8".to_owned()),
            },
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) => {
                    let text = text.strip_suffix('\n').unwrap_or(&text);
                    Ok(Some(text.strip_suffix('\r').unwrap_or(text).to_owned()))
                }
                Err(error) => Err(format!("cannot read {}: {error}", path.display())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_at_once() {
        let mut variables = Variables::new([("PORT", "http"), ("TIMEOUT", "5")]);
        let port = variables.optional::<u16>("PORT");
        variables.or("TIMEOUT", Duration::from_secs(1));
        variables.required::<Secret>("KEY", "the key to sign with");
        let error = variables.finish(port).unwrap_err().to_string();
        assert_eq!(
            error,
            "3 problems in the configuration\n  \
             PORT: `http` is not a whole number up to 65535\n  \
             TIMEOUT: `5` is not a duration such as `250ms`, `30s` or `5m`\n  \
             KEY: not set; the key to sign with"
        );
    }

    #[test]
    fn a_file_can_hold_the_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "s3cret\n").unwrap();
        let mut variables = Variables::new([("KEY_FILE", path.as_os_str())]);
        let key = variables.required::<Secret>("KEY", "");
        assert_eq!(variables.finish(key).unwrap().reveal(), "s3cret");
    }

    #[test]
    fn both_or_an_unreadable_file_is_a_problem() {
        let mut variables = Variables::new([
            ("A", "1"),
            ("A_FILE", "/nonexistent"),
            ("B_FILE", "/nonexistent"),
        ]);
        variables.optional::<String>("A");
        variables.optional::<String>("B");
        let error = variables.finish(Some(())).unwrap_err().to_string();
        assert!(error.contains("A: A_FILE is set as well"), "{error}");
        assert!(error.contains("B: cannot read /nonexistent"), "{error}");
    }
}
