//! Services: what runs, its variables, its ports.

use std::collections::HashMap;
use std::net::IpAddr;

use super::texts::is_name;
use super::{Check, Scene, steps};
use crate::node::Step;
use crate::reader::nearest;
use crate::reference::{
    CERTIFICATE_VARIABLES, INSTANCE_VARIABLES, ZONE_VARIABLE, address_variable, folder_variable,
    references,
};
use crate::secret_literal::{looks_like_key, looks_secret};
use crate::{
    Build, Code, EnvValue, Problem, Provider, ProviderKind, SecretForm, Service, ServiceKind,
    ServiceName,
};

/// Bytes that the kernel takes of one word or variable of a program, with the zero at its end: `MAX_ARG_STRLEN` of execve(2).
const LONGEST_WORD: usize = 128 * 1024;

impl Check<'_, '_> {
    /// Checks what is true of a service wherever it runs.
    pub(super) fn service(&mut self, name: &ServiceName, service: &Service) {
        self.variables(name, service);
        self.lengths(name, service);
        self.slips(name, service);
        self.references(name, service);
        self.volumes(name, service);
        for (key, most) in [
            ("concurrency", service.traffic.concurrency),
            ("concurrency_each", service.traffic.concurrency_each),
        ] {
            if most == Some(0) {
                let problem = Problem::new(
                    Code::BadValue,
                    "a limit that lets nothing in is none",
                    self.at(steps!["services", name.as_str(), "traffic", key]),
                )
                .help("write how many at once, or take it out for no limit");
                self.report(problem);
            }
        }
        self.certified(name, service);
        self.zones(name, service);
        let restart = &service.restart;
        if restart.backoff > restart.backoff_at_most {
            let problem = Problem::new(
                Code::Contradiction,
                "the first pause before a restart is longer than the longest",
                self.at(steps!["services", name.as_str(), "restart", "backoff"]),
            )
            .help("make `backoff_at_most` the longer one");
            self.report(problem);
        }
        if service.kind == ServiceKind::Worker && service.port.is_some() {
            let problem = Problem::new(
                Code::Contradiction,
                format!("`{name}` is a worker, which nothing calls, and has a port"),
                self.at(steps!["services", name.as_str(), "port"]),
            )
            .help("take out `port`, or `kind = \"worker\"`");
            self.report(problem);
        }
    }

    /// Checks whom the gateway is to believe to be a service.
    fn certified(&mut self, name: &ServiceName, service: &Service) {
        let Some(tls) = &service.tls else {
            return;
        };
        if !service.protocol.is_one_sided() {
            let protocol = service.protocol.as_str();
            let problem = Problem::new(
                Code::Contradiction,
                format!("`{name}` speaks `{protocol}`, and shows no certificate of its own"),
                self.at(steps!["services", name.as_str(), "tls"]),
            )
            .help("write `protocol = \"https\"`, or `\"h2\"` for HTTP/2, or take `tls` out");
            self.report(problem);
        }
        if let Some(host) = &tls.name
            && host.parse::<IpAddr>().is_err()
            && !is_name(host)
        {
            let problem = Problem::new(
                Code::BadValue,
                format!("no certificate is for `{}`", host.escape_debug()),
                self.at(steps!["services", name.as_str(), "tls", "name"]),
            )
            .help("write a name without scheme and port, such as `orders.shop.example`, or an address");
            self.report(problem);
        }
    }

