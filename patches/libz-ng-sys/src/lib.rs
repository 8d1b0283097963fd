//! zlib-rs under the name that flate2 asks for.
//!
//! pingora-core turns on flate2's `zlib-ng`, whose bindings build C sources with cmake. Both offer zlib's own interface, so
//! re-exporting the one written in Rust spares everybody who builds this project a C build system.

pub use libz_rs_sys::*;
