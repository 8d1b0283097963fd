//! JSON lines for programs.

use std::io::{self, Write};
use std::sync::Mutex;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::outlet::Outlet;
use super::{Shown, Told, View, typed};
use crate::diagnostic::Diagnostic;
use crate::error::CliError;

/// Version of the stream: readers ignore fields and types they do not know, and refuse another major number.
const SCHEMA: &str = "1.0";

/// The first line of every stream.
pub(crate) fn header() -> Value {
    json!({
        "type": "version",
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("PLATFORM_BUILD_COMMIT"),
        "target": env!("PLATFORM_BUILD_TARGET"),
        "features": crate::features(),
    })
}

/// Writes JSON lines.
pub(crate) struct JsonView<W: Write + Send = io::Stdout> {
    out: Mutex<W>,
    outlet: Outlet,
}

impl JsonView {
    /// Writes to standard output, the header first.
    pub(crate) fn stdout() -> Self {
        Self::new("standard output", io::stdout())
    }
}

impl<W: Write + Send> JsonView<W> {
    /// Writes to `out`, the header first.
    ///
    /// - `name`: what people call it
    pub(crate) fn new(name: impl Into<String>, out: W) -> Self {
        let view = Self {
            out: Mutex::new(out),
            outlet: Outlet::new(name),
        };
        view.line(header());
        view
    }

    fn line(&self, mut line: Value) {
        if self.closed() {
            return;
        }
        if let Some(fields) = line.as_object_mut() {
            // Whatever knows its own time has it in milliseconds.
            let own = fields.get("at").and_then(Value::as_i64);
            let at = own.and_then(DateTime::from_timestamp_millis);
            let at = at
                .unwrap_or_else(Utc::now)
                .to_rfc3339_opts(SecondsFormat::Millis, true);
            if own.is_some() || !fields.contains_key("at") {
                fields.insert("at".to_owned(), at.into());
            }
        }
        let mut text = line.to_string();
        text.push('\n');
        let mut out = self
            .out
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        self.outlet.note(written);
    }
}

impl<W: Write + Send> View for JsonView<W> {
    fn show(&self, shown: &dyn Shown) {
        self.line(typed(shown.kind(), shown.json()));
    }

    fn tell(&self, told: &Told) {
        self.line(told.json.clone());
    }

    fn diagnose(&self, diagnostic: &Diagnostic) {
        self.line(diagnostic.json());
    }

    fn redraw(&self, shown: &dyn Shown) {
        self.show(shown);
    }

    fn closed(&self) -> bool {
        self.outlet.closed()
    }

    fn lost(&self) -> Option<CliError> {
        self.outlet.lost()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// What stands before the `type` of a line where one is made.
    const BEFORE: [&str; 5] = [
        "fn kind(&self) -> &'static str { \"",
        "Told::new( \"",
        "\"type\": \"",
        "typed(\"",
        "changed(world, \"",
    ];

    fn types_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                types_in(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let source = fs::read_to_string(&path).unwrap_or_default();
                let source = source.split("#[cfg(test)]").next().unwrap_or_default();
                let words: Vec<&str> = source.split_whitespace().collect();
                let source = words.join(" ").replace("Told::new(\"", "Told::new( \"");
                for before in BEFORE {
                    let after = source.split(before).skip(1);
                    found.extend(after.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
                }
            }
        }
    }

    /// The types of a run's events, which serde makes of their names.
    fn types_of_events() -> impl Iterator<Item = String> {
        let source = include_str!("../../../engine/drive/src/events.rs");
        let variants = source
            .split_once("pub enum Event {")
            .map_or("", |(_, rest)| rest);
        let variants = variants.split("\n}").next().unwrap_or_default();
        variants.lines().filter_map(|line| {
            let name = line.strip_prefix("    ")?;
            let name = name.split(['(', ' ', ',']).next()?;
            let snake = |(at, letter): (usize, char)| {
                let low = letter.to_ascii_lowercase();
                let begins = 0 < at && letter.is_ascii_uppercase();
                [begins.then_some('_'), Some(low)].into_iter().flatten()
            };
            name.starts_with(|first: char| first.is_ascii_uppercase())
                .then(|| name.char_indices().flat_map(snake).collect())
        })
    }

    /// The types in the table of `docs/cli.md`.
    fn documented() -> BTreeSet<String> {
        let table = include_str!("../../../docs/cli.md");
        let table = table
            .split_once("| type | from | fields |")
            .map_or("", |(_, rest)| rest);
        let rows = table
            .trim_start()
            .lines()
            .skip(1)
            .take_while(|line| line.starts_with('|'));
        let types = rows.filter_map(|row| row.split('|').nth(1));
        types
            .flat_map(|types| types.split('`').skip(1).step_by(2))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn every_type_of_a_line_is_documented_and_none_else() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut made: BTreeSet<String> = types_of_events().collect();
        types_in(&sources, &mut made);
        for known in ["lock_wait", "status", "output", "version", "secret_rotated"] {
            assert!(
                made.contains(known),
                "the search misses `{known}`: {made:?}"
            );
        }
        assert_eq!(documented(), made, "docs/cli.md on the left");
    }
}
