//! Quantities that are plain numbers, such as `8080` and `0.5`.

use std::fmt;
use std::num::NonZeroU16;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::quantity::bad;
use crate::shorthand::{Refused, Shorthand, deserialize_shorthand};

/// A TCP port, 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Port(NonZeroU16);

impl Port {
    /// The last one.
    pub const MAX: Self = Self(NonZeroU16::MAX);

    /// Takes a port, unless it is 0.
    pub const fn new(port: u16) -> Option<Self> {
        match NonZeroU16::new(port) {
            Some(port) => Some(Self(port)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Shorthand for Port {
    type Table = crate::shorthand::Never;
    const EXPECTED: &'static str = "a port from 1 to 65535";
    fn from_integer(number: i64) -> Result<Self, Refused> {
        u16::try_from(number)
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| {
                bad(number, "a port", "a number from 1 to 65535")
                    .to_string()
                    .into()
            })
    }
}

deserialize_shorthand!(Port);

impl JsonSchema for Port {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Port".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 65535 })
    }
}

/// A number of processor cores, exact to a thousandth: `0.5`, `2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cores(u32);

impl Cores {
    /// Takes thousandths of a core, of which there must be some.
    pub const fn from_thousandths(thousandths: u32) -> Option<Self> {
        if thousandths == 0 {
            None
        } else {
            Some(Self(thousandths))
        }
    }

    /// Thousandths of a core.
    pub const fn thousandths(self) -> u32 {
        self.0
    }

    /// The number of cores.
    pub fn get(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(formatter)
    }
}

impl Serialize for Cores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.get())
    }
}

impl Shorthand for Cores {
    type Table = crate::shorthand::Never;
    const EXPECTED: &'static str = "a number of cores such as 0.5";
    fn from_integer(number: i64) -> Result<Self, Refused> {
        u32::try_from(number)
            .ok()
            .and_then(|cores| cores.checked_mul(1000))
            .and_then(Self::from_thousandths)
            .ok_or_else(|| bad_cores(number))
    }
    fn from_float(number: f64) -> Result<Self, Refused> {
        // Read from the decimal digits: 0.1 is 100 thousandths, not 99.
        format!("{number:.3}")
            .replace('.', "")
            .parse()
            .ok()
            .and_then(Self::from_thousandths)
            .ok_or_else(|| bad_cores(number))
    }
}

fn bad_cores(number: impl fmt::Display) -> Refused {
    bad(
        number,
        "a number of cores",
        "one above 0, such as `0.5` or `2`",
    )
    .to_string()
    .into()
}

deserialize_shorthand!(Cores);

impl JsonSchema for Cores {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cores".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0 })
    }
}

/// A probability strictly between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
pub struct Probability(f64);

impl Probability {
    /// Takes a number strictly between 0 and 1.
    pub fn new(value: f64) -> Option<Self> {
        (value > 0.0 && value < 1.0).then_some(Self(value))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// For the constants of this crate, which lie between 0 and 1.
    pub(crate) const fn constant(value: f64) -> Self {
        Self(value)
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Shorthand for Probability {
    type Table = crate::shorthand::Never;
    const EXPECTED: &'static str = "a probability between 0 and 1 such as 0.99";
    fn from_float(number: f64) -> Result<Self, Refused> {
        Self::new(number).ok_or_else(|| {
            bad(
                number,
                "a probability",
                "a number between 0 and 1, such as 0.99",
            )
            .to_string()
            .into()
        })
    }
}

deserialize_shorthand!(Probability);

impl JsonSchema for Probability {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Probability".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_exact_to_a_thousandth() {
        let read = |json| {
            serde_json::from_str::<Cores>(json)
                .ok()
                .map(Cores::thousandths)
        };
        assert_eq!(read("0.1"), Some(100));
        assert_eq!(read("2"), Some(2000));
        for bad in ["0", "-1", "0.0001", "1e300", "\"1\""] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
