//! Full disks, read-only folders and damaged documents: said with a code or mended, and nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use super::project::{Api, Project, kill};
use crate::load::Load;
use crate::sandbox::eventually;

/// A small file system over a folder; gone when dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one; `None` where that is not permitted.
    fn over(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).expect("a folder");
        let disk = Self(folder.to_owned());
        let made = disk.mount(&["-t", "tmpfs", "-o", "size=160m,mode=0700", "tmpfs"])
            && disk.mount(&["--make-private"]);
        made.then_some(disk)
    }

    fn mount(&self, arguments: &[&str]) -> bool {
        self.run("mount", arguments)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> bool {
        let done = Command::new(program).args(arguments).arg(&self.0).output();
        done.is_ok_and(|done| done.status.success())
    }

    /// Lets nobody write any more who does not write already.
    ///
    /// Files that are open for writing forbid to remount it; a second mount in front of it is not forbidden.
    fn close(&self) {
        let folder = self.0.display().to_string();
        let closed = self.mount(&["--bind", &folder]) && self.mount(&["-o", "remount,bind,ro"]);
        assert!(closed, "it can be made read-only");
    }

    fn open(&self) {
        assert!(self.run("umount", &["-l"]), "it can be made writable");
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("ballast")).expect("a file");
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![0; size];
            while std::io::Write::write_all(&mut file, &block).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("ballast")).expect("the ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        while self.run("umount", &["-l"]) {}
    }
}

/// A project whose state lies on a small disk.
fn on_small_disk() -> Option<Project> {
    let mut project = Project::new(&Api::good("one"));
    project.disk = SmallDisk::over(&project.sandbox.project().join(".platform"));
    if project.disk.is_none() {
        super::skipped("no file system can be mounted here");
        return None;
    }
    Some(project)
}

fn disk(project: &Project) -> &SmallDisk {
    project.disk.as_ref().expect("its disk")
}

#[test]
fn a_full_disk_is_said_and_what_serves_goes_on() {
    let Some(project) = on_small_disk() else {
        return;
    };
    disk(&project).fill();
    let first = project.deploy();
    assert_eq!(first.code, 1, "{first:#?}");
    assert!(first.stderr.contains("state::disk-full"), "{first:#?}");
    disk(&project).empty();
    project.deploy().ok();
    project.is_clean("one");
    let load = Load::on(project.port, 100);
    disk(&project).fill();
    project.change(&Api::good("two"));
    let second = project.deploy();
    assert_eq!(second.code, 1, "{second:#?}");
    assert!(second.stderr.contains("state::disk-full"), "{second:#?}");
    assert!(
        second.stderr.contains("free some disk space"),
        "{second:#?}"
    );
    project.sandbox.run(&["status", "--detailed-exitcode"]).ok();
    // An agent that comes up on a full disk still looks after everything.
    let agent = project.agent("process").expect("an agent");
    kill(agent, Signal::SIGKILL);
    eventually(
        "another agent is there, or it is known that none is",
        || project.sandbox.run(&["status"]).code == 0,
    );
    load.end().unharmed();
    disk(&project).empty();
    project.deploy().ok();
    project.is_clean("two");
    project.down();
}

#[test]
fn a_read_only_state_folder_is_said_and_what_serves_goes_on() {
    let Some(project) = on_small_disk() else {
        return;
    };
    disk(&project).close();
    let first = project.deploy();
    assert_eq!(first.code, 1, "{first:#?}");
    assert!(first.stderr.contains("state::read-only"), "{first:#?}");
    disk(&project).open();
    project.deploy().ok();
    let load = Load::on(project.port, 100);
    disk(&project).close();
    project.change(&Api::good("two"));
    let second = project.deploy();
    assert_eq!(second.code, 1, "{second:#?}");
    assert!(second.stderr.contains("state::read-only"), "{second:#?}");
    assert!(second.stderr.contains("writable"), "{second:#?}");
    project.sandbox.run(&["status", "--detailed-exitcode"]).ok();
    // A plan is shown, with what would fail.
    let plan = project.sandbox.run(&["plan"]);
    assert!(plan.stdout.contains("api@r1 → api@r2"), "{plan:#?}");
    assert!(plan.stderr.contains("state::read-only"), "{plan:#?}");
    load.end().unharmed();
    disk(&project).open();
    project.deploy().ok();
    project.is_clean("two");
    project.down();
}

