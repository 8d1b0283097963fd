//! Which build of a program a file is, without reading it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Names a program file's build by its path, size and time of change.
///
/// Equal names mean the same file unless somebody set its time back.
pub(crate) fn build_id(program: &Path) -> String {
    match fs::metadata(program) {
        Ok(seen) => format!(
            "{}:{}:{}.{:09}",
            program.display(),
            seen.len(),
            seen.mtime(),
            seen.mtime_nsec()
        ),
        Err(_) => program.display().to_string(),
    }
}
