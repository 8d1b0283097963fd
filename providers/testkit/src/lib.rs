//! The fake target, and the contract that every adapter and the fake pass.

pub mod contract;
pub mod fake;
pub mod memory;

pub use fake::{Behaviour, FakeTarget};
pub use memory::MemoryStore;
