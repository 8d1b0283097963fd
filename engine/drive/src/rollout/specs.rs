//! What the groups of a rollout run.

use std::collections::BTreeMap;

use platform_decide::group::{GroupId, GroupSpec};
use platform_decide::plan::Plan;
use platform_decide::release::Release;
use platform_decide::rollout::State;
use platform_port::{Store, StoreError};

use crate::releases;

/// The spec of each group that a rollout may start.
#[derive(Debug, Default)]
pub(super) struct Specs {
    groups: BTreeMap<GroupId, GroupSpec>,
}

impl Specs {
    /// Finds what new and old groups run: in the plan, in the release that serves, or in the one that introduced it.
    pub(super) async fn of(
        store: &dyn Store,
        plan: &Plan,
        current: Option<&Release>,
        state: &State,
    ) -> Result<Self, StoreError> {
        let mut specs = Self::default();
        for member in &state.members {
            let known = [Some(&plan.release), current];
            for group in [&member.to, &member.from] {
                let mut found = known
                    .iter()
                    .flatten()
                    .find_map(|release| spec_in(release, group));
                if found.is_none() {
                    let introduced_by = releases::release(store, group.version).await?;
                    found = introduced_by.and_then(|release| spec_in(&release, group));
                }
                if let Some(spec) = found {
                    specs.groups.insert(group.clone(), spec);
                }
            }
            if let Some(old) = specs.groups.get(&member.from) {
                let baseline = GroupSpec {
                    id: member.baseline(),
                    ..old.clone()
                };
                specs.groups.insert(member.baseline(), baseline);
            }
        }
        Ok(specs)
    }

    /// The group with so many instances.
    pub(super) fn group(&self, id: &GroupId, replicas: u32) -> Option<GroupSpec> {
        self.groups.get(id).map(|spec| GroupSpec {
            replicas,
            ..spec.clone()
        })
    }
}

fn spec_in(release: &Release, group: &GroupId) -> Option<GroupSpec> {
    let placed = release.services.get(&group.service)?;
    (placed.version == group.version).then(|| placed.group(&group.service))
}
