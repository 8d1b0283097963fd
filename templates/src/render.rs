//! Templates filled in.

use tera::{Context, Tera};

use crate::embedded;
use crate::error::TemplateError;
use crate::placement::{Content, Contents};

/// The ending of files that are rendered.
const ENDING: &str = ".tera";

/// Renders a template's files, at their paths within it.
pub(crate) fn render(template: &str, context: &Context) -> Result<Contents, TemplateError> {
    let folder = format!("templates/{template}");
    let mut contents = Contents::new();
    for (path, file) in embedded::below(&folder) {
        let whole = |bytes: Vec<u8>| Content {
            bytes,
            executable: file.executable,
        };
        let Some(plain) = path.strip_suffix(ENDING) else {
            contents.insert(path.to_owned(), whole(file.content.to_vec()));
            continue;
        };
        let text = String::from_utf8_lossy(file.content);
        let rendered =
            Tera::one_off(&text, context, false).map_err(|source| TemplateError::BadTemplate {
                file: file.path.to_owned(),
                source: Box::new(source),
            })?;
        contents.insert(plain.to_owned(), whole(rendered.into_bytes()));
    }
    Ok(contents)
}
