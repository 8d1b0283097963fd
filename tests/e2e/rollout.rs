//! Rollouts through the real binary: good and bad releases under load, steered, asked, killed.

mod asked;
mod copied;
mod drops;
mod h2c;
mod heavy;
mod instants;
mod judged;
mod left;
mod listener;
mod ordered;
mod prometheus;
pub(crate) mod shop;
mod site;
mod steered;
pub(crate) mod users;

/// Whether a test takes the time that its whole proof needs, instead of a short one.
fn long() -> bool {
    std::env::var("PLATFORM_TEST_LONG").is_ok_and(|value| value == "1")
}
