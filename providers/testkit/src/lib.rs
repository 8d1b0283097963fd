//! The fake target, the contract that every adapter and the fake pass, and what suites have in common.

pub mod contract;
pub mod fake;
pub mod memory;
pub mod needs;
pub mod scene;

pub use fake::{Behaviour, FakeTarget};
pub use memory::{MemoryStore, Trouble};
