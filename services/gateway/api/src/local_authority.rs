//! The authority for development: a certificate and its key in a folder, made by whoever needs them first.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

/// Its certificate, in its folder; a browser is told to believe it.
pub const CERTIFICATE: &str = "ca.pem";
/// Its key.
pub const KEY: &str = "ca.key";
/// Whom its certificates, and what it signs, are from.
pub const ORGANIZATION: &str = "platform, for development";

/// Nobody makes it anew, so it lasts.
const LASTS: Duration = Duration::from_hours(10 * 365 * 24);
/// Clocks differ: it is valid from so long ago.
const BACKDATED: Duration = Duration::from_hours(24);

/// The authority, PEM.
pub struct LocalAuthority {
    /// For everybody to see.
    pub certificate: String,
    /// For nobody but its owner.
    pub key: String,
}

impl std::fmt::Debug for LocalAuthority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never a key.
        formatter
            .debug_struct("LocalAuthority")
            .finish_non_exhaustive()
    }
}

impl LocalAuthority {
    /// Takes up the authority in a folder, or makes one there. Of several who do so at once one makes it, and all have the same.
    ///
    /// # Errors
    ///
    /// If it can neither be read nor made.
    pub fn take_up(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        // Held until the end, as a certificate and a key of two authorities are none.
        let alone = fs::File::open(folder)?;
        alone.lock()?;
        let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
        if !certificate.exists() || !key.exists() {
            let made = make().map_err(io::Error::other)?;
            write(&key, &made.key)?;
            write(&certificate, &made.certificate)?;
        }
        Ok(Self {
            certificate: fs::read_to_string(certificate)?,
            key: fs::read_to_string(key)?,
        })
    }
}

fn make() -> Result<LocalAuthority, rcgen::Error> {
    let mut called = DistinguishedName::new();
    called.push(DnType::OrganizationName, ORGANIZATION);
    called.push(DnType::CommonName, "local authority");
    let mut wanted = CertificateParams::default();
    wanted.distinguished_name = called;
    wanted.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    wanted.not_before = (now - BACKDATED).into();
    wanted.not_after = (now + LASTS).into();
    let pair = KeyPair::generate()?;
    Ok(LocalAuthority {
        certificate: wanted.self_signed(&pair)?.pem(),
        key: pair.serialize_pem(),
    })
}

/// Writes a file whole or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use super::*;

    #[test]
    fn of_several_who_make_it_at_once_all_have_the_same() {
        let root = tempfile::tempdir().unwrap();
        for round in 0..8 {
            let folder = root.path().join(format!("project-{round}/authority"));
            let taken: Vec<LocalAuthority> = thread::scope(|scope| {
                let all: Vec<_> = (0..8)
                    .map(|_| scope.spawn(|| LocalAuthority::take_up(&folder).unwrap()))
                    .collect();
                all.into_iter().map(|one| one.join().unwrap()).collect()
            });
            let first = &taken[0];
            for one in &taken {
                assert_eq!(one.certificate, first.certificate);
                assert!(one.key == first.key, "keys of two authorities");
            }
            let pair = KeyPair::from_pem(&first.key).unwrap();
            rcgen::Issuer::from_ca_cert_pem(&first.certificate, pair).unwrap();
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&folder), 0o700);
            assert_eq!(mode(&folder.join(KEY)), 0o600);
        }
    }

    #[test]
    fn half_of_one_is_none() {
        let root = tempfile::tempdir().unwrap();
        let first = LocalAuthority::take_up(root.path()).unwrap();
        fs::remove_file(root.path().join(KEY)).unwrap();
        let second = LocalAuthority::take_up(root.path()).unwrap();
        assert_ne!(first.certificate, second.certificate);
        let again = LocalAuthority::take_up(root.path()).unwrap();
        assert_eq!(again.certificate, second.certificate);
        assert!(again.key == second.key, "it was made once more");
    }
}
