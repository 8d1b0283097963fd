//! What the names of services, resources and the gateway stand for.

use platform_blueprint::{Engine, Resolved, ResourceName, ServiceName};
use platform_port::Party;

use crate::error::CliError;

/// The services of these names, which the blueprint must have.
pub(crate) fn known_services(
    resolved: &Resolved,
    names: &[impl AsRef<str>],
) -> Result<Vec<ServiceName>, CliError> {
    names
        .iter()
        .map(|name| known_service(resolved, name.as_ref()))
        .collect()
}

/// The service of this name, which the blueprint must have.
pub(crate) fn known_service(resolved: &Resolved, name: &str) -> Result<ServiceName, CliError> {
    let parsed = ServiceName::new(name).ok();
    if let Some(parsed) = parsed.filter(|name| resolved.services.contains_key(name)) {
        return Ok(parsed);
    }
    let services = resolved.services.keys().map(ServiceName::as_str);
    Err(unknown(resolved, name, services))
}

/// The service of this name, or the resource with a server of ours; the blueprint must have it.
pub(crate) fn known_server(resolved: &Resolved, name: &str) -> Result<Party, CliError> {
    let Some((resource_name, resource)) = resolved.resources.get_key_value(name) else {
        let services = resolved.services.keys().map(ServiceName::as_str);
        let resources = resolved.resources.keys().map(ResourceName::as_str);
        return known_service(resolved, name)
            .map(Party::Service)
            .map_err(|_| unknown(resolved, name, services.chain(resources)));
    };
    let code = "resource::no-server";
    if let Some(external) = &resource.external {
        let message = format!("the server of `{name}` runs elsewhere");
        return Err(CliError::new(code, message).help(format!(
            "look at it there: its address is secret `{}`",
            external.secret
        )));
    }
    if resource.engine == Engine::Embedded {
        let message = format!("`{name}` has no server: it is embedded in what needs it");
        return Err(CliError::new(code, message)
            .help("look at the service that needs it; `platform status` says where the data are"));
    }
    Ok(Party::Resource(resource_name.clone()))
}

/// What writes a log under this name: the gateway, too.
pub(crate) fn known_party(resolved: &Resolved, name: &str) -> Result<Party, CliError> {
    if name == Party::Gateway.as_str() {
        return Ok(Party::Gateway);
    }
    known_server(resolved, name)
}

fn unknown<'a>(
    resolved: &Resolved,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> CliError {
    let near = known
        .clone()
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(likeness, _)| 0.7 < *likeness)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let help = if let Some((_, near)) = near {
        format!("did you mean `{near}`?")
    } else {
        let names = known.map(|name| format!("`{name}`"));
        format!("it has {}", names.collect::<Vec<_>>().join(", "))
    };
    let message = format!(
        "environment `{}` has no service `{name}`",
        resolved.environment.name
    );
    CliError::new("usage::unknown-service", message).help(help)
}
