//! A YAML document as a tree that knows where each of its values stands.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value and where it stands. Anchors and merge keys are resolved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Which of the files that were read it stands in, from 0.
    pub(crate) file: usize,
    /// The line, from 1.
    pub(crate) line: usize,
    /// The character in the line, from 1.
    pub(crate) column: usize,
    pub(crate) value: Value,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Flag(bool),
    Whole(i64),
    Broken(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the document.
    Table(Vec<(String, Node)>),
}

impl Node {
    /// A value of a table.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entries()
            .find(|(name, _)| *name == key)
            .map(|(_, node)| node)
    }

    /// The entries of a table.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        let table = match &self.value {
            Value::Table(table) => table.as_slice(),
            _ => &[],
        };
        table.iter().map(|(name, node)| (name.as_str(), node))
    }

    /// The node of a place such as `services.web.ports`, or the nearest around it.
    pub(crate) fn nearest(&self, place: &[&str]) -> &Self {
        let Some((first, rest)) = place.split_first() else {
            return self;
        };
        let inside = match &self.value {
            Value::List(list) => first.parse().ok().and_then(|index: usize| list.get(index)),
            _ => self.get(first),
        };
        inside.map_or(self, |node| node.nearest(rest))
    }

    /// The same without places.
    pub(crate) fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Flag(flag) => (*flag).into(),
            Value::Whole(number) => (*number).into(),
            Value::Broken(number) => (*number).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(list) => list.iter().map(Self::json).collect(),
            Value::Table(table) => {
                let pairs = table.iter().map(|(name, node)| (name.clone(), node.json()));
                serde_json::Value::Object(pairs.collect())
            }
        }
    }

    /// Says of all of it which file it stands in.
    pub(crate) fn stand_in(&mut self, file: usize) {
        self.file = file;
        match &mut self.value {
            Value::List(list) => list.iter_mut().for_each(|node| node.stand_in(file)),
            Value::Table(table) => table.iter_mut().for_each(|(_, node)| node.stand_in(file)),
            _ => {}
        }
    }

    /// A value of a table, to be changed.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        self.entries_mut()
            .find(|(name, _)| *name == key)
            .map(|(_, node)| node)
    }

    /// The entries of a table, to be changed.
    pub(crate) fn entries_mut(&mut self) -> impl Iterator<Item = (&str, &mut Self)> {
        let table = match &mut self.value {
            Value::Table(table) => table.as_mut_slice(),
            _ => &mut [],
        };
        table.iter_mut().map(|(name, node)| (name.as_str(), node))
    }

    /// Takes a value out of a table.
    pub(crate) fn take(&mut self, key: &str) -> Option<Self> {
        let Value::Table(table) = &mut self.value else {
            return None;
        };
        let place = table.iter().position(|(name, _)| name == key)?;
        Some(table.remove(place).1)
    }

    /// The text that it is.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The nodes of a list; of anything else itself.
    pub(crate) fn each(&self) -> &[Self] {
        match &self.value {
            Value::List(list) => list,
            _ => std::slice::from_ref(self),
        }
    }

    /// The same, to be changed.
    pub(crate) fn each_mut(&mut self) -> &mut [Self] {
        match self {
            Self {
                value: Value::List(list),
                ..
            } => list,
            one => std::slice::from_mut(one),
        }
    }

    /// Changes every text.
    pub(crate) fn texts(&mut self, change: &mut impl FnMut(&str, usize, usize) -> Option<String>) {
        match &mut self.value {
            Value::Text(text) => {
                if let Some(changed) = change(text, self.line, self.column) {
                    *text = changed;
                }
            }
            Value::List(list) => list.iter_mut().for_each(|node| node.texts(change)),
            Value::Table(table) => table.iter_mut().for_each(|(_, node)| node.texts(change)),
            _ => {}
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Spanned::<Value>::deserialize(deserializer)?;
        let count = |number: u64| usize::try_from(number).unwrap_or_default();
        Ok(Self {
            file: 0,
            line: count(read.referenced.line()),
            column: count(read.referenced.column()),
            value: read.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, inside: D) -> Result<Value, D::Error> {
                Value::deserialize(inside)
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
                Ok(Value::Flag(flag))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Whole(number))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
                Ok(i64::try_from(number)
                    .map_or_else(|_| Value::Text(number.to_string()), Value::Whole))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(Value::Broken(number))
            }
            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = list.next_element()? {
                    nodes.push(node);
                }
                Ok(Value::List(nodes))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut table = Vec::new();
                while let Some(entry) = map.next_entry::<String, Node>()? {
                    table.push(entry);
                }
                Ok(Value::Table(table))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
