//! The gateway's configuration, tallies and admin protocol as values.
//!
//! No I/O lives here except behind the feature `client`, which adds a small
//! asynchronous client for the admin socket, and `local-authority`, which makes
//! and reads the authority for development.

pub mod admin;
#[cfg(feature = "client")]
pub mod client;
mod config;
#[cfg(feature = "local-authority")]
pub mod local_authority;
pub mod openapi;
mod protection;
mod route;
mod service;
mod tallies;
mod validate;

pub use config::{
    AccessLog, Config, Listener, ListenerKind, ListenerLimits, Shared, Tls, TlsCertificate,
    TlsVersion, Traces,
};
pub use protection::{ApiKey, Auth, Cors, Identity, Jwks, RateKey, RateLimit};
pub use route::{
    Cache, EscapedSlashes, HeaderChange, Match, PathMatch, Redirect, Retries, Rewrite, Route,
    Timeouts, ValueMatch,
};
pub use service::{
    Balance, Breaker, Copies, Endpoint, HealthCheck, Outliers, Override, Pool, Role, Service,
    ServiceLimits, Sticky, UpstreamTls, Version,
};
pub use tallies::{EndpointTally, LATENCY_BOUNDS_MICROS, RouteTally, ServiceTally, Tallies, Tally};
pub use validate::Reason;
