//! The adapter on a real engine: found as Docker's own client finds one, skipped where there is none.

mod ahead;
mod contract;
mod foreign;
mod gateway;
mod handed;
mod images;
mod life;
mod world;
