//! Volumes and folders.

use super::{Draft, inline, longer, name_of};
use crate::left::Code;
use crate::model::MountForm;

/// What is mounted and where.
pub(super) fn sides(mount: &MountForm) -> (Option<&str>, &str) {
    match mount {
        MountForm::Full(mount) => {
            let source = mount.source.as_deref();
            (source.filter(|_| mount.kind != "tmpfs"), &mount.target)
        }
        MountForm::Short(text) => {
            let mut parts = text.split(':');
            match (parts.next().unwrap_or_default(), parts.next()) {
                (target, None) => (None, target),
                (source, Some(target)) => (Some(source), target),
            }
        }
    }
}

/// Whether a source is a folder or file of the machine and not a volume.
pub(super) fn is_folder(source: &str) -> bool {
    source.starts_with(['/', '.', '~'])
}

fn is_read_only(mount: &MountForm) -> bool {
    match mount {
        MountForm::Full(mount) => mount.read_only,
        MountForm::Short(text) => {
            let options = text.split(':').nth(2).unwrap_or_default();
            options.split(',').any(|option| option == "ro")
        }
    }
}

impl Draft<'_> {
    /// The volumes of a service.
    pub(super) fn storage(&mut self, name: &str, table: &mut toml_edit::Table) {
        let mut volumes = toml_edit::Array::new();
        for (index, mount) in self.written(name).volumes.iter().enumerate() {
            let index = index.to_string();
            let place = ["services", name, "volumes", &index];
            let (source, target) = sides(mount);
            let kind = match mount {
                MountForm::Full(mount) => mount.kind.as_str(),
                MountForm::Short(_) => "",
            };
            match (kind, source) {
                ("tmpfs", _) if target == "/tmp" => {}
                ("tmpfs", _) => self.no_memory(&place, target),
                ("bind", Some(source)) => self.no_folder(&place, source, target),
                (_, Some(source)) if is_folder(source) => self.no_folder(&place, source, target),
                ("" | "volume", source) => {
                    let own = if let Some(source) = source {
                        name_of(source, "volume")
                    } else {
                        let last = target.rsplit('/').find(|part| !part.is_empty());
                        name_of(&format!("{name}-{}", last.unwrap_or("data")), "volume")
                    };
                    // Data of a resource have its name.
                    let clash = self
                        .resources
                        .keys()
                        .any(|resource| self.names[resource] == own);
                    let own = if clash { longer(&own, "files") } else { own };
                    let mut pairs = vec![
                        ("name".to_owned(), own.into()),
                        ("path".to_owned(), target.into()),
                    ];
                    if is_read_only(mount) {
                        pairs.push(("read_only".to_owned(), true.into()));
                    }
                    volumes.push(inline(pairs));
                }
                (other, _) => {
                    let why = format!("a mount of type `{other}` has no counterpart");
                    self.leave(Code::NotCarried, &place, why, None);
                }
            }
        }
        for (index, entry) in self.written(name).tmpfs.iter().enumerate() {
            let target = entry.split(':').next().unwrap_or(entry);
            if target != "/tmp" && target != "/dev/shm" {
                let index = index.to_string();
                self.no_memory(&["services", name, "tmpfs", &index], target);
            }
        }
        if !volumes.is_empty() {
            table.insert("volumes", toml_edit::value(volumes));
        }
    }

    fn no_memory(&mut self, place: &[&str], target: &str) {
        let why = format!("`{target}` is not kept in memory: only `/tmp` is, and always");
        self.leave(
            Code::NotCarried,
            place,
            why,
            Some("give it a volume, or have the program write below /tmp"),
        );
    }

    fn no_folder(&mut self, place: &[&str], source: &str, target: &str) {
        if source.ends_with("docker.sock") {
            let why = "no service is given the engine's socket";
            self.leave(Code::NotCarried, place, why, None);
            return;
        }
        let why = format!(
            "`{source}` is a file or folder of this machine, and a blueprint runs on others, too"
        );
        let help = format!(
            "bring it into the image: `COPY {source} {target}` in a Dockerfile; or hand it over as a secret with `as = \"file\"`"
        );
        self.leave(Code::NotCarried, place, why, Some(&help));
    }
}
