//! The steps of a plan and their order.

use std::collections::{BTreeMap, BTreeSet};

use platform_blueprint::{Rollout, ServiceName};

use super::{Action, Change, Inputs, Member, Pace, Standing, Step, StepId, Subject};
use super::{is_job, is_worth_judging, takes_traffic};
use crate::group::{GroupId, Need};
use crate::release::Release;
use crate::traffic::{Split, Traffic};

/// Traffic when the release serves alone.
pub(super) fn final_traffic(release: &Release) -> Traffic {
    let splits = release
        .services
        .iter()
        .filter(|(_, placed)| takes_traffic(placed))
        .map(|(name, placed)| {
            let group = GroupId::main(name.clone(), placed.version);
            (name.clone(), Split::all(group))
        })
        .collect();
    Traffic {
        ingress: release.ingress.clone(),
        splits,
    }
}

/// Orders what the changes ask for: builds and resources, then starts along needs, then rollouts, then the final routes,
/// then removals against needs, then the record.
pub(super) fn steps(inputs: &Inputs<'_>, release: &Release, changes: &[Change]) -> Vec<Step> {
    if changes.is_empty() {
        return Vec::new();
    }
    let mut order = Order {
        inputs,
        release,
        steps: Vec::new(),
        ready: BTreeMap::new(),
    };
    order.builds();
    order.resources();
    order.gateway(changes);
    let replaced = order.starts();
    order.rollouts(replaced);
    order.route(changes);
    order.removals();
    order.record();
    order.steps
}

struct Order<'a> {
    inputs: &'a Inputs<'a>,
    release: &'a Release,
    steps: Vec<Step>,
    /// The step after which a service or resource can be relied on, by its name.
    ready: BTreeMap<&'a str, StepId>,
}

/// A service that another group serves now.
struct Replaced<'a> {
    service: &'a ServiceName,
    member: Member,
    policy: &'a Rollout,
    after: Vec<StepId>,
}

impl Replaced<'_> {
    /// Its place in the order that the blueprint states, where it has one.
    fn place(&self) -> Option<usize> {
        match &self.policy.order {
            platform_blueprint::Order::Together => None,
            platform_blueprint::Order::OneByOne(names) => {
                names.iter().position(|name| name == self.service)
            }
        }
    }
}

impl<'a> Order<'a> {
    fn push(&mut self, id: String, action: Action, after: Vec<StepId>) -> StepId {
        let id = StepId(id);
        self.steps.push(Step {
            id: id.clone(),
            action,
            after,
        });
        id
    }

    fn has(&self, id: &str) -> bool {
        self.steps.iter().any(|step| step.id.0 == id)
    }

    fn builds(&mut self) {
        for service in self.inputs.unbuilt {
            if let Some(placed) = self.release.services.get(service) {
                let action = Action::Build {
                    service: service.clone(),
                    key: placed.spec.artifact.key.clone(),
                };
                self.push(format!("build {service}"), action, Vec::new());
            }
        }
    }

    fn resources(&mut self) {
        // Nothing on the target is touched before every build has succeeded.
        let after: Vec<StepId> = self.steps.iter().map(|step| step.id.clone()).collect();
        let release = self.release;
        for (name, wanted) in &release.resources {
            let seen = self.inputs.observed.resources.get(name);
            if seen.is_none_or(|seen| seen.digest != wanted.digest) {
                let action = Action::EnsureResource { name: name.clone() };
                let id = self.push(format!("resource {name}"), action, after.clone());
                self.ready.insert(name.as_str(), id);
            }
        }
    }

    fn gateway(&mut self, changes: &[Change]) {
        let builds = self.ids(|action| matches!(action, Action::Build { .. }));
        let gateway = self.push("gateway".to_owned(), Action::EnsureGateway, builds);
        let newcomers = changes
            .iter()
            .any(|c| matches!(c.subject, Subject::Service(_) | Subject::Gateway));
        if newcomers {
            // What the gateway counts through, it is told the address of.
            let shared = self.release.ingress.gateway.shared.as_ref();
            let shared = shared.and_then(|name| self.ready.get(name.as_str()).cloned());
            let after = std::iter::once(gateway).chain(shared).collect();
            self.push("route early".to_owned(), Action::RouteEarly, after);
        }
    }

