//! Reads typed values from the written tree and reports everything that does
//! not fit, not just the first thing.
//!
//! The types are ordinary serde types, and serde stops at the first error. So
//! a value that does not fit is noted, left out, and the table it stands in is
//! read again, until all that is left fits: the work grows with the number of
//! problems, and a blueprint without any is read once.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use crate::node::{Key, Node, Value};
use crate::{Code, Problem};
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};

/// Beyond so many problems in one table, more of them help nobody.
const ENOUGH: usize = 50;

/// What does not fit.
#[derive(Debug)]
enum Fault {
    UnknownKey(String, &'static [&'static str]),
    UnknownValue(String, &'static [&'static str]),
    Missing(&'static str),
    WrongType { found: String, expected: String },
    BadValue(String),
}

/// What does not fit, and the value to leave out on the next reading.
#[derive(Debug)]
struct Misfit<'tree> {
    fault: Fault,
    node: Option<&'tree Node<'tree>>,
    span: Option<Range<usize>>,
}

impl<'tree> Misfit<'tree> {
    fn at(mut self, node: &'tree Node<'tree>, span: Range<usize>) -> Self {
        // The innermost place is noted first and stays.
        if self.node.is_none() {
            self.node = Some(node);
            self.span = Some(span);
        }
        self
    }
}

impl From<Fault> for Misfit<'_> {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            node: None,
            span: None,
        }
    }
}

impl fmt::Display for Misfit<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.fault)
    }
}

impl std::error::Error for Misfit<'_> {}

impl serde::de::Error for Misfit<'_> {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Fault::BadValue(message.to_string()).into()
    }
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = in_words(&expected.to_string());
        let found = found_in_words(found);
        Fault::WrongType { found, expected }.into()
    }
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Fault::BadValue(format!(
            "expected {}, found {}",
            in_words(&expected.to_string()),
            found_in_words(found)
        ))
        .into()
    }
    fn unknown_field(key: &str, expected: &'static [&'static str]) -> Self {
        Fault::UnknownKey(key.to_owned(), expected).into()
    }
    fn unknown_variant(value: &str, expected: &'static [&'static str]) -> Self {
        Fault::UnknownValue(value.to_owned(), expected).into()
    }
    fn missing_field(key: &'static str) -> Self {
        Fault::Missing(key).into()
    }
}

/// Says in the words of the blueprint what serde says in those of Rust.
fn in_words(expected: &str) -> String {
    match expected {
        "a string" | "string" | "str" => "a text".to_owned(),
        "a boolean" | "bool" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a table".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i64" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "IP address" => "an IP address such as \"127.0.0.1\"".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other if other.starts_with("enum ") => "a text".to_owned(),
        other => other.to_owned(),
    }
}

fn found_in_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(flag) => format!("`{flag}`"),
        Unexpected::Unsigned(number) => format!("the number `{number}`"),
        Unexpected::Signed(number) => format!("the number `{number}`"),
        Unexpected::Float(number) => format!("the number `{number}`"),
        Unexpected::Str(text) => format!("the text \"{text}\""),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map | Unexpected::StructVariant | Unexpected::NewtypeVariant => {
            "a table".to_owned()
        }
        Unexpected::Other(other) => other.to_owned(),
        other => other.to_string(),
    }
}

/// Reads a value; `None` if there is too little that fits.
pub(crate) fn read<'tree, T: Deserialize<'tree>>(
    node: &'tree Node<'tree>,
    place: Range<usize>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let mut left_out = HashSet::new();
    loop {
        let misfit = match T::deserialize(Reading {
            node,
            left_out: &left_out,
        }) {
            Ok(value) => return Some(value),
            Err(misfit) => misfit,
        };
        let at = misfit.node.unwrap_or(node);
        // What is missing may be what was left out, which has been reported.
        let known = match (&misfit.fault, at.as_table()) {
            (Fault::Missing(key), Some(table)) => table
                .get(key)
                .is_some_and(|node| left_out.contains(&std::ptr::from_ref(node))),
            _ => false,
        };
        if !known {
            problems.push(problem(
                misfit.fault,
                misfit.span.unwrap_or_else(|| place.clone()),
            ));
        }
        if misfit.node.is_none() || left_out.len() >= ENOUGH {
            return None;
        }
        left_out.insert(std::ptr::from_ref(at));
    }
}

