//! Authorities that the blueprint names as files beside it: read when a plan is made, and told where they are of no use.

use std::collections::BTreeMap;
use std::path::Path;

use miette::LabeledSpan;
use platform_blueprint::{AuthorityFile, Resolved};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::diagnostic::{Diagnostic, Place};
use crate::error::CliError;
use crate::excerpt::Excerpt;
use crate::exit::Exit;
use crate::project::Project;

/// What the files hold that an environment names, PEM by name.
///
/// # Errors
///
/// Every file that cannot be read or holds no certificates, with the place that names it.
pub(crate) fn read(
    project: &Project,
    resolved: &Resolved,
) -> Result<BTreeMap<String, String>, CliError> {
    let mut texts = BTreeMap::new();
    let mut problems = Vec::new();
    for file in project.blueprint.authorities(resolved) {
        match held(&project.folder.join(&file.name)) {
            Ok(text) => {
                texts.insert(file.name, text);
            }
            Err(why) => problems.push(problem(project, &file, &why)),
        }
    }
    if problems.is_empty() {
        Ok(texts)
    } else {
        Err(CliError::many(Exit::Failed, problems))
    }
}

/// The certificates in a file, PEM; or why they are of no use, in words.
fn held(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut believed = RootCertStore::empty();
    for one in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let number = believed.len() + 1;
        let useless = |error: &dyn std::fmt::Display| format!("certificate {number}: {error}");
        let one = one.map_err(|error| useless(&error))?;
        believed.add(one).map_err(|error| useless(&error))?;
    }
    if believed.is_empty() {
        return Err("it holds no certificate in PEM".to_owned());
    }
    Ok(text)
}

fn problem(project: &Project, file: &AuthorityFile, why: &str) -> Diagnostic {
    let message = format!("`{}` is of no use as authorities: {why}", file.name);
    let mut told = Diagnostic::error("preflight::certificate", message)
        .help("name a file of certificates in PEM, relative to the blueprint");
    told.place = file.position.map(|position| Place {
        file: project.shown.clone(),
        line: position.line,
        column: position.column,
    });
    told.excerpt = file.span.clone().map(|span| {
        let label = LabeledSpan::new_primary_with_span(Some("of no use".to_owned()), span);
        Excerpt::new(&project.shown, project.blueprint.text(), vec![label])
    });
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_certificate_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let check = |text: &str, expected: &str| {
            std::fs::write(&path, text).unwrap();
            let why = held(&path).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check("", "no certificate in PEM");
        let key = "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n";
        check(key, "no certificate in PEM");
        let key = rcgen::KeyPair::generate().unwrap();
        let good = rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap()
            .pem();
        let broken = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
        check(&format!("{good}{broken}"), "certificate 2: ");
        std::fs::write(&path, &good).unwrap();
        assert_eq!(held(&path), Ok(good));
    }
}
