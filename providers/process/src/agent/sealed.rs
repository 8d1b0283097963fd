//! Secrets at rest: sealed away, so that everything can be started again after a restart of the machine.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;

use platform_blueprint::SecretName;
use platform_port::{SecretValue, SecretValues};
use platform_secrets::Keyring;

use super::state::{Agent, Secrets};
use crate::durable::{self, Survives};
use crate::layout::Layout;
use crate::protocol::Fault;

/// Who holds the gateway's secrets; no group is called so, as each has its version.
const GATEWAY: &str = "gateway";
/// Who holds what the environment's own authority signs with.
const AUTHORITY: &str = "authority";

/// What was sealed away; nothing if it cannot be opened.
pub(super) fn load(layout: &Layout) -> Secrets {
    let Ok(sealed) = fs::read(layout.sealed_secrets()) else {
        return Secrets::default();
    };
    let open = || -> Result<Secrets, Box<dyn Error>> {
        let plain = Keyring::load_or_create()?.open(&sealed)?;
        unpack(&plain)
    };
    open().unwrap_or_else(|error| {
        tracing::error!(%error, "secrets cannot be unsealed; they come with the next deploy");
        Secrets::default()
    })
}

/// Seals what is held now.
///
/// # Errors
///
/// If there is no identity to seal it for, or the folder takes no writes.
pub(super) fn save(agent: &Agent) -> Result<(), Fault> {
    let seal = || -> Result<Vec<u8>, Box<dyn Error>> {
        let plain = pack(&agent.secrets.borrow())?;
        Ok(Keyring::load_or_create()?.seal(&plain)?)
    };
    let sealed = seal().map_err(|error| {
        Fault::new(
            "secrets::not-sealed",
            format!("cannot seal secrets: {error}"),
        )
    })?;
    let path = agent.layout.sealed_secrets();
    durable::replace(&path, &sealed, Survives::PowerLoss)?;
    Ok(())
}

fn pack(secrets: &Secrets) -> serde_json::Result<Vec<u8>> {
    let gateway = (GATEWAY.to_owned(), &secrets.gateway);
    let authority = (AUTHORITY.to_owned(), &secrets.authority);
    let groups = secrets
        .groups
        .iter()
        .map(|(id, values)| (id.to_string(), values));
    let plain: BTreeMap<String, BTreeMap<&SecretName, &str>> = groups
        .chain([gateway, authority])
        .map(|(holder, values)| {
            let values = values.iter().map(|(name, value)| (name, value.reveal()));
            (holder, values.collect())
        })
        .collect();
    serde_json::to_vec(&plain)
}

fn unpack(plain: &[u8]) -> Result<Secrets, Box<dyn Error>> {
    let values: BTreeMap<String, BTreeMap<SecretName, String>> = serde_json::from_slice(plain)?;
    let mut secrets = Secrets::default();
    for (holder, values) in values {
        let values: SecretValues = values
            .into_iter()
            .map(|(name, value)| (name, SecretValue::new(value)))
            .collect();
        match holder.as_str() {
            GATEWAY => secrets.gateway = values,
            AUTHORITY => secrets.authority = values,
            group => {
                secrets.groups.insert(group.parse()?, values);
            }
        }
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked() {
        let values = |text: &str| {
            SecretValues::from([("key".parse().unwrap(), SecretValue::new(text.to_owned()))])
        };
        let secrets = Secrets {
            groups: BTreeMap::from([("orders@r1".parse().unwrap(), values("one"))]),
            gateway: values("two"),
            authority: values("three"),
        };
        let found = unpack(&pack(&secrets).unwrap()).unwrap();
        assert_eq!(found.groups, secrets.groups);
        assert_eq!(found.gateway, secrets.gateway);
        assert_eq!(found.authority, secrets.authority);
    }
}
