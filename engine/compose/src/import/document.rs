//! The blueprint's text.

use std::collections::BTreeSet;

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::{Draft, Imported, name_of};
use crate::export::EXTENSION;
use crate::left::{Code, Left};
use crate::read::Read;

impl Draft<'_> {
    /// Writes the blueprint.
    pub(super) fn finish(mut self) -> Imported {
        for secret in self.secrets.keys().cloned().collect::<Vec<_>>() {
            self.left.push(Left {
                code: Code::SecretToSet,
                place: String::new(),
                file: 0,
                line: 1,
                column: 1,
                why: format!("secret `{secret}` has no value yet"),
                help: Some(format!("run `platform secrets set {secret}`")),
            });
        }
        let name = self.file.name.as_deref().unwrap_or(self.inputs.folder);
        let project = name_of(name, "project");
        let counts = [
            self.out.services.len(),
            self.out.resources.len(),
            self.out.routes.len(),
        ];
        let mut document = DocumentMut::new();
        let mut table = Table::new();
        table.insert("name", value(project));
        document.insert("project", table.into());
        for (kind, tables) in [
            ("services", self.out.services),
            ("resources", self.out.resources),
        ] {
            if tables.is_empty() {
                continue;
            }
            let mut all = Table::new();
            all.set_implicit(true);
            for (name, table) in tables {
                all.insert(&name, table.into());
            }
            document.insert(kind, all.into());
        }
        if !self.out.gateway.is_empty() {
            document.insert("gateway", self.out.gateway.into());
        }
        if !self.out.routes.is_empty() {
            let routes: ArrayOfTables = self.out.routes.into_iter().collect();
            document.insert("routes", Item::ArrayOfTables(routes));
        }
        let mut docker = Table::new();
        docker.insert("provider", value("docker"));
        let mut environments = Table::new();
        environments.set_implicit(true);
        environments.insert("docker", docker.into());
        document.insert("environments", environments.into());
        let text = format!("{}\n{document}", comment(&self.files, &self.left));
        let blueprint = platform_blueprint::format(&text).unwrap_or(text);
        Imported {
            blueprint,
            files: self.files,
            left: self.left,
            secrets: self.secrets.into_keys().collect(),
            counts,
        }
    }
}

/// What stands at the top of the blueprint: where it comes from, and what it does not hold.
fn comment(files: &[String], left: &[Left]) -> String {
    let names = files.join("`, `");
    let mut lines = vec![format!("# Made of `{names}` by `platform import compose`.")];
    if !left.is_empty() {
        lines.push("#".to_owned());
        lines.push("# Not carried, or carried otherwise:".to_owned());
        for one in left {
            // A line break in what was read must not end the comment.
            let why = one.to_string().replace(['\n', '\r'], " ");
            let place = match one.code {
                Code::SecretToSet => String::new(),
                _ if one.file == 0 => format!("line {}: ", one.line),
                _ => format!("{}, line {}: ", files[one.file], one.line),
            };
            lines.push(format!("# - {place}{why}"));
        }
    }
    lines.join("\n") + "\n"
}

/// The blueprint in a file that `platform export compose` wrote.
pub(super) fn exported(read: &Read) -> Option<Imported> {
    let extension = read.root.get(EXTENSION)?.json();
    let blueprint = extension.get("blueprint")?.as_str()?.to_owned();
    let mut left = read.left.clone();
    let marks = extension
        .get("services")
        .and_then(|marks| marks.as_object());
    let names: BTreeSet<&String> = marks
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .chain(read.file.services.keys())
        .collect();
    for name in names {
        let was = marks
            .and_then(|marks| marks.get(name))
            .and_then(|mark| mark.as_str());
        let is = read.file.services.get(name).map(crate::export::mark);
        if was != is.as_deref() {
            let node = read.root.nearest(&["services", name]);
            let why =
                "it was changed after `platform export compose` wrote it, and that is not carried";
            let edited = Left::at(node, Code::Edited, format!("services.{name}"), why);
            left.push(edited.helped("change the blueprint instead, and export again"));
        }
    }
    let document: Option<DocumentMut> = blueprint.parse().ok();
    let count = |kind: &str| {
        let table = document.as_ref().and_then(|document| document.get(kind));
        table.map_or(0, |item| match item {
            Item::ArrayOfTables(tables) => tables.len(),
            other => other.as_table_like().map_or(0, toml_edit::TableLike::len),
        })
    };
    Some(Imported {
        counts: [count("services"), count("resources"), count("routes")],
        blueprint,
        files: read.files.clone(),
        left,
        secrets: BTreeSet::new(),
    })
}
