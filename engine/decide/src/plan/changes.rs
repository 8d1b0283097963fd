//! What a plan changes and why, for people to read.

use platform_blueprint::{Percent, Rollout, ServiceName, Strategy};

use super::{Change, ChangeKind, Inputs, Pace, Standing, Subject, is_worth_judging, steps};
use crate::desired::Ingress;
use crate::difference::{Difference, differences};
use crate::digest::Digest;
use crate::group::{GroupId, ServiceSpec, Track};
use crate::release::{PlacedService, Release, ReleaseStatus};

/// Lists what changes between what was observed and `release`.
pub(super) fn changes(inputs: &Inputs<'_>, release: &Release) -> Vec<Change> {
    let mut found = resources(inputs, release);
    found.extend(
        release
            .services
            .iter()
            .filter_map(|(name, placed)| service(inputs, release, name, placed)),
    );
    found.extend(removals(inputs, release));
    found.extend(gateway(inputs, release, &found));
    let recorded =
        inputs.unfinished.is_none() && inputs.current.is_some_and(|c| c.digest == release.digest);
    if found.is_empty() && !recorded {
        found.push(Change {
            subject: Subject::Release(release.number),
            kind: ChangeKind::Finish,
            summary: format!("record {} as the release that serves", release.number),
            because: Vec::new(),
        });
    }
    found
}

fn resources(inputs: &Inputs<'_>, release: &Release) -> Vec<Change> {
    let seen = &inputs.observed.resources;
    let wanted = release.resources.iter().filter_map(|(name, wanted)| {
        let (kind, because) = match seen.get(name) {
            None => (ChangeKind::Create, Vec::new()),
            Some(seen) if seen.digest == wanted.digest => return None,
            Some(seen) => {
                let before = inputs.current.and_then(|c| c.resources.get(name));
                if let Some(reason) = &seen.reason
                    && before.is_some_and(|before| before.digest == wanted.digest)
                {
                    return Some(Change {
                        subject: Subject::Resource(name.clone()),
                        kind: ChangeKind::Repair,
                        summary: format!("{}: {reason}", wanted.resource.kind.as_str()),
                        because: Vec::new(),
                    });
                }
                let because = before.map(|b| differences(&b.resource, &wanted.resource));
                (ChangeKind::Update, because.unwrap_or_default())
            }
        };
        Some(Change {
            subject: Subject::Resource(name.clone()),
            kind,
            summary: wanted.resource.kind.as_str().to_owned(),
            because,
        })
    });
    let gone = seen
        .iter()
        .filter(|(name, _)| !release.resources.contains_key(*name))
        .map(|(name, seen)| Change {
            subject: Subject::Resource(name.clone()),
            kind: ChangeKind::Remove,
            summary: format!("{}; its data is kept", seen.engine),
            because: Vec::new(),
        });
    wanted.chain(gone).collect()
}

