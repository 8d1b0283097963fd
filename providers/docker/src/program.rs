//! Our own program on an engine: an image of it, from which gateway and keeper run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bollard::query_parameters::{CreateImageOptions, TagImageOptions, UploadToContainerOptions};
use bytes::Bytes;
use platform_decide::digest::Digest;
use platform_port::TargetError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::engine::{Engine, QUIET, fault, heard, is_missing};
use crate::names::{BUILD, Names};

/// The user that our own containers run as.
pub(crate) const USER: u32 = 65532;
/// Where our program lies in its image, and in the volume that other containers see it in.
pub(crate) const FOLDER: &str = "/platform";
/// Digits by which a build is known.
const BUILD_LENGTH: usize = 12;
/// The name of its image.
pub(crate) const REPOSITORY: &str = "platform.local/platform";

/// Our program as a file of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    /// The libraries it is loaded with, the loader first. None if it is static.
    libraries: Vec<PathBuf>,
    /// Names the build.
    pub(crate) build: String,
}

impl Program {
    /// Finds out what a program file needs to run elsewhere.
    ///
    /// - `known`: a file that keeps what was read before, so that it is not read again while it is the same file
    ///
    /// # Errors
    ///
    /// If it cannot be read, or its libraries are not found.
    pub(crate) fn of(path: &Path, known: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let libraries = match interpreter(&path)? {
            Some(loader) => libraries(&loader, &path)?,
            None => Vec::new(),
        };
        let build = build_of(std::iter::once(&path).chain(&libraries), known)?;
        Ok(Self {
            path,
            libraries,
            build,
        })
    }

    /// The reference of its image.
    pub(crate) fn image(&self) -> String {
        format!("{REPOSITORY}:{}", self.build)
    }

    /// The words that start it where its folder is at `folder`.
    pub(crate) fn command(&self, folder: &str) -> Vec<String> {
        let own = format!("{folder}/platform");
        match self.libraries.first().and_then(|loader| loader.file_name()) {
            Some(loader) => vec![
                format!("{folder}/lib/{}", loader.to_string_lossy()),
                "--library-path".to_owned(),
                format!("{folder}/lib"),
                own,
            ],
            None => vec![own],
        }
    }

