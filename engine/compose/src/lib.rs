//! Compose files: read as Compose reads them, written, and turned into a blueprint.
//!
//! Values in, values out: files and variables are handed in by whoever calls.

pub mod form;
pub mod model;
mod write;

pub use model::{File, literal};
