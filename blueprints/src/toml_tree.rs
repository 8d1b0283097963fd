//! Builds the written tree from the events of a TOML parser.
//!
//! The parser tells tokens and their grammar; what tables may be opened,
//! extended and repeated is told by `building`.

mod building;

use toml_parser::parser::{Event, EventKind, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ErrorSink, Expected, ParseError, Source};

use self::building::Building;
use crate::node::{Form, Table};
use crate::{Code, Problem};

/// How deep lists, tables and keys may nest.
const DEPTH: u32 = 80;

/// Reads a text.
///
/// # Errors
///
/// Everything by which it is not TOML.
pub(crate) fn parse(text: &str) -> Result<Table<'_>, Vec<Problem>> {
    let source = Source::new(text);
    let mut events = Vec::new();
    let mut errors: Vec<ParseError> = Vec::new();
    {
        let mut checked = ValidateWhitespace::new(&mut events, source);
        let mut bounded = RecursionGuard::new(&mut checked, DEPTH);
        parse_document(&source.lex().into_vec(), &mut bounded, &mut errors);
    }
    late_values(&events, &mut errors);
    let mut root = Table::new(Form::Header);
    if errors.is_empty() {
        events.retain(|event| {
            !matches!(
                event.kind(),
                EventKind::Whitespace | EventKind::Comment | EventKind::Newline
            )
        });
        let mut building = Building {
            source,
            rest: events.iter(),
            errors: &mut errors,
        };
        building.document(&mut root);
    }
    if errors.is_empty() {
        Ok(root)
    } else {
        Err(errors.iter().map(|error| problem(text, error)).collect())
    }
}

/// Reports each value of an inline table that is not on the line of its equals sign, which the parser lets pass.
fn late_values(events: &[Event], errors: &mut Vec<ParseError>) {
    let mut seen = events
        .iter()
        .filter(|event| event.kind() != EventKind::Whitespace)
        .peekable();
    while let Some(event) = seen.next() {
        if event.kind() == EventKind::KeyValSep
            && let Some(next) = seen.peek()
            && matches!(next.kind(), EventKind::Newline | EventKind::Comment)
        {
            errors.report_error(
                ParseError::new("missing value")
                    .with_unexpected(next.span())
                    .with_expected(&[Expected::Description("a value on this line")]),
            );
        }
    }
}

fn problem(text: &str, error: &ParseError) -> Problem {
    let mut message = error.description().to_lowercase();
    let expected: Vec<String> = error
        .expected()
        .unwrap_or_default()
        .iter()
        .map(|expected| match expected {
            Expected::Literal("\n") => "a line end".to_owned(),
            Expected::Literal(literal) => format!("`{literal}`"),
            Expected::Description(words) => (*words).to_owned(),
            _ => "something else".to_owned(),
        })
        .collect();
    if !expected.is_empty() {
        message = format!("{message}, expected {}", expected.join(", "));
    }
    let at = |span: toml_parser::Span| {
        let start = floor(text, span.start());
        start..floor(text, span.end()).max(start)
    };
    let span = error.unexpected().map_or(text.len()..text.len(), at);
    let repeats = error.context().filter(|_| error.description() == REPEATED);
    Problem::new(Code::Syntax, message, Some(span))
        .label("not TOML")
        .also(repeats.map(at), "here before")
}

const REPEATED: &str = "duplicate key";

