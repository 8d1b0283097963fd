//! SARIF of the problems found.
//!
//! Source: SARIF 2.1.0, OASIS standard.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::codes;
use crate::diagnostic::{Diagnostic, Severity};

/// Writes problems as one run; the rule's id is the code.
pub(crate) fn render(diagnostics: &[Diagnostic]) -> Value {
    let used: BTreeSet<&str> = diagnostics
        .iter()
        .map(|found| found.code.as_str())
        .collect();
    let rules: Vec<Value> = used
        .iter()
        .map(|code| {
            let mut rule = json!({ "id": code });
            if let Some(known) = codes::explain(code) {
                rule["shortDescription"] = json!({ "text": known.title });
                rule["help"] = json!({ "text": known.text });
            }
            rule
        })
        .collect();
    let results: Vec<Value> = diagnostics.iter().map(result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "platform",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "results": results,
        }],
    })
}

fn result(found: &Diagnostic) -> Value {
    let level = match found.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let mut text = found.message.clone();
    for cause in &found.causes {
        text.push_str(": ");
        text.push_str(cause);
    }
    if let Some(help) = &found.help {
        text.push('\n');
        text.push_str(help);
    }
    let mut result = json!({
        "ruleId": found.code,
        "level": level,
        "message": { "text": text },
    });
    if let Some(place) = &found.place {
        result["locations"] = json!([{
            "physicalLocation": {
                "artifactLocation": { "uri": place.file.replace(' ', "%20") },
                "region": { "startLine": place.line, "startColumn": place.column },
            },
        }]);
    }
    result
}