fn service(
    inputs: &Inputs<'_>,
    release: &Release,
    name: &ServiceName,
    placed: &PlacedService,
) -> Option<Change> {
    let standing = Standing::of(name, release, inputs);
    let target = &standing.target.id;
    let before = inputs.current.and_then(|c| c.services.get(name));
    let was_here = before.is_some_and(|b| b.version == placed.version);
    let asked = before.map_or(0, |b| b.replicas);
    let differing = || {
        let Some(before) = before else {
            return Vec::new();
        };
        let scaled =
            (before.replicas != placed.replicas).then(|| scaled(before.replicas, placed.replicas));
        let mut found = spec_differences(&before.spec, &placed.spec);
        found.extend(scaled);
        found
    };
    // Fresh instances of the old version that a canary left are not what is replaced.
    let main = standing
        .others
        .iter()
        .rev()
        .find(|id| id.track == Track::Main);
    let main = standing.serving(inputs).or(main.copied());
    let half_way = half_way(inputs, &standing, was_here);
    let half_way = half_way.map(|(summary, forward)| {
        let because = if forward { differing() } else { Vec::new() };
        (summary, because)
    });
    let from = main.or(standing.others.last().copied());
    let (kind, summary, because) = match (standing.seen, from, half_way) {
        _ if standing.strange => (
            ChangeKind::Repair,
            standing.changed.map_or_else(
                || format!("{target} does not run what its release says"),
                |changed| format!("{target} was {changed}"),
            ),
            Vec::new(),
        ),
        (_, None, Some((summary, because))) => (ChangeKind::Finish, summary, because),
        (None, None, _) if was_here => (
            ChangeKind::Repair,
            format!("{target} is gone; start {}", instances(placed.replicas)),
            Vec::new(),
        ),
        (None, None, _) => (
            ChangeKind::Create,
            format!("{target}, {}", instances(placed.replicas)),
            differing(),
        ),
        (None, Some(from), _) => (
            ChangeKind::Replace,
            format!("{from} → {target}, {}", manner(inputs, name, from)),
            differing(),
        ),
        (Some(_), Some(from), _) if was_here => {
            (ChangeKind::Finish, taken_back(from, target), Vec::new())
        }
        (Some(_), Some(from), _) => (ChangeKind::Finish, gone_on_with(from, target), differing()),
        (Some(seen), None, _) if was_here && seen < asked && asked == placed.replicas => (
            ChangeKind::Repair,
            format!("{target} has lost instances: {seen} of {asked} are left"),
            Vec::new(),
        ),
        (Some(seen), None, _) if seen != placed.replicas => (
            ChangeKind::Scale,
            format!("{target}, {seen} → {}", instances(placed.replicas)),
            vec![scaled(seen, placed.replicas)],
        ),
        (Some(_), None, _) if standing.short => (
            ChangeKind::Repair,
            format!("{target} has lost instances"),
            Vec::new(),
        ),
        (Some(_), None, _) if standing.down => (
            ChangeKind::Repair,
            format!("{target} is not up; start it again and wait"),
            Vec::new(),
        ),
        (Some(_), None, _) => return None,
    };
    Some(Change {
        subject: Subject::Service(name.clone()),
        kind,
        summary,
        because,
    })
}

/// What becomes of a rollout that a stopped run left half-way and nothing is seen of, and whether that leads to the new release.
fn half_way(
    inputs: &Inputs<'_>,
    standing: &Standing<'_>,
    was_here: bool,
) -> Option<(String, bool)> {
    let target = &standing.target.id;
    if was_here {
        let mut left = inputs.half_way.iter();
        let member = left.find(|member| member.from == *target)?;
        return Some((taken_back(&member.to, target), false));
    }
    let member = standing.half_way(inputs)?;
    (inputs.pace == Pace::ByPolicy).then(|| (gone_on_with(&member.from, target), true))
}

fn taken_back(left: &GroupId, target: &GroupId) -> String {
    format!("{left} → {target}, at once: take back what a stopped run left")
}

fn gone_on_with(from: &GroupId, target: &GroupId) -> String {
    format!("{from} → {target}, go on where a stopped run left off")
}

fn removals(inputs: &Inputs<'_>, release: &Release) -> Vec<Change> {
    let gone = |id: &&GroupId| !release.services.contains_key(&id.service);
    inputs
        .observed
        .groups
        .keys()
        .filter(gone)
        .map(|id| Change {
            subject: Subject::Service(id.service.clone()),
            kind: ChangeKind::Remove,
            summary: id.to_string(),
            because: Vec::new(),
        })
        .collect()
}

fn gateway(inputs: &Inputs<'_>, release: &Release, others: &[Change]) -> Option<Change> {
    let change = |kind, summary, because| {
        Some(Change {
            subject: Subject::Gateway,
            kind,
            summary,
            because,
        })
    };
    let routes = match release.ingress.routes.len() {
        1 => "1 route".to_owned(),
        n => format!("{n} routes"),
    };
    let Some(seen) = &inputs.observed.gateway else {
        return change(ChangeKind::Create, routes, Vec::new());
    };
    if seen.ingress != Digest::of_value(&release.ingress) {
        let before = inputs.current.map(|c| &c.ingress);
        let because = before.map(|b| ingress_differences(b, &release.ingress));
        return change(ChangeKind::Update, routes, because.unwrap_or_default());
    }
    if let Some(amiss) = &seen.amiss {
        return change(ChangeKind::Repair, amiss.clone(), Vec::new());
    }
    let covered = others
        .iter()
        .any(|c| matches!(c.subject, Subject::Service(_)));
    let strays = release.status == ReleaseStatus::Active
        && !covered
        && seen.splits != steps::final_traffic(release).splits;
    if strays {
        let summary = "requests are not shared out as the release says".to_owned();
        return change(ChangeKind::Repair, summary, Vec::new());
    }
    None
}