    /// Checks that each service can run here.
    pub(super) fn something_to_run(&mut self, scene: &Scene<'_>) {
        let environment = &scene.environment.name;
        let process = scene.environment.provider.kind() == ProviderKind::Process;
        for (name, service) in &scene.services {
            let problem = match &service.build {
                // What is written and could not be read has been reported.
                None if self.writes(name, &["build", "image", "command"]) => continue,
                None if service.command.is_empty() => Problem::new(
                    Code::NothingToRun,
                    format!("`{name}` does not say what to run"),
                    self.at(steps!["services", name.as_str()]),
                )
                .label("nothing to run")
                .help("add `build`, `image` or `command`"),
                Some(Build::Command(build))
                    if service.command.is_empty() && build.output.is_empty() =>
                {
                    Problem::new(
                        Code::NothingToRun,
                        format!(
                            "`{name}` is built by a command, and does not say what to run then"
                        ),
                        self.at(steps!["services", name.as_str(), "build"]),
                    )
                    .help("add `command`, or the `output` that is the program")
                }
                Some(build @ (Build::Image(_) | Build::Dockerfile(_)))
                    if process && service.replicas > 0 =>
                {
                    let dockerfile = matches!(build, Build::Dockerfile(_));
                    let what = if dockerfile { "dockerfile" } else { "image" };
                    let short = steps!["services", name.as_str(), "image"];
                    let long = steps!["services", name.as_str(), "build"];
                    let place = self.at(if self.written(short) { short } else { long });
                    Problem::new(
                        Code::Contradiction,
                        format!(
                            "`{name}` is an image, which `{environment}` cannot run as a local \
                             process"
                        ),
                        place,
                    )
                    .label(format!("{what} on local processes"))
                    .help(format!(
                        "give `{name}` another build in `[environments.{environment}]`, or \
                         `replicas = 0` there"
                    ))
                }
                _ => continue,
            };
            self.report(problem);
        }
    }

    /// Whether a service has one of these keys, as written.
    pub(super) fn writes(&self, name: &ServiceName, keys: &[&str]) -> bool {
        let written = |key: &&str| self.written(steps!["services", name.as_str(), *key]);
        keys.iter().any(written)
    }

    fn variables(&mut self, name: &ServiceName, service: &Service) {
        for (variable, value) in &service.env {
            let place = steps!["services", name.as_str(), "env", variable.as_str()];
            let good = !variable.is_empty()
                && !variable.starts_with(|first: char| first.is_ascii_digit())
                && variable
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !good {
                let problem = Problem::new(
                    Code::BadValue,
                    format!("`{variable}` is not the name of a variable"),
                    self.at(place),
                )
                .help("write letters, digits and `_`, not beginning with a digit");
                self.report(problem);
            } else if INSTANCE_VARIABLES.contains(&variable.as_str()) && variable != "HOST" {
                let problem = Problem::new(
                    Code::Contradiction,
                    format!("`{variable}` is handed to every instance and cannot be set"),
                    self.at(place),
                )
                .help("take it out; a port is set with `port`");
                self.report(problem);
            } else if service.protocol.is_mutual()
                && CERTIFICATE_VARIABLES.contains(&variable.as_str())
            {
                let problem = Problem::new(
                    Code::Contradiction,
                    format!("`{variable}` is handed to every instance that speaks mtls and cannot be set"),
                    self.at(place),
                )
                .help("take it out");
                self.report(problem);
            }
            if let EnvValue::Text(text) = value
                && let Some(why) = looks_secret(variable, text)
            {
                let secret = variable.to_ascii_lowercase().replace('_', "-");
                let problem = Problem::new(
                    Code::LiteralSecret,
                    format!("`{variable}` holds a secret as a literal: {why}"),
                    self.at(place),
                )
                .label("readable by everyone")
                .help(format!(
                    "store it with `platform secrets set {secret}` and write \
                     `{{ secret = \"{secret}\" }}`; if it is no secret, write \
                     `{{ plain = \"…\" }}`"
                ));
                self.report(problem);
            }
        }
        for (list, words) in [("command", &service.command), ("args", &service.args)] {
            for (number, word) in words.iter().enumerate() {
                if let Some(why) = looks_like_key(word) {
                    let problem = Problem::new(
                        Code::LiteralSecret,
                        format!("`{list}` holds a secret as a literal: {why}"),
                        self.at(steps!["services", name.as_str(), list, number]),
                    )
                    .label("readable by everyone")
                    .help("hand it over as a variable: `env = { NAME = { secret = \"name\" } }`");
                    self.report(problem);
                }
            }
        }
    }

