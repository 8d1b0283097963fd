//! Ports: free ones for instances, lasting ones for internal listeners and resources.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use rand::RngExt;

use crate::durable::{self, StateError};

/// Below the range from which the kernel gives ports to outgoing connections, so that none of those takes one of ours.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Whether the port can be listened on now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Picks a port that nobody listens on and that `taken` does not name.
pub(crate) fn pick(taken: impl Fn(u16) -> bool) -> Option<u16> {
    let mut random = rand::rng();
    (0..1000)
        .map(|_| random.random_range(RANGE))
        .find(|port| !taken(*port) && is_free(*port))
}

/// Ports that stay the same over restarts of everything.
#[derive(Debug)]
pub(crate) struct LastingPorts {
    path: PathBuf,
    ports: BTreeMap<String, u16>,
}

impl LastingPorts {
    /// Reads them; damaged ones are forgotten, as the sign of that is only a changed port.
    pub(crate) fn load(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            ports: durable::recover(path).value.unwrap_or_default(),
        }
    }

    /// The port of `name`, picked if it has none.
    ///
    /// # Errors
    ///
    /// If it cannot be written down.
    pub(crate) fn of(
        &mut self,
        name: &str,
        taken: impl Fn(u16) -> bool,
    ) -> Result<Option<u16>, StateError> {
        if let Some(port) = self.ports.get(name) {
            return Ok(Some(*port));
        }
        let Some(port) = pick(|port| taken(port) || self.ports.values().any(|own| *own == port))
        else {
            return Ok(None);
        };
        self.ports.insert(name.to_owned(), port);
        durable::keep(&self.path, &self.ports)?;
        Ok(Some(port))
    }

    /// The port of `name`, if it has one.
    pub(crate) fn get(&self, name: &str) -> Option<u16> {
        self.ports.get(name).copied()
    }

    /// Whether the port is somebody's.
    pub(crate) fn holds(&self, port: u16) -> bool {
        self.ports.values().any(|own| *own == port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_port() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports.json");
        let mut ports = LastingPorts::load(&path);
        let orders = ports.of("orders", |_| false).unwrap().unwrap();
        let web = ports.of("web", |_| false).unwrap().unwrap();
        assert_ne!(orders, web);
        assert_eq!(LastingPorts::load(&path).get("orders"), Some(orders));
    }
}
