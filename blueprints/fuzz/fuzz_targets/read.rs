//! Reads any text as a blueprint: parses, validates, resolves, formats.
//!
//! In `blueprints/`, on stable Rust, beginning with the blueprints we ship:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run read fuzz/corpus/read shop minimal -- -max_total_time=60`
#![no_main]

use libfuzzer_sys::fuzz_target;
use platform_blueprint::{Blueprint, digest, format, service_order};

fuzz_target!(|text: &str| {
    match Blueprint::parse(text, "platform.toml") {
        Ok(parsed) => {
            for environment in parsed.blueprint.environments() {
                let resolved = parsed
                    .blueprint
                    .resolve(Some(&environment.name))
                    .expect("an environment of the blueprint resolves");
                let ordered: usize = service_order(&resolved).iter().map(Vec::len).sum();
                assert_eq!(ordered, resolved.services.len(), "every service has a place");
                assert_eq!(digest(&resolved).len(), 64);
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                let span = problem.span.clone().unwrap_or(0..0);
                assert!(text.get(span).is_some(), "a problem lies within the text");
            }
            let report = miette::Report::new(problems);
            assert!(!format!("{report:?}").is_empty());
        }
    }
    if let Some(formatted) = format(text) {
        let meaning = |text: &str| text.parse::<toml::Table>().map(|table| format!("{table:?}"));
        assert_eq!(meaning(text).ok(), meaning(&formatted).ok(), "the meaning stays");
        assert_eq!(format(&formatted).as_deref(), Some(formatted.as_str()), "formatting twice");
    }
});
