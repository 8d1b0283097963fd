//! Values that may be written shortly (`timeout = "2s"`) or in full
//! (`timeout = { total = "2s", connect = "100ms" }`).

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// Why a written form is not taken.
pub(crate) enum Refused {
    /// This value has no such form: a wrong type.
    Form,
    /// A right type with a wrong value: `what is wrong; what to write`.
    Value(String),
}

impl From<String> for Refused {
    fn from(message: String) -> Self {
        Self::Value(message)
    }
}

impl Refused {
    fn error<E: Error, T: Shorthand>(self, found: Unexpected<'_>) -> E {
        match self {
            Self::Form => E::invalid_type(found, &T::EXPECTED),
            Self::Value(message) => E::custom(message),
        }
    }
}

/// A value with more than one written form.
pub(crate) trait Shorthand: Sized {
    /// The full form; [`Never`] if there is none.
    type Table: DeserializeOwned;
    /// What to write: "a length of time such as …".
    const EXPECTED: &'static str;
    /// Whether tables are taken; if not, they are refused unread.
    const TABLES: bool = false;
    /// Whether lists are taken; if not, they are refused unread.
    const LISTS: bool = false;

    fn from_text(_: &str) -> Result<Self, Refused> {
        Err(Refused::Form)
    }
    fn from_bool(_: bool) -> Result<Self, Refused> {
        Err(Refused::Form)
    }
    fn from_integer(_: i64) -> Result<Self, Refused> {
        Err(Refused::Form)
    }
    fn from_float(_: f64) -> Result<Self, Refused> {
        Err(Refused::Form)
    }
    fn from_list(_: Vec<String>) -> Result<Self, Refused> {
        Err(Refused::Form)
    }
    fn from_table(_: Self::Table) -> Result<Self, Refused> {
        Err(Refused::Form)
    }
}

/// The full form of values that have none.
#[derive(Debug, Deserialize)]
pub(crate) enum Never {}

pub(crate) fn shorthand<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Shorthand,
{
    struct Forms<T>(PhantomData<T>);

    impl<'de, T: Shorthand> Visitor<'de> for Forms<T> {
        type Value = T;
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(T::EXPECTED)
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            T::from_text(text).map_err(|refused| refused.error::<E, T>(Unexpected::Str(text)))
        }
        fn visit_bool<E: Error>(self, flag: bool) -> Result<T, E> {
            T::from_bool(flag).map_err(|refused| refused.error::<E, T>(Unexpected::Bool(flag)))
        }
        fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
            T::from_integer(number)
                .map_err(|refused| refused.error::<E, T>(Unexpected::Signed(number)))
        }
        fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
            match i64::try_from(number) {
                Ok(number) => self.visit_i64(number),
                Err(_) => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
            }
        }
        fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
            T::from_float(number)
                .map_err(|refused| refused.error::<E, T>(Unexpected::Float(number)))
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
            if !T::LISTS {
                return Err(A::Error::invalid_type(Unexpected::Seq, &self));
            }
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                list.push(item);
            }
            T::from_list(list).map_err(|refused| refused.error::<A::Error, T>(Unexpected::Seq))
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            if !T::TABLES {
                return Err(A::Error::invalid_type(Unexpected::Map, &self));
            }
            let table = T::Table::deserialize(MapAccessDeserializer::new(map))?;
            T::from_table(table).map_err(|refused| refused.error::<A::Error, T>(Unexpected::Map))
        }
    }

    deserializer.deserialize_any(Forms(PhantomData))
}

/// Deserialises `$name` through its [`Shorthand`].
macro_rules! deserialize_shorthand {
    ($($name:ident),+) => {$(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::shorthand::shorthand(deserializer)
            }
        }
    )+};
}
pub(crate) use deserialize_shorthand;
