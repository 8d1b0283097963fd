//! Runs a small program of the user's, within a time, and takes it and its children away with the time.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::future::{Either, select, try_join};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use platform_blueprint::Period;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// So much of what a program says is kept for people, in characters.
const SAID_AT_MOST: usize = 2_000;

/// So much of each stream is kept while it is read, in bytes: the last, as that says how it ended.
const KEPT: usize = 16 * 1024;

/// For so long a stream is read on once its program has ended: what a child in the background holds open never ends.
const READ_ON: Duration = Duration::from_millis(500);

/// What a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// It ended with exit code 0.
    pub(super) agreed: bool,
    /// The last of its standard output.
    pub(super) output: String,
    /// How it ended and the last that it said, for people.
    pub(super) words: String,
}

/// Runs a program to its end in a folder, but not longer than `at_most`. What it is named by may lie in the folder, too.
///
/// # Errors
///
/// In words: that it cannot be started, or did not end in time, with the last that it said.
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
    let mut child = Command::new(if is_path {
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
    let (mut out, mut errors) = (Tail::default(), Tail::default());
    let status = listen(&mut child, (&mut out, &mut errors), at_most)
        .await
        .map_err(|error| format!("cannot read from `{program}`: {error}"))?;
    let (output, errors) = (out.text(), errors.text());
    let last = if errors.is_empty() { &output } else { &errors };
    let Some(status) = status else {
        let within = Period::from(at_most);
        let how = format!("`{program}` did not end within {within}");
        return Err(with_last(how, last));
    };
    group.0 = None;
    let words = with_last(status.to_string(), last);
    Ok(Said {
        agreed: status.success(),
        output,
        words,
    })
}

/// How a program ended, with the last of what it said.
fn with_last(how: String, said: &str) -> String {
    let beyond = said.chars().count().saturating_sub(SAID_AT_MOST);
    let last: String = said.chars().skip(beyond).collect();
    if last.is_empty() {
        how
    } else {
        format!("{how}: {last}")
    }
}

/// Waits for a program's end and reads what it says meanwhile; `None` if it does not end in time.
async fn listen(
    child: &mut Child,
    (out, errors): (&mut Tail, &mut Tail),
    at_most: Duration,
) -> io::Result<Option<ExitStatus>> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let heard = pin!(try_join(out.hear(stdout), errors.hear(stderr)));
    let ended = async {
        match select(heard, pin!(child.wait())).await {
            Either::Left((heard, ended)) => {
                heard?;
                Ok::<_, io::Error>((ended.await?, None))
            }
            Either::Right((ended, heard)) => Ok((ended?, Some(heard))),
        }
    };
    let ended = tokio::time::timeout(at_most, ended).await;
    let (status, unheard) = match ended {
        Ok(ended) => ended?,
        Err(_) => return Ok(None),
    };
    if let Some(heard) = unheard
        && let Ok(heard) = tokio::time::timeout(READ_ON, heard).await
    {
        heard?;
    }
    Ok(Some(status))
}

/// The last that a stream said.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Reads a stream to its end.
    async fn hear(&mut self, stream: Option<impl AsyncRead + Unpin>) -> io::Result<()> {
        let Some(mut stream) = stream else {
            return Ok(());
        };
        let mut piece = vec![0; KEPT];
        loop {
            match stream.read(&mut piece).await? {
                0 => return Ok(()),
                read => self.add(&piece[..read]),
            }
        }
    }

    fn add(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
        let beyond = self.0.len().saturating_sub(KEPT);
        self.0.drain(..beyond);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).trim().to_owned()
    }
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
    async fn of_a_program_that_says_much_the_last_is_kept() {
        let script = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo 12; \
                      head -c 3000000 /dev/zero | tr '\\0' y >&2; echo ' the end' >&2; exit 1";
        let said = check(script, Duration::from_secs(60)).await.unwrap();
        assert_eq!(said.output.lines().last(), Some("12"));
        assert!(said.output.len() <= KEPT, "{}", said.output.len());
        assert!(said.words.ends_with("y the end"), "{}", said.words);
        assert!(said.words.len() < SAID_AT_MOST + 100, "{}", said.words);
    }

    #[test]
    fn a_tail_never_holds_more_than_is_kept() {
        let mut tail = Tail::default();
        for _ in 0..10 {
            tail.add(&[b'x'; KEPT]);
            assert_eq!(tail.0.len(), KEPT);
        }
        tail.add(b"end");
        assert_eq!(tail.0.len(), KEPT);
        assert!(tail.text().ends_with("xend"));
    }

    #[tokio::test]
    async fn a_program_that_leaves_a_child_behind_has_ended() {
        let script = "sleep 60 & echo $!; echo ok";
        let said = check(script, Duration::from_secs(30)).await.unwrap();
        assert!(said.agreed);
        let (pid, ok) = said.output.split_once('\n').unwrap();
        assert_eq!(ok, "ok");
        // It was not in the way, and so it is left alone.
        let left = nix::sys::signal::kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL);
        assert_eq!(left, Ok(()));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_taken_away_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("echo so far; sleep 60 & echo $! > {}; wait", file.display());
        let said = check(&script, Duration::from_millis(300)).await;
        let words = "`sh` did not end within 300ms: so far".to_owned();
        assert_eq!(said, Err(words));
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
