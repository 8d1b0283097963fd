//! Ports that are published become routes of the gateway.

use toml_edit::{Table, value};

use super::Draft;
use crate::left::Code;
use crate::model::PortForm;

/// Ports at which nothing speaks HTTP.
const OTHERS: [u16; 37] = [
    21, 22, 23, 25, 53, 67, 110, 123, 139, 143, 161, 179, 389, 445, 465, 514, 587, 636, 873, 993,
    995, 1025, 1194, 1433, 1521, 1883, 2049, 3306, 4222, 5432, 5672, 6379, 9092, 9094, 11211,
    27017, 51820,
];
/// What services in front of others are called.
const FRONT: [&str; 9] = [
    "nginx", "proxy", "caddy", "traefik", "gateway", "web", "frontend", "front", "app",
];

/// Whether a port is likely one of HTTP.
pub(super) fn is_http(port: u16) -> bool {
    !OTHERS.contains(&port)
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) inside: u16,
    outside: Option<u16>,
    address: Option<String>,
}

/// Reads a published port.
///
/// # Errors
///
/// Why it cannot be a route.
pub(super) fn published(port: &PortForm) -> Result<Published, String> {
    let (text, address, outside, protocol) = match port {
        PortForm::Full(port) => (
            port.target.0.clone(),
            port.host_ip.clone(),
            port.published.as_ref().map(|text| text.0.clone()),
            port.protocol.clone().unwrap_or_default(),
        ),
        PortForm::Short(text) => {
            let (rest, protocol) = text.0.split_once('/').unwrap_or((&text.0, ""));
            let (before, inside) = rest
                .rsplit_once(':')
                .map_or((None, rest), |(before, inside)| (Some(before), inside));
            let (address, outside) = match before {
                None => (None, None),
                Some(before) => match before.rsplit_once(':') {
                    None => (None, Some(before)),
                    Some((address, outside)) => (Some(address), Some(outside)),
                },
            };
            (
                inside.to_owned(),
                address.map(str::to_owned),
                outside.map(str::to_owned),
                protocol.to_owned(),
            )
        }
    };
    if protocol == "udp" {
        return Err("the gateway takes no UDP".to_owned());
    }
    let number = |text: &str| {
        text.parse::<u16>().map_err(|_| {
            if text.contains('-') {
                "the gateway has no ranges of ports".to_owned()
            } else {
                format!("`{text}` is no port")
            }
        })
    };
    let inside = number(&text)?;
    let outside = outside
        .filter(|text| !text.is_empty())
        .map(|text| number(&text))
        .transpose()?;
    if !is_http(inside) {
        return Err(format!(
            "the gateway speaks HTTP, which is not what is spoken at port {inside}"
        ));
    }
    Ok(Published {
        inside,
        outside,
        address: address.map(|text| text.trim_matches(['[', ']']).to_owned()),
    })
}

