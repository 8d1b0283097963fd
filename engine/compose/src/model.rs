//! A Compose file, typed. Read from any form that Compose takes, written in one.
//!
//! Source: the Compose Specification, <https://github.com/compose-spec/compose-spec/blob/main/spec.md>.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::form::{Table, Text, Words, flag, many, named};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

macro_rules! tables {
    ($($(#[$doc:meta])+ $table:ident { $($(#[$field_doc:meta])+ $field:ident: $type:ty $(as $with:literal)?,)+ })+) => {$(
        $(#[$doc])+
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $table {
            $(
                $(#[$field_doc])+
                #[serde(skip_serializing_if = "is_default" $(, deserialize_with = $with)?)]
                pub $field: $type,
            )+
            /// What else is written.
            #[serde(flatten)]
            pub rest: BTreeMap<String, Value>,
        }
    )+};
}

tables! {
    /// A Compose file.
    File {
        /// The project's name.
        name: Option<String>,
        /// What runs.
        services: BTreeMap<String, Service>,
        /// Networks between services.
        networks: BTreeMap<String, Option<Network>>,
        /// Volumes that outlive containers.
        volumes: BTreeMap<String, Option<Volume>>,
        /// What services are handed in secret.
        secrets: BTreeMap<String, Source>,
        /// What services are handed as files.
        configs: BTreeMap<String, Source>,
    }

    /// Something that runs.
    Service {
        /// The image it runs.
        image: Option<String>,
        /// How the image is built.
        build: Option<BuildForm>,
        /// What the image's own entry point is replaced by.
        entrypoint: Option<Words>,
        /// What the image's own command is replaced by.
        command: Option<Words>,
        /// The folder it runs in.
        working_dir: Option<String>,
        /// The user it runs as.
        user: Option<Text>,
        /// The name that it finds itself to have.
        hostname: Option<String>,
        /// Variables.
        environment: Table,
        /// Files with variables.
        env_file: Vec<EnvFile> as "many",
        /// Ports that are published.
        ports: Vec<PortForm>,
        /// Ports that others reach.
        expose: Vec<Text>,
        /// What must be there first.
        depends_on: BTreeMap<String, Dependency> as "named",
        /// How it is asked whether it is well.
        healthcheck: Option<HealthCheck>,
        /// Volumes and folders it sees.
        volumes: Vec<MountForm>,
        /// Folders in memory.
        tmpfs: Vec<String> as "many",
        /// Secrets it is handed.
        secrets: Vec<GrantForm>,
        /// Files it is handed.
        configs: Vec<GrantForm>,
        /// Networks it is on.
        networks: BTreeMap<String, Attachment> as "named",
        /// A network of another kind.
        network_mode: Option<String>,
        /// When it is started again.
        restart: Option<Text>,
        /// How many, and with what.
        deploy: Option<Deploy>,
        /// How many.
        scale: Option<Text>,
        /// The most memory it may use.
        mem_limit: Option<Text>,
        /// The most memory and swap together.
        memswap_limit: Option<Text>,
        /// The most processors it may use.
        cpus: Option<Text>,
        /// The most processes it may have.
        pids_limit: Option<i64>,
        /// Whether its root cannot be written to.
        read_only: bool as "flag",
        /// Whether it has a first process that hands signals on.
        init: Option<bool>,
        /// What it may do besides.
        cap_add: Vec<String>,
        /// What it may not do.
        cap_drop: Vec<String>,
        /// Options of the kernel's security modules.
        security_opt: Vec<String>,
        /// The signal it is asked to stop with.
        stop_signal: Option<String>,
        /// How long it may take to stop.
        stop_grace_period: Option<String>,
        /// Where its output goes.
        logging: Option<Logging>,
        /// What others know it by.
        labels: Table,
        /// When it is started at all.
        profiles: Vec<String>,
    }

    /// How an image is built.
    Build {
        /// The folder.
        context: Option<String>,
        /// The Dockerfile in it.
        dockerfile: Option<String>,
        /// Arguments.
        args: Table,
        /// The stage to stop at.
        target: Option<String>,
        /// Secrets mounted for the build.
        secrets: Vec<GrantForm>,
    }

    /// What must be there first.
    Dependency {
        /// How it must be.
        condition: Option<String>,
    }

    /// How a service is asked whether it is well.
    HealthCheck {
        /// The command, after `CMD` or `CMD-SHELL`; `NONE` for none.
        test: Option<Words>,
        /// The pause between checks.
        interval: Option<String>,
        /// How long one may take.
        timeout: Option<String>,
        /// So many failures are a failure.
        retries: Option<Text>,
        /// How long it may take at first.
        start_period: Option<String>,
        /// Whether there is none.
        disable: bool as "flag",
    }

    /// A volume or folder that a service sees.
    Mount {
        /// `volume`, `bind` or `tmpfs`.
        #[serde(rename = "type")]
        kind: String,
        /// The volume's name or the folder.
        source: Option<String>,
        /// Where it is seen.
        target: String,
        /// Whether it cannot be written to.
        read_only: bool as "flag",
        /// How a volume is mounted.
        volume: Option<VolumeOptions>,
    }

    /// How a volume is mounted.
    VolumeOptions {
        /// Whether it is not filled from the image.
        nocopy: bool as "flag",
    }

    /// A port that is published.
    Port {
        /// The port inside.
        target: Text,
        /// The port outside.
        published: Option<Text>,
        /// The address outside.
        host_ip: Option<String>,
        /// `tcp` or `udp`.
        protocol: Option<String>,
    }

    /// A secret or a file that a service is handed.
    Grant {
        /// Its name.
        source: String,
        /// Where it is found.
        target: Option<String>,
    }

    /// A place on a network.
    Attachment {
        /// Other names there.
        aliases: Vec<String>,
    }

    /// How many, and with what.
    Deploy {
        /// How many.
        replicas: Option<Text>,
        /// With what.
        resources: Option<Resources>,
        /// When it is started again.
        restart_policy: Option<RestartPolicy>,
    }

    /// What a service may use.
    Resources {
        /// At most.
        limits: Option<Limits>,
    }

    /// What a service may use at most.
    Limits {
        /// Processors.
        cpus: Option<Text>,
        /// Memory.
        memory: Option<Text>,
    }

    /// When a service is started again.
    RestartPolicy {
        /// `none`, `on-failure` or `any`.
        condition: Option<String>,
        /// The pause before.
        delay: Option<String>,
    }

    /// Where output goes.
    Logging {
        /// Who keeps it.
        driver: Option<String>,
        /// How.
        options: Table,
    }

    /// A network between services.
    Network {
        /// Whether it is there already.
        external: Option<Value>,
    }

    /// A volume that outlives containers.
    Volume {
        /// Its name on the engine.
        name: Option<String>,
        /// Whether it is there already.
        external: Option<Value>,
        /// What others know it by.
        labels: Table,
    }

    /// Where a secret or file comes from.
    Source {
        /// A file.
        file: Option<String>,
        /// A variable.
        environment: Option<String>,
        /// Whether it is there already.
        external: Option<Value>,
    }
}

/// A build, or the folder of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BuildForm {
    /// The folder.
    Context(String),
    /// All of it.
    Full(Box<Build>),
}

/// A port: `127.0.0.1:8080:80/tcp`, or a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortForm {
    /// The short form.
    Short(Text),
    /// The long form.
    Full(Port),
}

/// A mount: `data:/var/lib/data:ro`, or a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MountForm {
    /// The short form.
    Short(String),
    /// The long form.
    Full(Box<Mount>),
}

/// What is handed: its name, or a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum GrantForm {
    /// The name alone.
    Short(String),
    /// With where it is found.
    Full(Grant),
}

/// A file with variables: its path, or a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EnvFile {
    /// The path.
    Path(String),
    /// With whether it must be there.
    Full {
        /// The path.
        path: String,
        /// Whether it must be there.
        #[serde(default = "yes")]
        required: bool,
    },
}

fn yes() -> bool {
    true
}

/// A text as it is written in a Compose file, where `$` begins a variable.
pub fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