/// Differences of routes and settings; of certificates it is told that they are others.
fn ingress_differences(before: &Ingress, after: &Ingress) -> Vec<Difference> {
    let mut found = differences(before, after);
    for difference in &mut found {
        let texts = [&mut difference.before, &mut difference.after];
        if difference.path.starts_with("authorities") {
            for text in texts {
                *text = text.take().map(|text| in_short(&text));
            }
        } else if difference.path.starts_with("certificates") {
            for text in texts {
                let digest = text.as_deref().and_then(Digest::parse);
                if let Some(digest) = digest {
                    *text = Some(digest.short().to_owned());
                }
            }
        }
    }
    found
}

/// What tells one long text from another.
fn in_short(text: &str) -> String {
    Digest::of(text.as_bytes()).short().to_owned()
}

/// Differences of two specs, without those that leave instances alone.
fn spec_differences(before: &ServiceSpec, after: &ServiceSpec) -> Vec<Difference> {
    let mut found = differences(&before.service, &after.service);
    found.retain(|d| {
        let outside = ["rollout", "traffic"];
        d.path != "replicas" && !outside.iter().any(|prefix| d.path.starts_with(prefix))
    });
    if before.artifact.key != after.artifact.key {
        found.push(Difference {
            path: "build".to_owned(),
            before: Some(before.artifact.key.short().to_owned()),
            after: Some(after.artifact.key.short().to_owned()),
        });
    }
    if before.authority != after.authority {
        let short = |text: &Option<String>| text.as_deref().map(in_short);
        found.push(Difference {
            path: "authorities of tls.ca".to_owned(),
            before: short(&before.authority),
            after: short(&after.authority),
        });
    }
    let version = |v: Option<String>| v.map(|v| format!("version {v}"));
    found.extend(
        differences(&before.secrets, &after.secrets)
            .into_iter()
            .map(|d| Difference {
                path: format!("secret {}", d.path),
                before: version(d.before),
                after: version(d.after),
            }),
    );
    found
}

fn scaled(before: u32, after: u32) -> Difference {
    Difference {
        path: "replicas".to_owned(),
        before: Some(before.to_string()),
        after: Some(after.to_string()),
    }
}

fn instances(count: u32) -> String {
    match count {
        1 => "1 instance".to_owned(),
        n => format!("{n} instances"),
    }
}

fn manner(inputs: &Inputs<'_>, service: &ServiceName, from: &GroupId) -> String {
    match (inputs.pace, inputs.desired.services.get(service)) {
        (Pace::ByPolicy, Some(desired)) if desired.replicas == 0 => {
            "at once: no instances are wanted".to_owned()
        }
        (Pace::ByPolicy, Some(_)) if !is_worth_judging(inputs, from) => {
            "at once: what is there does not serve".to_owned()
        }
        (Pace::ByPolicy, Some(desired)) => describe(&desired.rollout),
        _ => "at once".to_owned(),
    }
}

/// A rollout policy in a few words: `canary copies of 10%, 1%, 5%, 25%, 50%`.
fn describe(rollout: &Rollout) -> String {
    let copies = (rollout.mirror > Percent::NONE).then(|| format!("copies of {}", rollout.mirror));
    let stages: Vec<String> = match rollout.strategy {
        Strategy::Canary => {
            let steps = rollout.steps.iter().map(ToString::to_string);
            copies.into_iter().chain(steps).collect()
        }
        Strategy::BlueGreen => copies.into_iter().collect(),
        Strategy::Rolling => Vec::new(),
    };
    let way = rollout.strategy.as_str();
    if stages.is_empty() {
        way.to_owned()
    } else {
        format!("{way} {}", stages.join(", "))
    }
}
