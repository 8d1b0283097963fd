//! The data plane: routes, splits, balances and counts requests, on Pingora.
//!
//! [`run`] is the whole program; the configuration, the tallies and the admin
//! protocol are values of `platform-gateway-api`.

mod access_log;
mod admin;
mod admit;
mod answer;
mod balance;
mod choose;
mod clock;
mod connection;
mod context;
mod control;
mod endpoint;
mod forward;
mod gateway;
mod handover;
mod health;
mod listen;
mod metrics;
mod network;
mod proxy;
mod registry;
mod router;
mod run;
mod snapshot;
mod socket;
mod store;
mod tally;

pub use access_log::LogTarget;
pub use run::{Error, Options, run};