fn problem(fault: Fault, span: Range<usize>) -> Problem {
    let span = Some(span);
    match fault {
        Fault::UnknownKey(key, expected) => unknown_key(&key, expected, span),
        Fault::UnknownValue(value, expected) => {
            let problem = Problem::new(
                Code::UnknownValue,
                format!("`{value}` is not one of the values known here"),
                span,
            )
            .label("not known");
            match nearest(&value, expected.iter().copied()) {
                Some(name) => problem.help(format!("did you mean `{name}`?")),
                None => problem.help(format!("write one of {}", listed(expected))),
            }
        }
        Fault::Missing(key) => Problem::new(Code::MissingKey, format!("`{key}` is missing"), span)
            .label(format!("needs `{key}`")),
        Fault::WrongType { found, expected } => {
            let problem = Problem::new(
                Code::WrongType,
                format!("expected {expected}, found {found}"),
                span,
            )
            .label("wrong type");
            let text = found.strip_prefix("the text \"");
            match text.and_then(|text| text.strip_suffix('"')) {
                Some(text) if expected == "a list" => problem.help(as_list(text)),
                _ => problem,
            }
        }
        Fault::BadValue(message) => {
            // Our own types say `what is wrong; what to write`.
            let (message, help) = match message.split_once("; ") {
                Some((message, help)) => (message.to_owned(), Some(help.to_owned())),
                None => (message, None),
            };
            let mut problem = Problem::new(Code::BadValue, message, span).label("not taken");
            problem.help = help;
            problem
        }
    }
}

/// How a text is written where a list of its words belongs.
fn as_list(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    if words.is_empty() || words.len() > 8 || text.contains(['"', '\\']) {
        return "write `[\"…\", \"…\"]`, each word or item a text of its own".to_owned();
    }
    format!("write `[\"{}\"]`", words.join("\", \""))
}

/// A key that is not known where it stands.
pub(crate) fn unknown_key(key: &str, expected: &[&str], span: Option<Range<usize>>) -> Problem {
    let problem = Problem::new(
        Code::UnknownKey,
        format!("`{key}` is not a known key here"),
        span,
    )
    .label("not known");
    if let Some(help) = crate::foreign::foreign_key(key, expected) {
        return problem.help(help);
    }
    match nearest(key, expected.iter().copied()) {
        Some(name) => problem.help(format!("did you mean `{name}`?")),
        None if expected.is_empty() => problem,
        None => problem.help(format!("known here: {}", listed(expected))),
    }
}

/// The names, quoted and joined.
pub(crate) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let quoted: Vec<_> = names
        .iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    quoted.join(", ")
}

/// The name that was probably meant: one that is a few letters away, or that
/// begins alike.
pub(crate) fn nearest<'name>(
    text: &str,
    names: impl IntoIterator<Item = &'name str>,
) -> Option<&'name str> {
    let length = text.chars().count();
    names
        .into_iter()
        .filter_map(|name| {
            let letters = strsim::osa_distance(text, name);
            let few = letters <= (length / 3).max(1) && letters < length.min(name.chars().count());
            (few || strsim::jaro_winkler(text, name) > 0.87).then_some((letters, name))
        })
        .min()
        .map(|(_, name)| name)
}

/// One reading of one value.
#[derive(Clone, Copy)]
struct Reading<'tree, 'out> {
    node: &'tree Node<'tree>,
    left_out: &'out HashSet<*const Node<'tree>>,
}

impl<'tree> Deserializer<'tree> for Reading<'tree, '_> {
    type Error = Misfit<'tree>;

