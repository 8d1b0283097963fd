//! The Redis through which gateways count together, as the gateway is told of it.

use std::path::{Path, PathBuf};

use platform_decide::desired::Ingress;
use platform_port::{SecretValue, SecretValues, TargetError};

use crate::gateway::CERTIFICATES;
use crate::keeper::Reach;
use crate::program::USER;
use crate::site::Site;
use crate::surroundings::Address;

/// Where gateways count together.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The file beside the certificates that the gateway finds the address in.
    pub(crate) file: PathBuf,
    /// The address, password and all.
    address: SecretValue,
}

impl Site {
    /// Where gateways count together; nothing where the ingress does not ask for it or no server stands behind the resource.
    pub(crate) async fn shared(
        &self,
        ingress: &Ingress,
        secrets: &SecretValues,
    ) -> Result<Option<Shared>, TargetError> {
        let Some(name) = &ingress.gateway.shared else {
            return Ok(None);
        };
        let wanted = self.wanted(Reach::Make).await?;
        let Some(wanted) = wanted.resources.get(name) else {
            return Ok(None);
        };
        let Address::Secret(address) = self.resource_address(name, secrets).await? else {
            return Ok(None);
        };
        let beside = Path::new("");
        let file = platform_traffic::shared_file(beside, ingress, &wanted.resource, &address);
        Ok(file.map(|file| Shared {
            file,
            address: SecretValue::new(address),
        }))
    }

    /// Brings the gateway the address, which it alone may read.
    pub(crate) async fn hand_shared(&self, shared: &Shared) -> Result<(), TargetError> {
        let text = shared.address.reveal().as_bytes().to_vec();
        let file = (shared.file.display().to_string(), 0o400, USER, text);
        self.upload(&self.names.gateway(), CERTIFICATES, &[file])
            .await
    }
}