impl Draft<'_> {
    /// Writes the routes and where the gateway listens.
    pub(super) fn routes(&mut self) {
        let mut found: Vec<(String, Published)> = Vec::new();
        for name in self.chosen.clone() {
            if self.resources.contains_key(&name) {
                continue;
            }
            for (index, port) in self.written(&name).ports.iter().enumerate() {
                let index = index.to_string();
                let place = ["services", &name, "ports", &index];
                match published(port) {
                    Err(why) => self.leave(
                        Code::NotCarried,
                        &place,
                        why,
                        Some("on Docker, `platform port-forward` leads to any port"),
                    ),
                    Ok(port) if self.ports.get(&name) == Some(&port.inside) => {
                        if !found.iter().any(|(other, _)| *other == name) {
                            found.push((name.clone(), port));
                        }
                    }
                    Ok(port) => {
                        let why = format!(
                            "a service is called at one port, {} here, and not at {}",
                            self.ports.get(&name).copied().unwrap_or_default(),
                            port.inside
                        );
                        self.leave(Code::NotCarried, &place, why, None);
                    }
                }
            }
        }
        self.exposed();
        let rank = |(name, port): &(String, Published)| {
            let outside = match port.outside {
                Some(80) => 0,
                Some(443) => 1,
                Some(_) => 2,
                None => 3,
            };
            let front = FRONT
                .iter()
                .position(|word| self.names[name].contains(word));
            (outside.min(2), front.unwrap_or(FRONT.len()), outside)
        };
        let first = (0..found.len()).min_by_key(|index| rank(&found[*index]));
        let Some(first) = first else {
            return;
        };
        let main = found.remove(first);
        let port = main.1.outside.unwrap_or(8080);
        self.out.gateway.insert("port", value(i64::from(port)));
        match main.1.address.as_deref() {
            Some("127.0.0.1" | "localhost" | "::1") => {}
            Some(address) if address.parse::<std::net::IpAddr>().is_ok() => {
                self.out.gateway.insert("address", value(address));
            }
            _ => {
                self.out.gateway.insert("address", value("0.0.0.0"));
            }
        }
        for (name, other) in found {
            let own = self.names[&name].clone();
            let host = format!("{own}.localhost");
            let was = other
                .outside
                .map_or_else(String::new, |port| format!(", and no more at port {port}"));
            let why =
                format!("the gateway listens at one port, so it is at `http://{host}:{port}`{was}");
            self.leave(
                Code::Otherwise,
                &["services", &name, "ports"],
                why,
                Some("give the route the host or path that it should have"),
            );
            let mut table = route(&own);
            table.insert("host", value(host));
            self.out.routes.push(table);
        }
        self.out.routes.push(route(&self.names[&main.0].clone()));
    }

    /// Tells of ports that are exposed to other services and that a blueprint does not have.
    fn exposed(&mut self) {
        for name in self.chosen.clone() {
            if self.resources.contains_key(&name) {
                continue;
            }
            let service = self.written(&name);
            let known = self.ports.get(&name).copied();
            for (index, text) in service.expose.iter().enumerate() {
                let (port, protocol) = text.0.split_once('/').unwrap_or((&text.0, "tcp"));
                let number: Option<u16> = port.parse().ok();
                if number.is_some() && number == known && protocol != "udp" {
                    continue;
                }
                let why = match known {
                    Some(known) => format!(
                        "a service is called at one port, {known} here, and not at {}",
                        text.0
                    ),
                    None => format!(
                        "the gateway leads to services that speak HTTP, which is not what is spoken at {}",
                        text.0
                    ),
                };
                let help = format!(
                    "on Docker, others reach it at `{}:{port}` all the same",
                    self.names[&name]
                );
                let index = index.to_string();
                let place = ["services", &name, "expose", &index];
                self.leave(Code::Otherwise, &place, why, Some(&help));
            }
        }
    }
}

fn route(service: &str) -> Table {
    let mut table = Table::new();
    table.insert("path", value("/"));
    table.insert("service", value(service));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_are_read() {
        let check = |text: &str| {
            let port = published(&PortForm::Short(text.into())).ok()?;
            Some((port.address.unwrap_or_default(), port.outside, port.inside))
        };
        assert_eq!(check("8080:80"), Some((String::new(), Some(8080), 80)));
        assert_eq!(
            check("127.0.0.1:8080:80/tcp"),
            Some(("127.0.0.1".to_owned(), Some(8080), 80))
        );
        assert_eq!(
            check("[::1]:8080:80"),
            Some(("::1".to_owned(), Some(8080), 80))
        );
        assert_eq!(
            check("127.0.0.1::80"),
            Some(("127.0.0.1".to_owned(), None, 80))
        );
        assert_eq!(check("3000"), Some((String::new(), None, 3000)));
        for other in ["53:53/udp", "3000-3005", "5432:5432", "x"] {
            assert_eq!(check(other), None, "{other}");
        }
    }
}
