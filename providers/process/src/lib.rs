//! Runs a blueprint as supervised local processes behind the gateway.
//!
//! Two halves meet over a unix socket: [`ProcessTarget`], which the command line holds, and the agent, a background process
//! for each project and environment that starts, watches, restarts and stops everything and outlives the command line.
//! `docs/process-provider.md` tells how they work together.

mod agent;
mod build_id;
mod client;
mod control_group;
mod durable;
mod exec;
mod health_watch;
mod identity;
mod keeper;
mod launch;
mod layout;
mod lifecycle;
mod log;
mod open_files;
mod options;
mod ports;
mod preflight;
mod probe;
mod process_table;
mod protocol;
mod recorded;
mod removal;
mod store;
mod surroundings;
mod target;
mod unattended;

pub use durable::StateError;
pub use layout::Layout;
pub use options::{AgentOptions, serve};
pub use store::FileStore;
pub use target::{ProcessTarget, TargetOptions};

/// Provider name as written in the blueprint.
pub const PROVIDER: &str = "process";
