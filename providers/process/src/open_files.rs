//! Whether the agent may open as many files as it needs.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};
use platform_decide::desired::Desired;
use platform_port::{Finding, Severity};

use crate::client;
use crate::layout::Layout;

/// Files of an agent without instances, and as many for what it does at once: requests to it, probes, logs.
const OWN: u64 = 24;
/// Files for each instance: three that stay, and one while it starts.
const EACH: u64 = 4;

/// Looks for a limit on open files that a deploy of `desired` would meet.
pub(crate) fn preflight(layout: &Layout, desired: &Desired) -> Option<Finding> {
    // An agent that runs keeps the limit it was started with; one that does not is given ours.
    let agent = client::record(layout);
    let limit = match &agent {
        Some(record) => {
            let path = format!("/proc/{}/limits", record.process.pid);
            hard_limit(&fs::read_to_string(path).ok()?)?
        }
        None => getrlimit(Resource::RLIMIT_NOFILE).ok()?.1,
    };
    let replicas = desired.services.values();
    let instances = replicas.map(|service| u64::from(service.replicas)).sum();
    judge(limit, instances, agent.is_some())
}

/// The hard limit in a process's `limits`, as proc(5) has it.
fn hard_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn judge(limit: u64, instances: u64, runs: bool) -> Option<Finding> {
    let least = OWN + EACH * instances;
    // A rollout has old instances beside the new.
    let severity = match limit {
        _ if limit < least => Severity::Error,
        _ if limit < least + EACH * instances => Severity::Warning,
        _ => return None,
    };
    let needed = least + EACH * instances;
    let help = if runs {
        format!(
            "run `platform stop`, and `platform deploy` from a shell where `ulimit -Hn` is {needed} or more"
        )
    } else {
        format!(
            "raise the limit where this shell was given it to {needed} or more; `ulimit -Hn` shows it"
        )
    };
    Some(Finding {
        code: "preflight::open-files".to_owned(),
        severity,
        subject: None,
        message: format!(
            "the agent may open no more than {limit} files, and needs {needed} to replace {instances} instances"
        ),
        help: Some(help),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_as_the_kernel_writes_it() {
        let limits = |hard: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max processes             95841                95841                processes \n\
                 Max open files            1024                 {hard:<20} files     \n"
            )
        };
        assert_eq!(hard_limit(&limits("524288")), Some(524_288));
        assert_eq!(hard_limit(&limits("unlimited")), Some(u64::MAX));
        assert_eq!(hard_limit(""), None);
    }

    #[test]
    fn what_is_bound_to_fail_is_an_error_and_what_a_rollout_meets_a_warning() {
        let check = |limit, instances| judge(limit, instances, false).map(|found| found.severity);
        assert_eq!(check(16, 0), Some(Severity::Error));
        assert_eq!(check(24, 0), None);
        assert_eq!(check(35, 3), Some(Severity::Error));
        assert_eq!(check(36, 3), Some(Severity::Warning));
        assert_eq!(check(48, 3), None);
        assert_eq!(check(1024, 100), None);
        let help = judge(16, 3, true).and_then(|found| found.help).unwrap();
        assert!(help.contains("`platform stop`"), "{help}");
    }
}
