//! How many instances of a service.

use schemars::JsonSchema;
use serde::Serialize;

use crate::Percent;
use crate::shorthand::{Refused, Shorthand, deserialize_shorthand};

/// The largest share of a service's instances that may be down at once, or
/// their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Amount {
    /// So many.
    Count(u32),
    /// Such a share, rounded up for surge and down for what may be missing.
    Share(Percent),
}

impl Shorthand for Amount {
    type Table = crate::shorthand::Never;
    const EXPECTED: &'static str = "a whole number or a percentage such as \"25%\"";
    fn from_text(text: &str) -> Result<Self, Refused> {
        text.parse()
            .map(Self::Share)
            .map_err(|error: crate::BadQuantity| Refused::Value(error.to_string()))
    }
    fn from_integer(number: i64) -> Result<Self, Refused> {
        u32::try_from(number)
            .map(Self::Count)
            .map_err(|_| Refused::Value(format!("`{number}` instances cannot be; write 0 or more")))
    }
}

deserialize_shorthand!(Amount);

impl Amount {
    /// The number of instances it is of `replicas`, a share rounded up.
    pub fn rounded_up(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Share(share) => replicas - share_rounded_down(share.rest(), replicas),
        }
    }

    /// The number of instances it is of `replicas`, a share rounded down.
    pub fn rounded_down(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count.min(replicas),
            Self::Share(share) => share_rounded_down(share, replicas),
        }
    }
}

fn share_rounded_down(share: Percent, replicas: u32) -> u32 {
    let thousandths = u64::from(share.tenths()) * u64::from(replicas);
    u32::try_from(thousandths / 1000).unwrap_or(replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_round_towards_safety() {
        let quarter = Amount::Share(Percent::whole(25));
        assert_eq!((quarter.rounded_up(6), quarter.rounded_down(6)), (2, 1));
        assert_eq!((quarter.rounded_up(4), quarter.rounded_down(4)), (1, 1));
        assert_eq!(Amount::Count(3).rounded_down(2), 2);
        assert_eq!(Amount::Share(Percent::NONE).rounded_up(5), 0);
    }
}
