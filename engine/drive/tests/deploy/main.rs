//! Whole deploys against the fake target: forward, back, stopped half-way, twice in a row.

mod again;
mod away;
mod back;
mod fallen;
mod forward;
mod locked;
mod scene;
