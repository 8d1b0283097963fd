//! Quantities with units: shares, periods, sizes, ports, probabilities.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::shorthand::{Refused, Shorthand, deserialize_shorthand};

/// A text or number that is not the quantity it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}; write {example}")]
pub struct BadQuantity {
    text: String,
    what: &'static str,
    example: &'static str,
}

pub(crate) fn bad(
    text: impl fmt::Display,
    what: &'static str,
    example: &'static str,
) -> BadQuantity {
    BadQuantity {
        text: text.to_string(),
        what,
        example,
    }
}

/// Serialises through `Display`, deserialises through `FromStr`.
macro_rules! as_text {
    ($name:ident, $description:literal, $pattern:literal, $example:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl Shorthand for $name {
            type Table = crate::shorthand::Never;
            const EXPECTED: &'static str = $description;
            fn from_text(text: &str) -> Result<Self, Refused> {
                text.parse()
                    .map_err(|error: BadQuantity| Refused::Value(error.to_string()))
            }
        }

        deserialize_shorthand!($name);

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "description": $description,
                    "pattern": $pattern,
                    "examples": [$example],
                })
            }
        }
    };
}

/// A share of a whole, exact to a tenth of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Percent(u16);

impl Percent {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The whole.
    pub const FULL: Self = Self(1000);

    /// Takes tenths of a percent, `0..=1000`.
    pub const fn from_tenths(tenths: u16) -> Option<Self> {
        if tenths <= 1000 {
            Some(Self(tenths))
        } else {
            None
        }
    }

    /// Takes whole percents, `0..=100`; more is taken as all.
    pub const fn whole(percent: u8) -> Self {
        if percent >= 100 {
            Self::FULL
        } else {
            Self(percent as u16 * 10)
        }
    }

    /// Tenths of a percent, `0..=1000`.
    pub const fn tenths(self) -> u16 {
        self.0
    }

    /// The share as a fraction, `0.0..=1.0`.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// What is left of the whole.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(1000 - self.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (self.0 / 10, self.0 % 10) {
            (whole, 0) => format!("{whole}%"),
            (whole, tenth) => format!("{whole}.{tenth}%"),
        };
        formatter.pad(&text)
    }
}

impl FromStr for Percent {
    type Err = BadQuantity;
    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let wrong = || {
            bad(
                text,
                "a percentage",
                "one from `0%` to `100%` in steps of 0.1, such as `1%` or `0.5%`",
            )
        };
        let number = text.strip_suffix('%').ok_or_else(wrong)?.trim_end();
        let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
        if tenth.len() != 1 || whole.is_empty() || whole.len() > 3 {
            return Err(wrong());
        }
        let digits = |part: &str| -> Option<u16> {
            part.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| part.parse().ok())?
        };
        digits(whole)
            .zip(digits(tenth))
            .and_then(|(whole, tenth)| Self::from_tenths(whole * 10 + tenth))
            .ok_or_else(wrong)
    }
}

as_text!(
    Percent,
    "a percentage such as \"5%\" or \"0.5%\"",
    r"^(100(\.0)?|[0-9]{1,2}(\.[0-9])?) *%$",
    "5%"
);

/// A length of time, written with a unit: `250ms`, `30s`, `10m`, `2h`, `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(Duration);

const PERIOD_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

impl Period {
    /// No time at all.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// Takes milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// Takes seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The length as the standard library has it.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for Period {
    /// What is less than a millisecond is left out.
    fn from(time: Duration) -> Self {
        Self::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        if milliseconds == 0 {
            return formatter.pad("0s");
        }
        let (unit, size) = PERIOD_UNITS
            .into_iter()
            .find(|(_, size)| milliseconds.is_multiple_of(u128::from(*size)))
            .unwrap_or(("ms", 1));
        formatter.pad(&format!("{}{unit}", milliseconds / u128::from(size)))
    }
}

