//! Builds the written tree from the events of a TOML parser.
//!
//! The parser tells tokens and their grammar; what tables may be opened,
//! extended and repeated is told here (<https://toml.io/en/v1.0.0>).

use std::borrow::Cow;
use std::ops::Range;

use toml_parser::decoder::ScalarKind;
use toml_parser::parser::{Event, EventKind, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ErrorSink, Expected, ParseError, Source};

use crate::node::{Form, Key, Node, Table, Value};
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

struct Building<'text, 'events> {
    source: Source<'text>,
    rest: std::slice::Iter<'events, Event>,
    errors: &'events mut Vec<ParseError>,
}

impl<'text> Building<'text, '_> {
    /// The kind of the next event, which stays.
    fn peek(&self) -> Option<EventKind> {
        self.rest.as_slice().first().map(Event::kind)
    }

    fn document(&mut self, root: &mut Table<'text>) {
        self.entries(root);
        while let Some(open) = self.rest.next() {
            let repeated = match open.kind() {
                EventKind::StdTableOpen => false,
                EventKind::ArrayTableOpen => true,
                _ => continue,
            };
            let (path, last) = self.keys();
            // The closing bracket.
            let end = self
                .rest
                .next()
                .map_or(open.span().end(), |close| close.span().end());
            let place = open.span().start()..end;
            let table = last.and_then(|last| {
                let parent = self.descend(root, path, Form::Implicit)?;
                if repeated {
                    self.open_item(parent, &last, place)
                } else {
                    self.open_table(parent, last, place)
                }
            });
            match table {
                Some(table) => self.entries(table),
                // What stands below a header that is wrong is read past.
                None => self.entries(&mut Table::new(Form::Header)),
            }
        }
    }

    /// `[name]`: a table that was not opened before.
    fn open_table<'tree>(
        &mut self,
        parent: &'tree mut Table<'text>,
        key: Key<'text>,
        place: Range<usize>,
    ) -> Option<&'tree mut Table<'text>> {
        let Some(at) = parent.position(&key.text) else {
            let table = Value::Table(Table::new(Form::Header));
            return parent.push(key, Node::new(place, table)).as_table_mut();
        };
        let (before, node) = parent.entry_mut(at)?;
        let open = node
            .as_table()
            .is_some_and(|table| table.form == Form::Implicit);
        if !open {
            self.repeated(&key, before);
            return None;
        }
        *before = key;
        node.span = place;
        let table = node.as_table_mut()?;
        table.form = Form::Header;
        Some(table)
    }

    /// `[[name]]`: one more item.
    fn open_item<'tree>(
        &mut self,
        parent: &'tree mut Table<'text>,
        key: &Key<'text>,
        place: Range<usize>,
    ) -> Option<&'tree mut Table<'text>> {
        let at = parent.position(&key.text).unwrap_or_else(|| {
            parent.push(
                key.clone(),
                Node::new(place.clone(), Value::Tables(Vec::new())),
            );
            parent.len() - 1
        });
        let (before, node) = parent.entry_mut(at)?;
        let Value::Tables(items) = &mut node.value else {
            self.repeated(key, before);
            return None;
        };
        items.push(Node::new(place, Value::Table(Table::new(Form::Header))));
        items.last_mut()?.as_table_mut()
    }

    /// Goes down to the table in which the last key of a path stands.
    ///
    /// - `form`: how tables that are not there yet come to be
    fn descend<'tree>(
        &mut self,
        root: &'tree mut Table<'text>,
        path: Vec<Key<'text>>,
        form: Form,
    ) -> Option<&'tree mut Table<'text>> {
        let mut table = root;
        for key in path {
            let at = table.position(&key.text).unwrap_or_else(|| {
                let place = key.span.clone();
                let new = Value::Table(Table::new(form));
                table.push(key.clone(), Node::new(place, new));
                table.len() - 1
            });
            let (before, node) = table.entry_mut(at)?;
            let node = if form == Form::Implicit && matches!(node.value, Value::Tables(_)) {
                // Below `[[name]]` stands what belongs to its last item.
                node.last_item_mut()?
            } else {
                node
            };
            // A header adds to all but inline tables; a dotted key only to
            // tables that no header opened, which then none may open.
            let open = node
                .as_table_mut()
                .is_some_and(|table| match (form, table.form) {
                    (Form::Implicit, now) => !matches!(now, Form::Inline | Form::DottedInline),
                    (Form::Dotted, Form::Implicit) => {
                        table.form = Form::Dotted;
                        true
                    }
                    (form, now) => form == now,
                });
            if !open {
                self.repeated(&key, before);
                return None;
            }
            table = node.as_table_mut()?;
        }
        Some(table)
    }

    fn repeated(&mut self, key: &Key<'_>, before: &Key<'_>) {
        let span = |key: &Key<'_>| toml_parser::Span::new_unchecked(key.span.start, key.span.end);
        self.errors.report_error(
            ParseError::new(REPEATED)
                .with_unexpected(span(key))
                .with_context(span(before)),
        );
    }

    /// The entries up to the next header or the end of an inline table.
    fn entries(&mut self, table: &mut Table<'text>) {
        let dotted = match table.form {
            Form::Inline => Form::DottedInline,
            _ => Form::Dotted,
        };
        while let Some(kind) = self.peek() {
            match kind {
                EventKind::StdTableOpen | EventKind::ArrayTableOpen => return,
                EventKind::InlineTableClose => {
                    return;
                }
                EventKind::SimpleKey => {
                    let (path, last) = self.keys();
                    // The equals sign.
                    self.rest.next();
                    let Some(value) = self.value() else { continue };
                    let Some(last) = last else { continue };
                    let Some(parent) = self.descend(table, path, dotted) else {
                        continue;
                    };
                    match parent.position(&last.text) {
                        Some(at) => {
                            if let Some((before, _)) = parent.entry_mut(at) {
                                self.repeated(&last, before);
                            }
                        }
                        None => {
                            parent.push(last, value);
                        }
                    }
                }
                _ => {
                    self.rest.next();
                }
            }
        }
    }

    /// Reads a key: the names before its last dot, and the last.
    fn keys(&mut self) -> (Vec<Key<'text>>, Option<Key<'text>>) {
        let mut path = Vec::new();
        let mut last = None;
        while let Some(kind @ (EventKind::SimpleKey | EventKind::KeySep)) = self.peek() {
            let Some(event) = self.rest.next().filter(|_| kind == EventKind::SimpleKey) else {
                continue;
            };
            let mut text = Cow::Borrowed("");
            if let Some(raw) = self.source.get(event) {
                raw.decode_key(&mut text, self.errors);
            }
            let span = event.span().start()..event.span().end();
            path.extend(last.replace(Key { span, text }));
        }
        if path.len() >= DEPTH as usize {
            self.errors
                .report_error(ParseError::new("a key of too many parts"));
            return (Vec::new(), None);
        }
        (path, last)
    }

    fn value(&mut self) -> Option<Node<'text>> {
        let event = self.rest.next()?;
        let start = event.span().start();
        let value = match event.kind() {
            EventKind::Scalar => {
                let value = self.scalar(event)?;
                return Some(Node::new(start..event.span().end(), value));
            }
            EventKind::ArrayOpen => {
                let mut items = Vec::new();
                while let Some(kind) = self.peek().filter(|kind| *kind != EventKind::ArrayClose) {
                    if kind == EventKind::ValueSep {
                        self.rest.next();
                    } else {
                        items.push(self.value()?);
                    }
                }
                Value::List(items)
            }
            EventKind::InlineTableOpen => {
                let mut table = Table::new(Form::Inline);
                self.entries(&mut table);
                Value::Table(table)
            }
            _ => return None,
        };
        // The closing bracket.
        let end = self.rest.next()?.span().end();
        Some(Node::new(start..end, value))
    }

    fn scalar(&mut self, event: &Event) -> Option<Value<'text>> {
        let mut text = Cow::Borrowed("");
        let raw = self.source.get(event)?;
        Some(match raw.decode_scalar(&mut text, self.errors) {
            ScalarKind::String => Value::Text(text),
            ScalarKind::Boolean(flag) => Value::Flag(flag),
            ScalarKind::Integer(radix) => Value::Integer(text, radix.value()),
            ScalarKind::Float => Value::Float(text),
            ScalarKind::DateTime => Value::Date,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
