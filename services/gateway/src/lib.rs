//! The data plane: routes, splits, balances and counts requests, on Pingora.
//!
//! [`run`] is the whole program; the configuration, the tallies and the admin
//! protocol are values of `platform-gateway-api`.

mod access_log;
mod admin;
mod admit;
mod answer;
mod app;
mod auth;
mod balance;
mod breaker;
mod cache;
mod cache_store;
mod choose;
mod client;
mod clock;
mod codings;
mod compress;
mod connection;
mod connections;
mod context;
mod control;
mod cookie;
mod cors;
mod crowd;
mod development;
mod endpoint;
mod failure;
mod fetch;
mod figures;
mod form;
mod forward;
mod forwarded;
mod freshness;
mod gateway;
mod handover;
mod health;
mod identity;
mod jwt;
mod limiter;
mod listen;
mod metrics;
mod mirror;
mod network;
mod own;
mod proxy;
mod redaction;
mod registry;
mod router;
mod run;
mod serve;
mod shadows;
mod shared;
mod snapshot;
mod socket;
mod store;
mod tally;
mod tls;
mod trace;
mod traces;
mod tunnel;
mod upstream_tls;
mod workers;

pub use access_log::LogTarget;
pub use run::{Error, Options, run};