    /// Makes sure that the engine has the image.
    ///
    /// # Errors
    ///
    /// If the engine does not take it.
    pub(crate) async fn ensure(&self, engine: &Engine) -> Result<(), TargetError> {
        let image = self.image();
        let action = || "bring the gateway's program to the engine".to_owned();
        match engine.docker.inspect_image(&image).await {
            Ok(_) => return Ok(()),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(fault(action(), error)),
        }
        let (sender, pieces) = mpsc::channel(8);
        let own = self.clone();
        let packing = tokio::task::spawn_blocking(move || {
            let mut out = io::BufWriter::with_capacity(1 << 20, Pieces(sender));
            own.pack(&mut out)?;
            out.flush()
        });
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(REPOSITORY.to_owned()),
            tag: Some(self.build.clone()),
            changes: vec![format!("LABEL {BUILD}={}", self.build)],
            ..CreateImageOptions::default()
        };
        let body = bollard::body_try_stream(ReceiverStream::new(pieces));
        let mut said = engine.docker.create_image(Some(options), Some(body), None);
        while let Some(line) = heard(&mut said, QUIET).await {
            line.map_err(|error| fault(action(), error))?;
        }
        match packing.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(TargetError::refused(crate::PROVIDER, action(), error)),
            Err(error) => Err(TargetError::refused(crate::PROVIDER, action(), error)),
        }
    }

    /// Makes sure that the engine has the image under a name that an exported file can rely on; returns that name.
    ///
    /// # Errors
    ///
    /// If the engine does not take it.
    pub(crate) async fn export(
        &self,
        engine: &Engine,
        names: &Names,
    ) -> Result<String, TargetError> {
        let tag = exported_tag(&self.build, names);
        let options = TagImageOptions {
            repo: Some(REPOSITORY.to_owned()),
            tag: Some(tag.clone()),
        };
        let (image, mut tries) = (self.image(), 0);
        loop {
            self.ensure(engine).await?;
            let tagged = engine.docker.tag_image(&image, Some(options.clone()));
            match tagged.await {
                Ok(()) => return Ok(format!("{REPOSITORY}:{tag}")),
                // Removed in between, as nobody used it.
                Err(error) if is_missing(&error) && tries < 3 => tries += 1,
                Err(error) => return Err(fault("name the gateway's program", error)),
            }
        }
    }

    /// Brings the program into a folder of a container that runs.
    ///
    /// # Errors
    ///
    /// If the engine does not take it.
    pub(crate) async fn upload(
        &self,
        engine: &Engine,
        container: &str,
        folder: &str,
    ) -> Result<(), TargetError> {
        let action = || "bring a newer program to the gateway".to_owned();
        let (sender, pieces) = mpsc::channel(8);
        let own = self.clone();
        let packing = tokio::task::spawn_blocking(move || {
            let mut out = io::BufWriter::with_capacity(1 << 20, Pieces(sender));
            let mut tar = tar::Builder::new(&mut out);
            own.append(&mut tar, &own.build, USER)?;
            tar.finish()?;
            drop(tar);
            out.flush()
        });
        let options = UploadToContainerOptions {
            path: folder.to_owned(),
            ..UploadToContainerOptions::default()
        };
        let body = bollard::body_try_stream(ReceiverStream::new(pieces));
        let uploaded = engine
            .docker
            .upload_to_container(container, Some(options), body);
        uploaded.await.map_err(|error| fault(action(), error))?;
        match packing.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(TargetError::refused(crate::PROVIDER, action(), error)),
            Err(error) => Err(TargetError::refused(crate::PROVIDER, action(), error)),
        }
    }

    /// Adds the program and its libraries below a folder.
    fn append(
        &self,
        tar: &mut tar::Builder<impl Write>,
        folder: &str,
        owner: u32,
    ) -> io::Result<()> {
        let beside = (!self.libraries.is_empty()).then(|| format!("{folder}/lib/"));
        for inside in std::iter::once(format!("{folder}/")).chain(beside) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_uid(owner.into());
            header.set_gid(owner.into());
            header.set_size(0);
            tar.append_data(&mut header, inside, io::empty())?;
        }
        let mut file = |from: &Path, to: String| {
            let mut file = std::fs::File::open(from)?;
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_uid(owner.into());
            header.set_gid(owner.into());
            header.set_size(file.metadata()?.len());
            tar.append_data(&mut header, to, &mut file)
        };
        file(&self.path, format!("{folder}/platform"))?;
        for library in &self.libraries {
            let name = library.file_name().unwrap_or_default().to_string_lossy();
            file(library, format!("{folder}/lib/{name}"))?;
        }
        Ok(())
    }

    /// Writes the image's only layer.
    fn pack(&self, out: &mut impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(out);
        let folder = |tar: &mut tar::Builder<_>, path: &str, mode: u32, owner: u32| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(mode);
            header.set_uid(owner.into());
            header.set_gid(owner.into());
            header.set_size(0);
            tar.append_data(&mut header, path, io::empty())
        };
        folder(&mut tar, "tmp/", 0o1777, 0)?;
        // A fresh volume takes over the owner of what it covers.
        for own in [
            "state/",
            "run/",
            "run/platform/",
            "run/signing/",
            "authority/",
            "credentials/",
            "programs/",
        ] {
            folder(&mut tar, own, 0o700, USER)?;
        }
        let text = |tar: &mut tar::Builder<_>, path: &str, text: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, path, text.as_bytes())
        };
        let passwd = format!("root:x:0:0::/:/\nplatform:x:{USER}:{USER}::/:/\n");
        text(&mut tar, "etc/passwd", &passwd)?;
        let group = format!("root:x:0:\nplatform:x:{USER}:\n");
        text(&mut tar, "etc/group", &group)?;
        text(&mut tar, "etc/nsswitch.conf", "hosts: files dns\n")?;
        self.append(&mut tar, "platform", 0)?;
        // The gateway fetches signing keys over TLS.
        let roots = Path::new("/etc/ssl/certs/ca-certificates.crt");
        if roots.is_file() {
            let roots = std::fs::read_to_string(roots)?;
            text(&mut tar, "etc/ssl/certs/ca-certificates.crt", &roots)?;
        }
        tar.finish()
    }
}

/// The tag under which an environment's exported file finds a build. Names have no `_`, so no two environments share one.
pub(crate) fn exported_tag(build: &str, names: &Names) -> String {
    format!("{build}-{}", names.network())
}

/// Hands what is written to a stream.
struct Pieces(mpsc::Sender<Result<Bytes, io::Error>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Names a build by what is in its files, or by what was noted of the very same files.
fn build_of<'a>(
    files: impl Iterator<Item = &'a PathBuf> + Clone,
    known: &Path,
) -> io::Result<String> {
    let mut same = format!("{} ", env!("CARGO_PKG_VERSION"));
    for file in files.clone() {
        let seen = std::fs::metadata(file)?;
        let (time, part) = (seen.mtime(), seen.mtime_nsec());
        let (device, number, size) = (seen.dev(), seen.ino(), seen.len());
        let _ = write!(same, "{device}.{number}.{size}.{time}.{part} ");
    }
    let noted = std::fs::read_to_string(known).unwrap_or_default();
    if let Some(build) = noted
        .strip_prefix(&same)
        .filter(|build| build.len() == BUILD_LENGTH)
    {
        return Ok(build.to_owned());
    }
    let mut digests = String::new();
    for file in files {
        digests.push_str(Digest::of(&std::fs::read(file)?).as_str());
    }
    let build: String = Digest::of(digests.as_bytes())
        .short()
        .chars()
        .take(BUILD_LENGTH)
        .collect();
    // Where it cannot be noted, the files are read again the next time. Two may write at once, so it comes whole.
    if let Some(folder) = known.parent()
        && std::fs::create_dir_all(folder).is_ok()
        && let Ok(mut draft) = tempfile::NamedTempFile::new_in(folder)
        && draft.write_all(format!("{same}{build}").as_bytes()).is_ok()
    {
        let _ = draft.persist(known);
    }
    Ok(build)
}

