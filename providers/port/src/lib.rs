//! What the orchestrator needs from a target, in our words.
//!
//! A target is a place that runs services: this machine's processes, a Docker engine, a Kubernetes cluster. Each adapter
//! fulfils [`Target`] and keeps one small document [`Store`] on the target itself, so that teammates and CI share
//! releases, locks and history without a service of ours.

pub mod error;
pub mod images;
pub mod logs;
pub mod party;
pub mod secrets;
pub mod store;
pub mod target;

pub use error::{Retry, TargetError};
pub use images::{DockerfileRequest, ImageEngine, Line};
pub use logs::{LogLine, LogQuery, Stream};
pub use party::Party;
pub use secrets::{SecretValue, SecretValues};
pub use store::{Document, Store, StoreError, Version};
pub use target::{
    Attachment, ExecRequest, Finding, LaneTally, Part, Severity, Signal, Tallies, Target,
    TargetInfo,
};
