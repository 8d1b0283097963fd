//! The port: what every target does for the orchestrator.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use platform_blueprint::ResourceName;
use platform_decide::desired::{Desired, DesiredResource};
use platform_decide::group::{GroupId, GroupSpec};
use platform_decide::observed::{GatewaySeen, Observed};
use platform_decide::release::Release;
use platform_decide::traffic::Traffic;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::TargetError;
use crate::logs::{LogLine, LogQuery};
use crate::party::Party;
use crate::secrets::SecretValues;
use crate::store::Store;

/// What a target is, for people and for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetInfo {
    /// Provider name as written in the blueprint.
    pub provider: String,
    /// Where it is: a folder, an engine's address, a cluster's context.
    pub place: String,
    /// Its version, where it has one.
    pub version: Option<String>,
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Something will work less well than asked for.
    Warning,
    /// The deploy would fail.
    Error,
}

/// Something preflight or `doctor` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable code, such as `preflight::port-taken`.
    pub code: String,
    /// How much it weighs.
    pub severity: Severity,
    /// The service or resource it is about.
    pub subject: Option<String>,
    /// What was found.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Counts of the answers one lane gave since the gateway started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneTally {
    /// All requests that were answered or given up.
    pub requests: u64,
    /// Answers of 500 and above, and requests without an answer.
    pub bad: u64,
    /// Good answers that took longer than the service's threshold.
    pub slow: u64,
    /// Sum of answer times in microseconds.
    pub time_micros: u64,
    /// 99th percentile of answer times since the start, in microseconds, where known.
    pub p99_micros: Option<u64>,
    /// Part of the counts above that asked for this lane by a header or a cookie. Nobody drew them by chance, so a
    /// comparison of lanes leaves them out.
    #[serde(default)]
    pub asked_for: Part,
    /// Part of the counts above that came from clients which stay with this lane and make far more requests than others.
    /// One of them decides what its side looks like, so a comparison leaves them out, too.
    #[serde(default)]
    pub heavy: Part,
    /// Part of the counts above of which another lane got a copy.
    #[serde(default)]
    pub copied: Part,
    /// What this lane answered to copies of requests, which nobody got; in no count above.
    #[serde(default)]
    pub copies: Part,
}

/// Some requests that are looked at by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Part {
    /// All of them.
    pub requests: u64,
    /// Those answered badly.
    pub bad: u64,
    /// Those answered slowly.
    pub slow: u64,
}

/// Counts of the gateway, exact and growing within one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tallies {
    /// Changes when the gateway starts anew and counts from zero.
    pub epoch: String,
    /// By group.
    pub lanes: BTreeMap<GroupId, LaneTally>,
}

/// A command to run inside an instance's surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// A service; or a resource, where its server runs apart from this machine.
    pub party: Party,
    /// One of its instances; the first ready one where none is named.
    pub instance: Option<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Give it a terminal.
    pub tty: bool,
}

/// A running command or an open connection: bytes both ways.
pub struct Attachment {
    /// To its standard input, or into the connection.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output, or what the connection brings.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error, where that is apart.
    pub errors: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Ends with the exit code once the command has ended; 0 for a connection.
    pub exit: futures::future::BoxFuture<'static, Result<i32, TargetError>>,
    /// Tells the terminal's size, columns and rows, where it has one.
    pub resize: Option<tokio::sync::mpsc::UnboundedSender<(u16, u16)>>,
    /// Passes a signal on to the command and what it started; none for a connection.
    pub signal: Option<tokio::sync::mpsc::UnboundedSender<Signal>>,
}

/// A signal to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// To end, please.
    Terminate,
    /// Its terminal is gone.
    HangUp,
    /// To end, whatever it thinks of that.
    Kill,
}

impl Signal {
    /// Its name, as the kernel has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
            Self::Kill => "SIGKILL",
        }
    }
}

/// A place that runs one environment of one project.
///
/// Each method is safe to repeat: what already is as asked is left alone. A method returns when the target has taken the
/// request in; whether instances became ready is seen through [`Target::observe`].
#[async_trait]
pub trait Target: Send + Sync {
    /// Says what and where this is, without asking it anything.
    fn info(&self) -> TargetInfo;

    /// Looks for what would make a deploy of `desired` fail, and touches nothing.
    async fn preflight(&self, desired: &Desired) -> Result<Vec<Finding>, TargetError>;