    /// Checks that a program can be started with its words and variables.
    fn lengths(&mut self, name: &ServiceName, service: &Service) {
        let words = [("command", &service.command), ("args", &service.args)];
        let words = words.into_iter().flat_map(|(key, words)| {
            let numbered = words.iter().enumerate();
            numbered.map(move |(number, word)| (key, Step::from(number), word.len()))
        });
        let variables = service.env.iter().filter_map(|(variable, value)| {
            let length = match value {
                EnvValue::Text(text) => text.len(),
                EnvValue::Plain(text) => text.plain.len(),
                EnvValue::Flag(_) | EnvValue::Number(_) | EnvValue::Secret(_) => return None,
            };
            // It is handed over as `NAME=value`.
            let length = variable.len() + 1 + length;
            Some(("env", Step::from(variable.as_str()), length))
        });
        for (key, step, length) in words.chain(variables) {
            if length < LONGEST_WORD {
                continue;
            }
            let what = match key {
                "env" => "a variable",
                _ => "a word of a command",
            };
            let problem = Problem::new(
                Code::BadValue,
                format!("{what} of {length} bytes is more than a program can be started with"),
                self.at(&["services".into(), name.as_str().into(), key.into(), step]),
            )
            .label("128 KiB or more")
            .help("put it into a file that the service reads; a secret with `as = \"file\"` is handed over as one");
            self.report(problem);
        }
    }

