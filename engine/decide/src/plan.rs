//! Plans: the steps from what was observed to what is desired, as data.

mod changes;
mod early;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use platform_blueprint::{ResourceName, Rollout, Route, ServiceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::desired::Desired;
use crate::difference::Difference;
use crate::digest::Digest;
use crate::group::{GroupId, GroupSpec, Track};
use crate::observed::{Coming, InstanceState, Observed};
use crate::release::{PlacedService, Release, ReleaseNumber, ReleaseStatus};
use crate::traffic::Traffic;

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What should run.
    pub desired: &'a Desired,
    /// What was seen to run.
    pub observed: &'a Observed,
    /// The release that serves.
    pub current: Option<&'a Release>,
    /// The release that a run was stopped while deploying.
    pub unfinished: Option<&'a Release>,
    /// What rollouts of that release were to move and have not moved for good, whether or not anything of it runs.
    pub half_way: &'a [Member],
    /// The release whose content is wanted back, for a rollback.
    pub back_to: Option<&'a Release>,
    /// The highest number ever given in the environment.
    pub last: Option<ReleaseNumber>,
    /// Services whose artifact has to be built first.
    pub unbuilt: &'a BTreeSet<ServiceName>,
    /// How changed services are replaced.
    pub pace: Pace,
}

/// How changed services are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// By the rollout that each service's policy asks for.
    ByPolicy,
    /// All new instances beside the old ones, then all traffic in one move. For rollbacks.
    AtOnce,
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "subject", content = "name", rename_all = "kebab-case")]
pub enum Subject {
    /// A service.
    Service(ServiceName),
    /// A resource.
    Resource(ResourceName),
    /// The gateway's routes, shares and settings.
    Gateway,
    /// The record of the release alone.
    Release(ReleaseNumber),
}

/// How a subject changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It is not there yet.
    Create,
    /// Instances of another spec take over.
    Replace,
    /// The number of instances changes.
    Scale,
    /// It is changed in place.
    Update,
    /// It is not as the current release has it, and is put right.
    Repair,
    /// It goes.
    Remove,
    /// What a stopped run left half-done is finished or taken back.
    Finish,
}

/// One change with its reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// What changes.
    #[serde(flatten)]
    pub subject: Subject,
    /// How.
    pub kind: ChangeKind,
    /// In one line, for people: `orders@r5 → orders@r6, canary 1 %, 5 %, 25 %, 50 %`.
    pub summary: String,
    /// What differs, and so why.
    pub because: Vec<Difference>,
}

/// Names a step within its plan, such as `start orders@r6`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct StepId(pub String);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One service's part in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// The group that serves now.
    pub from: GroupId,
    /// How many instances it has.
    pub from_replicas: u32,
    /// The group that takes over.
    pub to: GroupId,
}

impl Member {
    /// Every group that a rollout of it may have instances of.
    fn groups(&self) -> [GroupId; 3] {
        let baseline = GroupId::baseline(self.from.service.clone(), self.from.version);
        [self.to.clone(), baseline, self.from.clone()]
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Build a service's artifact.
    Build {
        /// The service.
        service: ServiceName,
        /// The key under which the artifact is kept.
        key: Digest,
    },
    /// Create or change a resource, and wait until it answers.
    EnsureResource {
        /// Its name.
        name: ResourceName,
    },
    /// Start the gateway, and wait until it answers.
    EnsureGateway,
    /// Give the gateway what it needs while instances start: old routes, and shares for services that are new.
    RouteEarly,
    /// Give the gateway the release's routes and shares.
    Route,
    /// Create a group or bring it to its number of instances, and wait until they are ready.
    Start {
        /// The group.
        group: GroupId,
        /// How many instances.
        replicas: u32,
    },
    /// Move traffic and instances from old groups to new ones by the policy.
    Rollout {
        /// The services that move together.
        members: Vec<Member>,
        /// How.
        policy: Box<Rollout>,
    },
    /// Drain and remove a group.
    Remove {
        /// The group.
        group: GroupId,
    },
    /// Stop a resource's server and keep its data.
    RemoveResource {
        /// Its name.
        name: ResourceName,
    },
    /// Record that the release serves.
    Record,
}

/// One step, to be done when all of `after` are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Its name in the plan.
    pub id: StepId,
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
    /// Steps that come before it.
    pub after: Vec<StepId>,
}

