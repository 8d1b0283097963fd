//! An engine whose disk is full: what is told, what stays, and that it goes on once there is space.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::own_engine::{Engine, may_start_engines};
use super::{Project, has_engine};
use crate::sandbox::eventually;

impl Engine {
    /// Takes all space but so many bytes; what takes it.
    fn fill(&self, but: u64) -> PathBuf {
        let data = self.at("data");
        let filler = Path::new(&data).join("filler");
        let _ = fs::remove_file(&filler);
        let told = Command::new("df")
            .args(["--block-size=1", "--output=avail", &data])
            .output()
            .expect("df");
        let said = String::from_utf8_lossy(&told.stdout).into_owned();
        let free: u64 = said
            .lines()
            .last()
            .and_then(|line| line.trim().parse().ok())
            .expect("a number");
        let told = Command::new("fallocate")
            .arg("--length")
            .arg((free - but).to_string())
            .arg(&filler)
            .status()
            .expect("fallocate");
        assert!(told.success());
        filler
    }

    /// What it has: containers, volumes, images.
    fn has(&self) -> Vec<String> {
        let all = [
            &["ps", "-aq"][..],
            &["volume", "ls", "-q"],
            &["images", "-aq"],
        ];
        let mut lines: Vec<String> = all
            .iter()
            .flat_map(|words| {
                let said = self.says(words).expect("an answer");
                said.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        lines.sort();
        lines
    }
}

/// The code, the engine's words, and what to do.
#[track_caller]
fn told(said: &str) {
    // As they would be without ends of lines.
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in ["target::disk-full", "no space left", "docker system df"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// Has the program be another one, and longer.
fn grow(program: &Path, by: usize) {
    let mut bytes = fs::read(program).expect("the program");
    bytes.resize(bytes.len() + by, b'x');
    fs::write(program, bytes).expect("written");
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_done() {
    if !has_engine() || !may_start_engines() {
        return;
    }
    let engine = Engine::with_space("full", "1g");
    let mut project = Project::new("full");
    project.sandbox.set("DOCKER_HOST", engine.socket());
    project.serves();
    assert_eq!(engine.answer(&project), "one");

    // A program's image finds no place.
    let before = engine.has();
    let filler = engine.fill(2 << 20);
    grow(&project.sandbox.project().join("api"), 4 << 20);
    project.answering("two");
    let failed = project.run(&["deploy", "--yes"]);
    assert_eq!(failed.code, 10, "{failed:#?}");
    told(&failed.stderr);
    assert_eq!(engine.answer(&project), "one");
    fs::remove_file(&filler).expect("removed");
    eventually("nothing of it is left", || engine.has() == before);

    // With space again, the next run goes on by itself.
    project.deploy();
    assert_eq!(engine.answer(&project), "two");

    // An image that the engine builds finds none either.
    let folder = project.sandbox.project();
    fs::create_dir(folder.join("api.d")).expect("a folder");
    fs::rename(folder.join("api"), folder.join("api.d/api")).expect("moved");
    fs::rename(folder.join("api.d"), folder.join("api")).expect("moved");
    let filler = engine.fill(2 << 20);
    let text = "FROM scratch\nCOPY . /app\nUSER 65532:65532\n";
    project.dockerfile(text, r#"file = "Dockerfile""#, "three");
    let failed = project.run(&["deploy", "--yes"]);
    assert_eq!(failed.code, 1, "{failed:#?}");
    told(&failed.stderr);
    assert_eq!(engine.answer(&project), "two");
    fs::remove_file(&filler).expect("removed");
    project.deploy();
    eventually("the new release answers", || {
        engine.answer(&project) == "three"
    });
    project.run(&["destroy", "--yes", "--data"]).ok();
    assert_eq!(engine.says(&["ps", "-aq"]).as_deref(), Some(""));
}
