//! What holds for every text, and for every blueprint.

use platform_blueprint::{Blueprint, format};
use proptest::prelude::*;

const SHOP: &str = include_str!("../shop/platform.toml");

/// Everything that is done with a text: none of it may panic, and every
/// problem lies within the text.
fn read(text: &str) {
    match Blueprint::parse(text, "platform.toml") {
        Ok(parsed) => {
            for environment in parsed.blueprint.environments() {
                let resolved = parsed.blueprint.resolve(Some(&environment.name));
                platform_blueprint::service_order(&resolved.expect("it is one of them"));
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                let span = problem.span.clone().unwrap_or(0..0);
                assert!(text.get(span.clone()).is_some(), "{span:?} of {problem:?}");
            }
            let report = miette::Report::new(problems);
            assert!(!format!("{report:?}").is_empty());
        }
    }
}

/// The meaning of a text, without its looks.
fn meaning(text: &str) -> Option<String> {
    text.parse::<toml::Table>()
        .ok()
        .map(|table| format!("{table:?}"))
}

fn formats(text: &str) {
    let Some(formatted) = format(text) else {
        // The `toml` crate lets a value of an inline table stand on the next line, which TOML does not.
        let late = |rest: &str| {
            rest.trim_start_matches([' ', '\t'])
                .starts_with(['\n', '#'])
        };
        assert!(
            meaning(text).is_none() || text.split('=').skip(1).any(late),
            "only what is not TOML is not formatted"
        );
        return;
    };
    assert_eq!(meaning(&formatted), meaning(text), "{formatted}");
    assert_eq!(
        format(&formatted).as_deref(),
        Some(formatted.as_str()),
        "formatting twice"
    );
    let comments = |text: &str| text.matches("# note").count();
    assert_eq!(comments(&formatted), comments(text), "comments stay");
}

/// A blueprint with a few places changed.
fn mutated() -> impl Strategy<Value = String> {
    let change = (
        0..SHOP.len(),
        0..12_usize,
        "[a-z0-9=\\[\\]{}\"'.,#\n $%-]{0,6}",
    );
    prop::collection::vec(change, 1..5).prop_map(|changes| {
        let mut text = SHOP.to_owned();
        for (at, length, new) in changes {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.replace_range(at..end, &new);
        }
        text
    })
}

/// A value, written in every way that is allowed.
fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("1".to_owned()),
        Just("0x1F".to_owned()),
        Just("1.50".to_owned()),
        Just("true".to_owned()),
        Just("'single # note'".to_owned()),
        Just("\"a \\\" b\"".to_owned()),
        Just("\"\"\"\n  several\n lines\"\"\"".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
    ];
    let gap = prop_oneof![
        Just(""),
        Just(" "),
        Just("\n"),
        Just(" # note\n"),
        Just("\n\n  # note\n\n"),
    ];
    scalar.prop_recursive(4, 24, 6, move |inner| {
        let item = (gap.clone(), inner.clone(), gap.clone());
        let list = (
            prop::collection::vec(item, 0..6),
            any::<bool>(),
            gap.clone(),
        )
            .prop_map(|(items, comma, end)| {
                let items: Vec<String> = items
                    .into_iter()
                    .map(|(before, item, after)| format!("{before}{item}{after}"))
                    .collect();
                let comma = if comma && !items.is_empty() { "," } else { "" };
                format!("[{}{comma}{end}]", items.join(","))
            });
        let table = prop::collection::vec(inner, 0..4).prop_map(|values| {
            let entries: Vec<String> = values
                .into_iter()
                .enumerate()
                .map(|(number, value)| format!("key-{number} =   {value}"))
                .collect();
            format!("{{{}}}", entries.join(","))
        });
        prop_oneof![list, table]
    })
}

/// A document of tables, keys and comments.
fn document() -> impl Strategy<Value = String> {
    let entry = (value(), prop_oneof![Just(""), Just("  # note")], 0..3_usize);
    let table = (
        prop::collection::vec(entry, 0..4),
        0..3_usize,
        any::<bool>(),
    );
    prop::collection::vec(table, 0..4).prop_map(|tables| {
        let mut lines = Vec::new();
        for (number, (entries, gap, list)) in tables.into_iter().enumerate() {
            lines.extend(vec![String::new(); gap]);
            if list {
                lines.push("# note".to_owned());
                lines.push(format!("[[ lists . l{number} ]]# note"));
            } else {
                lines.push(format!("[tables.\"t {number}\"]"));
            }
            for (number, (value, comment, gap)) in entries.into_iter().enumerate() {
                lines.extend(vec![String::new(); gap]);
                lines.push(format!("a{number} . b=\t{value}{comment}\r"));
            }
        }
        lines.push(String::new());
        lines.join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_without_a_panic(text in any::<String>()) {
        read(&text);
        formats(&text);
    }

    #[test]
    fn a_changed_blueprint_is_read_without_a_panic(text in mutated()) {
        read(&text);
        formats(&text);
    }

    #[test]
    fn formatting_keeps_the_meaning_and_the_comments(text in document()) {
        prop_assert!(meaning(&text).is_some(), "{text}");
        formats(&text);
    }
}
