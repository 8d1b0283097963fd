//! Runs a small program of the user's, within a time, and takes it and its children away with the time.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

/// So much of what a program says is kept.
const SAID_AT_MOST: usize = 2_000;

/// What a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// It ended with exit code 0.
    pub(super) agreed: bool,
    /// Its standard output.
    pub(super) output: String,
    /// How it ended and the last that it said, for people.
    pub(super) words: String,
}

/// Runs a program to its end in a folder, but not longer than `at_most`. What it is named by may lie in the folder, too.
///
/// # Errors
///
/// In words: that it cannot be started, or did not end in time.
pub(super) async fn run(
    command: &[String],
    variables: &BTreeMap<String, String>,
    folder: &Path,
    at_most: Duration,
) -> Result<Said, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("no program is named".to_owned());
    };
    // Where a relative path begins is otherwise for the system to choose.
    let beside = folder.join(program);
    let is_path = program.contains('/');
    let child = Command::new(if is_path {
        beside.as_os_str()
    } else {
        program.as_ref()
    })
    .args(arguments)
    .envs(variables)
    .current_dir(folder)
    .stdin(Stdio::null())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .process_group(0)
    .kill_on_drop(true)
    .spawn()
    .map_err(|error| format!("cannot run `{program}`: {error}"))?;
    let mut group = Group(child.id());
    let ended = tokio::time::timeout(at_most, child.wait_with_output()).await;
    let output = match ended {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("cannot read from `{program}`: {error}")),
        Err(_) => {
            return Err(format!(
                "`{program}` did not end within {} s",
                at_most.as_secs()
            ));
        }
    };
    group.0 = None;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    let last = if errors.is_empty() { &out } else { &errors };
    let last: String = last.chars().rev().take(SAID_AT_MOST).collect();
    let last: String = last.chars().rev().collect();
    let how = output.status.to_string();
    Ok(Said {
        agreed: output.status.success(),
        output: out,
        words: if last.is_empty() {
            how
        } else {
            format!("{how}: {last}")
        },
    })
}

/// The process group of a program that has not ended.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(script: &str, at_most: Duration) -> Result<Said, String> {
        let command = ["sh", "-c", script].map(str::to_owned);
        run(
            &command,
            &BTreeMap::from([("WHO".to_owned(), "ada".to_owned())]),
            &std::env::temp_dir(),
            at_most,
        )
        .await
    }

    #[tokio::test]
    async fn a_program_that_ends_well_agrees() {
        let said = check("echo 12; echo hello $WHO >&2", Duration::from_secs(10))
            .await
            .unwrap();
        assert!(said.agreed);
        assert_eq!(said.output, "12");
        assert!(said.words.ends_with("hello ada"), "{}", said.words);
    }

    #[tokio::test]
    async fn a_program_lies_and_runs_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("/bin/sh", place.join("shell")).unwrap();
        let command = ["./shell", "-c", "pwd"].map(str::to_owned);
        let said = run(&command, &BTreeMap::new(), &place, Duration::from_secs(10)).await;
        assert_eq!(
            said.map(|said| said.output),
            Ok(place.display().to_string())
        );
    }

    #[tokio::test]
    async fn a_program_that_fails_does_not() {
        let said = check("echo no; exit 3", Duration::from_secs(10))
            .await
            .unwrap();
        assert!(!said.agreed);
        assert_eq!(said.words, "exit status: 3: no");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_taken_away_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", file.display());
        let said = check(&script, Duration::from_millis(300)).await;
        assert_eq!(said, Err("`sh` did not end within 0 s".to_owned()));
        let pid: i32 = std::fs::read_to_string(&file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        while !gone() {
            assert!(
                std::time::Instant::now() < deadline,
                "the child is still there"
            );
            tokio::task::yield_now().await;
        }
    }
}
