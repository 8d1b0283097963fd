//! The blueprint language: parse, validate, resolve.
//!
//! Pure: text in, values out; no input or output, no clock.

mod amount;
mod authorities;
mod blueprint;
mod build;
mod code;
mod document;
mod drill;
mod env_value;
mod environment;
mod foreign;
mod format;
mod gateway;
mod health;
mod name;
mod node;
mod number;
mod one_or_many;
mod problem;
mod quantity;
mod reader;
mod reference;
mod resolved;
mod resource;
mod rollout;
mod route;
mod schema;
mod secret_literal;
mod service;
mod service_order;
mod shorthand;
mod toml_tree;
mod traffic;
mod validate;

pub use amount::Amount;
pub use authorities::AuthorityFile;
pub use blueprint::{Blueprint, Parsed};
pub use build::{
    BadImage, Build, CargoBuild, CommandBuild, DockerfileBuild, ImageBuild, ImageContent,
    ImageReference, ProgramBuild,
};
pub use code::{Code, CodeDoc, codes};
pub use drill::{Drill, Fault, Steady};
pub use env_value::{EnvValue, PlainText, SecretForm, SecretReference};
pub use environment::{
    DockerSettings, Environment, Expose, Ingress, KubernetesSettings, ProcessSettings, Provider,
    ProviderKind, TerraformBackend, TerraformSettings, Variable,
};
pub use format::format;
pub use gateway::{
    AccessLog, ApiKeys, Breaker, Certificate, Gateway, GatewayLimits, Jwt, Metrics, Mtls, Otlp,
    Outliers, Tls, TlsVersion,
};
pub use health::{Check, Health};
pub use name::{
    BadName, DrillName, EnvironmentName, LONGEST_NAME, NeedName, ProjectName, ResourceName,
    SecretName, ServiceName, ZoneName,
};
pub use number::{Cores, Port, Probability};
pub use problem::{Position, Problem, Problems, Severity};
pub use quantity::{BadQuantity, ByteSize, Percent, Period};
pub use reference::{
    CERTIFICATE_VARIABLES, DRAIN_DELAY, INSTANCE_VARIABLES, ZONE_VARIABLE, address_variable,
    expand, folder_variable, references,
};
pub use resolved::{Need, Project, Resolved, Services};
pub use resource::{Backup, Engine, External, Objectives, Resource, ResourceKind};
pub use rollout::{
    Analysis, Better, Gate, GateWhen, HeaderSecret, HeaderValue, Leeway, Metric, OptIn, Order,
    Rollout, Strategy, WhenQuiet,
};
pub use route::{
    Auth, AuthBy, Cache, Compression, Cors, Encoding, EscapedSlashes, HeaderChanges, Method,
    Mirror, PathMatch, RateLimit, RatePer, Redirect, Retries, RetryOn, Rewrite, Route, Timeout,
    ValueMatch,
};
pub use schema::schema;
pub use secret_literal::looks_secret;
pub use service::{
    Limits, Logs, Protocol, Restart, RestartOn, Service, ServiceKind, ServiceTls, Stop, StopSignal,
    Volume,
};
pub use service_order::service_order;
pub use traffic::{Balance, BalanceStrategy, Pool, Traffic};
