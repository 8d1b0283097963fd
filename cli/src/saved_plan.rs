//! Plans in files, to be applied exactly as they were shown.

use std::fs;
use std::path::PathBuf;

use platform_decide::plan::Plan;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::file;
use crate::world::World;

/// The version of a saved plan's form.
const PLAN_VERSION: u32 = 1;

/// Writes a plan whole or not at all.
pub(crate) fn save(plan: &Plan, path: &PathBuf, world: &World) -> Result<(), CliError> {
    let text = serde_json::to_vec_pretty(&json!({ "version": PLAN_VERSION, "plan": plan }))
        .unwrap_or_default();
    file::put(&world.here.join(path), &text, Some(0o600))
}

/// Reads a plan that [`save`] wrote.
pub(crate) fn load(path: &PathBuf, world: &World) -> Result<Plan, CliError> {
    let path = world.here.join(path);
    let bytes = fs::read(&path).map_err(|error| CliError::file("read", &path, &error))?;
    let bad = |error: &dyn std::error::Error| {
        CliError::new(
            "plan::unreadable",
            format!("`{}` is not a saved plan", path.display()),
        )
        .because(error)
        .help("make one with `platform plan --out FILE`")
    };
    let mut value: Value = serde_json::from_slice(&bytes).map_err(|error| bad(&error))?;
    if value["version"] != json!(PLAN_VERSION) {
        return Err(CliError::new(
            "plan::unreadable",
            format!(
                "`{}` was saved by another version of `platform`",
                path.display()
            ),
        )
        .help("make a new one with `platform plan --out FILE`"));
    }
    serde_json::from_value(value["plan"].take()).map_err(|error| bad(&error))
}
