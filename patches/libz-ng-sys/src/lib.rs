//! zlib under the name that flate2 asks for.
//!
//! pingora-core turns on flate2's `zlib-ng`, whose bindings build C sources with cmake. libz-sys has the same interface, is there
//! already for git2 and builds with the C compiler alone, so re-exporting it spares everybody who builds this project a
//! second build system.

pub use libz_sys::*;
