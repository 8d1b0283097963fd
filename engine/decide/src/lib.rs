//! Decisions as values: plan, rollout, analysis, drill.
//!
//! Everything here takes what was seen and returns what to do. There is no I/O, no clock and no async runtime; time is
//! an argument, so every decision can be replayed and tested.

pub mod analysis;
pub mod desired;
pub mod difference;
pub mod digest;
pub mod group;
pub mod observed;
pub mod plan;
pub mod release;
pub mod rollout;
pub mod traffic;
pub mod zones;
