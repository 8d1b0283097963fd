//! Certificates of services that speak mtls: who signs them is the keeper; here it is told for whom, and the gateway where they lie.

use std::path::Path;

use platform_blueprint::{Service, ServiceName};
use platform_decide::group::GroupSpec;
use platform_port::TargetError;
use platform_traffic::Mutual;
use platform_traffic::certificates::authority_file;

use crate::gateway::{CERTIFICATES, Routed};
use crate::inside::{AUTHORITY_FILE, Answer, Ask, GATEWAY_FILE, SHOWN, SigningAsk};
use crate::keeper::{Reach, unexpected};
use crate::observe::Found;
use crate::site::Site;

/// Whether the instances of a service show certificates.
pub(crate) fn is_certified(service: &Service) -> bool {
    service.protocol.is_mutual() && service.port.is_some()
}

/// How the gateway asks those instances that speak mtls; nothing where there are none.
///
/// Its files stay the same, as it sees by itself when their content changes.
pub(crate) fn mutual(found: &[Found]) -> Option<Mutual> {
    let own = found
        .iter()
        .filter(|one| one.address.is_some() && one.keep.protocol.is_mutual());
    let groups: std::collections::BTreeSet<_> = own.map(|one| one.group.clone()).collect();
    let own = Path::new(SHOWN).join(GATEWAY_FILE);
    (!groups.is_empty()).then(|| Mutual {
        groups,
        authority: Path::new(SHOWN).join(AUTHORITY_FILE),
        certificate: own.clone(),
        key: own,
    })
}

impl Site {
    /// What shows the keeper that somebody is an instance of a service.
    pub(crate) async fn token(&self, service: &ServiceName) -> Result<String, TargetError> {
        // What is signed first lasts no longer than it is to.
        let routed = self.routed(Reach::Make).await?;
        self.certify_gateway(&routed).await?;
        let ask = SigningAsk::Token {
            service: service.to_string(),
        };
        match self.ask(Ask::Signing(ask), Reach::Make).await? {
            Some(Answer::Credential(token)) => Ok(token),
            other => Err(unexpected("have certificates signed", other)),
        }
    }

    /// Brings the gateway the authorities of a group that shows certificates of its own.
    pub(crate) async fn hand_authority(&self, group: &GroupSpec) -> Result<(), TargetError> {
        let Some(text) = &group.spec.authority else {
            return Ok(());
        };
        let file = authority_file(Path::new(""), text).display().to_string();
        let file = (file, 0o444, 0, text.clone().into_bytes());
        self.upload(&self.names.gateway(), CERTIFICATES, &[file])
            .await
    }

    /// Has the gateway find certificates of its own, which last as long as was asked for.
    pub(crate) async fn certify_gateway(&self, routed: &Routed) -> Result<(), TargetError> {
        let traffic = routed.traffic.as_ref();
        let gateway = traffic.map_or(&self.published, |traffic| &traffic.ingress.gateway);
        let ask = SigningAsk::Lasts {
            seconds: gateway.mtls.lasts.duration().as_secs(),
        };
        match self.ask(Ask::Signing(ask), Reach::Make).await? {
            Some(Answer::Done) => Ok(()),
            other => Err(unexpected("have the gateway's certificate signed", other)),
        }
    }
}