/// The way from what was observed to what is desired.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The release that serves now.
    pub from: Option<ReleaseNumber>,
    /// The release that the plan makes, without its run and time; the current one if nothing changes.
    pub release: Release,
    /// Digest of what was observed; the plan is good only while this holds.
    pub observed: Digest,
    /// What changes and why.
    pub changes: Vec<Change>,
    /// The steps, each behind those it comes after.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Its rollouts, in their order: what moves together, and how.
    pub fn rollouts(&self) -> impl Iterator<Item = (&[Member], &Rollout)> {
        self.steps.iter().filter_map(|step| match &step.action {
            Action::Rollout { members, policy } => Some((members.as_slice(), policy.as_ref())),
            _ => None,
        })
    }

    /// What its rollouts move, in their order.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.rollouts().flat_map(|(members, _)| members)
    }

    /// The group of the release with this name, whole.
    pub fn group(&self, id: &GroupId) -> Option<GroupSpec> {
        self.release.group(id)
    }

    /// Traffic as it is once the plan is done.
    pub fn traffic(&self) -> Traffic {
        steps::final_traffic(&self.release)
    }

    /// Traffic while instances start: what the gateway does now, and shares for services that nothing serves yet, or no more.
    ///
    /// Routes stay as they are until what they lead to is up, except on a gateway that has none; new ones are there before for
    /// who asks for the new release by its header. What is rolled out has no requests before its rollout says so.
    pub fn early_traffic(&self, observed: &Observed, current: Option<&Release>) -> Traffic {
        early::early_traffic(observed, current, self)
    }

    /// Whether a route of the release can be asked while that is on trial, by its header.
    ///
    /// - `early`: what the gateway has meanwhile
    pub fn leads(&self, route: &Route, early: &Traffic) -> bool {
        early::leads(route, early, self)
    }
}

/// Plans the way from what was observed to what is desired.
///
/// Deterministic: equal inputs give equal plans. If nothing is to be done the plan has no steps.
pub fn plan(inputs: Inputs<'_>) -> Plan {
    let release = draft(&inputs);
    let changes = changes::changes(&inputs, &release);
    let steps = steps::steps(&inputs, &release, &changes);
    Plan {
        from: inputs.current.map(|c| c.number),
        release,
        observed: inputs.observed.fingerprint(),
        changes,
        steps,
    }
}

/// The digest by which two releases are told to run the same.
fn content(desired: &Desired) -> Digest {
    let services: BTreeMap<_, _> = desired
        .services
        .iter()
        .map(|(name, s)| (name, (&s.digest, s.replicas)))
        .collect();
    let resources: BTreeMap<_, _> = desired
        .resources
        .iter()
        .map(|(name, r)| (name, &r.digest))
        .collect();
    Digest::of_value(&(services, resources, &desired.ingress))
}

fn draft(inputs: &Inputs<'_>) -> Release {
    let desired = inputs.desired;
    let digest = content(desired);
    let known = [inputs.unfinished, inputs.current]
        .into_iter()
        .flatten()
        .find(|release| release.digest == digest);
    let number = known.map_or_else(
        || inputs.last.map_or(ReleaseNumber(1), ReleaseNumber::next),
        |release| release.number,
    );
    let history = [inputs.current, inputs.back_to, inputs.unfinished];
    let services = desired
        .services
        .iter()
        .map(|(name, service)| {
            let version = history
                .iter()
                .flatten()
                .filter_map(|release| release.services.get(name))
                .find(|placed| placed.digest == service.digest)
                .map_or(number, |placed| placed.version);
            let placed = PlacedService {
                version,
                replicas: service.replicas,
                spec: service.spec.clone(),
                digest: service.digest.clone(),
            };
            (name.clone(), placed)
        })
        .collect();
    Release {
        number,
        digest,
        project: desired.project.clone(),
        environment: desired.environment.clone(),
        services,
        resources: desired.resources.clone(),
        ingress: desired.ingress.clone(),
        rollback_of: known.map_or(inputs.back_to.map(|r| r.number), |release| {
            release.rollback_of
        }),
        run: known.map(|release| release.run.clone()).unwrap_or_default(),
        created_at: known
            .map(|release| release.created_at.clone())
            .unwrap_or_default(),
        commit: known.and_then(|release| release.commit.clone()),
        status: known.map_or(ReleaseStatus::Deploying, |release| release.status),
    }
}

