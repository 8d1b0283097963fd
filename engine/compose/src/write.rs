//! Writing Compose files.

use serde_saphyr::{SerializerOptions, to_string_with_options};

use crate::model::File;

impl File {
    /// The file's text: a comment of `lines`, then what it says.
    ///
    /// # Errors
    ///
    /// If it holds what YAML has no form for, which no file that was made or read here does.
    pub fn to_yaml(&self, lines: &[&str]) -> Result<String, serde_saphyr::SerializeError> {
        let options = serde_saphyr::ser_options! {
            prefer_block_scalars: false,
        };
        let options: SerializerOptions = options;
        let comment: String = lines
            .iter()
            .map(|line| format!("# {line}\n").replace("#  \n", "#\n"))
            .collect();
        Ok(format!(
            "{comment}\n{}",
            to_string_with_options(self, options)?
        ))
    }
}
