//! What cargo says of a build, in its JSON lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
    #[serde(default)]
    fresh: bool,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// What a run of cargo has yielded so far.
#[derive(Debug, Default)]
pub(super) struct CargoOutput {
    /// Programs by package and name.
    programs: BTreeMap<(String, String), PathBuf>,
    /// How many units were compiled or found fresh.
    pub done: usize,
}

impl CargoOutput {
    /// Takes one line of cargo's output; returns the crate that was compiled, if it says so.
    ///
    /// # Errors
    ///
    /// The line itself, if it is none of cargo's messages.
    pub(super) fn take(&mut self, line: String) -> Result<Option<String>, String> {
        let Ok(message) = serde_json::from_str::<Message>(&line) else {
            return Err(line);
        };
        let ("compiler-artifact", Some(target)) = (message.reason.as_str(), message.target) else {
            return Ok(None);
        };
        self.done += 1;
        if let Some(executable) = message.executable
            && target.kind.iter().any(|kind| kind == "bin")
        {
            let package = package_name(&message.package_id);
            self.programs
                .insert((package, target.name.clone()), executable);
        }
        Ok((!message.fresh).then_some(target.name))
    }

    /// The programs of a package: the one named, or that of the package's own name, or all.
    pub(super) fn programs(&self, package: &str, bin: Option<&str>) -> Vec<&Path> {
        let all = || {
            self.programs
                .iter()
                .filter(|((of, _), _)| of == package)
                .map(|((_, name), path)| (name, path.as_path()))
        };
        let named = |wanted: &str| -> Vec<&Path> {
            all()
                .filter(|(name, _)| *name == wanted)
                .map(|(_, path)| path)
                .collect()
        };
        match bin {
            Some(bin) => named(bin),
            None => match named(package) {
                own if own.is_empty() => all().map(|(_, path)| path).collect(),
                own => own,
            },
        }
    }
}

/// A package's name in its id: `path+file:///x/orders#0.1.0`, `path+file:///x/y#orders@0.1.0`.
fn package_name(id: &str) -> String {
    let (url, version) = id.rsplit_once('#').unwrap_or((id, ""));
    match version.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => url.rsplit('/').next().unwrap_or(url).to_owned(),
    }
}

/// The files a program was compiled from, as its `.d` file lists them.
pub(super) fn sources_of(program: &Path) -> Vec<PathBuf> {
    let Ok(text) = std::fs::read_to_string(program.with_extension("d")) else {
        return Vec::new();
    };
    let Some((_, sources)) = text.split_once(": ") else {
        return Vec::new();
    };
    // Spaces within names are escaped.
    let mut files = Vec::new();
    let mut file = String::new();
    let mut characters = sources.lines().next().unwrap_or_default().chars();
    while let Some(next) = characters.next() {
        match next {
            '\\' => file.extend(characters.next()),
            ' ' => files.push(std::mem::take(&mut file)),
            other => file.push(other),
        }
    }
    files.push(file);
    files.retain(|file| !file.is_empty());
    files
        .into_iter()
        .map(|file| super::cargo::normal(Path::new(&file)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_known_by_package_and_name() {
        let mut output = CargoOutput::default();
        let line = |id: &str, name: &str, kind: &str, program: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"{id}","target":{{"name":"{name}","kind":["{kind}"]}},"executable":{program},"fresh":false}}"#
            )
        };
        for (id, name, kind, program) in [
            (
                "path+file:///x/orders#0.1.0",
                "orders",
                "bin",
                "\"/t/orders\"",
            ),
            (
                "path+file:///x/orders#0.1.0",
                "admin",
                "bin",
                "\"/t/admin\"",
            ),
            (
                "path+file:///x/w#web@0.1.0",
                "server",
                "bin",
                "\"/t/server\"",
            ),
            ("registry+https://x#serde@1.0.0", "serde", "lib", "null"),
        ] {
            let compiled = output.take(line(id, name, kind, program)).unwrap();
            assert_eq!(compiled.as_deref(), Some(name));
        }
        assert_eq!(
            output.programs("orders", Some("admin")),
            [Path::new("/t/admin")]
        );
        assert_eq!(output.programs("orders", None), [Path::new("/t/orders")]);
        assert_eq!(output.programs("web", None), [Path::new("/t/server")]);
        assert!(output.programs("web", Some("other")).is_empty());
        assert_eq!(output.done, 4);
        assert!(output.take("plain text".to_owned()).is_err());
    }

    #[test]
    fn sources_are_read_with_their_spaces() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(
            temp.path().join("web.d"),
            "/t/web: /a/main.rs /a/my\\ page.html\n",
        )
        .unwrap();
        assert_eq!(
            sources_of(&temp.path().join("web")),
            [Path::new("/a/main.rs"), Path::new("/a/my page.html")]
        );
    }
}