/// Where a service stands: its group as desired, and the others that run.
struct Standing<'a> {
    /// The group that should serve.
    target: GroupSpec,
    /// Whether it runs with this spec, and how many instances it was told to keep.
    seen: Option<u32>,
    /// Whether something runs under the target's name with another spec.
    strange: bool,
    /// What of it was changed by hand, in words.
    changed: Option<&'a str>,
    /// Whether it has fewer instances than it was told to keep.
    short: bool,
    /// Whether it was given up on, or has yet to come up while its release is on its way.
    down: bool,
    /// Other groups of the service, oldest first.
    others: Vec<&'a GroupId>,
}

impl<'a> Standing<'a> {
    fn of(service: &ServiceName, release: &Release, inputs: &Inputs<'a>) -> Self {
        let observed = inputs.observed;
        let target = release.services[service].group(service);
        let mine = observed.groups.get(&target.id);
        let others: Vec<&GroupId> = observed
            .groups_of(service)
            .map(|(id, _)| id)
            .filter(|id| **id != target.id)
            .collect();
        let served = inputs
            .current
            .and_then(|current| current.services.get(service))
            .filter(|placed| placed.version == target.id.version);
        // Not every target has something to show for a group without instances.
        let none = mine.is_none()
            && others.is_empty()
            && served.is_some_and(|placed| placed.replicas == 0);
        // No release serves before its jobs have ended well, and those do not run again, whatever became of their instances.
        let done = served
            .filter(|placed| is_job(placed))
            .map(|placed| placed.replicas);
        let down = match mine.map(|seen| seen.coming(&target.digest, target.replicas)) {
            Some(Coming::Failed { .. }) => true,
            // Once a release serves, instances that come and go are the target's affair.
            Some(Coming::NotYet) => release.status != ReleaseStatus::Active,
            Some(Coming::Up) | None => false,
        };
        Self {
            seen: mine
                .filter(|seen| seen.digest == target.digest)
                .map(|seen| seen.replicas.max(done.unwrap_or(0)))
                .or(done.filter(|_| mine.is_none()))
                .or_else(|| none.then_some(0)),
            strange: mine.is_some_and(|seen| seen.digest != target.digest),
            changed: mine.and_then(|seen| seen.changed.as_deref()),
            short: done.is_none()
                && mine.is_some_and(|seen| seen.instances.len() < seen.replicas as usize),
            down,
            others,
            target,
        }
    }

    /// The group that serves and is to be replaced: the current release's; where that is gone, the one with most traffic.
    ///
    /// What a stopped run left half-way is not it, however new it is.
    fn serving(&self, inputs: &Inputs<'a>) -> Option<&'a GroupId> {
        let service = &self.target.id.service;
        let current = inputs.current.and_then(|c| c.services.get(service));
        let gateway = inputs.observed.gateway.as_ref();
        let split = gateway.and_then(|gateway| gateway.splits.get(service));
        let running = self
            .others
            .iter()
            .copied()
            .filter(|id| id.track == Track::Main && inputs.observed.groups[*id].replicas > 0);
        running.max_by_key(|id| {
            let is_current = current.is_some_and(|placed| placed.version == id.version);
            (is_current, split.map(|split| split.share(id)), id.version)
        })
    }

    /// The part that the service had in a rollout to the target group, where a stopped run left that half-way.
    fn half_way(&self, inputs: &Inputs<'a>) -> Option<&'a Member> {
        let mut left = inputs.half_way.iter();
        left.find(|member| member.to == self.target.id)
    }

    /// Whether the target group is as it should be.
    fn stands(&self) -> bool {
        self.seen == Some(self.target.replicas) && !self.strange && !self.short && !self.down
    }
}

/// Whether a group serves, so that what replaces it is rolled out by the policy and judged against it.
///
/// What no finished release ever had, and what was given up on, protects nobody: there is nothing to go back to.
fn is_worth_judging(inputs: &Inputs<'_>, from: &GroupId) -> bool {
    let served = inputs
        .current
        .is_some_and(|current| current.services.contains_key(&from.service));
    served && !is_lost(inputs.observed, from)
}

/// Whether a group has no instance that is ready, and one that was given up on.
fn is_lost(observed: &Observed, group: &GroupId) -> bool {
    observed.groups.get(group).is_some_and(|seen| {
        let given_up = |coming| matches!(coming, Coming::Failed { .. });
        seen.count(InstanceState::Ready) == 0 && given_up(seen.coming(&seen.digest, seen.replicas))
    })
}

/// Whether requests reach a service through the gateway.
pub(crate) fn takes_traffic(placed: &PlacedService) -> bool {
    placed.spec.service.port.is_some() && !is_job(placed)
}

fn is_job(placed: &PlacedService) -> bool {
    placed.spec.service.kind == platform_blueprint::ServiceKind::Job
}
