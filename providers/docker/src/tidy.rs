//! What nobody asks for any more: left by runs that were killed, by builds of ours that are gone, by releases long past.

use std::collections::BTreeSet;

use bollard::models::ContainerSummary;
use bollard::query_parameters::RemoveVolumeOptions;
use platform_decide::release::Release;
use platform_port::TargetError;

use crate::engine::{fault, is_conflict, is_missing, unless};
use crate::names::{GROUP, RESOURCE, Role};
use crate::site::{Site, is_of};

impl Site {
    /// Removes what nobody asks for any more. Whoever calls holds the environment's lock, and sets nothing up meanwhile.
    ///
    /// - `releases`: those that may still be asked for
    pub(crate) async fn tidy(&self, releases: &[Release]) -> Result<(), TargetError> {
        let mut seen = self.everything().await?;
        let is_own = |labels: Option<&_>| labels.is_some_and(|labels| self.names.own(labels));
        let containers = seen.containers.iter();
        let own = containers.filter(|one| is_own(one.labels.as_ref()));
        let (plumbing, others): (Vec<_>, Vec<_>) = own.partition(|one| is_of(one, Role::Plumbing));
        // They prepare a volume and end; whoever waited for this one was killed.
        for one in plumbing {
            self.remove(one.id.as_deref().unwrap_or_default(), None)
                .await?;
        }
        let kept = others.into_iter().filter_map(owner);
        let kept: BTreeSet<String> = kept.map(|owner| self.names.secrets(owner)).collect();
        let needed = self.program_volume(&self.program()?.build);
        let (secrets, programs) = (self.names.secrets(""), self.names.plumbing("program-"));
        let mut gone = BTreeSet::new();
        for volume in seen.volumes.iter().filter(|one| is_own(Some(&one.labels))) {
            let name = &volume.name;
            let of_nobody = name.starts_with(&secrets) && !kept.contains(name);
            let of_another = name.starts_with(&programs) && *name != needed;
            if of_nobody || of_another {
                let options = None::<RemoveVolumeOptions>;
                let removed = self.engine.docker.remove_volume(name, options).await;
                // What is in use is needed, and refused.
                let is_gone = !removed.as_ref().is_err_and(is_conflict);
                unless(|error| is_missing(error) || is_conflict(error), removed)
                    .map_err(|error| fault(format!("remove volume `{name}`"), error))?;
                if is_gone {
                    gone.insert(name.clone());
                }
            }
        }
        seen.volumes.retain(|volume| !gone.contains(&volume.name));
        self.tidy_programs(&seen).await?;
        self.tidy_logs(releases).await?;
        self.tidy_built(releases, &seen).await
    }
}

/// The group or the resource that a container is of.
fn owner(one: &ContainerSummary) -> Option<&str> {
    let labels = one.labels.as_ref()?;
    let owner = labels.get(GROUP).or_else(|| labels.get(RESOURCE));
    owner.map(String::as_str)
}
