//! Zones: where instances are said to stand, and the gateway among them.

use std::collections::BTreeSet;

use super::{Check, Scene, steps};
use crate::reader::{listed, nearest};
use crate::reference::ZONE_VARIABLE;
use crate::{Code, Problem, Service, ServiceKind, ServiceName, ZoneName};

impl Check<'_, '_> {
    /// Checks where instances are said to stand.
    pub(super) fn zones(&mut self, name: &ServiceName, service: &Service) {
        let place = steps!["services", name.as_str(), "zones"];
        if service.zones.is_empty() {
            // One that could not be read has been reported, and an environment takes out what the top names.
            let named = steps!["services", name.as_str(), "zones", 0];
            if self.written(place) && !self.written(named) && !self.misread(place) {
                let problem = Problem::new(
                    Code::BadValue,
                    format!("instances of `{name}` are to stand in zones, and none is named"),
                    self.at(place),
                )
                .label("empty")
                .help("name one or more, such as `[\"a\", \"b\"]`, or take `zones` out");
                self.report(problem);
            }
            return;
        }
        for (number, zone) in service.zones.iter().enumerate() {
            let at = |number: usize| self.at(steps!["services", name.as_str(), "zones", number]);
            let before = &service.zones[..number];
            if let Some(first) = before.iter().position(|other| other == zone) {
                let problem = Problem::new(
                    Code::BadValue,
                    format!("`{name}` names zone `{zone}` twice"),
                    at(number),
                )
                .label("named before")
                .also(at(first), "first here")
                .help("keep one: instances are dealt to zones in turn, as many to each");
                self.report(problem);
            }
        }
        if service.kind == ServiceKind::Job {
            let problem = Problem::new(
                Code::Contradiction,
                format!(
                    "`{name}` is a job, which runs once, and its instances are to stand in zones"
                ),
                self.at(place),
            )
            .help("take out `zones`, or `kind = \"job\"`");
            self.report(problem);
        } else if service.port.is_none() && !self.writes(name, &["port"]) {
            let problem = Problem::new(
                Code::NoPort,
                format!("`{name}` is to stand in zones and has no port, so no gateway chooses among its instances"),
                self.at(place),
            )
            .help(format!("add `port` to `[services.{name}]`, or take `zones` out"));
            self.report(problem);
        }
        if service.env.contains_key(ZONE_VARIABLE) {
            let problem = Problem::new(
                Code::Contradiction,
                format!("`{ZONE_VARIABLE}` is handed to every instance that stands in a zone and cannot be set"),
                self.at(steps!["services", name.as_str(), "env", ZONE_VARIABLE]),
            )
            .help("take it out");
            self.report(problem);
        }
    }

    /// Checks that something stands in the gateway's zone.
    pub(super) fn near(&mut self, scene: &Scene<'_>) {
        let Some(zone) = &scene.gateway.zone else {
            return;
        };
        let zones = scene.services.values().flat_map(|service| &service.zones);
        let names: BTreeSet<&str> = zones.map(ZoneName::as_str).collect();
        if names.contains(zone.as_str()) {
            return;
        }
        let problem = Problem::new(
            Code::UnusedKey,
            format!("the gateway stands in zone `{zone}`, and no service has instances there"),
            self.at(steps!["gateway", "zone"]),
        )
        .label("nothing is near")
        .warning();
        let listed = listed(&names.iter().copied().collect::<Vec<_>>());
        self.report(match nearest(zone.as_str(), names) {
            Some(name) => problem.help(format!("did you mean `{name}`?")),
            None if listed.is_empty() => problem.help(format!(
                "give a service `zones = [\"{zone}\", …]`, or take it out"
            )),
            None => problem.help(format!("services name: {listed}")),
        });
    }
}
