//! The written tree: TOML values that know their place in the text.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value of the written tree.
pub(crate) type Node<'text> = Spanned<DeValue<'text>>;

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
pub(crate) fn place(root: &DeTable<'_>, path: &[Step<'_>]) -> (Option<Range<usize>>, usize) {
    let mut span = None;
    let mut table = Some(root);
    let mut list: Option<&[Node<'_>]> = None;
    for (taken, step) in path.iter().enumerate() {
        let next = match step {
            Step::Key(key) => {
                table
                    .and_then(|table| table.get_key_value(*key))
                    .map(|(key, node)| {
                        // A table is pointed at by its key, a value by itself.
                        let place = if node.get_ref().is_table() {
                            key.span()
                        } else {
                            node.span()
                        };
                        (place, node)
                    })
            }
            Step::Item(item) => list
                .and_then(|list| list.get(*item))
                .map(|node| (node.span(), node)),
            Step::Text(text) => list
                .and_then(|list| {
                    list.iter()
                        .find(|node| node.get_ref().as_str() == Some(text))
                })
                .map(|node| (node.span(), node)),
        };
        let Some((place, node)) = next else {
            return (span, taken);
        };
        span = Some(place);
        table = node.get_ref().as_table();
        list = node.get_ref().as_array().map(|list| &**list);
    }
    (span, path.len())
}

/// The text at a path of keys.
pub(crate) fn text<'tree>(root: &'tree DeTable<'_>, path: &[Step<'_>]) -> Option<&'tree str> {
    let (last, way) = path.split_last()?;
    let mut table = root;
    for step in way {
        let Step::Key(key) = step else { return None };
        table = table.get(*key)?.get_ref().as_table()?;
    }
    let Step::Key(key) = last else { return None };
    table.get(*key)?.get_ref().as_str()
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
    let (Some(below), Some(above)) = (base.get_ref().as_table(), over.get_ref().as_table()) else {
        return over.clone();
    };
    let group = alternatives(parent, key);
    let chosen = |table: &DeTable<'_>| group.iter().find(|key| table.contains_key(**key)).copied();
    if let (Some(before), Some(now)) = (chosen(below), chosen(above))
        && before != now
    {
        return over.clone();
    }
    let mut merged = below.clone();
    // An image is a build, written shortly: one takes the place of the other.
    if parent == "services" {
        if above.contains_key("image") {
            merged.remove("build");
        }
        if above.contains_key("build") {
            merged.remove("image");
        }
    }
    for (name, value) in above {
        let value = match below.get(name.get_ref().as_ref()) {
            Some(before) => lay_over(before, value, key, name.get_ref()),
            None => value.clone(),
        };
        // The old key goes too, so that places are those of the overlay.
        merged.remove(name.get_ref().as_ref());
        merged.insert(name.clone(), value);
    }
    Spanned::new(over.span(), DeValue::Table(merged))
}
