//! Traffic: how requests are shared out among the versions of each service.

use std::collections::BTreeMap;

use platform_blueprint::ServiceName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::desired::Ingress;
use crate::group::GroupId;

/// A share of traffic in thousandths: 0 to 1000.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Share(u16);

impl Share {
    /// No requests.
    pub const NONE: Self = Self(0);
    /// Every request.
    pub const FULL: Self = Self(1000);

    /// A share of so many thousandths; more than all is all.
    pub fn thousandths(value: u16) -> Self {
        Self(value.min(1000))
    }

    /// In thousandths.
    pub fn get(self) -> u16 {
        self.0
    }

    /// What is left of the whole.
    #[must_use]
    pub fn rest(self) -> Self {
        Self(1000 - self.0)
    }
}

/// How the requests for one service are shared out. Groups not named get none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Split {
    /// Share of each group; together they make the whole.
    pub shares: BTreeMap<GroupId, Share>,
    /// The group a request reaches that asks for the new version by header or cookie.
    pub preview: Option<GroupId>,
    /// The group that gets copies of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<Copies>,
}

/// Copies of requests that change nothing, for a group whose answers nobody gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Copies {
    /// The group that gets them.
    pub to: GroupId,
    /// Of which group's requests; of everybody's where none is named.
    pub of: Option<GroupId>,
    /// Which share of those.
    pub share: Share,
}

impl Split {
    /// All requests to one group.
    pub fn all(group: GroupId) -> Self {
        Self {
            shares: BTreeMap::from([(group, Share::FULL)]),
            preview: None,
            copies: None,
        }
    }

    /// The share of a group.
    pub fn share(&self, group: &GroupId) -> Share {
        self.shares.get(group).copied().unwrap_or_default()
    }

    /// The share of all requests that a group gets copies of, as far as they may be copied.
    pub fn copied(&self, group: &GroupId) -> Share {
        let copies = self.copies.as_ref().filter(|copies| copies.to == *group);
        copies.map_or(Share::NONE, |copies| {
            let of = copies.of.as_ref().map_or(Share::FULL, |of| self.share(of));
            let both = u32::from(of.get()) * u32::from(copies.share.get()) / 1000;
            Share::thousandths(u16::try_from(both).unwrap_or(1000))
        })
    }
}

/// What a target's gateway should do with requests: the routes, and each service's split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Routes and settings.
    pub ingress: Ingress,
    /// Split by service. A service without one answers 503 through the gateway.
    pub splits: BTreeMap<ServiceName, Split>,
}
