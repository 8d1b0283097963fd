//! Compose files: read as Compose reads them, written, and turned into a blueprint.
//!
//! Values in, values out: files and variables are handed in by whoever calls.

mod export;
mod files;
pub mod form;
mod import;
mod left;
mod merge;
pub mod model;
mod node;
mod paths;
mod read;
mod variable;
mod write;

pub use files::Document;
pub use import::{Imported, Inputs, import};
pub use left::{Code, Left};
pub use model::{File, literal};
pub use variable::dotenv;
