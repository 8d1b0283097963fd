//! The fake target and the contract that every adapter passes.
