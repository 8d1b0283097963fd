//! What a project must withstand: kills, misbehaving services, full disks, damaged state, contention.

mod contention;
mod damage;
mod fallen;
mod killed;
mod misbehaviour;
mod program;
pub(crate) mod project;
mod traffic;
mod zones;

/// Says why a test cannot run here; where everything has to run, that is a failure.
#[expect(clippy::print_stderr, reason = "a test that cannot run here says so")]
pub(crate) fn skipped(why: &str) {
    let nothing = std::env::var("PLATFORM_TEST_NOTHING_SKIPPED").is_ok_and(|value| value == "1");
    assert!(!nothing, "{why}");
    eprintln!("skipped: {why}");
}