    fn references(&mut self, name: &ServiceName, service: &Service) {
        let refers = |text: &&String| text.contains("${");
        let command = service.command.iter().enumerate();
        let args = service.args.iter().enumerate();
        let env = service
            .env
            .iter()
            .filter_map(|(variable, value)| match value {
                EnvValue::Text(text) => Some((variable, text)),
                _ => None,
            });
        let texts: Vec<(&str, Step<'_>, &String)> = command
            .map(|(number, text)| ("command", number.into(), text))
            .chain(args.map(|(number, text)| ("args", number.into(), text)))
            .chain(env.map(|(variable, text)| ("env", variable.as_str().into(), text)))
            .filter(|(_, _, text)| refers(text))
            .collect();
        for (key, step, text) in texts {
            for reference in references(text) {
                let needs = service
                    .needs
                    .iter()
                    .map(|need| address_variable(need.as_str()));
                let volumes = service
                    .volumes
                    .iter()
                    .map(|volume| folder_variable(volume.name.as_str()));
                let handed: Vec<_> = needs.chain(volumes).collect();
                // Variables stand for themselves in commands, not in each other.
                let variables = service.env.keys().filter(|_| key != "env");
                let certificates = CERTIFICATE_VARIABLES
                    .into_iter()
                    .filter(|_| service.protocol.is_mutual());
                let zone = Some(ZONE_VARIABLE).filter(|_| !service.zones.is_empty());
                let known = || {
                    INSTANCE_VARIABLES
                        .into_iter()
                        .chain(certificates.clone())
                        .chain(zone)
                        .chain(handed.iter().map(String::as_str))
                        .chain(variables.clone().map(String::as_str))
                };
                if known().any(|name| name == reference) {
                    if reference == "PORT"
                        && service.port.is_none()
                        && !self.writes(name, &["port"])
                    {
                        let problem = Problem::new(
                            Code::NoPort,
                            format!("`${{PORT}}` is used and `{name}` has no port"),
                            self.at(&["services".into(), name.as_str().into(), key.into(), step]),
                        )
                        .help(format!("add `port` to `[services.{name}]`"));
                        self.report(problem);
                    }
                    continue;
                }
                let problem = Problem::new(
                    Code::UnknownReference,
                    format!("`${{{reference}}}` stands for nothing"),
                    self.at(&["services".into(), name.as_str().into(), key.into(), step]),
                )
                .label("not known");
                let help = match nearest(reference, known()) {
                    _ if reference == ZONE_VARIABLE => {
                        format!("add `zones` to `[services.{name}]`")
                    }
                    Some(name) => format!("did you mean `${{{name}}}`?"),
                    None => format!("to leave it for the program, write `$${{{reference}}}`"),
                };
                self.report(problem.help(help));
            }
        }
    }

    /// Checks that no command shows a secret, where commands are seen by others than who runs them.
    pub(super) fn secret_words(&mut self, scene: &Scene<'_>) {
        if scene.environment.provider.kind() == ProviderKind::Process {
            return;
        }
        for (name, service) in &scene.services {
            let addresses: Vec<String> = service
                .needs
                .iter()
                .filter(|need| matches!(scene.need(need), Some(crate::Need::Resource(..))))
                .map(|need| address_variable(need.as_str()))
                .collect();
            let is_secret = |variable: &str| match service.env.get(variable) {
                Some(EnvValue::Text(text)) => {
                    references(text).any(|named| addresses.iter().any(|own| own == named))
                }
                Some(value) => value
                    .secret()
                    .is_some_and(|asked| asked.handed_as == SecretForm::Env),
                None => addresses.iter().any(|own| own == variable),
            };
            let words = [("command", &service.command), ("args", &service.args)];
            for (key, words) in words {
                for (number, word) in words.iter().enumerate() {
                    let Some(secret) = references(word).find(|named| is_secret(named)) else {
                        continue;
                    };
                    let place = self.at(steps!["services", name.as_str(), key, number]);
                    let problem = Problem::new(
                        Code::SecretInCommand,
                        format!("`${{{secret}}}` is secret, and a command is not"),
                        place,
                    )
                    .label("shown by `ps` and `docker top`")
                    .help(format!(
                        "have the program read the variable `{secret}`; for a shell, write `$${{{secret}}}`; a secret with `as = \"file\"` is named by its file"
                    ));
                    self.report(problem);
                }
            }
        }
    }

    fn volumes(&mut self, name: &ServiceName, service: &Service) {
        for (number, volume) in service.volumes.iter().enumerate() {
            let place = steps!["services", name.as_str(), "volumes", number];
            if !volume.path.starts_with('/') {
                let problem = Problem::new(
                    Code::BadValue,
                    format!(
                        "`{}` is not the path of a folder in the instance",
                        volume.path
                    ),
                    self.at(place),
                )
                .help("begin it with `/`");
                self.report(problem);
            }
            let before = service.volumes[..number].iter();
            if before.clone().any(|other| other.path == volume.path) {
                let problem = Problem::new(
                    Code::Contradiction,
                    format!("two volumes of `{name}` have the path `{}`", volume.path),
                    self.at(place),
                )
                .help("change one");
                self.report(problem);
            }
        }
    }

    pub(super) fn ports(&mut self, scene: &Scene<'_>) {
        let gateway = &scene.gateway;
        let secured = gateway.tls.as_ref().map(|tls| ("tls.port", tls.port));
        let figures = gateway.metrics.as_ref().map(|at| ("metrics", at.port));
        let mut known = vec![("port", gateway.port)];
        for (key, port) in secured.into_iter().chain(figures) {
            if let Some((other, _)) = known.iter().find(|(_, taken)| *taken == port) {
                let problem = Problem::new(
                    Code::PortClash,
                    format!("the gateway's `{other}` and `{key}` are both {port}"),
                    self.at(steps!["gateway", "port"]),
                )
                .help("change one");
                self.report(problem);
            }
            known.push((key, port));
        }
        if !matches!(scene.environment.provider, Provider::Process(_)) {
            return; // Elsewhere each instance has an address of its own.
        }
        let mut taken: HashMap<u16, Option<&ServiceName>> = HashMap::new();
        // The usual port of the gateway is also what many services say.
        if self.written(steps!["gateway", "port"]) {
            taken.insert(gateway.port.get(), None);
        }
        if let Some(tls) = &gateway.tls {
            taken.insert(tls.port.get(), None);
        }
        if let Some(figures) = &gateway.metrics {
            taken.insert(figures.port.get(), None);
        }
        for (name, service) in &scene.services {
            let Some(port) = service.port.filter(|_| service.replicas > 0) else {
                continue;
            };
            let Some(other) = taken.get(&port.get()) else {
                taken.insert(port.get(), Some(name));
                continue;
            };
            if uses_port(service) {
                continue;
            }
            let (other, place) = match other {
                Some(other) => (
                    format!("`{other}`"),
                    self.at(steps!["services", other.as_str(), "port"]),
                ),
                None => ("the gateway".to_owned(), self.at(steps!["gateway", "port"])),
            };
            let problem = Problem::new(
                Code::PortClash,
                format!("`{name}` and {other} both say port {port}"),
                self.at(steps!["services", name.as_str(), "port"]),
            )
            .label("also taken")
            .also(place, "taken here")
            .warning()
            .help(
                "they get along if the program listens on the port it is handed as `PORT`; \
                 otherwise give each its own",
            );
            self.report(problem);
        }
    }
}

/// Whether the port that an instance is handed is passed on to the program.
fn uses_port(service: &Service) -> bool {
    let words = service
        .command
        .iter()
        .chain(&service.args)
        .map(String::as_str);
    let values = service.env.values().filter_map(|value| match value {
        EnvValue::Text(text) => Some(text.as_str()),
        _ => None,
    });
    words
        .chain(values)
        .any(|text| references(text).any(|name| name == "PORT"))
}
