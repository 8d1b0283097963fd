//! What would go wrong, found before anything is touched: what no target can do, and what this one says.

use platform_blueprint::Protocol;
use platform_decide::desired::{Desired, Ingress, Upstream};
use platform_port::{Finding, Severity, Target, TargetError};

/// Looks for everything that would make a deploy of `desired` fail, or be less safe than it was asked for.
///
/// # Errors
///
/// If the target cannot be asked.
pub async fn preflight(
    target: &dyn Target,
    desired: &Desired,
) -> Result<Vec<Finding>, TargetError> {
    let mut found = refused(&desired.ingress);
    found.extend(target.preflight(desired).await?);
    Ok(found)
}

/// What a blueprint asks of the gateway that no target can do yet.
pub fn refused(ingress: &Ingress) -> Vec<Finding> {
    let secured = |upstream: &Upstream| upstream.protocol == Protocol::Mtls;
    let services = ingress.services.iter();
    services
        .filter(|(_, upstream)| secured(upstream))
        .map(|(name, _)| Finding {
            code: "preflight::mtls".to_owned(),
            severity: Severity::Error,
            subject: Some(name.to_string()),
            message: format!(
                "`{name}` wants TLS with the project's own certificates, which are not issued yet"
            ),
            help: Some(
                "write `protocol = \"http\"`; instances listen on loopback or on the environment's own network"
                    .to_owned(),
            ),
        })
        .collect()
}
