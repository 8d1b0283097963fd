//! Full disks, read-only folders and damaged documents: said with a code or mended, and nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use super::project::{Api, Project, kill};
use crate::load::Load;
use crate::sandbox::eventually;

/// A small file system over a folder; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one; `None` where that is not permitted.
    fn over(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).expect("a folder");
        let disk = Self(folder.to_owned());
        disk.mount(&["-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs"])
            .then_some(disk)
    }

    fn mount(&self, arguments: &[&str]) -> bool {
        let done = Command::new("mount").args(arguments).arg(&self.0).output();
        done.is_ok_and(|done| done.status.success())
    }

    fn writable(&self, writable: bool) {
        let manner = if writable { "remount,rw" } else { "remount,ro" };
        // Files that are open for writing are in the way of read-only; a bind of it is not.
        let bound = if writable {
            self.mount(&["-o", manner])
        } else {
            self.mount(&["-o", manner]) || self.mount(&["-o", "remount,bind,ro"])
        };
        assert!(bound, "it can be mounted otherwise");
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("ballast")).expect("a file");
        let block = [0; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("ballast")).expect("the ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A project whose state lies on a small disk; the disk goes first.
fn on_small_disk() -> Option<(Project, SmallDisk)> {
    let project = Project::new(&Api::good("one"));
    let disk = SmallDisk::over(&project.sandbox.project().join(".platform"));
    let Some(disk) = disk else {
        super::skipped("no file system can be mounted here");
        return None;
    };
    Some((project, disk))
}

#[test]
fn a_full_disk_is_said_and_what_serves_goes_on() {
    let Some((project, disk)) = on_small_disk() else {
        return;
    };
    disk.fill();
    let first = project.deploy();
    assert_eq!(first.code, 1, "{first:#?}");
    assert!(first.stderr.contains("state::disk-full"), "{first:#?}");
    disk.empty();
    project.deploy().ok();
    project.is_clean("one");
    let load = Load::on(project.port, 100);
    disk.fill();
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
    disk.empty();
    project.deploy().ok();
    project.is_clean("two");
    project.sandbox.run(&["destroy", "--yes", "--data"]).ok();
    eventually("no process is left", || project.processes().is_empty());
}

#[test]
fn a_read_only_state_folder_is_said_and_what_serves_goes_on() {
    let Some((project, disk)) = on_small_disk() else {
        return;
    };
    disk.writable(false);
    let first = project.deploy();
    assert_eq!(first.code, 1, "{first:#?}");
    assert!(first.stderr.contains("state::read-only"), "{first:#?}");
    disk.writable(true);
    project.deploy().ok();
    let load = Load::on(project.port, 100);
    disk.writable(false);
    project.change(&Api::good("two"));
    let second = project.deploy();
    assert_eq!(second.code, 1, "{second:#?}");
    assert!(second.stderr.contains("state::read-only"), "{second:#?}");
    assert!(second.stderr.contains("writable"), "{second:#?}");
    project.sandbox.run(&["status"]).ok();
    project.sandbox.run(&["plan"]).ok();
    load.end().unharmed();
    disk.writable(true);
    project.deploy().ok();
    project.is_clean("two");
    project.sandbox.run(&["destroy", "--yes", "--data"]).ok();
    eventually("no process is left", || project.processes().is_empty());
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
    for how in HARMS {
        let project = Project::deployed();
        let journal = project.state("store/journal.document");
        fs::copy(project.state("store/head.document"), &journal).expect("a journal");
        harm(&journal, how);
        project.sandbox.run(&["status"]).ok();
        project.sandbox.run(&["plan"]).ok();
        project.change(&Api::good("two"));
        project.deploy().ok();
        project.is_clean("two");
        project.down();
    }
}

#[test]
fn a_damaged_document_of_the_store_is_mended_from_the_one_before() {
    for (document, how) in [
        ("store/head.document", HARMS[0]),
        ("store/head.document", HARMS[2]),
        ("store/releases/00000002.document", HARMS[1]),
        ("store/releases/00000001.document", HARMS[2]),
    ] {
        let project = Project::deployed();
        project.change(&Api::good("two"));
        project.deploy().ok();
        let load = Load::on(project.port, 50);
        harm(&project.state(document), how);
        let status = project.sandbox.run(&["status"]);
        assert!(
            status.code == 0 || status.stderr.contains("state::damaged"),
            "{status:#?}"
        );
        project.change(&Api::good("three"));
        let seen = project.deploy();
        assert_eq!(seen.code, 0, "with {document}: {seen:#?}");
        load.end().unharmed();
        project.is_clean("three");
        // Numbers are given once, whatever is lost.
        let releases = project.sandbox.run(&["releases", "--format", "json"]).ok();
        assert_eq!(releases.line("releases")["current"], "r3", "{releases:#?}");
        project.down();
    }
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
    for how in HARMS {
        let project = Project::deployed();
        let load = Load::on(project.port, 50);
        harm(&project.state("desired.json"), how);
        let agent = project.agent("process").expect("an agent");
        kill(agent, Signal::SIGKILL);
        eventually("another agent is there", || {
            project.agent("process").is_some_and(|pid| pid != agent)
        });
        project.deploy().ok();
        project.is_clean("one");
        // With the one before lost as well, what runs is still there to be seen.
        harm(&project.state("desired.json"), how);
        let _ = fs::remove_file(project.state("desired.json.bak"));
        let agent = project.agent("process").expect("an agent");
        kill(agent, Signal::SIGKILL);
        eventually("another agent is there", || {
            project.agent("process").is_some_and(|pid| pid != agent)
        });
        project.deploy().ok();
        eventually("all is ready again", || {
            let seen = project.sandbox.run(&["status", "--detailed-exitcode"]);
            seen.code == 0
        });
        drop(load);
        project.is_clean("one");
        project.down();
    }
}
