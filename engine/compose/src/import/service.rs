//! A service, key by key.

use platform_blueprint::looks_secret;
use toml_edit::{Table, value};

use super::environment::sounds_secret;
use super::{Draft, inline, period, size, texts};
use crate::form::{bytes, millis};
use crate::left::Code;
use crate::model::{Limits, Service};

/// Signals that a blueprint knows.
const SIGNALS: [&str; 7] = [
    "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH",
];

fn limits(service: &Service) -> Option<&Limits> {
    service.deploy.as_ref()?.resources.as_ref()?.limits.as_ref()
}

impl Draft<'_> {
    /// Writes a service.
    pub(super) fn service(&mut self, name: &str) {
        let mut table = Table::new();
        if self.jobs.contains(name) {
            table.insert("kind", value("job"));
        }
        self.build(name, &mut table);
        self.command(name, &mut table);
        if let Some(folder) = &self.written(name).working_dir {
            if folder.starts_with('/') {
                table.insert("folder", value(folder));
            } else {
                let why = format!("`{folder}` is not a whole path");
                self.leave(
                    Code::BadValue,
                    &["services", name, "working_dir"],
                    why,
                    None,
                );
            }
        }
        if let Some(port) = self.ports.get(name) {
            table.insert("port", value(i64::from(*port)));
        }
        let needed = self.needed.get(name).cloned().unwrap_or_default();
        if !needed.is_empty() {
            let own: Vec<&String> = needed.iter().map(|name| &self.names[name]).collect();
            table.insert("needs", value(texts(&own)));
        }
        self.replicas(name, &mut table);
        self.health(name, &mut table);
        self.limits(name, &mut table);
        self.environment(name, &mut table);
        self.stop(name, &mut table);
        self.restart(name, &mut table);
        self.logs(name, &mut table);
        self.storage(name, &mut table);
        if let Some(user) = &self.written(name).user {
            table.insert("user", value(&user.0));
        }
        self.labels(name, &mut table);
        self.leftovers(name, &[]);
        let own = self.names[name].clone();
        self.out.services.insert(own, table);
    }

    fn replicas(&mut self, name: &str, table: &mut Table) {
        let service = self.written(name);
        let deployed = service
            .deploy
            .as_ref()
            .and_then(|deploy| deploy.replicas.as_ref());
        if let Some(count) = service.scale.as_ref().or(deployed) {
            match count.0.parse::<i64>() {
                Ok(1) => {}
                Ok(count) if count >= 0 => {
                    table.insert("replicas", value(count));
                }
                _ => {
                    let why = format!("`{}` is no number of instances", count.0);
                    self.leave(
                        Code::BadValue,
                        &["services", name, "deploy", "replicas"],
                        why,
                        None,
                    );
                }
            }
        }
    }

    fn limits(&mut self, name: &str, table: &mut Table) {
        let service = self.written(name);
        let deployed = limits(service);
        let mut pairs = Vec::new();
        let cpus = service
            .cpus
            .as_ref()
            .or(deployed.and_then(|limits| limits.cpus.as_ref()));
        if let Some(cpus) = cpus {
            match cpus.0.parse::<f64>() {
                Ok(cores) if cores > 0.0 => pairs.push(("cpu".to_owned(), cores.into())),
                Ok(_) => {}
                Err(_) => {
                    let why = format!("`{}` is no number of processors", cpus.0);
                    self.leave(Code::BadValue, &["services", name, "cpus"], why, None);
                }
            }
        }
        let memory = service
            .mem_limit
            .as_ref()
            .or(deployed.and_then(|limits| limits.memory.as_ref()));
        if let Some(memory) = memory {
            match bytes(&memory.0) {
                Some(0) => {}
                Some(bytes) => pairs.push(("memory".to_owned(), size(bytes).into())),
                None => {
                    let why = format!("`{}` is no size", memory.0);
                    self.leave(Code::BadValue, &["services", name, "mem_limit"], why, None);
                }
            }
        }
        if !pairs.is_empty() {
            table.insert("limits", value(inline(pairs)));
        }
    }

    fn stop(&mut self, name: &str, table: &mut Table) {
        let service = self.written(name);
        let mut pairs = Vec::new();
        if let Some(signal) = &service.stop_signal {
            let whole = if signal.starts_with("SIG") {
                signal.clone()
            } else {
                format!("SIG{signal}")
            };
            if SIGNALS.contains(&whole.as_str()) {
                pairs.push(("signal".to_owned(), whole.into()));
            } else {
                let why = format!("services are not stopped with `{signal}`");
                self.leave(
                    Code::NotCarried,
                    &["services", name, "stop_signal"],
                    why,
                    None,
                );
            }
        }
        if let Some(text) = &service.stop_grace_period {
            if let Some(time) = millis(text) {
                pairs.push(("grace".to_owned(), period(time).into()));
            } else {
                let why = format!("`{text}` is no length of time");
                self.leave(
                    Code::BadValue,
                    &["services", name, "stop_grace_period"],
                    why,
                    None,
                );
            }
        }
        if !pairs.is_empty() {
            table.insert("stop", value(inline(pairs)));
        }
    }

    fn restart(&mut self, name: &str, table: &mut Table) {
        let service = self.written(name);
        let policy = service
            .deploy
            .as_ref()
            .and_then(|deploy| deploy.restart_policy.as_ref());
        let word = policy
            .and_then(|policy| policy.condition.as_deref())
            .or(service.restart.as_ref().map(|text| text.0.as_str()));
        let mut pairs = Vec::new();
        match word.map(|word| word.split_once(':').unwrap_or((word, ""))) {
            _ if self.jobs.contains(name) => {}
            // YAML reads a bare `no` as false.
            Some(("no" | "none" | "false", _)) => pairs.push(("on".to_owned(), "never".into())),
            Some(("on-failure", tries)) => {
                pairs.push(("on".to_owned(), "failure".into()));
                if !tries.is_empty() {
                    let why = "there is no end to restarts; the pauses between them grow";
                    self.leave(Code::Otherwise, &["services", name, "restart"], why, None);
                }
            }
            Some(("always" | "unless-stopped" | "any", _)) | None => {}
            Some((other, _)) => {
                let why = format!("`{other}` is no restart policy");
                self.leave(Code::BadValue, &["services", name, "restart"], why, None);
            }
        }
        if let Some(policy) = policy {
            let delay = policy
                .delay
                .as_deref()
                .and_then(millis)
                .filter(|delay| (1..=30_000).contains(delay));
            pairs.extend(delay.map(|delay| ("backoff".to_owned(), period(delay).into())));
            let place = ["services", name, "deploy", "restart_policy"];
            for key in policy.rest.keys() {
                let why = "there is no end to restarts; the pauses between them grow";
                self.leave(Code::Otherwise, &[&place[..], &[key]].concat(), why, None);
            }
        }
        if !pairs.is_empty() {
            table.insert("restart", value(inline(pairs)));
        }
    }

    fn logs(&mut self, name: &str, table: &mut Table) {
        let Some(logging) = &self.written(name).logging else {
            return;
        };
        let driver = logging.driver.as_deref().unwrap_or("json-file");
        if !matches!(driver, "json-file" | "local") {
            let why = format!("output is kept on the target and not given to `{driver}`");
            self.leave(
                Code::NotCarried,
                &["services", name, "logging", "driver"],
                why,
                Some("`platform logs` shows it"),
            );
            return;
        }
        let option = |key: &str| logging.options.0.get(key).cloned().flatten();
        let mut pairs = Vec::new();
        if let Some(bytes) = option("max-size").as_deref().and_then(bytes) {
            pairs.push(("max_size".to_owned(), size(bytes).into()));
        }
        if let Some(files) = option("max-file").and_then(|text| text.parse::<i64>().ok()) {
            pairs.push(("keep".to_owned(), (files - 1).max(0).into()));
        }
        if !pairs.is_empty() {
            table.insert("logs", value(inline(pairs)));
        }
        let others = logging
            .options
            .0
            .keys()
            .filter(|key| !matches!(key.as_str(), "max-size" | "max-file"));
        for key in others {
            let why = "it has no counterpart";
            self.leave(
                Code::NotCarried,
                &["services", name, "logging", "options", key],
                why,
                None,
            );
        }
    }

    fn labels(&mut self, name: &str, table: &mut Table) {
        let labels = &self.written(name).labels.0;
        let of_proxy = |label: &str| {
            ["traefik.", "caddy", "com.github.nginx-proxy"]
                .iter()
                .any(|begin| label.starts_with(begin))
        };
        if labels.keys().any(|label| of_proxy(label)) {
            let why = "labels that tell a proxy its routes tell ours nothing";
            self.leave(
                Code::NotCarried,
                &["services", name, "labels"],
                why,
                Some("write them as `[[routes]]`"),
            );
        }
        let mut own = toml_edit::InlineTable::new();
        for (label, text) in labels {
            let text = text.clone().unwrap_or_default();
            if of_proxy(label) || label.starts_with("com.docker.") || label.starts_with("platform.")
            {
                continue;
            }
            if looks_secret(label, &text).is_some() || sounds_secret(label, &text) {
                let why = "it may well be a secret, and labels are for everyone who may look at a container";
                let place = ["services", name, "labels", label];
                self.leave(Code::NotCarried, &place, why, None);
                continue;
            }
            own.insert(label, text.into());
        }
        if !own.is_empty() {
            table.insert("labels", value(own));
        }
    }
}