/// Ways in which a file can be harmed.
const HARMS: [fn(&mut Vec<u8>); 3] = [
    Vec::clear,
    |bytes| bytes.truncate(bytes.len() / 2),
    |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
    },
];

fn harm(path: &Path, how: fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a document");
    how(&mut bytes);
    fs::write(path, bytes).expect("it is harmed");
}

#[test]
fn a_damaged_journal_is_set_aside() {
    let project = Project::deployed();
    for (round, how) in HARMS.into_iter().enumerate() {
        let journal = project.state("store/journal.document");
        fs::copy(project.state("store/head.document"), &journal).expect("a journal");
        harm(&journal, how);
        project.sandbox.run(&["status"]).ok();
        project.sandbox.run(&["plan"]).ok();
        let answer = format!("answer {round}");
        project.change(&Api::good(&answer));
        project.deploy().ok();
        project.is_clean(&answer);
    }
    project.down();
}

#[test]
fn a_damaged_document_of_the_store_is_mended_from_its_copy() {
    let project = Project::deployed();
    let load = Load::on(project.port, 50);
    for (round, how) in HARMS.into_iter().enumerate() {
        harm(&project.state("store/head.document"), how);
        let release = format!("store/releases/{:08}.document", round + 1);
        harm(&project.state(&release), how);
        project.sandbox.run(&["status", "--detailed-exitcode"]).ok();
        let answer = format!("answer {round}");
        project.change(&Api::good(&answer));
        project.deploy().ok();
        project.is_clean(&answer);
        // Numbers are given once, whatever is lost.
        let releases = project.sandbox.run(&["releases", "--format", "json"]).ok();
        let current = format!("r{}", round + 2);
        assert_eq!(releases.line("releases")["current"], current.as_str());
    }
    // Without a copy it is said which document it is, and what runs goes on.
    harm(&project.state("store/head.document"), HARMS[1]);
    harm(&project.state("store/head.copy"), HARMS[1]);
    project.change(&Api::good("never"));
    let seen = project.deploy();
    assert_eq!(seen.code, 1, "{seen:#?}");
    for text in ["state::damaged", "`head`", "help:"] {
        assert!(seen.stderr.contains(text), "`{text}` in {seen:#?}");
    }
    load.end().unharmed();
    project.down();
}

#[test]
fn a_damaged_lease_is_in_nobodys_way() {
    let project = Project::deployed();
    fs::write(project.state("store/lease.document"), "nonsense").expect("a harmed lease");
    project.change(&Api::good("two"));
    project.deploy().ok();
    project.is_clean("two");
    project.down();
}

#[test]
fn what_the_agent_keeps_is_mended_after_damage() {
    let project = Project::deployed();
    for how in HARMS {
        let load = Load::on(project.port, 50);
        harm(&project.state("desired.json"), how);
        let agent = project.agent("process").expect("an agent");
        kill(agent, Signal::SIGKILL);
        eventually("another agent is there", || {
            project.agent("process").is_some_and(|pid| pid != agent)
        });
        project.deploy().ok();
        project.is_clean("one");
        load.end().unharmed();
        // With its copy lost as well nobody knows what was wanted; what runs goes on until somebody says so.
        let load = Load::on(project.port, 50);
        harm(&project.state("desired.json"), how);
        harm(&project.state("desired.json.bak"), how);
        let agent = project.agent("process").expect("an agent");
        kill(agent, Signal::SIGKILL);
        eventually("another agent is there", || {
            project.agent("process").is_some_and(|pid| pid != agent)
        });
        let before = load.so_far().answered;
        eventually("the load goes on", || load.so_far().answered > before + 20);
        load.end().unharmed();
        project.deploy().ok();
        eventually("all is ready again", || {
            let seen = project.sandbox.run(&["status", "--detailed-exitcode"]);
            seen.code == 0
        });
        project.is_clean("one");
    }
    project.down();
}