impl FromStr for Period {
    type Err = BadQuantity;
    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let wrong = || {
            bad(
                text,
                "a length of time",
                "a whole number and a unit, such as `250ms`, `30s`, `10m`, `2h` or `1d`",
            )
        };
        let unit_at = text
            .find(|letter: char| !letter.is_ascii_digit())
            .ok_or_else(wrong)?;
        let (number, unit) = text.split_at(unit_at);
        let (_, size) = PERIOD_UNITS
            .into_iter()
            .find(|(name, _)| *name == unit.trim_start())
            .ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        // A century is beyond any honest setting, and keeps sums far from overflow.
        number
            .checked_mul(size)
            .filter(|milliseconds| *milliseconds <= 36_500 * 86_400_000)
            .map(Self::from_millis)
            .ok_or_else(wrong)
    }
}

as_text!(
    Period,
    "a length of time such as \"250ms\", \"30s\", \"10m\", \"2h\" or \"1d\"",
    r"^[0-9]+ *(ms|s|m|h|d)$",
    "30s"
);

/// A number of bytes, written with a unit: `512KiB`, `128MiB`, `1GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1000),
    ("B", 1),
];

impl ByteSize {
    /// Takes bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Takes mebibytes.
    pub const fn from_mib(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = SIZE_UNITS
            .into_iter()
            .find(|(_, size)| self.0 != 0 && self.0.is_multiple_of(*size))
            .unwrap_or(("B", 1));
        formatter.pad(&format!("{}{unit}", self.0 / size))
    }
}

impl FromStr for ByteSize {
    type Err = BadQuantity;
    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let wrong = || {
            bad(
                text,
                "a size",
                "a whole number and a unit, such as `512KiB`, `128MiB` or `1GB`",
            )
        };
        let unit_at = text
            .find(|letter: char| !letter.is_ascii_digit())
            .ok_or_else(wrong)?;
        let (number, unit) = text.split_at(unit_at);
        let (_, size) = SIZE_UNITS
            .into_iter()
            .find(|(name, _)| *name == unit.trim_start())
            .ok_or_else(wrong)?;
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(size))
            .map(Self)
            .ok_or_else(wrong)
    }
}

as_text!(
    ByteSize,
    "a size such as \"512KiB\", \"128MiB\" or \"1GB\"",
    r"^[0-9]+ *(B|KB|KiB|MB|MiB|GB|GiB|TB|TiB)$",
    "128MiB"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr + fmt::Display>(pairs: &[(&str, &str)], bad: &[&str]) {
        for (text, shown) in pairs {
            let value = text
                .parse::<T>()
                .ok()
                .unwrap_or_else(|| panic!("{text} is good"));
            assert_eq!(value.to_string(), *shown);
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text} is bad");
        }
    }

    #[test]
    fn percentages_are_exact_to_a_tenth() {
        check::<Percent>(
            &[
                ("1%", "1%"),
                ("0.5%", "0.5%"),
                ("100%", "100%"),
                ("99.9 %", "99.9%"),
                ("0%", "0%"),
            ],
            &[
                "1", "101%", "100.1%", "0.55%", "-1%", "%", ".5%", "1.%", "+1%", "1e1%", "9999%",
            ],
        );
    }

    #[test]
    fn periods_carry_a_unit() {
        check::<Period>(
            &[
                ("250ms", "250ms"),
                ("30s", "30s"),
                ("60s", "1m"),
                ("48h", "2d"),
                ("0s", "0s"),
            ],
            &[
                "10",
                "s",
                "-1s",
                "1.5s",
                "1 week",
                "1S",
                "99999999999999999999s",
                "99999999d",
            ],
        );
    }

    #[test]
    fn sizes_carry_a_unit() {
        check::<ByteSize>(
            &[
                ("128MiB", "128MiB"),
                ("1GB", "1GB"),
                ("2048KiB", "2MiB"),
                ("7B", "7B"),
            ],
            &["128", "128mb", "MiB", "1.5GB", "99999999999999TiB"],
        );
    }
}
