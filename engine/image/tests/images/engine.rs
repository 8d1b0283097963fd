//! What an engine makes of an archive.

use std::path::Path;
use std::process::{Command, Output};

use platform_image::{Compression, Image, reference};

use crate::world::{image, installed, program, skipped};

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker")
        .args(arguments)
        .output()
        .expect("docker")
}

fn engine() -> bool {
    let there = installed("docker") && docker(&["version"]).status.success();
    there || !skipped("a Docker engine")
}

/// Removes an image from the engine when dropped.
struct Loaded(String);

impl Drop for Loaded {
    fn drop(&mut self) {
        docker(&["image", "rm", "--force", &self.0]);
    }
}

fn load(image: &Image, folder: &Path) -> Loaded {
    let name = reference::local("test-hello", image.id());
    let path = folder.join("image.tar");
    let file = std::fs::File::create(&path).expect("a file");
    image.write_archive(Some(&name), file).expect("an archive");
    let loaded = docker(&["load", "--input", path.to_str().expect("text")]);
    assert!(loaded.status.success(), "{loaded:?}");
    Loaded(name)
}

#[test]
fn an_engine_loads_and_runs_what_was_assembled() {
    if !engine() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    for compression in [Compression::None, Compression::Gzip] {
        let image = image(&program, compression);
        let loaded = load(&image, folder.path());
        let id = docker(&["image", "inspect", "--format", "{{.Id}}", &loaded.0]);
        let id = String::from_utf8(id.stdout).unwrap();
        // An engine with containerd's store knows images by their manifests.
        assert!([image.id(), image.digest()].contains(&id.trim()), "{id}");
        let ran = docker(&[
            "run",
            "--rm",
            "--network=none",
            "--read-only",
            "--tmpfs=/tmp",
            "--cap-drop=ALL",
            &loaded.0,
            "a b",
        ]);
        assert_eq!(
            String::from_utf8_lossy(&ran.stdout).trim(),
            r#"Uid: 65532 65532 65532 65532 "/app" ["a b"]"#,
            "{ran:?}"
        );
        // Saved and read back it is the same image, packed or not.
        let saved = folder.path().join("saved.tar");
        let done = docker(&["save", "--output", saved.to_str().unwrap(), &loaded.0]);
        assert!(done.status.success(), "{done:?}");
        assert_eq!(Image::read_archive(&saved).unwrap().id(), image.id());
    }
}
