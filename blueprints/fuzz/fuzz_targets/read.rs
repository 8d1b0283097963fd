//! Reads any text as a blueprint: parses, validates, resolves, formats.
//!
//! In `blueprints/`, on stable Rust:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run read -- -max_total_time=60`
#![no_main]

use libfuzzer_sys::fuzz_target;
use platform_blueprint::{Blueprint, format, service_order};

const SHOP: &str = include_str!("../../shop/platform.toml");

// Half of the inputs are texts, the other half changes to a blueprint, which
// come further.
fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((first, rest)) if first % 2 == 1 => read(&changed(rest)),
        _ => read(&String::from_utf8_lossy(data)),
    }
});

/// Changes a blueprint: each change is a place, how much to take out, and how
/// much of what follows to put in.
fn changed(mut changes: &[u8]) -> String {
    let mut text = SHOP.as_bytes().to_vec();
    while let [high, low, out, length, rest @ ..] = changes {
        let new = &rest[..rest.len().min(usize::from(*length % 16))];
        changes = &rest[new.len()..];
        let at = usize::from(u16::from_be_bytes([*high, *low])) % (text.len() + 1);
        let end = (at + usize::from(*out % 16)).min(text.len());
        text.splice(at..end, new.iter().copied());
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn read(text: &str) {
    match Blueprint::parse(text, "platform.toml") {
        Ok(parsed) => {
            for environment in parsed.blueprint.environments() {
                let resolved = parsed
                    .blueprint
                    .resolve(Some(&environment.name))
                    .expect("an environment of the blueprint resolves");
                let ordered: usize = service_order(&resolved).iter().map(Vec::len).sum();
                assert_eq!(
                    ordered,
                    resolved.services.len(),
                    "every service has a place"
                );
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
        let meaning = |text: &str| {
            text.parse::<toml::Table>()
                .map(|table| format!("{table:?}"))
        };
        assert_eq!(
            meaning(text).ok(),
            meaning(&formatted).ok(),
            "the meaning stays"
        );
        assert_eq!(
            format(&formatted).as_deref(),
            Some(formatted.as_str()),
            "formatting twice"
        );
    }
}
