//! What is valid, and hardly what somebody meant: it is told, and taken.

use super::{Check, steps};
use crate::reference::{INSTANCE_VARIABLES, ZONE_VARIABLE, address_variable};
use crate::{Code, EnvValue, PathMatch, Problem, Route, Service, ServiceName};

/// Keys of a service whose values a variable could have.
const KEYS: [&str; 7] = [
    "port", "replicas", "kind", "protocol", "folder", "image", "user",
];

/// Programs that put variables in place themselves.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "fish"];

impl Check<'_, '_> {
    pub(super) fn slips(&mut self, name: &ServiceName, service: &Service) {
        let variables = service.env.iter();
        let keys = variables.filter(|(key, value)| {
            KEYS.contains(&key.as_str()) && !matches!(value, EnvValue::Plain(_))
        });
        for (key, _) in keys {
            let problem = Problem::new(
                Code::UnusedKey,
                format!("`{key}` is a variable here, and sets nothing of `{name}`"),
                self.at(steps!["services", name.as_str(), "env", key.as_str()]),
            )
            .label("a variable")
            .warning()
            .help(format!(
                "a table has all keys that follow it: write `{key}` above `[services.{name}.env]`; a variable of this name is `{{ plain = \"…\" }}`"
            ));
            self.report(problem);
        }
        self.bare_references(name, service);
    }

    /// `$NAME`, which only a shell replaces.
    fn bare_references(&mut self, name: &ServiceName, service: &Service) {
        let lists = [("command", &service.command), ("args", &service.args)];
        let is_shell = |word: &String| {
            let program = word.rsplit('/').next().unwrap_or_default();
            SHELLS.contains(&program)
        };
        if lists.iter().any(|(_, words)| words.iter().any(is_shell)) {
            return;
        }
        let needs = service.needs.iter();
        let needs: Vec<_> = needs.map(|need| address_variable(need.as_str())).collect();
        let known = |variable: &str| {
            INSTANCE_VARIABLES.contains(&variable)
                || (variable == ZONE_VARIABLE && !service.zones.is_empty())
                || needs.iter().any(|need| need == variable)
                || service.env.contains_key(variable)
        };
        for (list, words) in lists {
            for (number, word) in words.iter().enumerate() {
                let Some(bare) = bare(word).find(|variable| known(variable)) else {
                    continue;
                };
                let problem = Problem::new(
                    Code::UnknownReference,
                    format!("`${bare}` is handed over as it is written"),
                    self.at(steps!["services", name.as_str(), list, number]),
                )
                .label("no shell reads this")
                .warning()
                .help(format!("write `${{{bare}}}` for its value"));
                self.report(problem);
            }
        }
    }

    /// A star in a path, which other gateways take for anything.
    pub(super) fn star(&mut self, number: usize, route: &Route) {
        let (PathMatch::Prefix(path) | PathMatch::Template(path)) = &route.path else {
            return;
        };
        if !path
            .split('/')
            .any(|segment| segment == "*" || segment == "**")
        {
            return;
        }
        let below = path.split("/*").next().filter(|above| !above.is_empty());
        let problem = Problem::new(
            Code::BadValue,
            format!("`*` in the path `{path}` stands for itself"),
            self.at(steps!["routes", number, "path"]),
        )
        .label("not for anything")
        .warning()
        .help(format!(
            "a path takes all that lies below it, so write `{}`; `{{name}}` stands for one segment; if the star is meant, write `{{ exact = \"{path}\" }}`",
            below.unwrap_or("/")
        ));
        self.report(problem);
    }
}

/// The names after dollar signs without braces.
fn bare(word: &str) -> impl Iterator<Item = &str> {
    word.split('$').skip(1).map(|rest| {
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}
