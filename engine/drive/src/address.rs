//! Where clients reach the gateway, and what becomes of those that know no other place.

use std::net::{IpAddr, SocketAddr};

use platform_blueprint::Gateway;
use platform_decide::plan::{ChangeKind, Plan, Subject};
use platform_decide::release::Release;
use platform_port::{Finding, Severity};

/// Tells where a plan leaves an address that the gateway serves now.
pub(crate) fn left(plan: &Plan, current: Option<&Release>) -> Vec<Finding> {
    let moves = plan
        .changes
        .iter()
        .any(|change| change.subject == Subject::Gateway && change.kind == ChangeKind::Update);
    match current {
        Some(current) if moves => {
            let (before, after) = (&current.ingress.gateway, &plan.release.ingress.gateway);
            addresses_left(before, after)
        }
        _ => Vec::new(),
    }
}

/// The addresses of a gateway, with the keys that set them.
fn addresses(gateway: &Gateway) -> impl Iterator<Item = (SocketAddr, &'static str)> {
    let at = |port: u16| SocketAddr::new(gateway.address, port);
    let tls = gateway.tls.as_ref();
    let tls = tls.map(move |tls| (at(tls.port.get()), "gateway.tls.port"));
    std::iter::once((at(gateway.port.get()), "gateway.port")).chain(tls)
}

fn addresses_left(before: &Gateway, after: &Gateway) -> Vec<Finding> {
    let reaches = |new: SocketAddr, old: SocketAddr| {
        let everywhere = match new.ip() {
            IpAddr::V4(ip) => ip.is_unspecified() && old.is_ipv4(),
            IpAddr::V6(ip) => ip.is_unspecified(),
        };
        new.port() == old.port() && (everywhere || new.ip() == old.ip())
    };
    let stays = |old: SocketAddr| addresses(after).any(|(new, _)| reaches(new, old));
    addresses(before)
        .filter(|(old, _)| !stays(*old))
        .map(|(old, key)| {
            let new = addresses(after).find(|(_, other)| *other == key);
            let goes = new.map_or_else(String::new, |(new, _)| format!(" for {new}"));
            Finding {
                code: "preflight::address-left".to_owned(),
                severity: Severity::Warning,
                subject: Some("gateway".to_owned()),
                message: format!(
                    "the gateway leaves {old}{goes}: whoever still calls {old} is refused"
                ),
                help: Some(format!(
                    "let clients know the new address first, or leave `{key}` and `gateway.address` as they are"
                )),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use platform_blueprint::{Port, Tls};

    use super::*;

    fn gateway(address: &str, port: u16, tls: Option<u16>) -> Gateway {
        let port_of = |port| Port::new(port).unwrap();
        Gateway {
            address: address.parse().unwrap(),
            port: port_of(port),
            tls: tls.map(|port| Tls {
                port: port_of(port),
                ..Tls::default()
            }),
            ..Gateway::default()
        }
    }

    #[test]
    fn an_address_that_nobody_serves_any_more_is_told() {
        let here = "127.0.0.1";
        for (before, after, told) in [
            (
                gateway(here, 80, None),
                gateway(here, 80, Some(443)),
                vec![],
            ),
            (
                gateway(here, 80, None),
                gateway("0.0.0.0", 80, None),
                vec![],
            ),
            (
                gateway(here, 80, None),
                gateway(here, 81, None),
                vec!["leaves 127.0.0.1:80 for 127.0.0.1:81:"],
            ),
            (
                gateway("0.0.0.0", 80, Some(443)),
                gateway(here, 80, Some(443)),
                vec![
                    "leaves 0.0.0.0:80 for 127.0.0.1:80:",
                    "leaves 0.0.0.0:443 for 127.0.0.1:443:",
                ],
            ),
            (
                gateway(here, 80, Some(443)),
                gateway(here, 80, None),
                vec!["leaves 127.0.0.1:443: whoever"],
            ),
        ] {
            let found = addresses_left(&before, &after);
            assert_eq!(found.len(), told.len(), "{found:?}");
            for (finding, words) in found.iter().zip(told) {
                assert!(finding.message.contains(words), "{finding:?}");
            }
        }
    }
}
