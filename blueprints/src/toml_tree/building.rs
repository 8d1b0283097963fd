//! From events to tables: which may be opened, extended and repeated (<https://toml.io/en/v1.0.0>).

use std::borrow::Cow;
use std::ops::Range;

use toml_parser::decoder::ScalarKind;
use toml_parser::parser::{Event, EventKind};
use toml_parser::{ErrorSink, ParseError, Source};

use super::{DEPTH, REPEATED};
use crate::node::{Form, Key, Node, Table, Value};

/// What is left of a document's events, and what was wrong with those before.
pub(super) struct Building<'text, 'events> {
    pub(super) source: Source<'text>,
    pub(super) rest: std::slice::Iter<'events, Event>,
    pub(super) errors: &'events mut Vec<ParseError>,
}

impl<'text> Building<'text, '_> {
    /// The kind of the next event, which stays.
    fn peek(&self) -> Option<EventKind> {
        self.rest.as_slice().first().map(Event::kind)
    }

    /// Reads all of it.
    pub(super) fn document(&mut self, root: &mut Table<'text>) {
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
