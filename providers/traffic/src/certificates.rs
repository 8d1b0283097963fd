//! Certificates that the blueprint names: where the gateway finds them, and whether it will.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use platform_blueprint::{Gateway, ServiceName};
use platform_decide::desired::Ingress;
use platform_decide::digest::Digest;
use platform_decide::group::ServiceSpec;
use platform_gateway_api::UpstreamTls;
use platform_port::{Finding, Severity};

/// How a certificate in PEM begins (RFC 7468, 5.1).
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// The file that authorities are believed from. Others are in another file, so that the gateway sees that they changed.
///
/// - `text`: their certificates, PEM
pub fn authority_file(folder: &Path, text: &str) -> PathBuf {
    let digest = Digest::of(text.as_bytes());
    folder.join(format!("authorities.{}", digest.short()))
}

/// Where a file that the blueprint names lies once it is copied into a folder: as it is named, if that stays in the folder.
pub fn copied_file(folder: &Path, name: &str) -> PathBuf {
    let path = Path::new(name);
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if path.components().all(inside) {
        return folder.join(
            path.components()
                .filter(|part| *part != Component::CurDir)
                .collect::<PathBuf>(),
        );
    }
    folder.join(format!("named.{}", Digest::of(name.as_bytes()).short()))
}

/// The files of authorities that the gateway is to find, and what they hold.
pub fn authority_files(folder: &Path, ingress: &Ingress) -> BTreeMap<PathBuf, String> {
    let texts = ingress.authorities.values();
    texts
        .map(|text| (authority_file(folder, text), text.clone()))
        .collect()
}

/// How instances are asked over TLS that show a certificate of their own; nothing where they show none.
///
/// - `folder`: where the gateway finds the file of [`authority_file`]
pub fn one_sided(folder: &Path, name: &ServiceName, spec: &ServiceSpec) -> Option<UpstreamTls> {
    let service = &spec.service;
    if !service.protocol.is_one_sided() {
        return None;
    }
    let tls = service.tls.clone().unwrap_or_default();
    // Where a file is named nobody else is believed, whatever came of it.
    let text = spec.authority.as_deref().unwrap_or_default();
    let believed = tls.ca.map(|_| authority_file(folder, text));
    Some(UpstreamTls {
        ca: believed.map(|file| file.display().to_string()),
        name: Some(tls.name.unwrap_or_else(|| name.to_string())),
        ..UpstreamTls::default()
    })
}

/// What is wrong with the files of certificates, which are beside the blueprint.
///
/// - `root`: the folder of the blueprint
pub fn preflight(gateway: &Gateway, root: &Path) -> Vec<Finding> {
    let Some(tls) = &gateway.tls else {
        return Vec::new();
    };
    tls.files()
        .filter_map(|name| {
            let path = root.join(name);
            let why = match std::fs::read_to_string(&path) {
                Ok(text) if text.contains(BEGIN) => return None,
                Ok(_) => "it holds no certificate in PEM".to_owned(),
                Err(error) => error.to_string(),
            };
            Some(Finding {
                code: "preflight::certificate".to_owned(),
                severity: Severity::Error,
                subject: Some("gateway".to_owned()),
                message: format!("`{}` is of no use: {why}", path.display()),
                help: Some("name a file of certificates in PEM under `[gateway.tls]`".to_owned()),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hold_no_certificate_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "good.pem",
            "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
        );
        write("key.pem", "-----BEGIN PRIVATE KEY-----\n");
        let check = |certificate: &str, expected: Option<&str>| {
            let gateway: Gateway = serde_json::from_value(serde_json::json!({
                "tls": { "certificates": [{ "certificate": certificate, "key": "key" }], "client_ca": "good.pem" }
            }))
            .unwrap();
            let found = preflight(&gateway, folder.path());
            assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
            let message = found.first().map_or("", |found| found.message.as_str());
            assert!(message.contains(expected.unwrap_or("")), "{message}");
        };
        check("good.pem", None);
        check("key.pem", Some("no certificate in PEM"));
        check("gone.pem", Some("No such file"));
    }

    #[test]
    fn what_is_copied_stays_in_its_folder() {
        let copied = |name: &str| copied_file(Path::new("/run"), name);
        assert_eq!(copied("ca.pem"), Path::new("/run/ca.pem"));
        assert_eq!(copied("./tls/ca.pem"), Path::new("/run/tls/ca.pem"));
        let elsewhere = ["/etc/tls/ca.pem", "../ca.pem", "tls/../../ca.pem"].map(copied);
        for file in &elsewhere {
            assert_eq!(file.parent(), Some(Path::new("/run")));
        }
        assert!(elsewhere[0] != elsewhere[1] && elsewhere[1] != elsewhere[2]);
    }
}
