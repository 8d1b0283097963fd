//! What the suites stand on: a registry of their own, a static program, an image of it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use platform_image::{Compression, Image, ImageSpec, SourceFile, static_program};

/// Whether a suite may be skipped; says so.
#[expect(clippy::print_stderr, reason = "whoever runs the tests should see it")]
pub(crate) fn skipped(what: &str) -> bool {
    assert!(
        std::env::var("PLATFORM_TEST_NOTHING_SKIPPED").is_err(),
        "{what} is not there, and nothing may be skipped"
    );
    eprintln!("skipped: {what} is not there");
    true
}

pub(crate) fn installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

/// A registry on a port of its own; gone when dropped.
pub(crate) struct TestRegistry {
    child: Child,
    pub(crate) host: String,
    _folder: tempfile::TempDir,
}

/// `me` with the password `secret`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "me:$2y$05$cTpVlPDVSB34vGfwiVYhQeiHN6PuX8bMnFeJ0r6h5d.bJ/Ggi5lcy\n";

impl TestRegistry {
    /// Starts one; `None` if it is not installed.
    pub(crate) fn start(with_users: bool) -> Option<Self> {
        if !installed("docker-registry") && skipped("docker-registry") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:0\n",
            path("data")
        );
        if with_users {
            std::fs::write(path("users"), HTPASSWD).expect("users");
            config.push_str("auth:\n  htpasswd:\n    realm: test\n    path: ");
            config.push_str(&path("users"));
            config.push('\n');
        }
        std::fs::write(path("config.yml"), config).expect("a configuration");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env("OTEL_TRACES_EXPORTER", "none")
            .spawn()
            .expect("a registry");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let host = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, rest) = line.split_once("listening on ")?;
                rest.split(['"', ',']).next().map(str::to_owned)
            })
            .expect("the registry says where it listens");
        // Somebody must read on, or it is stopped by a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Some(Self {
            child,
            host,
            _folder: folder,
        })
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A static program that says where it runs and as whom.
pub(crate) fn program(folder: &Path) -> PathBuf {
    let source = folder.join("hello.rs");
    let program = folder.join("hello");
    let text = r#"fn main() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let user = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        println!("{} {:?} {:?}", user.replace('\t', " "), std::env::current_dir().unwrap(),
            std::env::args().skip(1).collect::<Vec<_>>());
        std::fs::write("/tmp/there", "x").unwrap();
    }"#;
    std::fs::write(&source, text).expect("a source");
    let built = Command::new("rustc")
        .args([
            "-C",
            "target-feature=+crt-static",
            "-C",
            "strip=symbols",
            "-o",
        ])
        .arg(&program)
        .arg(&source)
        .status()
        .expect("a compiler");
    assert!(built.success());
    program
}

/// An image of that program.
pub(crate) fn image(program: &Path, compression: Compression) -> Image {
    let architecture = static_program(program)
        .expect("a static program")
        .architecture;
    let file = SourceFile::File {
        from: program.to_owned(),
        executable: true,
    };
    Image::assemble(&ImageSpec {
        files: BTreeMap::from([("hello".to_owned(), file)]),
        entrypoint: vec!["/app/hello".to_owned()],
        architecture: architecture.to_owned(),
        labels: BTreeMap::from([(
            "org.opencontainers.image.title".to_owned(),
            "hello".to_owned(),
        )]),
        compression,
        ..ImageSpec::default()
    })
    .expect("an image")
}
