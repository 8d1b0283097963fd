//! The files that one system is written in, put together as Compose does it: what a file includes, what services extend, and later files
//! over earlier ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::left::{Code, Left};
use crate::merge::merged;
use crate::node::{Node, Value};
use crate::paths::{joined, rebase};
use crate::variable::{Trouble, dotenv, interpolate};

/// A Compose file.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// Its name, as people know it.
    pub name: &'a str,
    /// What is in it.
    pub text: &'a str,
}

/// Reads files and puts them together.
pub(crate) struct Files<'a> {
    /// Reads a file that another one names, by its path from the folder of the first.
    open: &'a dyn Fn(&str) -> Option<String>,
    /// Names of all that were read.
    pub(crate) names: Vec<String>,
    /// What could not be made out.
    pub(crate) left: Vec<Left>,
    /// Variables without a value, which are told once.
    told: BTreeSet<String>,
    /// Files whose services others extend, by name and what they are read with. Many services extend one.
    extended: BTreeMap<(String, Variables), Part>,
}

/// A file with its variables filled in and its paths from the folder of the first file.
#[derive(Clone)]
struct Part {
    root: Node,
    /// Its folder, from that of the first file.
    folder: PathBuf,
}

type Variables = BTreeMap<String, String>;

impl<'a> Files<'a> {
    pub(crate) fn new(open: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            open,
            names: Vec::new(),
            left: Vec::new(),
            told: BTreeSet::new(),
            extended: BTreeMap::new(),
        }
    }

    /// Reads files whose paths are all from the folder of the first, later ones over earlier ones.
    ///
    /// # Errors
    ///
    /// If one of them is no YAML.
    pub(crate) fn read(
        &mut self,
        documents: &[Document<'_>],
        variables: &Variables,
    ) -> Result<Node, Left> {
        let mut whole: Option<Node> = None;
        for document in documents {
            let part = self.part(document, PathBuf::new(), variables)?;
            let root = self.complete(&part, variables, &mut Vec::new());
            whole = Some(match whole {
                Some(before) => merged(&before, &root),
                None => root,
            });
        }
        whole.ok_or_else(|| {
            let nothing = Node {
                file: 0,
                line: 1,
                column: 1,
                value: Value::Null,
            };
            Left::at(&nothing, Code::Syntax, "", "no file is named")
        })
    }

    fn part(
        &mut self,
        document: &Document<'_>,
        folder: PathBuf,
        variables: &Variables,
    ) -> Result<Part, Left> {
        let file = self.names.len();
        self.names.push(document.name.to_owned());
        let mut root = parsed(document.text).map_err(|left| Left { file, ..left })?;
        root.stand_in(file);
        self.look_for_tags(document.text, file);
        self.fill(&mut root, variables);
        rebase(&mut root, &folder);
        Ok(Part { root, folder })
    }

    /// A file that another one names at a node; `None`, which is told, where there is none that can be read.
    ///
    /// - `folder`: where its own paths are from
    fn named(
        &mut self,
        at: &Node,
        place: &str,
        path: &Path,
        folder: &Path,
        variables: &Variables,
    ) -> Option<Part> {
        let name = path.display().to_string();
        let Some(text) = (self.open)(&name) else {
            let why = format!("`{name}` cannot be read, so what it holds is not carried");
            self.left.push(Left::at(at, Code::FileMissing, place, why));
            return None;
        };
        let document = Document {
            name: &name,
            text: &text,
        };
        let part = self.part(&document, folder.to_owned(), variables);
        part.map_err(|left| self.left.push(left)).ok()
    }

    /// A file with what it includes and what its services extend.
    ///
    /// - `way`: the files that led here by including each other
    fn complete(&mut self, part: &Part, variables: &Variables, way: &mut Vec<PathBuf>) -> Node {
        let mut root = part.root.clone();
        let included = root.take("include");
        let names: Vec<String> = root
            .get("services")
            .into_iter()
            .flat_map(Node::entries)
            .map(|(name, _)| name.to_owned())
            .collect();
        for name in names {
            let extended = self.service(part, &name, variables, &mut Vec::new());
            let own = root.get_mut("services").and_then(|all| all.get_mut(&name));
            if let (Some(own), Some(extended)) = (own, extended) {
                *own = extended;
            }
        }
        if let Some(included) = included {
            for one in included.each() {
                if let Some(other) = self.included(one, &part.folder, variables, way) {
                    self.look_for_both(&other, &root);
                    root = merged(&other, &root);
                }
            }
        }
        root
    }

    /// A service with all that it extends.
    ///
    /// - `way`: the services that led here
    fn service(
        &mut self,
        part: &Part,
        name: &str,
        variables: &Variables,
        way: &mut Vec<(String, String)>,
    ) -> Option<Node> {
        let mut node = part.root.get("services")?.get(name)?.clone();
        let Some(extends) = node.take("extends") else {
            return Some(node);
        };
        let place = format!("services.{name}.extends");
        let base = extends.text().or_else(|| extends.get("service")?.text());
        let other = extends.get("file").and_then(Node::text);
        let found = match (base, other) {
            (None, _) => None,
            (Some(base), None) => Some((base, part.clone())),
            (Some(base), Some(other)) => {
                let path = joined(&part.folder, other);
                let Some(other) = self.extended(&extends, &place, &path, variables) else {
                    return Some(node);
                };
                Some((base, other))
            }
        };
        let here = (self.names[part.root.file].clone(), name.to_owned());
        let is_circle = way.contains(&here);
        way.push(here);
        let base = match found {
            Some((base, other)) if !is_circle => self.service(&other, base, variables, way),
            _ => None,
        };
        let Some(base) = base else {
            let why = if is_circle {
                "it extends itself"
            } else {
                "there is no such service"
            };
            self.left
                .push(Left::at(&extends, Code::BadValue, place, why));
            return Some(node);
        };
        Some(merged(&base, &node))
    }

    /// A file whose service another one extends, read once.
    fn extended(
        &mut self,
        at: &Node,
        place: &str,
        path: &Path,
        variables: &Variables,
    ) -> Option<Part> {
        let key = (path.display().to_string(), variables.clone());
        if let Some(part) = self.extended.get(&key) {
            return Some(part.clone());
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let part = self.named(at, place, path, folder, variables)?;
        self.extended.insert(key, part.clone());
        Some(part)
    }

    /// What an entry of `include` stands for.
    fn included(
        &mut self,
        entry: &Node,
        folder: &Path,
        variables: &Variables,
        way: &mut Vec<PathBuf>,
    ) -> Option<Node> {
        let paths: Vec<PathBuf> = entry
            .get("path")
            .unwrap_or(entry)
            .each()
            .iter()
            .filter_map(|path| Some(joined(folder, path.text()?)))
            .collect();
        let first = paths.first()?;
        let own = match entry.get("project_directory").and_then(Node::text) {
            Some(own) => joined(folder, own),
            None => first.parent().unwrap_or(Path::new("")).to_owned(),
        };
        let files: Vec<PathBuf> = match entry.get("env_file") {
            Some(files) => {
                let named = files.each().iter().filter_map(Node::text);
                named.map(|path| joined(folder, path)).collect()
            }
            None => vec![own.join(".env")],
        };
        let mut known = Variables::new();
        for file in files {
            if let Some(text) = (self.open)(&file.display().to_string()) {
                known.extend(dotenv(&text, variables));
            }
        }
        known.extend(variables.clone());
        let mut whole: Option<Node> = None;
        for path in &paths {
            if way.contains(path) {
                let why = "a file includes itself";
                let told = Left::at(entry, Code::BadValue, "include", why);
                self.left.push(told);
                return None;
            }
            let part = self.named(entry, "include", path, &own, &known)?;
            way.push(path.clone());
            let root = self.complete(&part, &known, way);
            way.pop();
            whole = Some(match whole {
                Some(before) => merged(&before, &root),
                None => root,
            });
        }
        whole
    }

    /// Tells of what a file and one that it includes both have. Compose refuses that.
    fn look_for_both(&mut self, included: &Node, root: &Node) {
        for (name, node) in root.get("services").into_iter().flat_map(Node::entries) {
            if included.nearest(&["services"]).get(name).is_some() {
                let why = "the file that is included has it, too, which Compose refuses";
                let place = format!("services.{name}");
                self.left.push(Left::at(node, Code::BadValue, place, why));
            }
        }
    }

    /// Tells of tags that say how a file is laid over another one, which are not followed.
    fn look_for_tags(&mut self, text: &str, file: usize) {
        for (number, line) in text.lines().enumerate() {
            let tag = ["!reset", "!override"]
                .into_iter()
                .find_map(|tag| Some((tag, line.find(&format!(": {tag}"))?)));
            let Some((tag, column)) = tag.filter(|_| !line.trim_start().starts_with('#')) else {
                continue;
            };
            self.left.push(Left {
                code: Code::NotCarried,
                place: String::new(),
                file,
                line: number + 1,
                column: column + 3,
                why: format!("`{tag}` is not followed: what earlier files say here stays, too"),
                help: Some("import what `docker compose config` writes".to_owned()),
            });
        }
    }

    /// Puts values in the place of variables.
    fn fill(&mut self, root: &mut Node, variables: &Variables) {
        let file = root.file;
        let Self { told, left, .. } = self;
        root.texts(&mut |text, line, column| {
            if !text.contains('$') {
                return None;
            }
            let mut troubles = Vec::new();
            let filled = interpolate(text, variables, &mut troubles);
            for trouble in troubles {
                let (code, name, why) = match trouble {
                    Trouble::Unset(name) => {
                        let why = format!("`{name}` is not set, and counts as empty");
                        (Code::UnsetVariable, name, why)
                    }
                    Trouble::Required(name, words) => {
                        let why = format!("`{name}` must be set: {words}");
                        (Code::UnsetVariable, name, why)
                    }
                    Trouble::Malformed(text) => {
                        // The value may be a secret, so it is not shown.
                        let why = "a `$` here is no reference to a variable; write `$$` for a `$`";
                        (Code::BadValue, text, why.to_owned())
                    }
                };
                if told.insert(name) {
                    left.push(Left {
                        code,
                        place: String::new(),
                        file,
                        line,
                        column,
                        why,
                        help: Some("set it in `.env`, in a file named with `--env-file`, or in the environment".to_owned()),
                    });
                }
            }
            Some(filled)
        });
    }
}

/// Reads a text as YAML.
fn parsed(text: &str) -> Result<Node, Left> {
    serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location();
        let count = |number: Option<u64>| {
            number
                .and_then(|number| usize::try_from(number).ok())
                .unwrap_or(1)
        };
        let said = error.to_string();
        let first = said.lines().next().unwrap_or_default();
        Left {
            code: Code::Syntax,
            place: String::new(),
            file: 0,
            line: count(place.map(|place| place.line())),
            column: count(place.map(|place| place.column())),
            why: format!(
                "it cannot be read as YAML: {}",
                first.trim_start_matches("error: ")
            ),
            help: None,
        }
    })
}

#[cfg(test)]
mod tests;
