//! Keys that a blueprint has no word for, each with the reason.

use super::Draft;
use crate::form::Text;
use crate::left::Code;
use crate::model::Volume;

/// Why a key of a service is not carried; `None` where nothing is lost.
fn reason(key: &str) -> Option<&'static str> {
    Some(match key {
        // What every container of ours has or does anyhow.
        "pull_policy" | "restart" | "attach" | "annotations" | "develop" | "label_file" => {
            return None;
        }
        key if key.starts_with("x-") => return None,
        "container_name" | "hostname" | "domainname" => {
            "instances have names of their own, as there may be several"
        }
        "networks" | "network_mode" | "links" | "external_links" => {
            "all of an environment is on one network, and services reach each other through the gateway"
        }
        "extra_hosts" | "dns" | "dns_search" | "dns_opt" => {
            "names are looked up as the target does"
        }
        "privileged"
        | "cap_add"
        | "devices"
        | "device_cgroup_rules"
        | "security_opt"
        | "userns_mode"
        | "group_add"
        | "gpus" => "instances have no capabilities, devices or privileges",
        "pid" | "ipc" | "uts" | "cgroup" | "cgroup_parent" | "isolation" | "runtime" => {
            "instances have namespaces of their own"
        }
        "sysctls" | "ulimits" | "shm_size" | "oom_kill_disable" | "oom_score_adj"
        | "mem_reservation" | "mem_swappiness" | "cpu_shares" | "cpu_quota" | "cpu_period"
        | "cpuset" | "cpu_count" | "cpu_percent" | "pids_limit" | "memswap_limit"
        | "blkio_config" | "storage_opt" => "limits are those of memory and processors",
        "tty" | "stdin_open" => {
            "nobody types into a service; `platform exec` gives a terminal beside it"
        }
        "configs" => "files are in the image, or are secrets with `as = \"file\"`",
        "platform" => "the platform of images is a setting of the environment",
        "volumes_from" => "volumes are shared by their name",
        "post_start" | "pre_stop" => "a service is started and stopped as a whole",
        "provider" | "models" => "nothing but services and resources is run",
        _ => "a blueprint has no word for it",
    })
}

/// Whether a volume is kept by another driver than the usual one, or in another way.
fn has_driver(volume: &Volume) -> bool {
    let usual = |(key, value): (&String, &serde_json::Value)| key == "driver" && value == "local";
    !volume.rest.iter().all(usual)
}

