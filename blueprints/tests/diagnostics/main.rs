//! Each kind of problem, as the reader of the blueprint sees it.

#![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]

mod builds;
mod environments;
mod rollouts;
mod services;
mod text;
mod texts;
mod traffic;
mod values;
mod whereabouts;
mod zones;

use miette::{GraphicalReportHandler, GraphicalTheme};
use platform_blueprint::{Blueprint, Problems};

fn show(problems: &Problems) -> String {
    let mut shown = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .render_report(&mut shown, problems)
        .unwrap();
    shown
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Shows what is wrong with a blueprint of one project and what follows.
fn check(rest: &str) -> String {
    check_whole(&format!("[project]\nname = \"shop\"\n{rest}"))
}

fn check_whole(text: &str) -> String {
    match Blueprint::parse(text, "platform.toml") {
        Ok(parsed) if parsed.warnings.is_empty() => "valid".to_owned(),
        Ok(parsed) => show(&parsed.warnings),
        Err(problems) => show(&problems),
    }
}
