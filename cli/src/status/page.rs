//! The status for people, programs and a CI run's page.

use std::fmt::Write as _;

use platform_decide::observed::InstanceSeen;
use serde_json::{Value, json};

use super::Status;
use crate::moment;
use crate::paint::Paint;
use crate::table::{Cell, Table, Tone};
use crate::view::Shown;

impl Shown for Status {
    fn kind(&self) -> &'static str {
        "status"
    }

    fn json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_else(|_| json!({}))
    }

    fn result(&self) -> Option<String> {
        Some(self.release.as_ref()?.number.to_string())
    }

    fn human(&self, paint: Paint) -> String {
        let mut text = self.head(paint);
        if !self.services.is_empty() {
            text.push('\n');
            text.push_str(&self.service_table().render(paint));
        }
        if !self.resources.is_empty() {
            let mut table = Table::new(&["RESOURCE", "ENGINE", "STATE", "ADDRESS"]);
            for (name, resource) in &self.resources {
                let state = if resource.ready { "ready" } else { "unready" };
                table.row(vec![
                    Cell::from(name.as_str()),
                    Cell::from(resource.engine.as_str()),
                    Cell::new(state, tone(state)),
                    Cell::new(resource.address.clone().unwrap_or_default(), Tone::Dim),
                ]);
            }
            text.push('\n');
            text.push_str(&table.render(paint));
        }
        let not_ready = self.not_ready();
        if !not_ready.is_empty() {
            text.push('\n');
            for line in not_ready {
                let _ = writeln!(text, "{} {line}", paint.red("!"));
            }
        }
        let changed = self.changed();
        let changed = changed.iter();
        let changed = changed.map(|line| format!("{line}; `platform deploy` puts it right"));
        let told: Vec<String> = changed.chain(self.noticed.iter().cloned()).collect();
        if !told.is_empty() {
            text.push('\n');
            for line in told {
                let _ = writeln!(text, "{} {line}", paint.yellow("!"));
            }
        }
        text
    }
}

impl Status {
    /// The same for a CI run's page.
    pub(crate) fn markdown(&self) -> String {
        let release = self
            .release
            .as_ref()
            .map(|release| release.number.to_string());
        let mut text = format!(
            "### {} on {}: {}\n\n| service | version | ready | state |\n| --- | --- | --- | --- |\n",
            self.project,
            self.environment,
            release.as_deref().unwrap_or("nothing deployed")
        );
        for group in &self.services {
            let _ = writeln!(
                text,
                "| {} | {} | {}/{} | {} |",
                group.service,
                group.group.lane(),
                group.ready,
                group.replicas,
                group.state
            );
        }
        text
    }

    fn head(&self, paint: Paint) -> String {
        let mut text = format!(
            "{} {} on {}",
            paint.bold(&self.project),
            self.environment,
            self.target.provider
        );
        match &self.release {
            Some(release) => {
                let age = moment::age_of(&release.created_at, self.now);
                let _ = writeln!(text, ", release {}, {age} old", release.number);
            }
            None => text.push_str(", nothing is deployed\n"),
        }
        if let Some(gateway) = &self.gateway {
            let state = if gateway.ready {
                paint.green("ready")
            } else {
                paint.red("not ready")
            };
            let _ = writeln!(text, "gateway {} {state}", paint.bold(&gateway.url));
        }
        if let Some(run) = &self.run {
            let since = moment::age_of(&run.since, self.now);
            let line = format!(
                "`{}` of {} is under way since {since}",
                run.command, run.owner
            );
            let _ = writeln!(text, "{}", paint.yellow(&line));
        }
        if let Some(number) = self.unfinished {
            let line = format!(
                "release {number} was left unfinished; `platform deploy` finishes it, `platform rollback` takes it back"
            );
            let _ = writeln!(text, "{}", paint.yellow(&line));
        }
        text
    }

    fn service_table(&self) -> Table {
        let mut table = Table::new(&[
            "SERVICE", "VERSION", "READY", "STATE", "TRAFFIC", "RESTARTS", "MEMORY", "AGE",
            "ADDRESS",
        ]);
        // Where each service has one group that takes all requests the column says nothing.
        let shared = self
            .services
            .iter()
            .any(|group| group.share.is_some_and(|share| share != 1000));
        for group in &self.services {
            let restarts = if group.restarts == 0 {
                Tone::Plain
            } else {
                Tone::Warn
            };
            let share = group.share.filter(|_| shared);
            let place = |instance: &InstanceSeen| {
                let address = instance.address.as_ref()?;
                Some(match &instance.zone {
                    Some(zone) => format!("{address} in {zone}"),
                    None => address.clone(),
                })
            };
            let addresses: Vec<String> = group.instances.iter().filter_map(place).collect();
            table.row(vec![
                Cell::from(group.service.as_str()),
                Cell::from(group.group.lane()),
                Cell::from(format!("{}/{}", group.ready, group.replicas)),
                Cell::new(group.state, tone(group.state)),
                Cell::from(
                    share
                        .map(|share| format!("{}.{} %", share / 10, share % 10))
                        .unwrap_or_default(),
                ),
                Cell::new(group.restarts.to_string(), restarts),
                Cell::from(group.memory.map(moment::bytes).unwrap_or_default()),
                Cell::from(
                    group
                        .started_at
                        .map(|since| moment::age(since, self.now))
                        .unwrap_or_default(),
                ),
                Cell::new(addresses.join(", "), Tone::Dim),
            ]);
        }
        table
    }
}

fn tone(state: &str) -> Tone {
    match state {
        "ready" | "completed" => Tone::Good,
        "starting" | "stopping" | "stopped" | "none" => Tone::Warn,
        _ => Tone::Bad,
    }
}
