//! A place of its own for one test: folder, home, environment, and what was started there.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use platform_testkit::scene::free_port;

/// What the shell saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Seen {
    /// The JSON lines of standard output.
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`"))
        };
        self.stdout.lines().map(parse).collect()
    }

    /// The JSON line of this type.
    pub(crate) fn line(&self, kind: &str) -> serde_json::Value {
        let found = self.lines().into_iter().find(|line| line["type"] == kind);
        found.unwrap_or_else(|| panic!("no line of type `{kind}` in {self:#?}"))
    }

    /// The same, where all went well.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }
}

/// A folder under `/tmp` with a home of its own; gone when dropped, with everything started in it.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
    program: String,
    variables: Vec<(String, String)>,
    network: Option<PathBuf>,
    machine: Option<String>,
    open_files: Option<u32>,
}

impl Sandbox {
    /// A sandbox with nothing in it.
    pub(crate) fn empty() -> Self {
        // Paths of unix sockets are short, so the folder's is too.
        let folder = tempfile::Builder::new()
            .prefix("e2e")
            .tempdir_in("/tmp")
            .expect("a folder under /tmp");
        for inside in ["project", "home", "run"] {
            fs::create_dir(folder.path().join(inside)).expect("a folder");
        }
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(folder.path().join("run"), private).expect("permissions");
        Self {
            folder,
            program: env!("CARGO_BIN_EXE_platform").to_owned(),
            variables: Vec::new(),
            network: None,
            machine: None,
            open_files: None,
        }
    }

    /// A sandbox with this blueprint.
    pub(crate) fn with(blueprint: &str) -> Self {
        let sandbox = Self::empty();
        sandbox.write("platform.toml", blueprint);
        sandbox
    }

    /// The project's folder.
    pub(crate) fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// Sets a variable for every command from now on.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    /// Runs every command from now on by this file.
    pub(crate) fn run_by(&mut self, program: &str) {
        program.clone_into(&mut self.program);
    }

    /// Runs every command from now on in this network namespace.
    pub(crate) fn enter(&mut self, network: &Path) {
        self.network = Some(network.to_owned());
    }

    /// Runs every command from now on as on a machine of this name. Needs root.
    pub(crate) fn on_machine(&mut self, name: &str) {
        self.machine = Some(name.to_owned());
    }

    /// Lets every command from now on open so many files at most.
    pub(crate) fn limit_open_files(&mut self, most: u32) {
        self.open_files = Some(most);
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.project().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file written");
    }

    /// Reads a file of the project.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.project().join(path)).expect("a file read")
    }

    /// The command, ready to be run.
    pub(crate) fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let at = |name: &str| self.folder.path().join(name);
        let own = self.program.as_str();
        let mut command = match (&self.network, &self.machine, self.open_files) {
            (Some(network), _, _) => within(network, own),
            (None, Some(name), _) => named(name, own),
            (None, None, Some(most)) => limited(most, own),
            (None, None, None) => Command::new(own),
        };
        command
            .args(arguments)
            .current_dir(self.project())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", at("home"))
            .env("XDG_CONFIG_HOME", at("home/.config"))
            .env("XDG_RUNTIME_DIR", at("run"))
            .env("TZ", "UTC")
            .env("USER", "tester")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Seen {
        seen(self.command(arguments).output().expect("the program runs"))
    }

    /// Runs a command to its end with this on standard input.
    pub(crate) fn pipe(&self, arguments: &[&str], input: &str) -> Seen {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut stdin = child.stdin.take().expect("its standard input");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        seen(child.wait_with_output().expect("the program ends"))
    }

    /// Starts a command that goes on.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let child = self.command(arguments).spawn().expect("the program runs");
        Running(Some(child))
    }

    /// Runs a command and writes down what was seen, without what differs from run to run.
    pub(crate) fn platform(&self, arguments: &[&str]) -> String {
        self.transcript(&self.run(arguments))
    }

    /// The same, with this on standard input.
    pub(crate) fn piped(&self, arguments: &[&str], input: &str) -> String {
        self.transcript(&self.pipe(arguments, input))
    }

    /// What was seen, without what differs from run to run.
    pub(crate) fn transcript(&self, seen: &Seen) -> String {
        let mut text = format!("exit {}\n", seen.code);
        for (name, stream) in [("stdout", &seen.stdout), ("stderr", &seen.stderr)] {
            if !stream.is_empty() {
                text.extend(["-- ", name, " --\n", stream]);
                if !stream.ends_with('\n') {
                    text.push_str("(no line end)\n");
                }
            }
        }
        self.normal(&text)
    }

    /// Replaces paths, times and the like.
    pub(crate) fn normal(&self, text: &str) -> String {
        let folder = self.folder.path().display().to_string();
        let text = text
            .replace(&format!("{folder}/project"), "[project]")
            .replace(&format!("{folder}/home"), "[home]")
            .replace(&folder, "[sandbox]")
            .replace(env!("CARGO_PKG_VERSION"), "[version]");
        FILTERS.iter().fold(text, |text, (pattern, by)| {
            let pattern = regex::Regex::new(pattern).expect("a pattern");
            pattern.replace_all(&text, *by).into_owned()
        })
    }
}

/// What differs from run to run, and what stands for it.
const FILTERS: &[(&str, &str)] = &[
    (
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)",
        "[time]",
    ),
    (r"(?m)^\d\d:\d\d:\d\d(\.\d{3})? ", "[clock] "),
    (
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[run]",
    ),
    (r"age1[a-z0-9]{58}", "[recipient]"),
    (r"(x86_64|aarch64)-unknown-linux-(gnu|musl)", "[target]"),
    (r#""commit":("[0-9a-f]+"|null)"#, r#""commit":"[commit]""#),
    (r"commit   \S+", "commit   [commit]"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:[port]"),
    (r"\((\d+ ms|\d+\.\d s)\)", "([span])"),
    (r"sha256:[0-9a-f]{64}", "[digest]"),
    (r"\bprocess \d+", "process [pid]"),
    (r" \d+s  ", " [age]  "),
];

/// A program in a network namespace, by its file.
pub(crate) fn within(network: &Path, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", network.display()))
        .arg(program);
    command
}

/// A program, by its file, that may open so many files at most.
fn limited(open_files: u32, program: &str) -> Command {
    let mut command = Command::new("sh");
    let limit = format!("ulimit -n {open_files} && exec \"$0\" \"$@\"");
    command.args(["-c", &limit, program]);
    command
}

/// A program, by its file, as on a machine of this name.
fn named(machine: &str, program: &str) -> Command {
    let mut command = Command::new("unshare");
    let become_it = "echo \"$0\" >/proc/sys/kernel/hostname && exec \"$@\"";
    command.args(["--uts", "sh", "-c", become_it, machine, program]);
    command
}

fn seen(output: Output) -> Seen {
    use std::os::unix::process::ExitStatusExt as _;
    let code = output.status.code();
    Seen {
        code: code.unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        stdout: String::from_utf8(output.stdout).expect("standard output is text"),
        stderr: String::from_utf8(output.stderr).expect("standard error is text"),
    }
}

/// A command that goes on; ended when dropped.
pub(crate) struct Running(Option<Child>);

impl Running {
    /// One that was started already.
    pub(crate) fn of(child: Child) -> Self {
        Self(Some(child))
    }

    /// Its process.
    pub(crate) fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it was not ended yet")
    }

    /// Sends it a signal, and waits for its end.
    pub(crate) fn end(mut self, signal: &str) -> Seen {
        let sent = Command::new("kill")
            .args([signal, &self.child().id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
        self.wait()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Seen {
        let child = self.0.take().expect("it was not ended yet");
        seen(child.wait_with_output().expect("it ends"))
    }

    /// Reads its standard output until it holds `text`.
    pub(crate) fn until(&mut self, text: &str) -> String {
        let stdout = self.child().stdout.as_mut().expect("its standard output");
        read_until(stdout, text)
    }

    /// Reads its standard error until it holds `text`.
    pub(crate) fn until_told(&mut self, text: &str) -> String {
        let stderr = self.child().stderr.as_mut().expect("its standard error");
        read_until(stderr, text)
    }
}

fn read_until(stream: &mut impl Read, text: &str) -> String {
    let mut read = Vec::new();
    let mut byte = [0];
    loop {
        let so_far = String::from_utf8_lossy(&read);
        if so_far.contains(text) && so_far.ends_with('\n') {
            return so_far.into_owned();
        }
        let ended = stream.read(&mut byte).expect("it can be read") == 0;
        assert!(!ended, "ended before `{text}`: {so_far}");
        read.push(byte[0]);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let kept = self.project().join(".platform");
        for environment in fs::read_dir(kept).into_iter().flatten().flatten() {
            let name = environment.file_name().to_string_lossy().into_owned();
            // What is no environment is refused, and harms nothing.
            if environment.path().is_dir() && name != "artifacts" {
                let _ = self.run(&["destroy", "--yes", "--data", "-e", &name]);
            }
        }
    }
}

/// Asks until it holds, for half a minute at most.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "still not so: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a path is there.
pub(crate) fn exists(path: &Path) -> bool {
    path.exists()
}
