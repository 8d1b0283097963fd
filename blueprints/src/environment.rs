//! Environments: overlays of the blueprint, each bound to one provider.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EnvironmentName;

/// An environment: its name, and the target it is bound to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Its name.
    pub name: EnvironmentName,
    /// Whether changing it always asks first, and destroying it is refused
    /// unless it is named.
    pub protected: bool,
    /// The provider and its settings.
    pub provider: Provider,
}

/// The adapter for a target, with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Provider {
    /// Local processes.
    Process(ProcessSettings),
    /// A Docker engine.
    Docker(DockerSettings),
    /// A Kubernetes cluster.
    Kubernetes(KubernetesSettings),
    /// A cloud, through Terraform.
    Terraform(TerraformSettings),
}

impl Provider {
    /// Which provider it is.
    pub fn kind(&self) -> ProviderKind {
        match self {
            Self::Process(_) => ProviderKind::Process,
            Self::Docker(_) => ProviderKind::Docker,
            Self::Kubernetes(_) => ProviderKind::Kubernetes,
            Self::Terraform(_) => ProviderKind::Terraform,
        }
    }
}

/// A kind of target.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderKind {
    /// Local processes.
    Process,
    /// A Docker engine.
    Docker,
    /// A Kubernetes cluster.
    Kubernetes,
    /// A cloud, through Terraform.
    Terraform,
}

impl ProviderKind {
    /// The word in the blueprint.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
            Self::Kubernetes => "kubernetes",
            Self::Terraform => "terraform",
        }
    }

    /// Whether it may be more than one machine, so that something can listen at one address several times.
    pub fn has_several_machines(self) -> bool {
        matches!(self, Self::Kubernetes | Self::Terraform)
    }
}

/// Settings of local processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessSettings {
    /// The address that services listen on.
    pub address: IpAddr,
    /// Whether limits may be enforced through cgroups where that is permitted.
    pub cgroups: bool,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            cgroups: true,
        }
    }
}

/// Settings of a Docker engine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DockerSettings {
    /// The engine: `unix://`, `tcp://` or `ssh://`; `DOCKER_HOST` or the usual
    /// socket if not given.
    pub host: Option<String>,
    /// The folder of the engine's client certificates, for `tcp://`.
    pub certificates: Option<String>,
    /// Where images are pushed, such as `ghcr.io/me`; none if the engine builds them.
    pub registry: Option<String>,
    /// The platform of the images, such as `linux/amd64`.
    pub platform: Option<String>,
    /// A network that is there already, in place of one of our own.
    pub network: Option<String>,
}

/// Settings of a Kubernetes cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesSettings {
    /// The context in the kubeconfig; the current one if not given.
    pub context: Option<String>,
    /// The kubeconfig; the usual one if not given.
    pub kubeconfig: Option<String>,
    /// The namespace; project and environment, if not given.
    pub namespace: Option<String>,
    /// Whether the namespace is made if it is not there.
    pub create_namespace: bool,
    /// Where images are pushed, such as `ghcr.io/me`.
    pub registry: Option<String>,
    /// The platform of the images, such as `linux/amd64`.
    pub platform: Option<String>,
    /// What takes requests in.
    pub ingress: Ingress,
    /// With `ingress = "gateway-api"`: the class of the gateway.
    pub gateway_class: Option<String>,
    /// How the gateway's service is reached.
    pub expose: Expose,
    /// The storage class of volumes.
    pub storage_class: Option<String>,
    /// The secret with the credentials to pull images.
    pub pull_secret: Option<String>,
    /// The service account that pods run under.
    pub service_account: Option<String>,
}

impl Default for KubernetesSettings {
    fn default() -> Self {
        Self {
            context: None,
            kubeconfig: None,
            namespace: None,
            create_namespace: true,
            registry: None,
            platform: None,
            ingress: Ingress::Gateway,
            gateway_class: None,
            expose: Expose::ClusterIp,
            storage_class: None,
            pull_secret: None,
            service_account: None,
        }
    }
}

/// What takes requests in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ingress {
    /// Our own gateway.
    #[default]
    Gateway,
    /// Routes of the Gateway API.
    GatewayApi,
}

/// How the gateway's service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Expose {
    /// Inside the cluster.
    #[default]
    ClusterIp,
    /// On a port of every node.
    NodePort,
    /// Through a load balancer.
    LoadBalancer,
}

/// Settings of a cloud, through Terraform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TerraformSettings {
    /// The module: `local`, `aws`, `azure`, `google`, or the folder of one of your own.
    pub module: String,
    /// The program: `terraform` or `tofu`.
    pub program: String,
    /// The region.
    pub region: Option<String>,
    /// The workspace; the environment's name if not given.
    pub workspace: Option<String>,
    /// Where images are pushed.
    pub registry: Option<String>,
    /// The kind of backend for its state, and its settings.
    pub backend: Option<TerraformBackend>,
    /// Variables of the module.
    pub variables: BTreeMap<String, Variable>,
}

impl Default for TerraformSettings {
    fn default() -> Self {
        Self {
            module: "local".to_owned(),
            program: "terraform".to_owned(),
            region: None,
            workspace: None,
            registry: None,
            backend: None,
            variables: BTreeMap::new(),
        }
    }
}

/// Where Terraform keeps its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TerraformBackend {
    /// The kind, such as `s3`, `gcs` or `azurerm`.
    pub kind: String,
    /// Its settings.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// A variable of a Terraform module; as in a service's environment.
pub type Variable = crate::EnvValue;