    fn deserialize_any<V: Visitor<'tree>>(self, visitor: V) -> Result<V::Value, Misfit<'tree>> {
        match &self.node.value {
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Flag(flag) => visitor.visit_bool(*flag),
            Value::Integer(digits, base) => match i64::from_str_radix(digits, *base) {
                Ok(number) => visitor.visit_i64(number),
                Err(_) => Err(Fault::BadValue(format!("`{digits}` is too large a number")).into()),
            },
            Value::Float(digits) => match digits.parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => Err(Fault::BadValue(format!("`{digits}` is not a number")).into()),
            },
            Value::Date => Err(Fault::WrongType {
                found: "a date or time".to_owned(),
                expected: expected_by(&visitor),
            }
            .into()),
            Value::List(list) | Value::Tables(list) => visitor.visit_seq(Items {
                rest: list.iter(),
                left_out: self.left_out,
            }),
            Value::Table(table) => visitor.visit_map(Entries {
                rest: table.iter(),
                value: None,
                left_out: self.left_out,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'tree>>(self, visitor: V) -> Result<V::Value, Misfit<'tree>> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'tree>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit<'tree>> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'tree>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit<'tree>> {
        let found = match &self.node.value {
            Value::Text(text) => {
                let name: StrDeserializer<'_, Misfit<'tree>> = text.as_ref().into_deserializer();
                return visitor.visit_enum(name);
            }
            Value::Integer(..) | Value::Float(_) => "a number",
            Value::Flag(_) => "true or false",
            Value::Date => "a date or time",
            Value::List(_) | Value::Tables(_) => "a list",
            Value::Table(_) => "a table",
        };
        Err(Fault::WrongType {
            found: found.to_owned(),
            expected: format!("one of {}", listed(variants)),
        }
        .into())
    }

    forward_to_deserialize_any! {
        <V: Visitor<'tree>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string
        bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

fn expected_by<'de, V: Visitor<'de>>(visitor: &V) -> String {
    in_words(&(visitor as &dyn Expected).to_string())
}

/// The items of a list that were not left out.
struct Items<'tree, 'out> {
    rest: std::slice::Iter<'tree, Node<'tree>>,
    left_out: &'out HashSet<*const Node<'tree>>,
}

impl<'tree> SeqAccess<'tree> for Items<'tree, '_> {
    type Error = Misfit<'tree>;

    fn next_element_seed<S: DeserializeSeed<'tree>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit<'tree>> {
        let left_out = self.left_out;
        let Some(node) = self
            .rest
            .find(|node| left_out.is_empty() || !left_out.contains(&std::ptr::from_ref(*node)))
        else {
            return Ok(None);
        };
        seed.deserialize(Reading { node, left_out })
            .map(Some)
            .map_err(|misfit| misfit.at(node, node.span()))
    }
}

type Entry<'tree> = (Key<'tree>, Node<'tree>);

/// The entries of a table that were not left out.
struct Entries<'tree, 'out> {
    rest: std::slice::Iter<'tree, Entry<'tree>>,
    value: Option<&'tree Entry<'tree>>,
    left_out: &'out HashSet<*const Node<'tree>>,
}

impl<'tree> MapAccess<'tree> for Entries<'tree, '_> {
    type Error = Misfit<'tree>;

    fn next_key_seed<S: DeserializeSeed<'tree>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit<'tree>> {
        let left_out = self.left_out;
        let next = self
            .rest
            .find(|(_, node)| left_out.is_empty() || !left_out.contains(&std::ptr::from_ref(node)));
        self.value = next;
        let Some((key, node)) = next else {
            return Ok(None);
        };
        let name: StrDeserializer<'tree, Misfit<'tree>> = key.text.as_ref().into_deserializer();
        seed.deserialize(name)
            .map(Some)
            .map_err(|misfit| misfit.at(node, key.span.clone()))
    }

    fn next_value_seed<S: DeserializeSeed<'tree>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, Misfit<'tree>> {
        let Some((key, node)) = self.value.take() else {
            return Err(Fault::BadValue("a value was asked for twice".to_owned()).into());
        };
        seed.deserialize(Reading {
            node,
            left_out: self.left_out,
        })
        .map_err(|misfit| {
            // Where a table lacks something, its name is the place to look at.
            let place = match misfit.fault {
                Fault::Missing(_) => key.span.clone(),
                _ => node.span(),
            };
            misfit.at(node, place)
        })
    }
}

/// The keys that a type takes, as the reader itself tells.
#[cfg(test)]
pub(crate) fn known_keys<T: serde::de::DeserializeOwned>() -> &'static [&'static str] {
    let root = crate::toml_tree::parse("not-a-key = 1").unwrap();
    let node = Node::new(0..0, Value::Table(root));
    let left_out = HashSet::new();
    match T::deserialize(Reading {
        node: &node,
        left_out: &left_out,
    }) {
        Err(Misfit {
            fault: Fault::UnknownKey(_, keys),
            ..
        }) => keys,
        _ => &[],
    }
}