/// The loader that an ELF program names; `None` for a static one.
pub(crate) fn interpreter(program: &Path) -> io::Result<Option<PathBuf>> {
    use std::io::Read;
    const HEADER: usize = 64;
    const INTERPRETER: u32 = 3;
    let mut start = Vec::new();
    std::fs::File::open(program)?
        .take(16 * 1024)
        .read_to_end(&mut start)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "it is no 64-bit ELF program");
    let number = |at: usize, size: usize| -> io::Result<usize> {
        let bytes = start.get(at..at + size).ok_or_else(bad)?;
        let value = bytes
            .iter()
            .rev()
            .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        usize::try_from(value).map_err(|_| bad())
    };
    // Magic, 64-bit, little endian.
    if start.len() < HEADER || !start.starts_with(b"\x7fELF\x02\x01") {
        return Err(bad());
    }
    let (table, entry, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let at = table + index * entry;
        if number(at, 4)? == INTERPRETER as usize {
            let (offset, size) = (number(at + 8, 8)?, number(at + 32, 8)?);
            let name = start.get(offset..offset + size).ok_or_else(bad)?;
            let name = String::from_utf8_lossy(name);
            return Ok(Some(PathBuf::from(name.trim_end_matches('\0'))));
        }
    }
    Ok(None)
}

/// The files that the loader would load a program with, the loader itself first.
pub(crate) fn libraries(loader: &Path, program: &Path) -> io::Result<Vec<PathBuf>> {
    let told = std::process::Command::new(loader)
        .arg("--list")
        .arg(program)
        .output()?;
    if !told.status.success() {
        let said = String::from_utf8_lossy(&told.stderr).trim().to_owned();
        return Err(io::Error::other(said));
    }
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for line in String::from_utf8_lossy(&told.stdout).lines() {
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`; the kernel's own page has no file.
        if let Some((name, rest)) = line.trim().split_once(" => ")
            && let Some(path) = rest.split(" (").next().filter(|path| path.starts_with('/'))
        {
            found.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    let own = loader.file_name();
    let others = found.into_values().filter(|path| path.file_name() != own);
    Ok(std::iter::once(loader.to_owned()).chain(others).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in a program's image.
    fn packed(own: &Program) -> Vec<String> {
        let mut layer = Vec::new();
        own.pack(&mut layer).unwrap();
        let mut archive = tar::Archive::new(layer.as_slice());
        archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn a_static_program_is_packed_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // A head with no program headers at all names no loader.
        let mut head = vec![0_u8; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        std::fs::write(at("static"), head).unwrap();
        let own = Program::of(&at("static"), &at("known")).unwrap();
        let names = packed(&own);
        let ours: Vec<&String> = names
            .iter()
            .filter(|name| name.starts_with("platform"))
            .collect();
        assert_eq!(ours, ["platform/", "platform/platform"], "{names:?}");
        assert_eq!(own.command("/platform"), ["/platform/platform"]);
    }

    #[test]
    fn a_program_is_packed_with_what_it_is_loaded_with() {
        let folder = tempfile::tempdir().unwrap();
        let known = folder.path().join("cache/program");
        let own = Program::of(&std::env::current_exe().unwrap(), &known).unwrap();
        let names = packed(&own);
        assert!(names.contains(&"platform/platform".to_owned()));
        let command = own.command("/platform");
        let loader = command[0].trim_start_matches('/').to_owned();
        assert!(names.contains(&loader), "{loader} in {names:?}");
        assert_eq!(
            command.last().map(String::as_str),
            Some("/platform/platform")
        );
    }

    #[test]
    fn a_build_is_known_by_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let program = std::fs::read("/proc/self/exe").unwrap();
        std::fs::write(at("one"), &program).unwrap();
        std::fs::write(at("two"), &program).unwrap();
        let build = |name: &str, known: &str| Program::of(&at(name), &at(known)).unwrap().build;
        let first = build("one", "known");
        assert_eq!(build("one", "known"), first, "as it was noted");
        assert_eq!(build("two", "other"), first, "a copy is the same build");
        assert_eq!(
            build("two", "known"),
            first,
            "what was noted is of another file"
        );
        let mut longer = program;
        longer.push(0);
        std::fs::write(at("two"), &longer).unwrap();
        assert_ne!(build("two", "known"), first);
    }
}
