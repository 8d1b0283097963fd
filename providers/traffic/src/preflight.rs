//! What a blueprint asks of the gateway that no target can do yet.

use platform_blueprint::Protocol;
use platform_decide::desired::Ingress;
use platform_port::{Finding, Severity};

/// Finds what would otherwise be done less safely than it was asked for.
pub fn preflight(ingress: &Ingress) -> Vec<Finding> {
    let secured = |(_, upstream): &(_, &platform_decide::desired::Upstream)| {
        upstream.protocol == Protocol::Mtls
    };
    let refused = ingress.services.iter().filter(secured).map(|(name, _)| Finding {
        code: "preflight::mtls".to_owned(),
        severity: Severity::Error,
        subject: Some(name.to_string()),
        message: format!("`{name}` wants TLS with the project's own certificates, which are not issued yet"),
        help: Some("write `protocol = \"http\"`; instances listen on loopback or on the environment's own network".to_owned()),
    });
    refused.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_never_asked_in_the_clear_that_wanted_tls() {
        let mut ingress = crate::tests::ingress();
        assert_eq!(preflight(&ingress), []);
        for upstream in ingress.services.values_mut() {
            upstream.protocol = Protocol::Mtls;
        }
        let found = preflight(&ingress);
        assert_eq!(found[0].subject.as_deref(), Some("orders"));
        assert_eq!(found[0].severity, Severity::Error);
    }
}
