//! What an exported file says of itself, so that it can be taken back as the blueprint it was.

use serde_json::{Value, json};

use crate::model::{File, Service, literal};

/// The extension of the Compose file that holds it.
pub(crate) const EXTENSION: &str = "x-platform";

/// Tells whether a service is as it was written: FNV-1a, for it guards against mistakes and nobody else.
pub(crate) fn mark(service: &Service) -> String {
    let text = serde_json::to_string(service).unwrap_or_default();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// A service as it is read again: with `$` for `$$`.
fn read(service: &Service) -> Service {
    let text = serde_json::to_string(service).unwrap_or_default();
    serde_json::from_str(&text.replace("$$", "$")).unwrap_or_else(|_| service.clone())
}

impl File {
    /// Notes the blueprint that the file was made of, and from which of its environments.
    pub fn note(&mut self, blueprint: &str, environment: &str) {
        let marks = self.services.iter().map(|(name, service)| {
            let mark: Value = mark(&read(service)).into();
            (name.clone(), mark)
        });
        let marks: serde_json::Map<String, Value> = marks.collect();
        let noted = json!({
            "environment": environment,
            "blueprint": literal(blueprint),
            "services": marks,
        });
        self.rest.insert(EXTENSION.to_owned(), noted);
    }
}