impl Draft<'_> {
    /// Notes what of a service is not carried.
    ///
    /// - `fine`: keys of which nothing is lost
    pub(super) fn leftovers(&mut self, name: &str, fine: &[&str]) {
        let service = self.written(name);
        let mut keys: Vec<&str> = service.rest.keys().map(String::as_str).collect();
        let security = service
            .security_opt
            .iter()
            .any(|option| !option.starts_with("no-new-privileges"));
        let limit = |text: &Option<Text>| text.as_ref().map(|text| text.0.clone());
        // The same for both is no swap, which is so anyhow.
        let swaps = service.memswap_limit.is_some()
            && limit(&service.memswap_limit) != limit(&service.mem_limit);
        let typed = [
            ("hostname", service.hostname.is_some()),
            ("network_mode", service.network_mode.is_some()),
            ("cap_add", !service.cap_add.is_empty()),
            ("security_opt", security),
            ("configs", !service.configs.is_empty()),
            ("pids_limit", service.pids_limit.is_some()),
            ("memswap_limit", swaps),
        ];
        keys.extend(
            typed
                .into_iter()
                .filter(|(_, set)| *set)
                .map(|(key, _)| key),
        );
        for key in keys.into_iter().filter(|key| !fine.contains(key)) {
            if let Some(why) = reason(key) {
                self.leave(Code::NotCarried, &["services", name, key], why, None);
            }
        }
        self.other_names(name);
        let deploy = service.deploy.as_ref();
        let resources = deploy.and_then(|deploy| deploy.resources.as_ref());
        let limits = resources.and_then(|resources| resources.limits.as_ref());
        let inside = deploy
            .into_iter()
            .flat_map(|deploy| deploy.rest.keys().map(|key| vec![key.as_str()]))
            .chain(
                resources
                    .into_iter()
                    .flat_map(|own| own.rest.keys().map(|key| vec!["resources", key.as_str()])),
            )
            .chain(limits.into_iter().flat_map(|own| {
                own.rest
                    .keys()
                    .map(|key| vec!["resources", "limits", key.as_str()])
            }));
        let inside: Vec<Vec<&str>> = inside.collect();
        for keys in inside {
            let why = match keys.last().copied() {
                Some("update_config" | "rollback_config") => {
                    "how a change is rolled out is said under `rollout`"
                }
                Some("labels") => continue,
                Some("reservations") => "what is reserved is what the limits are",
                _ => "a blueprint has no word for it",
            };
            let place = [&["services", name, "deploy"][..], &keys].concat();
            self.leave(Code::NotCarried, &place, why, None);
        }
    }

    /// Notes the names that a service has on networks beside its own.
    fn other_names(&mut self, name: &str) {
        for (network, place) in &self.written(name).networks {
            let mut others = place.aliases.iter().filter(|alias| *alias != name);
            if let Some(first) = others.next() {
                let why = format!("it is found under its own name alone, not as `{first}`");
                let place = ["services", name, "networks", network, "aliases"];
                let help = "write the service's name where this one is used";
                self.leave(Code::NotCarried, &place, why, Some(help));
            }
        }
    }

    /// Notes what of the file itself is not carried.
    pub(super) fn top(&mut self) {
        let file = self.file;
        for key in file.rest.keys() {
            if !key.starts_with("x-") && key != "version" {
                let why = "a blueprint has no word for it";
                self.leave(Code::NotCarried, &[key], why, None);
            }
        }
        if file.networks.len() > 1
            || file
                .networks
                .values()
                .flatten()
                .any(|network| network.external.is_some())
        {
            let why =
                "all of an environment is on one network; what may not reach what is not carried";
            self.leave(Code::Otherwise, &["networks"], why, None);
        }
        for (name, volume) in &file.volumes {
            let Some(volume) = volume else { continue };
            if volume.external.is_some() || volume.name.is_some() || has_driver(volume) {
                let why = "a volume of our own takes its place, and begins empty";
                self.leave(Code::Otherwise, &["volumes", name], why, None);
            }
        }
        if !file.configs.is_empty() {
            let why = "files are in the image, or are secrets with `as = \"file\"`";
            self.leave(Code::NotCarried, &["configs"], why, None);
        }
        let writable = file
            .services
            .iter()
            .any(|(name, service)| !service.read_only && self.chosen.contains(name));
        if writable {
            let why = "containers cannot write but to `/tmp` and their volumes, have no capabilities, and are not root unless `user` says so";
            let help = "give a `volumes` entry to each folder that a program writes to";
            self.leave(Code::Otherwise, &["services"], why, Some(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::import::tests::alone;

    #[test]
    fn what_is_lost_is_told_also_where_the_key_is_known() {
        let text = "
services:
  db:
    image: postgres:16
    shm_size: 256mb
    networks: {back: {aliases: [database, db]}, front: {}}
  api:
    image: api:1
    pids_limit: 50
    mem_limit: 64m
    memswap_limit: 128m
";
        let imported = alone(text);
        let told: Vec<&str> = imported
            .left
            .iter()
            .map(|left| left.place.as_str())
            .collect();
        for place in [
            "services.db.networks.back.aliases",
            "services.db.shm_size",
            "services.api.pids_limit",
            "services.api.memswap_limit",
        ] {
            assert!(told.contains(&place), "{place} in {told:?}");
        }
        assert!(!told.contains(&"services.db.networks.front.aliases"));
        let why = |place| {
            &imported
                .left
                .iter()
                .find(|left| left.place == place)
                .unwrap()
                .why
        };
        let alias = why("services.db.networks.back.aliases");
        assert!(alias.contains("not as `database`"), "{alias}");
    }
}
