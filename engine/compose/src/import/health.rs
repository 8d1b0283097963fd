//! Health checks: those that ask for a path become that path, others stay commands.

use super::{Draft, inline, period, texts};
use crate::form::{Words, millis};
use crate::left::Code;

/// The path that a command asks its own machine for, with the port: `curl -f http://localhost:8080/health`.
pub(super) fn asked(words: &[String]) -> Option<(Option<u16>, String)> {
    let text = match words {
        [shell, option, line] if shell.ends_with("sh") && option == "-c" => line.clone(),
        words => words.join(" "),
    };
    let program = text.split_whitespace().next()?.rsplit('/').next()?;
    if !matches!(program, "curl" | "wget" | "http") {
        return None;
    }
    // Whatever else it does with the answer is not a matter of the path.
    let simple = text
        .split_once("||")
        .map_or(text.as_str(), |(asks, otherwise)| {
            if otherwise.trim().starts_with("exit") {
                asks
            } else {
                ""
            }
        });
    if simple.contains(['|', ';', '&']) {
        return None;
    }
    let url = simple
        .split_whitespace()
        .find_map(|word| word.trim_matches(['"', '\'']).strip_prefix("http://"))?;
    let (host, path) = url.split_once('/').unwrap_or((url, ""));
    let (host, port) = host
        .split_once(':')
        .map_or((host, None), |(host, port)| (host, port.parse().ok()));
    matches!(host, "localhost" | "127.0.0.1" | "0.0.0.0").then(|| (port, format!("/{path}")))
}

impl Draft<'_> {
    /// The words of a service's check, after `CMD`.
    pub(super) fn check_words(&self, name: &str) -> Option<Vec<String>> {
        let check = self.written(name).healthcheck.as_ref()?;
        let shell = |line: &str| vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()];
        match check.test.as_ref()? {
            Words::Line(line) => Some(shell(line)),
            Words::List(words) => match words.split_first()? {
                (first, rest) if first == "CMD" => Some(rest.to_vec()),
                (first, [line]) if first == "CMD-SHELL" => Some(shell(line)),
                _ => None,
            },
        }
    }

    /// Writes how a service is asked whether it is ready.
    pub(super) fn health(&mut self, name: &str, table: &mut toml_edit::Table) {
        let Some(check) = &self.written(name).healthcheck else {
            return;
        };
        let place = ["services", name, "healthcheck"];
        let Some(words) = self
            .check_words(name)
            .filter(|words| !check.disable && !words.is_empty())
        else {
            return;
        };
        let port = self.ports.get(name).copied();
        let ready = match asked(&words) {
            Some((asked, path)) if port.is_some() && asked.unwrap_or(80) == port.unwrap_or(80) => {
                path.into()
            }
            _ => {
                if port.is_none() && self.jobs.contains(name) {
                    return;
                }
                let own = self.words(name, &["services", name, "healthcheck", "test"], &words);
                inline([("command".to_owned(), texts(&own))])
            }
        };
        let mut pairs = vec![("ready".to_owned(), ready)];
        for (key, value) in [
            ("interval", &check.interval),
            ("timeout", &check.timeout),
            ("start_within", &check.start_period),
        ] {
            let written = match key {
                "start_within" => "start_period",
                other => other,
            };
            match value.as_deref().map(|text| (text, millis(text))) {
                Some((_, Some(0))) | None => {}
                // What may take so long until it counts is less than how long it may take at all.
                Some((_, Some(time))) if key == "start_within" => {
                    pairs.push((key.to_owned(), period(time.max(60_000)).into()));
                }
                Some((_, Some(time))) => pairs.push((key.to_owned(), period(time).into())),
                Some((text, None)) => {
                    let why = format!("`{text}` is no length of time");
                    self.leave(
                        Code::BadValue,
                        &[&place[..], &[written]].concat(),
                        why,
                        None,
                    );
                }
            }
        }
        if let Some(count) = check
            .retries
            .as_ref()
            .and_then(|text| text.0.parse::<i64>().ok())
            && count > 0
        {
            pairs.push(("failures".to_owned(), count.into()));
        }
        table.insert("health", toml_edit::value(inline(pairs)));
        for key in check.rest.keys() {
            if !key.starts_with("x-") {
                let why = "it has no counterpart";
                self.leave(Code::NotCarried, &[&place[..], &[key]].concat(), why, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_asks_for_a_path_is_that_path() {
        let check = |line: &str| asked(&["sh".to_owned(), "-c".to_owned(), line.to_owned()]);
        assert_eq!(
            check("curl -f http://localhost:3000/health || exit 1"),
            Some((Some(3000), "/health".to_owned()))
        );
        assert_eq!(
            check("wget -q --spider 'http://127.0.0.1/'"),
            Some((None, "/".to_owned()))
        );
        for other in [
            "curl http://db:80/",
            "pg_isready",
            "curl -s http://localhost/x | grep ok",
            "true",
        ] {
            assert_eq!(check(other), None, "{other}");
        }
    }
}
