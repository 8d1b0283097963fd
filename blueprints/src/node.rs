//! The written tree: TOML values that know their place in the text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// A value and its place in the text.
#[derive(Debug, Clone)]
pub(crate) struct Node<'text> {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value<'text>,
}

/// A value as written.
#[derive(Debug, Clone)]
pub(crate) enum Value<'text> {
    /// A text, without its quotes.
    Text(Cow<'text, str>),
    /// The digits of a whole number, and their base.
    Integer(Cow<'text, str>, u32),
    /// The digits of a number.
    Float(Cow<'text, str>),
    Flag(bool),
    /// A date or time, of which the language has none.
    Date,
    List(Vec<Node<'text>>),
    /// A list written as `[[name]]`.
    Tables(Vec<Node<'text>>),
    Table(Table<'text>),
}

impl<'text> Node<'text> {
    pub(crate) fn new(span: Range<usize>, value: Value<'text>) -> Self {
        Self { span, value }
    }

    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(crate) fn as_table(&self) -> Option<&Table<'text>> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn as_table_mut(&mut self) -> Option<&mut Table<'text>> {
        match &mut self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Node<'text>]> {
        match &self.value {
            Value::List(list) | Value::Tables(list) => Some(list),
            _ => None,
        }
    }

    /// The last item of a list written as `[[name]]`.
    pub(crate) fn last_item_mut(&mut self) -> Option<&mut Node<'text>> {
        match &mut self.value {
            Value::Tables(list) => list.last_mut(),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A key and its place in the text.
#[derive(Debug, Clone)]
pub(crate) struct Key<'text> {
    pub(crate) span: Range<usize>,
    pub(crate) text: Cow<'text, str>,
}

/// How a table came to be, which decides what may be added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// By its own header.
    Header,
    /// By the header of a table below it.
    Implicit,
    /// By a dotted key.
    Dotted,
    /// In braces.
    Inline,
    /// By a dotted key in braces.
    DottedInline,
}

/// A table: its entries in the order of the text.
#[derive(Debug, Clone)]
pub(crate) struct Table<'text> {
    pub(crate) form: Form,
    entries: Vec<(Key<'text>, Node<'text>)>,
    /// Where keys are, once there are too many to look through.
    index: HashMap<Cow<'text, str>, usize>,
}

/// So many keys are looked through faster than looked up.
const FEW: usize = 16;

impl<'text> Table<'text> {
    pub(crate) fn new(form: Form) -> Self {
        Self {
            form,
            entries: Vec::new(),
            index: HashMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Which entry has the key.
    pub(crate) fn position(&self, key: &str) -> Option<usize> {
        if self.entries.len() > FEW {
            self.index.get(key).copied()
        } else {
            self.entries.iter().position(|(other, _)| other.text == key)
        }
    }

    /// Adds an entry whose key is not there.
    pub(crate) fn push(&mut self, key: Key<'text>, node: Node<'text>) -> &mut Node<'text> {
        let at = self.entries.len();
        if at == FEW {
            let keys = self.entries.iter().enumerate();
            self.index = keys.map(|(at, (key, _))| (key.text.clone(), at)).collect();
        }
        if at >= FEW {
            self.index.insert(key.text.clone(), at);
        }
        self.entries.push((key, node));
        &mut self.entries[at].1
    }

    /// Puts an entry in the place of the one with its key, or adds it.
    pub(crate) fn set(&mut self, key: Key<'text>, node: Node<'text>) {
        match self.position(&key.text) {
            Some(at) => self.entries[at] = (key, node),
            None => {
                self.push(key, node);
            }
        }
    }

    /// The table without the entries of some keys.
    pub(crate) fn without(&self, keys: &[&str]) -> Self {
        let mut table = Self::new(self.form);
        for (key, node) in self
            .entries
            .iter()
            .filter(|(key, _)| !keys.contains(&&*key.text))
        {
            table.push(key.clone(), node.clone());
        }
        table
    }

    pub(crate) fn entry_mut(&mut self, at: usize) -> Option<(&mut Key<'text>, &mut Node<'text>)> {
        self.entries.get_mut(at).map(|(key, node)| (key, node))
    }

    pub(crate) fn entry(&self, key: &str) -> Option<(&Key<'text>, &Node<'text>)> {
        self.position(key)
            .map(|at| (&self.entries[at].0, &self.entries[at].1))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node<'text>> {
        self.position(key).map(|at| &self.entries[at].1)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.position(key).is_some()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, (Key<'text>, Node<'text>)> {
        self.entries.iter()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(key, _)| &*key.text)
    }
}

/// A step into the tree.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'path> {
    /// The value of a key.
    Key(&'path str),
    /// An item of a list.
    Item(usize),
    /// The item of a list of texts that is this text.
    Text(&'path str),
}

impl<'path> From<&'path str> for Step<'path> {
    fn from(key: &'path str) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for Step<'_> {
    fn from(item: usize) -> Self {
        Self::Item(item)
    }
}

/// Goes down as far as the tree does.
///
/// - returns: the place of the last value met, and how many steps were taken
pub(crate) fn place(root: &Table<'_>, path: &[Step<'_>]) -> (Option<Range<usize>>, usize) {
    let mut span: Option<&Range<usize>> = None;
    let mut table = Some(root);
    let mut list: Option<&[Node<'_>]> = None;
    for (taken, step) in path.iter().enumerate() {
        let next = match step {
            Step::Key(key) => table.and_then(|table| table.entry(key)).map(|(key, node)| {
                // A table is pointed at by its key, a value by itself.
                let place = if node.as_table().is_some() {
                    &key.span
                } else {
                    &node.span
                };
                (place, node)
            }),
            Step::Item(item) => list
                .and_then(|list| list.get(*item))
                .map(|node| (&node.span, node)),
            Step::Text(text) => list
                .and_then(|list| list.iter().find(|node| node.as_text() == Some(text)))
                .map(|node| (&node.span, node)),
        };
        let Some((place, node)) = next else {
            return (span.cloned(), taken);
        };
        span = Some(place);
        table = node.as_table();
        list = node.as_list();
    }
    (span.cloned(), path.len())
}

/// The text at a path of keys.
pub(crate) fn text<'tree>(root: &'tree Table<'_>, path: &[Step<'_>]) -> Option<&'tree str> {
    let (last, way) = path.split_last()?;
    let mut table = root;
    for step in way {
        let Step::Key(key) = step else { return None };
        table = table.get(key)?.as_table()?;
    }
    let Step::Key(key) = last else { return None };
    table.get(key)?.as_text()
}

/// Groups of keys of which a table has one: an overlay that names another
/// one replaces the table instead of adding to it.
fn alternatives(parent: &str, key: &str) -> &'static [&'static str] {
    match (parent, key) {
        (_, "build") => &["cargo", "command", "dockerfile", "program", "image"],
        (_, "ready" | "live") => &["tcp", "command"],
        (_, "path") => &["prefix", "exact", "template"],
        ("env" | "variables", _) => &["secret", "plain"],
        _ => &[],
    }
}

/// Lays `over` on `base`: tables are merged key by key, all else is replaced.
///
/// - `parent`, `key`: where the two values stand
pub(crate) fn lay_over<'text>(
    base: &Node<'text>,
    over: &Node<'text>,
    parent: &str,
    key: &str,
) -> Node<'text> {
    let (Some(below), Some(above)) = (base.as_table(), over.as_table()) else {
        return over.clone();
    };
    let group = alternatives(parent, key);
    let chosen = |table: &Table<'_>| group.iter().find(|key| table.has(key)).copied();
    if let (Some(before), Some(now)) = (chosen(below), chosen(above))
        && before != now
    {
        return over.clone();
    }
    // An image is a build, written shortly: one takes the place of the other.
    let mut merged = match parent {
        "services" if above.has("image") => below.without(&["build"]),
        "services" if above.has("build") => below.without(&["image"]),
        _ => below.clone(),
    };
    for (name, value) in above.iter() {
        let value = match below.get(&name.text) {
            Some(before) => lay_over(before, value, key, &name.text),
            None => value.clone(),
        };
        // The key goes too, so that places are those of the overlay.
        merged.set(name.clone(), value);
    }
    Node::new(over.span(), Value::Table(merged))
}
