//! OCI images: made from programs without a Dockerfile or a daemon, sent to registries, pinned in a lock file.
//!
//! An image is a function of its files and settings alone: no clock, no user, no machine goes into it. So the same
//! build has the same digest wherever it is made.

mod archive;
mod attach;
mod blob;
mod context;
mod credentials;
mod elf;
mod error;
mod extras;
mod ignored;
mod image;
mod layer;
mod lock;
mod locked;
mod provenance;
pub mod reference;
mod registry;
mod sbom;
mod store;

pub use attach::{Attachment, CYCLONEDX, IN_TOTO};
pub use blob::{Platform, digest_of};
pub use context::{Packed, context_files, pack};
pub use credentials::{Credentials, credentials, credentials_in};
pub use elf::{StaticProgram, static_program};
pub use error::ImageError;
pub use extras::{CERTIFICATES, USER};
pub use image::{HOME, Image, ImageSpec, SourceFile};
pub use layer::Compression;
pub use lock::{ImageLock, LOCK};
pub use locked::{LockedPackage, LockedPackages};
pub use provenance::Provenance;
pub use reference::is_local;
pub use registry::{Pushed, Registry};
pub use sbom::cyclonedx;
pub use store::{Built, ImageStore};
