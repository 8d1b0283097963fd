//! Ending processes: asked first, then made to, and nothing is left.

use std::pin::Pin;
use std::time::Duration;

use nix::sys::signal::Signal;
use platform_blueprint::StopSignal;

use super::child::Child;
use super::state::Agent;
use crate::identity::ProcessIdentity;
use crate::keeper::ProcessEnd;
use crate::process_table;

/// Looks for what is left of an instance before giving up.
const ROUNDS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// The signal that a service is asked with.
pub(super) fn signal_of(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Term => Signal::SIGTERM,
        StopSignal::Int => Signal::SIGINT,
        StopSignal::Quit => Signal::SIGQUIT,
        StopSignal::Hup => Signal::SIGHUP,
        StopSignal::Usr1 => Signal::SIGUSR1,
        StopSignal::Usr2 => Signal::SIGUSR2,
        StopSignal::Winch => Signal::SIGWINCH,
    }
}

/// Asks all processes of an instance to end, waits for the first of them, and kills it when its time is up.
pub(super) async fn end(
    agent: &Agent,
    instance: &str,
    child: &Child,
    ended: &mut Pin<&mut impl Future<Output = ProcessEnd>>,
    signal: Signal,
    grace: Duration,
) -> ProcessEnd {
    let leader = Some(&child.identity);
    process_table::signal_members(leader, agent.layout.tag(), instance, signal);
    if let Ok(end) = tokio::time::timeout(grace, ended.as_mut()).await {
        return end;
    }
    tracing::warn!(instance, "did not end in time and is killed");
    process_table::signal_members(leader, agent.layout.tag(), instance, Signal::SIGKILL);
    ended.as_mut().await
}

/// Kills whatever is left of an instance and waits until it is gone.
pub(super) async fn end_members(agent: &Agent, instance: &str, leader: Option<&ProcessIdentity>) {
    let groups = agent.control_groups.existing(instance);
    for _ in 0..ROUNDS {
        let tag = agent.layout.tag();
        let mut left = process_table::signal_members(leader, tag, instance, Signal::SIGKILL);
        for pid in groups.processes() {
            if let Ok(identity) = ProcessIdentity::of(pid)
                && identity.alive()
                && identity.signal(Signal::SIGKILL)
            {
                left += 1;
            }
        }
        if left == 0 {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    tracing::error!(instance, "processes are left that cannot be killed");
}

/// Kills whatever is left of an instance, without waiting.
pub(super) fn end_members_now(agent: &Agent, instance: &str, leader: Option<&ProcessIdentity>) {
    process_table::signal_members(leader, agent.layout.tag(), instance, Signal::SIGKILL);
}
