//! The forms that Compose lets people write values in: one or many, list or table, text or number.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A text; numbers and truth values are taken as they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Scalar::deserialize(deserializer).map(|scalar| Self(scalar.text()))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Flag(bool),
    Whole(i64),
    Broken(f64),
    Text(String),
}

impl Scalar {
    fn text(self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Broken(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

/// A truth value; `"true"` and the like are taken, too, for that is what variables become.
///
/// # Errors
///
/// If it is none.
pub(crate) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = Scalar::deserialize(deserializer)?.text();
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" | "" => Ok(false),
        _ => Err(de::Error::custom(format!(
            "`{text}` is neither true nor false"
        ))),
    }
}

/// A program with arguments: a line that is split as a shell would, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Words {
    /// `nginx -g 'daemon off;'`
    Line(String),
    /// `["nginx", "-g", "daemon off;"]`
    List(Vec<String>),
}

impl Words {
    /// The words; `None` where a quote is not closed.
    pub fn split(&self) -> Option<Vec<String>> {
        match self {
            Self::List(words) => Some(words.clone()),
            Self::Line(line) => split(line),
        }
    }
}

impl Default for Words {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Serialize for Words {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Line(line) => line.serialize(serializer),
            Self::List(words) => words.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            List(Vec<Text>),
            Line(Text),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::List(words) => Self::List(words.into_iter().map(|word| word.0).collect()),
            Written::Line(line) => Self::Line(line.0),
        })
    }
}

/// Splits a line into words as a POSIX shell does, without expanding anything.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '\'' => break,
                        inside => word.push(inside),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '"' => break,
                        '\\' => match letters.next()? {
                            escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                            '\n' => {}
                            other => word.extend(['\\', other]),
                        },
                        inside => word.push(inside),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(letters.next()?),
            letter if letter.is_whitespace() => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Some(words)
}

/// Names with values, written as a table or as a list of `NAME=value`. A name alone has no value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Table(pub BTreeMap<String, Option<String>>);

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Table;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a table, or a list of NAME=value")
            }
            fn visit_unit<E>(self) -> Result<Table, E> {
                Ok(Table::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Table, A::Error> {
                let mut table = BTreeMap::new();
                while let Some(Text(entry)) = list.next_element()? {
                    match entry.split_once('=') {
                        Some((name, value)) => {
                            table.insert(name.to_owned(), Some(value.to_owned()))
                        }
                        None => table.insert(entry, None),
                    };
                }
                Ok(Table(table))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table, A::Error> {
                let mut table = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Option<Text>>()? {
                    table.insert(name, value.map(|text| text.0));
                }
                Ok(Table(table))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Table {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let pair = |(name, value): (N, V)| (name.into(), Some(value.into()));
        Self(pairs.into_iter().map(pair).collect())
    }
}

/// One value, or a list of them.
///
/// # Errors
///
/// If it is neither.
pub(crate) fn many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written<T> {
        Many(Vec<T>),
        One(T),
        None,
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Many(many) => many,
        Written::One(one) => vec![one],
        Written::None => Vec::new(),
    })
}

/// Names, each with settings: written as a list of names or as a table.
///
/// # Errors
///
/// If it is neither.
pub(crate) fn named<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written<T> {
        List(Vec<Text>),
        Table(BTreeMap<String, Option<T>>),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::List(names) => {
            let pair = |name: Text| (name.0, T::default());
            names.into_iter().map(pair).collect()
        }
        Written::Table(table) => {
            let pair = |(name, value): (String, Option<T>)| (name, value.unwrap_or_default());
            table.into_iter().map(pair).collect()
        }
    })
}

/// Reads a time as Compose writes it, such as `1m30s`, in milliseconds.
pub fn millis(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest.get(..end)?.parse().ok()?;
        let unit = rest.get(end..)?;
        let length = unit
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(unit.len());
        let (unit, after) = unit.split_at(length);
        sum += number
            * match unit {
                "us" | "µs" => 0.001,
                "ms" => 1.0,
                "s" => 1_000.0,
                "m" => 60_000.0,
                "h" => 3_600_000.0,
                "d" => 86_400_000.0,
                _ => return None,
            };
        rest = after;
    }
    whole(sum)
}

/// Reads a size as Compose writes it, such as `512m`, in bytes. Units are powers of 1024.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "t" | "tb" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    whole(number.parse::<f64>().ok()? * factor)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "both bounds are looked at"
)]
fn whole(number: f64) -> Option<u64> {
    (0.0..1e15).contains(&number).then(|| number.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_a_shell_does() {
        for (line, words) in [
            (
                "nginx -g 'daemon off;'",
                &["nginx", "-g", "daemon off;"][..],
            ),
            (
                r#"sh -c "echo \"a b\" \$x""#,
                &["sh", "-c", "echo \"a b\" $x"],
            ),
            (r"a\ b  ''", &["a b", ""]),
            ("", &[]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
        assert_eq!(split("it's"), None);
    }

    #[test]
    fn times_and_sizes_are_read() {
        assert_eq!(millis("1m30s"), Some(90_000));
        assert_eq!(millis("1.5s"), Some(1_500));
        assert_eq!(millis("250ms"), Some(250));
        assert_eq!(
            (millis("5"), millis(""), millis("fast")),
            (None, None, None)
        );
        assert_eq!(bytes("512m"), Some(512 << 20));
        assert_eq!(bytes("0.5GB"), Some(512 << 20));
        assert_eq!((bytes("1024"), bytes("x")), (Some(1024), None));
    }

    #[test]
    fn a_table_is_a_list_too() {
        let list: Table = serde_json::from_str(r#"["A=1", "B", "C="]"#).unwrap();
        let table: Table = serde_json::from_str(r#"{"A": 1, "B": null, "C": ""}"#).unwrap();
        assert_eq!(list, table);
    }
}
