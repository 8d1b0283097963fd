//! The blueprint language: parse, validate, resolve.
//!
//! Pure: text in, values out; no input or output, no clock.

mod build;
mod drill;
mod environment;
mod gateway;
mod health;
mod name;
mod one_or_many;
mod quantity;
mod resolved;
mod resource;
mod rollout;
mod route;
mod service;
mod shorthand;

pub use build::{
    BadImage, Build, CargoBuild, CommandBuild, DockerfileBuild, ImageBuild, ImageReference,
    ProgramBuild,
};
pub use drill::{Drill, Fault, Steady};
pub use environment::{
    DockerSettings, Environment, Expose, Ingress, KubernetesSettings, ProcessSettings, Provider,
    ProviderKind, TerraformBackend, TerraformSettings, Variable,
};
pub use gateway::{
    AccessLog, ApiKeys, Breaker, Certificate, Gateway, GatewayLimits, Jwt, Outliers, Tls,
    TlsVersion,
};
pub use health::{Check, Health};
pub use name::{
    BadName, DrillName, EnvironmentName, LONGEST_NAME, NeedName, ProjectName, ResourceName,
    SecretName, ServiceName,
};
pub use quantity::{BadQuantity, ByteSize, Percent, Period, Port, Probability};
pub use resolved::{Need, Project, Resolved};
pub use resource::{Backup, Engine, External, Objectives, Resource, ResourceKind};
pub use rollout::{
    Analysis, Better, Gate, GateWhen, Metric, OptIn, Order, Rollout, Strategy, WhenQuiet,
};
pub use route::{
    Auth, AuthBy, Cache, Compression, Cors, Encoding, HeaderChanges, Method, Mirror, PathMatch,
    RateLimit, RatePer, Redirect, Retries, RetryOn, Rewrite, Route, Timeout, ValueMatch,
};
pub use service::{
    Amount, Balance, BalanceStrategy, EnvValue, Limits, Logs, PlainText, Protocol, Restart,
    RestartOn, SecretForm, SecretReference, Service, ServiceKind, Stop, StopSignal, Traffic,
    Volume,
};
