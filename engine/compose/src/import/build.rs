//! Builds, images and commands.

use platform_blueprint::looks_secret;
use toml_edit::Table;

use super::environment::sounds_secret;
use super::{Draft, inline, name_of, texts};
use crate::form::Words;
use crate::left::Code;
use crate::model::{BuildForm, GrantForm};

impl Draft<'_> {
    /// Writes what a service is made of.
    pub(super) fn build(&mut self, name: &str, table: &mut Table) {
        let service = self.written(name);
        let Some(build) = &service.build else {
            match &service.image {
                Some(image) if image.parse::<platform_blueprint::ImageReference>().is_ok() => {
                    table.insert("image", image.into());
                }
                Some(image) => {
                    let why = format!("`{image}` is no image");
                    self.leave(Code::BadValue, &["services", name, "image"], why, None);
                }
                None => {
                    let why = "it has neither an image nor a build";
                    self.leave(
                        Code::BadValue,
                        &["services", name],
                        why,
                        Some("give it `build` or `image`"),
                    );
                }
            }
            return;
        };
        if service.image.is_some() {
            let why = "images that are built are named after what is in them";
            self.leave(Code::Otherwise, &["services", name, "image"], why, None);
        }
        let empty = crate::model::Build::default();
        let (context, full) = match build {
            BuildForm::Context(context) => (context.as_str(), &empty),
            BuildForm::Full(full) => (full.context.as_deref().unwrap_or("."), &**full),
        };
        let place = ["services", name, "build"];
        if context.contains("://") || context.starts_with("git@") {
            let why = format!("`{context}` is not a folder beside the blueprint");
            self.leave(Code::NotCarried, &place, why, Some("check it out there"));
        }
        let folder = context
            .strip_prefix("./")
            .filter(|rest| !rest.is_empty())
            .unwrap_or(context);
        let mut pairs = vec![("dockerfile".to_owned(), folder.trim_end_matches('/').into())];
        if let Some(file) = &full.dockerfile {
            pairs.push(("file".to_owned(), file.into()));
        }
        let mut args = Vec::new();
        for (argument, value) in &full.args.0 {
            if let Some(value) = value
                .as_ref()
                .or_else(|| self.inputs.variables.get(argument))
            {
                if looks_secret(argument, value).is_some() || sounds_secret(argument, value) {
                    let why =
                        "it may well be a secret, and what a build is told stays in the image";
                    let help = "hand it to the build as one of its `secrets`";
                    let place = [&place[..], &["args", argument]].concat();
                    self.leave(Code::SecretToSet, &place, why, Some(help));
                    continue;
                }
                args.push((argument.clone(), value.into()));
            } else {
                let why = "it is taken from the shell, where it is not set now";
                self.leave(
                    Code::UnsetVariable,
                    &[&place[..], &["args", argument]].concat(),
                    why,
                    None,
                );
            }
        }
        if !args.is_empty() {
            pairs.push(("args".to_owned(), inline(args)));
        }
        if let Some(target) = &full.target {
            pairs.push(("target".to_owned(), target.into()));
        }
        let mut secrets = Vec::new();
        for grant in &full.secrets {
            let (GrantForm::Short(source) | GrantForm::Full(crate::model::Grant { source, .. })) =
                grant;
            let secret = self.secret(source, name, Some(&format!("file {source}")));
            if secret != *source {
                let why = format!("the build finds it as `{secret}`");
                self.leave(
                    Code::Otherwise,
                    &[&place[..], &["secrets"]].concat(),
                    why,
                    None,
                );
            }
            secrets.push(name_of(&secret, "secret"));
        }
        if !secrets.is_empty() {
            pairs.push(("secrets".to_owned(), texts(&secrets)));
        }
        for key in full.rest.keys().filter(|key| !key.starts_with("x-")) {
            let why = "a Dockerfile build of a blueprint has no such setting";
            self.leave(Code::NotCarried, &[&place[..], &[key]].concat(), why, None);
        }
        table.insert("build", toml_edit::value(inline(pairs)));
    }

    /// Writes what a service runs.
    pub(super) fn command(&mut self, name: &str, table: &mut Table) {
        let service = self.written(name);
        let mut read = |key: &'static str, words: &Option<Words>| {
            let words = words.as_ref()?;
            let place = ["services", name, key];
            if let Some(words) = words.split() {
                Some(self.words(name, &place, &words))
            } else {
                let why = "a quote in it is not closed";
                self.leave(Code::BadValue, &place, why, None);
                None
            }
        };
        let entrypoint = read("entrypoint", &service.entrypoint);
        let command = read("command", &service.command).unwrap_or_default();
        let place = ["services", name, "command"];
        match entrypoint {
            Some(words) if !words.is_empty() => {
                table.insert("command", toml_edit::value(texts(&words)));
                if !command.is_empty() {
                    table.insert("args", toml_edit::value(texts(&command)));
                }
            }
            _ if command.is_empty() => {}
            _ if command[0].starts_with('-') => {
                table.insert("args", toml_edit::value(texts(&command)));
                let why = "these words come after all that the image runs by itself, and do not take the place of its own";
                self.leave(
                    Code::Otherwise,
                    &place,
                    why,
                    Some("write all of it in `command`, the program first"),
                );
            }
            _ => {
                table.insert("command", toml_edit::value(texts(&command)));
                let why = "`command` is all that is run: where the image has an ENTRYPOINT, that is not before it any more";
                self.leave(
                    Code::Otherwise,
                    &place,
                    why,
                    Some("if the image has one, write it first in `command`"),
                );
            }
        }
    }
}