    /// Checks the target itself: versions, permissions, space, clock.
    async fn doctor(&self) -> Vec<Finding>;

    /// Looks at everything that carries the project's and environment's labels. Changes nothing, starts nothing.
    async fn observe(&self) -> Result<Observed, TargetError>;

    /// Returns when something [`Target::observe`] shows may have changed, or after `at_most`.
    async fn changed(&self, at_most: Duration);

    /// Brings what a resource's server is made from to the target, such as its image.
    ///
    /// Nothing of it runs. May be given up at any time: [`Target::ensure_resource`] brings what is missing.
    async fn fetch_resource(
        &self,
        name: &ResourceName,
        resource: &DesiredResource,
    ) -> Result<(), TargetError> {
        let _ = (name, resource);
        Ok(())
    }

    /// Creates a resource or brings it to what is asked, keeping its data.
    async fn ensure_resource(
        &self,
        name: &ResourceName,
        resource: &DesiredResource,
    ) -> Result<(), TargetError>;

    /// Stops a resource's server; removes its data only where told to.
    async fn remove_resource(
        &self,
        name: &ResourceName,
        remove_data: bool,
    ) -> Result<(), TargetError>;

    /// Starts the gateway where it does not run, and replaces one of another build without dropping a request.
    async fn ensure_gateway(&self) -> Result<(), TargetError>;

    /// Gives the gateway routes and shares; returns once it has confirmed them.
    ///
    /// - `secrets`: values at least of those that the ingress names
    async fn route(&self, traffic: &Traffic, secrets: &SecretValues) -> Result<(), TargetError>;

    /// Brings what a group's instances are made from to the target, such as their image.
    ///
    /// Nothing of it runs. May be given up at any time: [`Target::ensure_group`] brings what is missing.
    async fn fetch_group(&self, group: &GroupSpec) -> Result<(), TargetError> {
        let _ = group;
        Ok(())
    }

    /// Creates a group, or brings it to so many instances of this spec.
    ///
    /// Instances beyond `replicas` are drained and stopped, the newest first.
    async fn ensure_group(
        &self,
        group: &GroupSpec,
        secrets: &SecretValues,
    ) -> Result<(), TargetError>;

    /// Makes ready what can be of a group that [`Target::ensure_group`] will soon be asked for, so that this takes less.
    ///
    /// Nothing of it runs or takes requests. It goes with the group where nobody asks for it in the end.
    async fn prepare_group(
        &self,
        group: &GroupSpec,
        secrets: &SecretValues,
    ) -> Result<(), TargetError> {
        let _ = (group, secrets);
        Ok(())
    }

    /// Drains a group's instances, stops them within their grace period and removes them.
    async fn remove_group(&self, group: &GroupId) -> Result<(), TargetError>;

    /// Removes what nobody asks for any more: what runs that were killed left behind, and images of releases that are long gone.
    ///
    /// Called at the end of a run, under its lock.
    ///
    /// - `releases`: those that may still be asked for, the one that serves among them
    async fn tidy(&self, releases: &[Release]) -> Result<(), TargetError> {
        let _ = releases;
        Ok(())
    }

    /// Stops every instance and the gateway, keeping data, state and what is needed to come up again.
    async fn stop(&self) -> Result<(), TargetError>;

    /// Removes everything that carries the project's and environment's labels, and nothing else.
    ///
    /// Documents of the store go too; data of resources only where told to.
    async fn destroy(&self, remove_data: bool) -> Result<(), TargetError>;

    /// Reads what the gateway has counted.
    async fn tallies(&self) -> Result<Tallies, TargetError>;

    /// Reads log lines, oldest first, also of instances that ended.
    async fn logs(
        &self,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, TargetError>>, TargetError>;

    /// Runs a command in an instance's surroundings.
    async fn exec(&self, request: &ExecRequest) -> Result<Attachment, TargetError>;

    /// Whether what listens on loopback there does so on the machine that this runs on.
    fn is_here(&self) -> bool {
        true
    }

    /// Opens a connection to the port on which the gateway takes requests, from wherever that can be reached.
    ///
    /// - `gateway`: as it was last seen
    async fn connect_gateway(&self, gateway: &GatewaySeen) -> Result<Attachment, TargetError>;

    /// Opens a connection to a port of a service's instance or of a resource, by name.
    async fn connect(&self, name: &str, port: Option<u16>) -> Result<Attachment, TargetError>;

    /// The environment's documents.
    fn store(&self) -> &dyn Store;
}
