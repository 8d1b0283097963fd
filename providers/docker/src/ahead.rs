//! Instances that are made before they are asked for: their containers are there with all that they are handed, and do not run.

use futures::future::{join_all, try_join, try_join_all};
use platform_decide::group::GroupSpec;
use platform_port::{SecretValues, TargetError};

use crate::group::{Ready, is_address_taken};
use crate::names::instance_name;
use crate::network::Network;
use crate::observe::Found;
use crate::site::{Site, lock};

impl Site {
    /// Makes instances that a group will soon be brought to, and starts none.
    pub(crate) async fn prepare_group(
        &self,
        group: &GroupSpec,
        secrets: &SecretValues,
    ) -> Result<(), TargetError> {
        let _making = self.making_ahead.read().await;
        let (network, there) = try_join(self.ensure_network(), self.instances(&group.id)).await?;
        let mut places = group.places();
        for number in there.keys() {
            places.take(*number);
        }
        let fresh = places.fill(|number| there.contains_key(&number));
        if fresh.is_empty() {
            return Ok(());
        }
        let ready = self.prepare(group, secrets, network).await?;
        let make = fresh.iter().map(|number| self.make_ahead(&ready, *number));
        try_join_all(make).await?;
        Ok(())
    }

    async fn make_ahead(&self, ready: &Ready<'_>, number: u32) -> Result<(), TargetError> {
        let own = self.surroundings(ready, number)?;
        self.make(ready, number, &own, &[]).await?;
        let name = instance_name(&ready.group.id, number);
        lock(&self.made_ahead).insert(name);
        Ok(())
    }

    /// Starts instances that were made ahead: nothing is left to be done for them but that.
    ///
    /// - `with`: secrets of their service, and the network, for one that has to be made anew
    pub(crate) async fn start_made(
        &self,
        group: &GroupSpec,
        numbers: &[u32],
        with: (&SecretValues, &Network),
    ) -> Result<(), TargetError> {
        let starts = numbers.iter().map(|number| async move {
            let name = self.names.instance(&group.id, *number);
            let Err(error) = self.start(&name).await else {
                return Ok(());
            };
            // It would hold its number, and the next try would take another.
            self.remove(&name, None).await?;
            if is_address_taken(&error) {
                self.bring_all(group, &[*number], with).await
            } else {
                Err(error.about(group.id.clone()))
            }
        });
        join_all(starts).await.into_iter().collect()
    }

    /// Whether this run made an instance for the very spec, secrets and all, and nobody started it yet.
    pub(crate) fn is_made_ahead(&self, group: &GroupSpec, one: &Found) -> bool {
        !one.was_started()
            && one.digest == group.digest
            && one.changed.is_none()
            && lock(&self.made_ahead).contains(&one.name())
    }
}
