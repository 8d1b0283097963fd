//! Addresses of other services: what was reached by its name is reached through the gateway, and resources with their credentials.

use std::collections::{BTreeMap, BTreeSet};

use platform_blueprint::{address_variable, expand};

use super::Draft;
use super::traffic::{is_http, published};
use crate::left::Code;

/// A URL in a text.
pub(super) struct Url<'a> {
    /// What stands before it.
    before: &'a str,
    scheme: &'a str,
    pub(super) host: &'a str,
    port: Option<u16>,
    /// The password before the host.
    pub(super) password: Option<&'a str>,
    /// Path, query and fragment.
    rest: &'a str,
    /// What stands after it.
    pub(super) after: &'a str,
}

impl<'a> Url<'a> {
    /// The first in a text.
    pub(super) fn first(text: &'a str) -> Option<Self> {
        let at = text.find("://")?;
        let begins = |letter: char| !letter.is_ascii_alphanumeric() && !"+.-".contains(letter);
        let start = text[..at].rfind(begins).map_or(0, |before| {
            before + text[before..].chars().next().map_or(1, char::len_utf8)
        });
        let inside = &text[at + 3..];
        let ends = |letter: char| letter.is_whitespace() || ",;\"'|<>()".contains(letter);
        let end = inside.find(ends).unwrap_or(inside.len());
        let (url, after) = inside.split_at(end);
        let (authority, rest) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
        let (who, place) = match authority.rsplit_once('@') {
            Some((who, place)) => (who, place),
            None => ("", authority),
        };
        let password = who.split_once(':').map(|(_, password)| password);
        let (host, port) = match place.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (place, None),
        };
        Some(Self {
            before: &text[..start],
            scheme: &text[start..at],
            host,
            port,
            password: password.filter(|text| !text.is_empty()),
            rest,
            after,
        })
    }
}

/// Whether what is called by URLs of this scheme speaks HTTP.
fn speaks_http(scheme: &str) -> bool {
    matches!(scheme, "http" | "https" | "ws" | "grpc" | "h2c")
}

/// The names of services that a text calls by URLs, each with the port.
fn called(text: &str) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(url) = Url::first(rest) {
        if speaks_http(url.scheme) {
            let usual = if url.scheme == "https" { 443 } else { 80 };
            found.push((url.host.to_owned(), url.port.unwrap_or(usual)));
        } else {
            found.push((url.host.to_owned(), 0));
        }
        rest = url.after;
    }
    found
}

/// A text in which nothing stands for something else.
pub(super) fn plain(text: &str) -> String {
    text.replace("${", "$${")
}

