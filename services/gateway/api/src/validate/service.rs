//! What is wrong with a service.

use std::collections::BTreeSet;

use super::Reasons;
use super::text::is_host_and_port;
use crate::{Role, Service};

pub(super) fn check_service(service: &Service, path: &str, reasons: &mut Reasons) {
    let mut ids = BTreeSet::new();
    for (name, version) in &service.versions {
        let path = format!("{path}.versions.{name}");
        reasons.unless(!name.is_empty(), &path, "must have a name");
        reasons.unless(
            version.weight <= 1000,
            format!("{path}.weight"),
            format!("{} is more than 1000 thousandths", version.weight),
        );
        reasons.unless(
            version.role.takes_traffic() || version.weight == 0,
            format!("{path}.weight"),
            "must be 0 for the roles `preview` and `shadow`",
        );
        for (index, endpoint) in version.endpoints.iter().enumerate() {
            let path = format!("{path}.endpoints.{index}");
            reasons.unless(
                !endpoint.id.is_empty(),
                format!("{path}.id"),
                "must not be empty",
            );
            reasons.unless(
                ids.insert(&endpoint.id),
                format!("{path}.id"),
                format!("`{}` is taken by another endpoint", endpoint.id),
            );
            reasons.unless(
                is_host_and_port(&endpoint.address),
                format!("{path}.address"),
                format!("`{}` is not host:port", endpoint.address),
            );
        }
    }
    if let Some(tls) = &service.tls {
        reasons.unless(
            tls.certificate.is_some() == tls.key.is_some(),
            format!("{path}.tls"),
            "needs both `certificate` and `key`, or neither",
        );
    }
    for (index, wanted) in service.overrides.iter().enumerate() {
        let path = format!("{path}.overrides.{index}");
        reasons.unless(
            wanted.header.is_some() != wanted.cookie.is_some(),
            &path,
            "needs either `header` or `cookie`",
        );
        reasons.unless(
            service.versions.contains_key(&wanted.version),
            format!("{path}.version"),
            format!("names no version: `{}`", wanted.version),
        );
    }
    if let Some(health) = &service.health {
        reasons.unless(
            health.path.starts_with('/'),
            format!("{path}.health.path"),
            "must start with `/`",
        );
        for (version, asked) in &health.paths {
            reasons.unless(
                asked.is_empty() || asked.starts_with('/'),
                format!("{path}.health.paths.{version}"),
                "must be empty or start with `/`",
            );
        }
        for (key, value) in [
            ("every_ms", health.every_ms),
            ("timeout_ms", health.timeout_ms),
            ("healthy_after", health.healthy_after.into()),
            ("unhealthy_after", health.unhealthy_after.into()),
        ] {
            reasons.unless(
                value > 0,
                format!("{path}.health.{key}"),
                "must be at least 1",
            );
        }
    }
    reasons.unless(
        service.outliers.floor_percent <= 100,
        format!("{path}.outliers.floor_percent"),
        "is more than 100",
    );
    check_copies(service, path, reasons);
    check_breaker(service, path, reasons);
}

fn check_copies(service: &Service, path: &str, reasons: &mut Reasons) {
    if let Some(copies) = &service.copies {
        let path = format!("{path}.copies");
        let shadow = service.versions.get(&copies.version);
        reasons.unless(
            shadow.is_some_and(|version| version.role == Role::Shadow),
            format!("{path}.version"),
            format!(
                "names no version of the role `shadow`: `{}`",
                copies.version
            ),
        );
        if let Some(of) = &copies.of {
            reasons.unless(
                service.versions.contains_key(of),
                format!("{path}.of"),
                format!("names no version: `{of}`"),
            );
        }
        reasons.unless(
            copies.share <= 1000,
            format!("{path}.share"),
            "is more than 1000",
        );
    }
}

fn check_breaker(service: &Service, path: &str, reasons: &mut Reasons) {
    if let Some(breaker) = &service.breaker {
        reasons.unless(
            (1..=100).contains(&breaker.bad_percent),
            format!("{path}.breaker.bad_percent"),
            "must be 1 to 100",
        );
        for (key, value) in [
            ("window_ms", breaker.window_ms),
            ("rest_ms", breaker.rest_ms),
            ("at_least", breaker.at_least.into()),
        ] {
            reasons.unless(
                value > 0,
                format!("{path}.breaker.{key}"),
                "must be at least 1",
            );
        }
    }
}
