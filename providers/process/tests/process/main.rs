//! The process provider with real processes: its agent, its keeper, real services, the real gateway.

#![expect(clippy::print_stderr, reason = "a test that cannot run here says so")]

mod contract;
mod gateway;
mod gateway_secrets;
mod idle;
mod lifecycle;
mod misbehaviour;
mod preflight;
mod resources;
mod route_options;
mod survival;
mod world;
