//! Watching one process of an instance: its health, its orders, its end.

use std::rc::Rc;
use std::time::{Duration, Instant};

use platform_blueprint::ServiceKind;
use platform_decide::group::GroupSpec;
use platform_decide::observed::InstanceState;
use rand::RngExt;
use tokio::sync::watch;

use super::child::Child;
use super::instance::{Instance, Order};
use super::state::Agent;
use super::{certificates, start, stop};
use crate::health_watch::{HealthWatch, Round, Verdict};
use crate::lifecycle::Ending;
use crate::probe::{Probe, Secured, local};
use crate::process_table;
use crate::recorded::Outcome;

/// Why watching a process came to an end.
pub(super) enum Watched {
    Ended(Ending),
    Stop,
}

/// Watches a process until it ends, must be ended, or is to be stopped.
pub(super) async fn watch(
    agent: &Rc<Agent>,
    instance: &Instance,
    spec: &GroupSpec,
    child: &Child,
    orders: &mut watch::Receiver<Order>,
) -> Watched {
    let service = &spec.spec.service;
    let begun = Instant::now();
    let record = instance.record().clone();
    let is_job = service.kind == ServiceKind::Job;
    let probe = probe(agent, instance, spec);
    let own = certificates::to_check_its_own(spec);
    let mut health = HealthWatch::new(&service.health, record.port.is_some(), record.ready, begun);
    let first = if record.ready {
        InstanceState::Ready
    } else {
        InstanceState::Starting
    };
    instance.show(agent, first, None);
    let ended = child.ended();
    tokio::pin!(ended);
    let why: String = loop {
        let next = health.next_at(agent.begun).filter(|_| !is_job);
        tokio::select! {
            biased;
            end = &mut ended => {
                let ran_for = begun.elapsed();
                let ending = Ending { end, ran_for, out_of_memory: false, ended_for: None };
                return Watched::Ended(ending);
            }
            changed = orders.changed() => {
                if changed.is_err() || *orders.borrow_and_update() == Order::Stop {
                    return Watched::Stop;
                }
            }
            round = round(agent, spec, (&probe, &own), &health, next), if next.is_some() => {
                let jitter = rand::rng().random_range(0.0..1.0);
                match health.record(round, Instant::now(), jitter) {
                    Verdict::Same => {
                        let reason = health.reason.clone().map(|why| {
                            wrong_port(agent, instance, begun).unwrap_or(why)
                        });
                        instance.show(agent, instance.state(), reason);
                    }
                    Verdict::Ready => {
                        instance.note(&agent.layout, |record| {
                            record.ready = true;
                            record.proven = true;
                        });
                        instance.show(agent, InstanceState::Ready, None);
                    }
                    Verdict::Unready => {
                        instance.note(&agent.layout, |record| record.ready = false);
                        instance.show(agent, InstanceState::Unready, health.reason.clone());
                    }
                    Verdict::Dead(why) => break format!("it no longer lives: {why}"),
                    Verdict::TooSlow(why) => {
                        let why = wrong_port(agent, instance, begun).unwrap_or(why);
                        let limit = service.health.start_within;
                        let reason = format!("it was not ready within {limit}: {why}");
                        if !instance.record().proven {
                            instance.note(&agent.layout, |record| {
                                record.outcome = Some(Outcome::Failed(reason.clone()));
                            });
                        }
                        break reason;
                    }
                }
            }
        }
    };
    instance.show(agent, InstanceState::Unready, Some(why.clone()));
    let signal = stop::signal_of(service.stop.signal);
    let grace = service.stop.grace.duration();
    let end = stop::end(agent, &instance.name, child, &mut ended, signal, grace).await;
    Watched::Ended(Ending {
        end,
        ran_for: begun.elapsed(),
        out_of_memory: false,
        ended_for: Some(why),
    })
}

async fn round(
    agent: &Agent,
    spec: &GroupSpec,
    (probe, own): (&Probe, &Result<Option<Secured>, String>),
    health: &HealthWatch,
    next: Option<Instant>,
) -> Round {
    if let Some(next) = next {
        tokio::time::sleep_until(next.into()).await;
    }
    let (ready, live) = health.due();
    let secured = match own {
        Ok(None) => certificates::to_check(agent, spec),
        own => own.clone(),
    };
    match secured {
        Ok(secured) => probe.round(secured.as_ref(), ready, live).await,
        Err(why) => Round {
            ready: Some(Err(why)),
            live: None,
        },
    }
}

fn probe(agent: &Agent, instance: &Instance, spec: &GroupSpec) -> Probe {
    let health = &spec.spec.service.health;
    let uses_command = [&health.ready, &health.live]
        .into_iter()
        .flatten()
        .any(|check| matches!(check, platform_blueprint::Check::Command { .. }));
    // Only commands need the surroundings, which hold secrets.
    let surroundings = uses_command
        .then(|| start::surroundings_of(agent, instance, spec).ok())
        .flatten();
    let (environment, folder, search) = surroundings.map_or_else(Default::default, |found| {
        let mut environment = found.environment;
        // Not one of the instance's own processes: a check that hangs must not be taken for one.
        environment.remove(process_table::STATE_VARIABLE);
        (environment, found.folder, found.search)
    });
    Probe {
        address: instance.record().port.map(local),
        http2: spec.spec.service.protocol.is_http2(),
        search,
        folder,
        environment,
        timeout: health.timeout.duration(),
    }
}

/// Says so where an instance listens, but not on the port it was given.
fn wrong_port(agent: &Agent, instance: &Instance, begun: Instant) -> Option<String> {
    let record = instance.record();
    let port = record.port?;
    // Looking through all of /proc is not for every failed check of a start that goes well, nor for what once was ready there.
    if record.proven || begun.elapsed() < Duration::from_secs(1) {
        return None;
    }
    let leader = record.process.as_ref()?.pid;
    let table = process_table::all();
    let members = process_table::members(&table, Some(leader), agent.layout.tag(), &instance.name);
    let ports = process_table::listening_ports(&members);
    if ports.is_empty() || ports.contains(&port) {
        return None;
    }
    let others: Vec<String> = ports.iter().map(u16::to_string).collect();
    Some(format!(
        "it listens on port {} in place of {port}, the one it was given as PORT",
        others.join(" and ")
    ))
}