/// The last place at or before `at` where a character begins.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::node::Value;

    /// The meaning of the tree, in the words of the `toml` crate.
    fn meaning(value: &Value<'_>) -> Option<toml::Value> {
        Some(match value {
            Value::Text(text) => toml::Value::String(text.to_string()),
            Value::Integer(digits, base) => {
                toml::Value::Integer(i64::from_str_radix(digits, *base).ok()?)
            }
            Value::Float(digits) => toml::Value::Float(digits.parse().ok()?),
            Value::Flag(flag) => toml::Value::Boolean(*flag),
            Value::Date => return None,
            Value::List(list) | Value::Tables(list) => {
                let items: Option<_> = list.iter().map(|node| meaning(&node.value)).collect();
                toml::Value::Array(items?)
            }
            Value::Table(table) => toml::Value::Table(table_meaning(table)?),
        })
    }

    fn table_meaning(table: &Table<'_>) -> Option<toml::Table> {
        table
            .iter()
            .map(|(key, node)| Some((key.text.to_string(), meaning(&node.value)?)))
            .collect()
    }

    /// The `toml` crate reads the same, and refuses the same.
    fn check(text: &str) {
        let theirs = text.parse::<toml::Table>();
        match parse(text) {
            // Dates and numbers that are too large are left to the reader.
            Ok(table) => {
                if let Some(ours) = table_meaning(&table) {
                    let theirs = theirs.unwrap_or_else(|error| panic!("{text:?}: {error}"));
                    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{text}");
                }
            }
            Err(problems) => {
                // It lets a dotted key add to an item of `[[name]]`, and a value of an inline table stand on the next line, which
                // TOML does not.
                let late = |rest: &str| {
                    rest.trim_start_matches([' ', '\t', '\r'])
                        .starts_with(['\n', '#'])
                };
                let lenient = text.contains("[[") || text.split('=').skip(1).any(late);
                assert!(theirs.is_err() || lenient, "{text:?}: {problems:?}");
            }
        }
    }

    #[test]
    fn tables_are_opened_and_extended_as_toml_says() {
        for text in [
            "",
            "a = 1",
            "a.b = 1\na.c = 2\n",
            "[a.b.c]\nx = 1\n[a]\ny = 2\n[a.b]\nz = 3\n",
            "[a]\n[a]\n",
            "[a.b]\n[a]\n[a]\n",
            "a = 1\na = 2\n",
            "a = 1\na.b = 2\n",
            "a.b = 1\na = 2\n",
            "[a]\nb.c = 1\n[a.b]\nd = 2\n",
            "[a]\nb.c = 1\n[a.b.d]\ne = 2\n",
            "[a.b.c]\nz = 9\n[a]\nb.c.t = 1\n",
            "[a.b.c]\nz = 9\n[a]\nb.t = 1\n",
            "[a.b.c]\nz = 9\n[a]\nb.t = 1\n[a.b]\nu = 2\n",
            "a = { b = 1 }\na.c = 2\n",
            "a = { b = 1 }\n[a.c]\nd = 2\n",
            "a = { b.c = 1, b.d = 2 }\n",
            "a = { b = { c = 1 }, b.d = 2 }\n",
            "a = { b.c = 1, b = 2 }\n",
            "[[a]]\nb = 1\n[[a]]\nb = 2\n[a.c]\nd = 3\n[[a.e]]\n[[a.e]]\nf = 4\n",
            "a = []\n[[a]]\n",
            "a = [{ b = 1 }]\n[a.c]\n",
            "[[a]]\n[a]\n",
            "[a]\n[[a]]\n",
            "[[a.b]]\n[a]\nc = 1\n",
            "[a]\nb = 1\n[[a.b]]\n",
            "'' = 1\n\"\" = 2\n",
            "\"a.b\".c = 1\na.b.c = 2\n",
            "a = 0x1F\nb = 1_000\nc = -0.5e3\nd = inf\ne = 'x'\n",
            "a = 01\n",
            "a = 1 b = 2\n",
            "a = [1, 2,, 3]\n",
            "a = { b = 1, }\n",
            "a = {\nb = 1,\n # c\nd = 2\n}\n",
            "a = { b =\n1 }\n",
            "a = { b = # c\n1 }\n",
            "a = { b\n= 1 }\n",
            "a = { b.\nc = 1 }\n",
            "a = { b\n.c = 1 }\n",
            "a = { b =\n 1 }\n",
            "a = \"\\u00e9\\x\"\n",
            "a = \"\"\"\nb\\\n   c\"\"\"\n",
            "\u{feff}a = 1\n",
            "a = 1\r\nb = 2\rc = 3",
            "# \u{1}\n",
        ] {
            check(text);
        }
        assert!(parse("a = { b =\n1 }\n").is_err());
        check(&format!("a = {}", "[".repeat(500)));
        check(&format!("{}a = 1", "a.".repeat(500)));
        let lines = |line: fn(u32) -> String| {
            (0..100).map(line).collect::<Vec<_>>().join(
                "
",
            )
        };
        check(&lines(|number| {
            format!(
                "[t.k{number}]
v = {number}"
            )
        }));
        check(&lines(|number| format!("k{} = 1", number % 60)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_tables_are_opened_and_extended(
            lines in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec("[ab]", 1..4).prop_map(|path| format!("[{}]", path.join("."))),
                    prop::collection::vec("[ab]", 1..4).prop_map(|path| format!("[[{}]]", path.join("."))),
                    prop::collection::vec("[abc]", 1..4).prop_map(|path| format!("{} = 1", path.join("."))),
                    prop::collection::vec("[abc]", 1..3)
                        .prop_map(|path| format!("{} = {{ a.b = 1, c = [] }}", path.join("."))),
                    "[ab] = \\{ [ab](\\.[ab])? = 1, [ab](\\.[ab])? = \\{\\} \\}",
                ],
                1..8,
            )
        ) {
            check(&lines.join("\n"));
        }

        #[test]
        fn whatever_is_written(text in "([a-c]|[0-9]|[=.,#'\"{}\\[\\]\\\\+_-]|\\n| |\"\"\"|\\t|e|\u{e9}){0,24}") {
            check(&text);
        }
    }
}
