//! What a suite needs that a machine may not have.

use std::process::Command;

/// Whether a test can run, as `what` it needs is there. It is skipped with a word where not, and where nothing may be
/// skipped (`PLATFORM_TEST_NOTHING_SKIPPED=1`) it fails.
///
/// # Panics
///
/// If `what` is not there and nothing may be skipped.
#[expect(clippy::print_stderr, reason = "who runs the tests is to know")]
pub fn is_there(found: bool, what: &str) -> bool {
    let must = std::env::var("PLATFORM_TEST_NOTHING_SKIPPED").is_ok_and(|value| value == "1");
    assert!(
        found || !must,
        "there is no {what}, and nothing may be skipped"
    );
    if !found {
        eprintln!("skipped: there is no {what}");
    }
    found
}

/// Whether a program answers well with these words; what it says is not shown.
pub fn answers(program: &str, words: &[&str]) -> bool {
    let told = Command::new(program).args(words).output();
    told.is_ok_and(|told| told.status.success())
}

/// Whether there is a Docker engine to test on.
///
/// # Panics
///
/// If there is none and nothing may be skipped.
pub fn docker_engine() -> bool {
    is_there(
        answers("docker", &["info"]),
        "Docker engine at DOCKER_HOST or the usual socket",
    )
}

/// Whether the engine has an image that `.ci/docker` makes.
///
/// # Panics
///
/// If it has not and nothing may be skipped.
pub fn docker_image(image: &str) -> bool {
    is_there(
        answers("docker", &["image", "inspect", image]),
        &format!("image {image}, which `.ci/docker` makes"),
    )
}
