//! Images against the real thing: a registry on loopback, and an engine.
//!
//! A suite that finds neither says so and is skipped; with `PLATFORM_TEST_NOTHING_SKIPPED=1` it fails instead.

mod engine;
mod registry;
mod world;
