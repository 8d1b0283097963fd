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
            // A text of several lines is written as such; one of a single line stays one.
            folded_wrap_chars: usize::MAX,
        };
        let options: SerializerOptions = options;
        let comment: String = lines
            .iter()
            .map(|line| format!("# {line}").trim_end().to_owned() + "\n")
            .collect();
        Ok(format!(
            "{comment}\n{}",
            to_string_with_options(self, options)?
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::form::Words;
    use crate::model::{File, Service, literal};

    #[test]
    fn what_is_written_is_read_again() {
        let odd = [
            "no",
            "1:30",
            "0x1",
            "~",
            " a ",
            "a: b # c",
            "$HOME",
            "é\n\nb\n",
            "- x",
            "",
        ];
        let mut file = File::default();
        let service = Service {
            image: Some("app:1".to_owned()),
            command: Some(Words::List(odd.iter().map(|text| literal(text)).collect())),
            user: Some("1000:10".into()),
            environment: odd
                .iter()
                .map(|text| ("A".to_owned() + &text.len().to_string(), literal(text)))
                .collect(),
            ..Service::default()
        };
        file.services.insert("app".to_owned(), service);
        file.note(
            "# blueprint\n[project]\nname = \"x\"\na = \"${B}\"\n",
            "docker",
        );
        let text = file.to_yaml(&["one", "", "two"]).unwrap();
        assert!(text.starts_with("# one\n#\n# two\n\n"), "{text}");
        // Older readers take this for a number of seconds.
        assert!(text.contains("\"1000:10\""), "{text}");
        let read = File::read(&text, &BTreeMap::new()).unwrap();
        let words = read.services["app"]
            .command
            .as_ref()
            .and_then(Words::split)
            .unwrap();
        assert_eq!(words, odd);
        let taken = crate::import(&crate::Inputs {
            documents: &[crate::Document {
                name: "compose.yaml",
                text: &text,
            }],
            folder: "x",
            variables: &BTreeMap::new(),
            profiles: &std::collections::BTreeSet::new(),
            files: &|_| None,
        });
        let taken = taken.unwrap();
        assert_eq!(taken.left, []);
        assert!(
            taken.blueprint.ends_with("a = \"${B}\"\n"),
            "{}",
            taken.blueprint
        );
    }
}
