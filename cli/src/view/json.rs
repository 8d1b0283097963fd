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
