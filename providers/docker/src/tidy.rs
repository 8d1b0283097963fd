//! What nobody asks for any more: left by runs that were killed, or by builds of ours that are gone.

use std::collections::BTreeSet;

use bollard::models::ContainerSummary;
use bollard::query_parameters::RemoveVolumeOptions;
use futures::future::try_join;
use platform_port::TargetError;

use crate::engine::{fault, is_conflict, is_missing, unless};
use crate::names::{GROUP, RESOURCE, Role};
use crate::site::{Site, is_of};

impl Site {
    /// Removes what nobody asks for any more. Whoever calls holds the environment's lock, and sets nothing up meanwhile.
    pub(crate) async fn tidy(&self) -> Result<(), TargetError> {
        let (containers, volumes) = try_join(self.containers(), self.volumes()).await?;
        // They prepare a volume and end; whoever waited for this one was killed.
        for one in containers.iter().filter(|one| is_of(one, Role::Plumbing)) {
            self.remove(one.id.as_deref().unwrap_or_default(), None)
                .await?;
        }
        let kept: BTreeSet<String> = containers
            .iter()
            .filter_map(owner)
            .map(|owner| self.names.secrets(owner))
            .collect();
        let program = self.program()?;
        let own = self.program_volume(&program.build);
        let (secrets, programs) = (self.names.secrets(""), self.names.plumbing("program-"));
        for volume in volumes {
            let name = &volume.name;
            let of_nobody = name.starts_with(&secrets) && !kept.contains(name);
            let of_another = name.starts_with(&programs) && *name != own;
            if of_nobody || of_another {
                let options = None::<RemoveVolumeOptions>;
                let removed = self.engine.docker.remove_volume(name, options).await;
                // What is in use is needed, and refused.
                unless(|error| is_missing(error) || is_conflict(error), removed)
                    .map_err(|error| fault(format!("remove volume `{name}`"), error))?;
            }
        }
        program.sweep(&self.engine).await;
        Ok(())
    }
}

/// The group or the resource that a container is of.
fn owner(one: &ContainerSummary) -> Option<&str> {
    let labels = one.labels.as_ref()?;
    let owner = labels.get(GROUP).or_else(|| labels.get(RESOURCE));
    owner.map(String::as_str)
}
