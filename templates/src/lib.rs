//! What `init` and `new` write out, carried inside the program: templates and the sources of the reference services.
//!
//! A template is a folder beside this crate's sources. Files that end in `.tera` are rendered and lose the ending; all
//! others are copied as they are. Nothing is ever overwritten, and what cannot be written whole is taken back.

mod embedded;
mod error;
mod insertion;
mod placement;
mod project;
mod render;
mod service;
mod workspace;

pub use error::TemplateError;
pub use placement::Placed;
pub use project::{Initialized, ProjectTemplate, init};
pub use service::{Added, NewService, ServiceTemplate, add_service};
