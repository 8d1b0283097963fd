//! What runs in an environment, writes a log and may be looked into.

use std::fmt;

use platform_blueprint::{ResourceName, ServiceName};

/// A service, the server of a resource, or the gateway.
///
/// No two of them have the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// A service's instances.
    Service(ServiceName),
    /// A resource's server, where the target runs one.
    Resource(ResourceName),
    /// The gateway.
    Gateway,
}

impl Party {
    /// The name that its log goes by.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Service(name) => name.as_str(),
            Self::Resource(name) => name.as_str(),
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
