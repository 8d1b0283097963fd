//! Rollouts driven against the fake target: promoted, taken back, steered, killed at any instant and taken up again.

mod killed;
mod scene;
mod steered;
mod strategies;
mod told;
