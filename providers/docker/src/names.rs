//! What our objects on an engine are called, and the labels they carry.

use std::collections::HashMap;

use platform_blueprint::{EnvironmentName, ProjectName};
use platform_decide::digest::Digest;
use platform_decide::group::GroupId;

/// The label with the project.
pub(crate) const PROJECT: &str = "platform.project";
/// The label with the environment.
pub(crate) const ENVIRONMENT: &str = "platform.environment";
/// The label that says what an object is here for: one of [`Role`].
pub(crate) const ROLE: &str = "platform.role";
/// The label with the service.
pub(crate) const SERVICE: &str = "platform.service";
/// The label with the release that introduced what runs: `r5`.
pub(crate) const RELEASE: &str = "platform.release";
/// The label with the group: `orders@r5`.
pub(crate) const GROUP: &str = "platform.group";
/// The label with an instance's number in its group.
pub(crate) const NUMBER: &str = "platform.number";
/// The label with the zone that an instance stands in.
pub(crate) const ZONE: &str = "platform.zone";
/// The label with the digest of the spec.
pub(crate) const SPEC: &str = "platform.spec";
/// The label with the digest of the container as we asked for it.
pub(crate) const MADE: &str = "platform.made";
/// The label with what has to be known of a spec to look after its container.
pub(crate) const KEEP: &str = "platform.keep";
/// The label with the resource.
pub(crate) const RESOURCE: &str = "platform.resource";
/// The label with the build of our own program.
pub(crate) const BUILD: &str = "platform.build";
/// The variable in which an instance finds its name.
pub(crate) const INSTANCE_VARIABLE: &str = "PLATFORM_INSTANCE";

/// What an object is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// An instance of a service.
    Service,
    /// A server behind a resource.
    Resource,
    /// The gateway.
    Gateway,
    /// The keeper of documents and credentials.
    Keeper,
    /// The network, or a volume of ours that holds no data of the user's.
    Plumbing,
    /// A volume with data of the user's.
    Data,
}

impl Role {
    /// The word in the label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Resource => "resource",
            Self::Gateway => "gateway",
            Self::Keeper => "keeper",
            Self::Plumbing => "plumbing",
            Self::Data => "data",
        }
    }
}

/// Names for one environment of one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) project: ProjectName,
    pub(crate) environment: EnvironmentName,
}

impl Names {
    /// Names no blueprint can hold are joined by `_`, so that no two environments share one.
    fn of(&self, what: &str) -> String {
        format!("{}_{}_{what}", self.project, self.environment)
    }

    /// The network.
    pub(crate) fn network(&self) -> String {
        format!("{}_{}", self.project, self.environment)
    }

    /// The gateway's container.
    pub(crate) fn gateway(&self) -> String {
        self.of("gateway")
    }

    /// The container that is about to take the gateway's place and name.
    pub(crate) fn next_gateway(&self) -> String {
        self.of("gateway_next")
    }

    /// The keeper's container.
    pub(crate) fn keeper(&self) -> String {
        self.of("keeper")
    }

    /// A plumbing volume: `state`, `credentials`, `gateway`, `run`.
    pub(crate) fn plumbing(&self, what: &str) -> String {
        self.of(&format!("platform_{what}"))
    }

    /// The volume with the secrets of a group or of a resource's server.
    pub(crate) fn secrets(&self, owner: &str) -> String {
        self.of(&format!("secrets_{}", owner.replace('@', "-")))
    }

    /// The container of an instance.
    pub(crate) fn instance(&self, group: &GroupId, number: u32) -> String {
        self.of(&alias(group, number))
    }

    /// The container of a resource's server.
    pub(crate) fn resource(&self, name: &str) -> String {
        self.of(name)
    }

