//! The process provider with real processes: its agent, its keeper, real services, the real gateway.

mod contract;
mod gateway;
mod lifecycle;
mod misbehaviour;
mod resources;
mod survival;
mod world;