impl Draft<'_> {
    /// Texts of a service in which others may be called.
    fn mentions(&self, name: &str) -> Vec<String> {
        let service = self.written(name);
        let words = [&service.entrypoint, &service.command];
        let words = words
            .into_iter()
            .flatten()
            .filter_map(crate::form::Words::split)
            .flatten();
        self.variables(name)
            .into_values()
            .flatten()
            .chain(words)
            .collect()
    }

    /// Finds which services need which, and at which ports they are called.
    pub(super) fn needs(&mut self) {
        let mut calls: BTreeMap<String, Vec<(String, u16)>> = BTreeMap::new();
        for name in &self.chosen {
            let all = self
                .mentions(name)
                .iter()
                .flat_map(|text| called(text))
                .collect();
            calls.insert(name.clone(), all);
            for (other, how) in &self.file.services[name].depends_on {
                if how.condition.as_deref() == Some("service_completed_successfully") {
                    self.jobs.insert(other.clone());
                }
            }
        }
        for name in &self.chosen {
            if self.resources.contains_key(name) {
                continue;
            }
            let called = calls.values().flatten();
            let called = called
                .filter(|(host, port)| host == name && *port > 0)
                .map(|(_, port)| *port);
            let port = self.port(name, called);
            self.ports.extend(port.map(|port| (name.clone(), port)));
        }
        for name in self.chosen.clone() {
            if self.resources.contains_key(&name) {
                continue;
            }
            let wanted: Vec<String> = self.written(&name).depends_on.keys().cloned().collect();
            let hosts = calls.remove(&name).unwrap_or_default().into_iter();
            let mut hosts: BTreeSet<String> = hosts.map(|(host, _)| host).collect();
            // What it is to reach a resource by is handed to it with that.
            let named = self.variables(&name).into_iter().filter_map(|(own, text)| {
                let host = self.named(&name, &[&own], text.as_deref()?)?;
                self.resources.contains_key(&host).then_some(host)
            });
            hosts.extend(named);
            for other in &wanted {
                self.need(&name, other, true);
            }
            for other in hosts.iter().filter(|host| !wanted.contains(host)) {
                if self.chosen.contains(other) && *other != name {
                    self.need(&name, other, false);
                }
            }
        }
    }

    /// The port at which a service is called.
    fn port(&self, name: &str, called: impl Iterator<Item = u16>) -> Option<u16> {
        let service = self.written(name);
        let variable = self.variables(name).remove("PORT").flatten();
        let outside = service
            .ports
            .iter()
            .filter_map(|port| published(port).ok())
            .map(|port| port.inside);
        let exposed = service
            .expose
            .iter()
            .filter(|text| !text.0.ends_with("/udp"))
            .filter_map(|text| text.0.split('/').next()?.parse().ok());
        let asked = self
            .check_words(name)
            .and_then(|words| super::health::asked(&words))
            .map(|(port, _)| port.unwrap_or(80));
        outside
            .chain(variable.and_then(|port| port.parse().ok()))
            .chain(called)
            .chain(exposed)
            .chain(asked)
            .find(|port| is_http(*port))
    }

    /// Has a service need another one, where that can be.
    fn need(&mut self, name: &str, other: &str, asked: bool) {
        let place = if asked {
            vec!["services", name, "depends_on", other]
        } else {
            vec!["services", name, "environment"]
        };
        if !self.chosen.iter().any(|chosen| chosen == other) {
            let why = format!("`{other}` is not taken over");
            self.leave(Code::NotCarried, &place, why, None);
            return;
        }
        let is_called = self.ports.contains_key(other);
        if !self.resources.contains_key(other) && !is_called && !self.jobs.contains(other) {
            if asked {
                let why = format!(
                    "a service waits for what it calls through the gateway, and no port of `{other}` is known to speak HTTP"
                );
                self.leave(Code::Otherwise, &place, why, None);
            }
            return;
        }
        if self.reaches(other, name) {
            let why = format!("`{other}` depends on `{name}` already, and needs go one way");
            self.leave(Code::NotCarried, &place, why, None);
            return;
        }
        self.needed
            .entry(name.to_owned())
            .or_default()
            .push(other.to_owned());
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        from == to
            || self
                .needed
                .get(from)
                .is_some_and(|needed| needed.iter().any(|next| self.reaches(next, to)))
    }

    /// A text in which what is needed is called as a blueprint has it.
    pub(super) fn addressed(&mut self, name: &str, place: &[&str], text: &str) -> String {
        let mut out = String::new();
        let mut is_told = false;
        let mut rest = text;
        while let Some(url) = Url::first(rest) {
            out.push_str(&plain(url.before));
            let needed = self
                .needed
                .get(name)
                .is_some_and(|needed| needed.iter().any(|one| one == url.host));
            let replaced = needed.then(|| self.replaced(&url)).flatten();
            if let Some(text) = replaced {
                out.push_str(&text);
            } else {
                let length = rest.len() - url.before.len() - url.after.len();
                out.push_str(&plain(&rest[url.before.len()..][..length]));
                if self.resources.contains_key(url.host) {
                    self.otherwise_reached(place, url.host);
                    is_told = true;
                } else if self.is_service(url.host) && url.host != name {
                    self.otherwise_called(place, url.host, speaks_http(url.scheme));
                    is_told = true;
                }
            }
            rest = url.after;
        }
        out.push_str(&plain(rest));
        if out == plain(text)
            && !is_told
            && let Some(host) = self.named(name, place, text)
        {
            if self.resources.contains_key(&host) {
                self.otherwise_reached(place, &host);
                return out;
            }
            let at = text.split_once(&format!("{host}:")).map(|(_, rest)| {
                let end = rest.find(|letter: char| !letter.is_ascii_digit());
                &rest[..end.unwrap_or(rest.len())]
            });
            let known = self.ports.get(&host).map(ToString::to_string);
            let is_known = at.is_none_or(|port| known.as_deref() == Some(port));
            self.otherwise_called(place, &host, is_known);
        }
        out
    }

    /// Whether a text refers to the address of a resource, which its credentials are part of.
    pub(super) fn holds_credentials(&self, text: &str) -> bool {
        let mut found = false;
        expand(text, |variable| {
            let named = |resource: &String| address_variable(&self.names[resource]) == variable;
            found |= self.resources.keys().any(named);
            Some(String::new())
        });
        found
    }

    fn replaced(&self, url: &Url<'_>) -> Option<String> {
        let variable = address_variable(&self.names[url.host]);
        let rest = match self.resources.get(url.host).map(|kind| kind.word) {
            Some("postgres") if matches!(url.scheme, "postgres" | "postgresql") => {
                // The database is the resource's own.
                url.rest.find('?').map_or("", |at| &url.rest[at..])
            }
            Some("redis") if matches!(url.scheme, "redis" | "valkey") => url.rest,
            Some("nats") if url.scheme == "nats" => url.rest,
            None if url.scheme == "http"
                && self.ports.get(url.host) == Some(&url.port.unwrap_or(80)) =>
            {
                url.rest
            }
            _ => return None,
        };
        Some(format!("${{{variable}}}{}", plain(rest)))
    }

    /// The service or the resource that a text names without a URL: `api:8080`, or `api` in a variable for hosts.
    fn named(&self, name: &str, place: &[&str], text: &str) -> Option<String> {
        let variable = place.last().copied().unwrap_or_default();
        let variable = variable.to_ascii_uppercase();
        let hosts = ["HOST", "ADDR", "SERVER", "ENDPOINT", "UPSTREAM", "BROKER"]
            .iter()
            .any(|word| variable.contains(word));
        let others = self.chosen.iter().filter(|other| *other != name);
        let named = others.filter(|other| {
            let at = |(at, _): &(usize, &str)| {
                let before = text[..*at].chars().next_back();
                let after = &text[at + other.len()..];
                !before.is_some_and(|letter| letter.is_alphanumeric() || "-_./".contains(letter))
                    && after
                        .strip_prefix(':')
                        .is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
            };
            text.match_indices(other.as_str()).any(|found| at(&found))
                || (hosts && text == other.as_str())
        });
        named.max_by_key(|other| other.len()).cloned()
    }

    /// Whether a name is that of a service, and not of a resource or of nobody here.
    fn is_service(&self, host: &str) -> bool {
        self.chosen.iter().any(|chosen| chosen == host) && !self.resources.contains_key(host)
    }

    /// Tells that a resource has credentials of its own, and is found under its name on Docker alone.
    fn otherwise_reached(&mut self, place: &[&str], resource: &str) {
        let name = self.names[resource].clone();
        let variable = address_variable(&name);
        let found = if name == resource {
            "found under its name on Docker alone".to_owned()
        } else {
            format!("found as `{name}`, and on Docker alone")
        };
        let why = format!(
            "resource `{resource}` is {found}, with a user and a password that are made for it; all of its address is `${{{variable}}}`"
        );
        let help = format!("have the program read `{variable}`, which it is handed by `needs`");
        self.leave(Code::Otherwise, place, why, Some(&help));
    }

    /// Tells that what is called by its name is called otherwise, or under this name on Docker alone.
    ///
    /// - `is_http`: nothing says that it is called for something else than HTTP at its port
    fn otherwise_called(&mut self, place: &[&str], host: &str, is_http: bool) {
        if !is_http || !self.ports.contains_key(host) {
            let name = self.names[host].clone();
            let found = format!("`{host}` is found under its name on Docker alone");
            let help = "on local processes, name a server that runs elsewhere";
            let (why, help) = if name == host {
                (found, help.to_owned())
            } else {
                let why = format!("`{host}` is found as `{name}`, and on Docker alone");
                (why, format!("write `{name}`; {help}"))
            };
            self.leave(Code::Otherwise, place, why, Some(&help));
            return;
        }
        let variable = address_variable(&self.names[host]);
        let why = format!(
            "`{host}` is reached through the gateway, whose address for it is `${{{variable}}}`, and not under its name"
        );
        let help = format!(
            "add `{}` to `needs` and write `${{{variable}}}`",
            self.names[host]
        );
        self.leave(Code::Otherwise, place, why, Some(&help));
    }
}

/// Whether nothing but references is in a text.
pub(super) fn is_reference(text: &str) -> bool {
    text.contains("${") && expand(text, |_| Some(String::new())).trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_found_in_texts() {
        assert_eq!(
            called("--api=http://api:8080/v1,http://b postgres://u:p@db:5432/x?y"),
            [
                ("api".to_owned(), 8080),
                ("b".to_owned(), 80),
                ("db".to_owned(), 0)
            ]
        );
        let url = Url::first("x=redis://:p@cache/1 y").unwrap();
        assert_eq!(
            (url.before, url.scheme, url.host, url.rest, url.after),
            ("x=", "redis", "cache", "/1", " y")
        );
        assert!(called("no address: //x").is_empty());
    }
}
