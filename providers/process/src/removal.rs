//! Taking an environment away: what is ours, and nothing else.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::client;
use crate::durable::StateError;
use crate::identity::ProcessIdentity;
use crate::layout::Layout;

/// Waits until the agent that was told to end has.
pub(crate) async fn agent_gone(layout: &Layout) {
    let process = client::record(layout).map(|record| record.process);
    let begun = Instant::now();
    while process.as_ref().is_some_and(ProcessIdentity::alive)
        && begun.elapsed() < Duration::from_secs(10)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sees to it that no agent that is about to start begins; `false` if one has begun.
///
/// # Errors
///
/// If the state folder takes no writes.
pub(crate) fn agent_called_off(layout: &Layout) -> Result<bool, StateError> {
    let path = layout.agent_lock();
    let lock = match File::create(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        opened => opened.map_err(|error| StateError::of("write", &path, error))?,
    };
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(false),
        locked => locked.map_err(|error| StateError::of("lock", &path, error.into()))?,
    }
    let wanted = layout.agent_wanted();
    gone(&wanted, fs::remove_file(&wanted))?;
    Ok(true)
}

/// What is not there any more is as good as removed.
///
/// # Errors
///
/// If it could not be removed.
pub(crate) fn gone(path: &Path, result: io::Result<()>) -> Result<(), StateError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StateError::of("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Removes an environment's documents, records and logs, and its data where told to.
///
/// Only names that we make are touched; the folder itself goes once it is empty.
///
/// # Errors
///
/// If something of it cannot be removed.
pub(crate) fn remove(layout: &Layout, remove_data: bool) -> Result<(), StateError> {
    let root = layout.root();
    let sockets = layout.sockets();
    let secret_files = layout.secret_files();
    let mut folders = vec![
        layout.store(),
        layout.instances(),
        layout.logs(),
        layout.gateway(),
    ];
    folders.extend(sockets);
    folders.extend(secret_files);
    if remove_data {
        folders.extend([
            layout.all_data(),
            root.join("volumes"),
            root.join("resources"),
            Path::new("/var/lib/platform").join(layout.tag()),
        ]);
    }
    for folder in folders {
        gone(&folder, fs::remove_dir_all(&folder))?;
    }
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = [
            "desired.json",
            "ports.json",
            "agent.",
            "exits",
            "secrets.sealed",
            ".trial",
        ];
        let keep = !remove_data && name.starts_with("ports.json");
        if ours.iter().any(|own| name.starts_with(own)) && !keep && entry.path().is_file() {
            gone(&entry.path(), fs::remove_file(entry.path()))?;
        }
    }
    // Left where somebody else's files, or data that is kept, are in it.
    let _ = fs::remove_dir(root);
    Ok(())
}
