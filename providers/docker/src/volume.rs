//! Volumes of the environment.

use std::collections::HashMap;

use bollard::models::{Volume, VolumeCreateRequest};
use bollard::query_parameters::ListVolumesOptions;
use platform_port::TargetError;

use crate::engine::{fault, is_missing};
use crate::names::Role;
use crate::site::{Site, taken};

impl Site {
    /// Creates a volume where there is none.
    ///
    /// # Errors
    ///
    /// `docker::name-taken` where somebody else's has the name.
    pub(crate) async fn volume(
        &self,
        name: &str,
        labels: HashMap<String, String>,
    ) -> Result<(), TargetError> {
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..VolumeCreateRequest::default()
        };
        let made = self.engine.docker.create_volume(request).await;
        let made = made.map_err(|error| fault(format!("create volume `{name}`"), error))?;
        if self.names.own(&made.labels) {
            Ok(())
        } else {
            Err(taken("volume", name))
        }
    }

    /// Volumes of the environment.
    pub(crate) async fn volumes(&self) -> Result<Vec<Volume>, TargetError> {
        let options = ListVolumesOptions {
            filters: Some(self.names.filter()),
        };
        let listed = self.engine.docker.list_volumes(Some(options)).await;
        let listed = listed.map_err(|error| fault("look at the volumes", error))?;
        Ok(listed.volumes.unwrap_or_default())
    }

    /// A volume that holds nothing of the user's.
    pub(crate) async fn plumbing(&self, name: &str) -> Result<(), TargetError> {
        self.volume(name, self.names.labels(Role::Plumbing)).await
    }

    /// Whether there is such a volume.
    pub(crate) async fn has_volume(&self, name: &str) -> Result<bool, TargetError> {
        match self.engine.docker.inspect_volume(name).await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(fault(format!("look at volume `{name}`"), error)),
        }
    }
}