    /// Starts what serves without replacing anything, in the order of needs; returns what replaces something.
    fn starts(&mut self) -> Vec<Replaced<'a>> {
        let mut replaced = Vec::new();
        let routed = self.ids(|a| matches!(a, Action::RouteEarly | Action::EnsureGateway));
        for service in along_needs(self.release) {
            let placed = &self.release.services[service];
            let standing = Standing::of(service, self.release, self.inputs);
            let mut after = routed.clone();
            after.extend(
                placed
                    .spec
                    .needs
                    .iter()
                    .filter_map(|need| self.ready.get(need.name()).cloned()),
            );
            let group = standing.target.id.clone();
            let policy = self
                .inputs
                .desired
                .services
                .get(service)
                .map(|desired| &desired.rollout);
            // A rollout that was begun is the one to say where it goes on, whatever is left of either side.
            let member = standing.half_way(self.inputs).cloned().or_else(|| {
                let from = standing.serving(self.inputs);
                let from = from.filter(|from| is_worth_judging(self.inputs, from))?;
                Some(Member {
                    from: from.clone(),
                    from_replicas: self.replicas_of(from),
                    to: group.clone(),
                })
            });
            let forward = self
                .inputs
                .current
                .and_then(|c| c.services.get(service))
                .is_none_or(|p| p.version != placed.version);
            // Of what shall have no instances there is nothing to judge.
            let judged = forward && placed.replicas > 0 && !is_job(placed);
            if let (Some(member), Some(policy), Pace::ByPolicy, true) =
                (member, policy, self.inputs.pace, judged)
            {
                self.start_old(&member, after.clone());
                replaced.push(Replaced {
                    service,
                    member,
                    policy,
                    after,
                });
                continue;
            }
            if !standing.stands() {
                let action = Action::Start {
                    group: group.clone(),
                    replicas: placed.replicas,
                };
                let id = self.push(format!("start {group}"), action, after);
                self.ready.insert(service.as_str(), id);
            }
        }
        replaced
    }

    /// Starts the group that serves where nothing is left of either, so that who needs the service finds it.
    fn start_old(&mut self, member: &Member, after: Vec<StepId>) {
        let service = &member.from.service;
        let current = self
            .inputs
            .current
            .and_then(|c| c.services.get_key_value(service));
        let Some((service, placed)) = current else {
            return;
        };
        let seen = &self.inputs.observed.groups;
        let gone = [&member.from, &member.to].map(|group| !seen.contains_key(group));
        if gone == [true, true] && placed.version == member.from.version && placed.replicas > 0 {
            let action = Action::Start {
                group: member.from.clone(),
                replicas: placed.replicas,
            };
            let id = self.push(format!("start {}", member.from), action, after);
            self.ready.insert(service.as_str(), id);
        }
    }

    /// Instances of a group that serves, also those that a stopped run had already taken away.
    fn replicas_of(&self, group: &GroupId) -> u32 {
        let asked = self
            .inputs
            .current
            .and_then(|current| current.services.get(&group.service))
            .filter(|placed| placed.version == group.version)
            .map_or(0, |placed| placed.replicas);
        asked.max(self.inputs.observed.groups[group].replicas)
    }

    /// Moves services that share a policy together, one policy after another; those that the blueprint puts in an order
    /// one after another, and before the others.
    fn rollouts(&mut self, replaced: Vec<Replaced<'a>>) {
        let starts = self.ids(|a| matches!(a, Action::Start { .. }));
        let mut replaced = replaced;
        replaced.sort_by_key(|one| one.place().unwrap_or(usize::MAX));
        let mut units: Vec<(&Rollout, Vec<Replaced<'a>>)> = Vec::new();
        for one in replaced {
            let together = |(policy, members): &&mut (&Rollout, Vec<Replaced<'a>>)| {
                let alone = one.place().is_some() || members.iter().any(|m| m.place().is_some());
                *policy == one.policy && !alone
            };
            match units.iter_mut().find(together) {
                Some((_, members)) => members.push(one),
                None => units.push((one.policy, vec![one])),
            }
        }
        let mut before: Option<StepId> = None;
        for (policy, members) in units {
            let mut after: BTreeSet<StepId> = members
                .iter()
                .flat_map(|m| m.after.iter().cloned())
                .collect();
            after.extend(starts.iter().cloned());
            after.extend(before.take());
            let names: Vec<&str> = members.iter().map(|m| m.service.as_str()).collect();
            let name = format!("rollout {}", names.join(" "));
            let action = Action::Rollout {
                members: members.iter().map(|m| m.member.clone()).collect(),
                policy: Box::new(policy.clone()),
            };
            before = Some(self.push(name, action, after.into_iter().collect()));
        }
    }

    fn route(&mut self, changes: &[Change]) {
        let early_is_final = !self.has("route early");
        if early_is_final
            && changes
                .iter()
                .all(|c| !matches!(c.subject, Subject::Gateway))
        {
            return;
        }
        let after = self.ids(|a| {
            matches!(
                a,
                Action::Start { .. } | Action::Rollout { .. } | Action::RouteEarly
            )
        });
        self.push("route".to_owned(), Action::Route, after);
    }

    /// Removes groups that nothing desired, those that need others before those that are needed.
    fn removals(&mut self) {
        let rolled: BTreeSet<GroupId> = self
            .steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::Rollout { members, .. } => Some(members),
                _ => None,
            })
            .flatten()
            .map(|member| member.from.clone())
            .collect();
        let wanted: BTreeSet<GroupId> = self
            .release
            .services
            .iter()
            .map(|(name, placed)| GroupId::main(name.clone(), placed.version))
            .collect();
        // A target whose own parts do not run shows nothing, and brings back what it was told to keep once they do.
        let half_way = self.inputs.half_way.iter();
        let half_way = half_way.filter(|member| !rolled.contains(&member.from));
        let unfinished = self.inputs.unfinished.into_iter().flat_map(|release| {
            let begun = release.groups().map(|group| group.id);
            begun.filter(|id| id.version == release.number)
        });
        let known: BTreeSet<GroupId> = half_way
            .flat_map(Member::groups)
            .chain(unfinished)
            .chain(self.inputs.observed.groups.keys().cloned())
            .collect();
        let mut strays: Vec<&GroupId> = known
            .iter()
            .filter(|id| !wanted.contains(*id) && !rolled.contains(*id))
            .collect();
        let rank: BTreeMap<&ServiceName, usize> = self
            .inputs
            .current
            .map(|current| along_needs(current).into_iter().rev())
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(rank, name)| (name, rank))
            .collect();
        strays.sort_by_key(|id| rank.get(&id.service).copied());
        let settled = self.ids(|a| {
            matches!(
                a,
                Action::Route | Action::Start { .. } | Action::Rollout { .. }
            )
        });
        for stray in &strays {
            let mut after = settled.clone();
            after.extend(
                strays
                    .iter()
                    .filter(|other| self.needed_by(stray, other))
                    .map(|other| StepId(format!("remove {other}"))),
            );
            let action = Action::Remove {
                group: (*stray).clone(),
            };
            self.push(format!("remove {stray}"), action, after);
        }
        let removed = self.ids(|a| matches!(a, Action::Remove { .. }));
        for name in self.inputs.observed.resources.keys() {
            if !self.release.resources.contains_key(name) {
                let mut after = settled.clone();
                after.extend(removed.iter().cloned());
                let action = Action::RemoveResource { name: name.clone() };
                self.push(format!("remove resource {name}"), action, after);
            }
        }
    }

    /// Whether `other` needs the service of `stray`, as the release that serves has it.
    fn needed_by(&self, stray: &GroupId, other: &GroupId) -> bool {
        let needs =
            |release: &Release| {
                release.services.get(&other.service).is_some_and(|placed| {
                    placed.spec.needs.iter().any(
                        |need| matches!(need, Need::Service { name } if *name == stray.service),
                    )
                })
            };
        other.service != stray.service && self.inputs.current.is_some_and(needs)
    }

    fn record(&mut self) {
        let after = self.steps.iter().map(|step| step.id.clone()).collect();
        self.push(
            format!("record {}", self.release.number),
            Action::Record,
            after,
        );
    }

    fn ids(&self, wanted: impl Fn(&Action) -> bool) -> Vec<StepId> {
        self.steps
            .iter()
            .filter(|step| wanted(&step.action))
            .map(|step| step.id.clone())
            .collect()
    }
}

/// Services so that each comes after those it needs, by name where that leaves a choice.
///
/// The blueprint has no cycles; should there be one, its services come last.
fn along_needs(release: &Release) -> Vec<&ServiceName> {
    fn visit<'a>(
        name: &'a ServiceName,
        release: &'a Release,
        seen: &mut BTreeSet<&'a ServiceName>,
        order: &mut Vec<&'a ServiceName>,
    ) {
        if !seen.insert(name) {
            return;
        }
        for need in &release.services[name].spec.needs {
            if let Need::Service { name } = need
                && let Some((key, _)) = release.services.get_key_value(name)
            {
                visit(key, release, seen, order);
            }
        }
        order.push(name);
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for name in release.services.keys() {
        visit(name, release, &mut seen, &mut order);
    }
    order
}
