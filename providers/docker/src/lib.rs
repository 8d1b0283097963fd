//! Runs a blueprint as containers of a Docker engine, with the gateway as one of them.
//!
//! No agent of ours watches over an engine. The engine restarts what ends, the gateway asks each instance itself whether it is
//! ready, and everything else is seen in labels and done by the command line when it runs. Documents and generated credentials
//! are with the keeper, a small container that holds their volumes.

mod access;
mod ahead;
mod builds;
mod certificates;
mod container;
mod context;
mod dockerfile;
mod documents;
mod engine;
mod export;
mod facets;
mod gateway;
mod group;
mod handed_files;
mod image;
pub mod inside;
mod keep;
mod keeper;
mod listed;
mod local_authority;
mod logs;
mod names;
mod network;
mod news;
mod observe;
mod old_images;
mod past_logs;
mod ports;
mod preflight;
mod program;
mod renewal;
mod resource;
mod routing;
mod server;
mod shared;
mod site;
mod ssh;
mod starved;
mod store;
mod surroundings;
mod target;
mod tidy;
mod volume;

pub use builds::DockerImages;
pub use export::{ExportAsked, Exported, ExportedFile};
pub use preflight::refused;
pub use resource::resource_image;
pub use target::{DockerTarget, TargetOptions, engine_place};

/// The provider's name as written in the blueprint.
pub(crate) const PROVIDER: &str = "docker";
