//! The loops that observe, decide, act and record.
//!
//! Nothing here knows which adapters exist, and nothing here decides: plans and rollouts come from `platform-decide`, targets
//! fulfil `platform-port`.

mod address;
pub mod apply;
pub mod build;
pub mod clock;
pub mod deploy;
pub mod error;
pub mod events;
pub mod journal;
mod kept;
mod last_lines;
pub mod lease;
pub mod owner;
mod patience;
pub mod record;
pub mod releases;
pub mod rollout;
pub mod watcher;
