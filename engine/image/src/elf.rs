//! What an executable file needs to run, read from its head.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::error::ImageError;

/// An executable that runs by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticProgram {
    /// The architecture as Go names it: `amd64`, `arm64`.
    pub architecture: &'static str,
}

/// The program header that names a loader of shared libraries.
const PT_INTERP: u32 = 3;

/// Looks whether a program runs by itself, with no loader, library or interpreter beside it.
///
/// # Errors
///
/// [`ImageError::NotStatic`] if it does not, and whatever keeps it from being read.
///
/// Source: the ELF object file format, chapters 4 (header) and 5 (program header), System V ABI.
pub fn static_program(path: &Path) -> Result<StaticProgram, ImageError> {
    let file = File::open(path).map_err(ImageError::file("read", path))?;
    let verdict = read(file).map_err(ImageError::file("read", path))?;
    verdict.map_err(|why| ImageError::NotStatic {
        path: path.to_owned(),
        why,
    })
}

type Verdict = Result<StaticProgram, &'static str>;

fn read(mut file: File) -> io::Result<Verdict> {
    let mut head = Vec::with_capacity(64);
    file.by_ref().take(64).read_to_end(&mut head)?;
    if head.starts_with(b"#!") {
        return Ok(Err("is a script and needs its interpreter"));
    }
    if head.len() < 64 || !head.starts_with(b"\x7fELF") {
        return Ok(Err("is not a program for Linux"));
    }
    // 64 bits, least significant byte first.
    if head[4] != 2 || head[5] != 1 {
        return Ok(Err("is for a machine that is not supported"));
    }
    let architecture = match short(&head, 18) {
        62 => "amd64",
        183 => "arm64",
        243 => "riscv64",
        _ => return Ok(Err("is for a machine that is not supported")),
    };
    let at = u64::from_le_bytes(head[32..40].try_into().unwrap_or_default());
    let (size, count) = (usize::from(short(&head, 54)), usize::from(short(&head, 56)));
    file.seek(SeekFrom::Start(at))?;
    let mut headers = Vec::new();
    file.take((size * count) as u64).read_to_end(&mut headers)?;
    let dynamic = headers
        .chunks_exact(size.max(4))
        .any(|header| u32::from_le_bytes(header[..4].try_into().unwrap_or_default()) == PT_INTERP);
    Ok(if dynamic {
        Err("needs shared libraries")
    } else {
        Ok(StaticProgram { architecture })
    })
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_dynamic_programs_are_told_from_static_ones() {
        let why = |path: &Path| match static_program(path) {
            Err(ImageError::NotStatic { why, .. }) => why,
            other => panic!("{other:?}"),
        };
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("run");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        assert!(why(&script).contains("script"));
        std::fs::write(&script, "text").unwrap();
        assert!(why(&script).contains("not a program"));
        // Our own test program is dynamic on the usual target.
        assert!(why(&std::env::current_exe().unwrap()).contains("shared libraries"));
        // A head with no program headers at all names no loader.
        let mut head = vec![0_u8; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[18] = 62;
        head[54] = 56;
        std::fs::write(&script, head).unwrap();
        assert_eq!(static_program(&script).unwrap().architecture, "amd64");
    }
}