    /// What the container with these labels is called while nobody renamed it; `None` for one of a passing errand.
    pub(crate) fn of_labels(&self, labels: &HashMap<String, String>) -> Option<String> {
        let text = |key: &str| labels.get(key).map(String::as_str);
        let role = text(ROLE)?;
        let is = |one: Role| role == one.as_str();
        if is(Role::Service) {
            let group = text(GROUP)?.parse().ok()?;
            Some(self.instance(&group, text(NUMBER)?.parse().ok()?))
        } else if is(Role::Resource) {
            Some(self.resource(text(RESOURCE)?))
        } else if is(Role::Gateway) {
            Some(self.gateway())
        } else if is(Role::Keeper) {
            Some(self.keeper())
        } else {
            None
        }
    }

    /// A volume of the user's.
    pub(crate) fn data(&self, name: &str) -> String {
        self.of(&format!("data_{name}"))
    }

    /// The labels that every object of the environment carries.
    pub(crate) fn labels(&self, role: Role) -> HashMap<String, String> {
        [
            (PROJECT, self.project.to_string()),
            (ENVIRONMENT, self.environment.to_string()),
            (ROLE, role.as_str().to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The filter that finds every object of the environment.
    pub(crate) fn filter(&self) -> HashMap<String, Vec<String>> {
        let own = vec![
            format!("{PROJECT}={}", self.project),
            format!("{ENVIRONMENT}={}", self.environment),
        ];
        HashMap::from([("label".to_owned(), own)])
    }

    /// Whether labels say that an object is of this environment.
    pub(crate) fn own(&self, labels: &HashMap<String, String>) -> bool {
        labels.get(PROJECT).map(String::as_str) == Some(self.project.as_str())
            && labels.get(ENVIRONMENT).map(String::as_str) == Some(self.environment.as_str())
    }
}

/// The name under which an instance is found on its network: `orders-r5-2`.
pub(crate) fn alias(group: &GroupId, number: u32) -> String {
    format!("{}-{}-{number}", group.service, group.lane())
}

/// The name that people see: `orders@r5.2`.
pub(crate) fn instance_name(group: &GroupId, number: u32) -> String {
    format!("{group}.{number}")
}

/// The labels of an instance beside those of [`Names::labels`].
pub(crate) fn instance_labels(
    group: &GroupId,
    number: u32,
    digest: &Digest,
) -> [(String, String); 5] {
    [
        (SERVICE, group.service.to_string()),
        (RELEASE, group.version.to_string()),
        (GROUP, group.to_string()),
        (NUMBER, number.to_string()),
        (SPEC, digest.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

#[cfg(test)]
impl Names {
    /// Those of a shop.
    pub(crate) fn of_shop() -> Self {
        Self {
            project: "shop".parse().unwrap(),
            environment: "docker".parse().unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_what_a_container_is_called() {
        let names = Names::of_shop();
        let check = |role: Role, more: &[(&str, &str)], expected: Option<&str>| {
            let mut labels = names.labels(role);
            labels.extend(
                more.iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
            );
            assert_eq!(names.of_labels(&labels).as_deref(), expected, "{role:?}");
        };
        let instance = [(GROUP, "orders@r5-baseline"), (NUMBER, "2")];
        check(
            Role::Service,
            &instance,
            Some("shop_docker_orders-r5-baseline-2"),
        );
        check(Role::Service, &[], None);
        check(
            Role::Resource,
            &[(RESOURCE, "orders-db")],
            Some("shop_docker_orders-db"),
        );
        check(Role::Gateway, &[], Some("shop_docker_gateway"));
        check(Role::Keeper, &[], Some("shop_docker_keeper"));
        check(Role::Plumbing, &[], None);
    }

    #[test]
    fn no_two_environments_share_a_name() {
        let names = |project: &str, environment: &str| Names {
            project: project.parse().unwrap(),
            environment: environment.parse().unwrap(),
        };
        let group = "orders@r5-baseline".parse().unwrap();
        assert_eq!(
            names("shop", "docker").instance(&group, 2),
            "shop_docker_orders-r5-baseline-2"
        );
        assert_ne!(names("a", "b-c").gateway(), names("a-b", "c").gateway());
        assert!(names("a", "b").own(&names("a", "b").labels(Role::Data)));
        assert!(!names("a", "b").own(&names("a", "c").labels(Role::Data)));
    }
}
