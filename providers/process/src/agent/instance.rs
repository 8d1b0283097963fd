//! One instance of a service, from its first start to its last stop.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::time::Instant;

use platform_blueprint::ZoneName;
use platform_decide::group::{GroupId, GroupSpec};
use platform_decide::observed::{InstanceSeen, InstanceState};
use rand::RngExt;
use tokio::sync::watch as channel;

use super::start::{self, Started};
use super::state::Agent;
use super::stop;
use super::watch::{Watched, watch};
use crate::identity::ProcessIdentity;
use crate::layout::Layout;
use crate::lifecycle::{AfterEnd, EndHistory, Ending};
use crate::log::{self, LogFile, Pipes};
use crate::probe::local;
use crate::recorded::{InstanceRecord, Outcome};

/// What an instance is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Run; the number grows when one that gave up is to try again.
    Run(u32),
    /// Stop and end for good.
    Stop,
}

/// What is seen of an instance while it runs.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// Its state.
    pub(super) state: InstanceState,
    /// Why it is not ready.
    pub(super) reason: Option<String>,
}

/// One instance.
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) group: GroupId,
    pub(super) number: u32,
    pub(super) zone: Option<ZoneName>,
    record: RefCell<InstanceRecord>,
    view: RefCell<View>,
    orders: channel::Sender<Order>,
    pub(super) gone: Cell<bool>,
}

impl Instance {
    pub(super) fn new(
        name: String,
        group: &GroupSpec,
        number: u32,
        record: InstanceRecord,
    ) -> Rc<Self> {
        let runs = || record.process.as_ref().is_some_and(ProcessIdentity::alive);
        let state = match &record.outcome {
            Some(Outcome::Completed) => InstanceState::Completed,
            Some(Outcome::Failed(_)) => InstanceState::Failed,
            // Known at once after an agent's restart, so that the gateway goes on sending requests to it.
            None if record.ready && runs() => InstanceState::Ready,
            None => InstanceState::Starting,
        };
        let reason = match &record.outcome {
            Some(Outcome::Failed(reason)) => Some(reason.clone()),
            _ => None,
        };
        Rc::new(Self {
            name,
            group: group.id.clone(),
            number,
            zone: group.zone(number).cloned(),
            record: RefCell::new(record),
            view: RefCell::new(View { state, reason }),
            orders: channel::Sender::new(Order::Run(0)),
            gone: Cell::new(false),
        })
    }

    pub(super) fn record(&self) -> Ref<'_, InstanceRecord> {
        self.record.borrow()
    }

    pub(super) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    pub(super) fn state(&self) -> InstanceState {
        self.view.borrow().state
    }

    pub(super) fn stopping(&self) -> bool {
        *self.orders.borrow() == Order::Stop
    }

    /// Changes the record and writes it down.
    pub(super) fn note(&self, layout: &Layout, change: impl FnOnce(&mut InstanceRecord)) {
        change(&mut self.record.borrow_mut());
        if let Err(error) = self.record.borrow().save(layout, &self.name) {
            tracing::error!(instance = %self.name, %error, "cannot write the record");
        }
    }

    /// Tells it to stop and end for good.
    pub(super) fn stop(&self) {
        self.orders.send_replace(Order::Stop);
    }

    /// Tells one that gave up, or waits to try again, to try at once.
    pub(super) fn retry(&self) {
        let given_up = matches!(
            self.state(),
            InstanceState::Failed | InstanceState::CrashLooping | InstanceState::Restarting
        );
        if given_up {
            self.orders.send_modify(|order| {
                if let Order::Run(number) = order {
                    *number += 1;
                }
            });
        }
    }

    pub(super) fn show(&self, agent: &Agent, state: InstanceState, reason: Option<String>) {
        let mut view = self.view.borrow_mut();
        if view.state == state && view.reason == reason {
            return;
        }
        *view = View { state, reason };
        drop(view);
        agent.touch();
    }

    /// What is seen of it.
    ///
    /// - `unconfirmed`: why the gateway sends no requests to it, though it should
    /// - `memory`: resident memory of its processes
    pub(super) fn seen(&self, unconfirmed: Option<String>, memory: Option<u64>) -> InstanceSeen {
        let record = self.record.borrow();
        let view = self.view();
        let (state, reason) = match unconfirmed {
            Some(reason) if view.state == InstanceState::Ready => {
                (InstanceState::Starting, Some(reason))
            }
            _ => (view.state, view.reason),
        };
        let runs = matches!(
            state,
            InstanceState::Starting
                | InstanceState::Ready
                | InstanceState::Unready
                | InstanceState::Stopping
        );
        InstanceSeen {
            id: self.name.clone(),
            state,
            address: record.port.map(|port| local(port).to_string()),
            handle: record
                .process
                .as_ref()
                .filter(|_| runs)
                .map(|process| process.pid.to_string()),
            restarts: record.restarts,
            started_at: record.started_at,
            last_exit: record.last_exit.clone(),
            out_of_memory: record.out_of_memory,
            reason,
            memory,
            zone: self.zone.clone(),
        }
    }
}

/// Keeps an instance running until it is told to stop, or has ended for good and is.
pub(super) async fn supervise(agent: Rc<Agent>, instance: Rc<Instance>, spec: GroupSpec) {
    let mut orders = instance.orders.subscribe();
    let mut history = EndHistory::default();
    let mut adopted = start::adopt(&agent, &instance);
    let mut waits_for_needs = true;
    loop {
        if *orders.borrow_and_update() == Order::Stop {
            if let Some(started) = adopted.take() {
                end_process(&agent, &instance, &spec, started, true).await;
            }
            break;
        }
        let started = if let Some(started) = adopted.take() {
            started
        } else {
            if instance.record().outcome.is_some() {
                if orders.changed().await.is_err() {
                    break;
                }
                let again = matches!(*orders.borrow_and_update(), Order::Run(_));
                if again {
                    instance.note(&agent.layout, |record| record.outcome = None);
                    history = EndHistory::default();
                }
                continue;
            }
            if waits_for_needs && !needs_ready(&agent, &instance, &spec, &mut orders).await {
                continue;
            }
            waits_for_needs = false;
            match start::start(&agent, &instance, &spec) {
                Ok(started) => started,
                Err(reason) => {
                    fail(&agent, &instance, reason);
                    continue;
                }
            }
        };
        match watch(&agent, &instance, &spec, &started.child, &mut orders).await {
            Watched::Stop => {
                end_process(&agent, &instance, &spec, started, true).await;
                break;
            }
            Watched::Ended(mut ending) => {
                ending.out_of_memory = started.groups.memory_kills() > started.memory_kills
                    && ending.ended_for.is_none();
                end_process(&agent, &instance, &spec, started, false).await;
                after_end(&agent, &instance, &spec, ending, &mut history, &mut orders).await;
            }
        }
    }
    start::forget(&agent, &instance);
    instance.gone.set(true);
    agent.touch();
}

fn fail(agent: &Agent, instance: &Instance, reason: String) {
    tracing::warn!(instance = %instance.name, reason, "failed");
    instance.note(&agent.layout, |record| {
        record.process = None;
        record.ready = false;
        record.outcome = Some(Outcome::Failed(reason.clone()));
    });
    instance.show(agent, InstanceState::Failed, Some(reason));
}

/// Waits until what a service needs is ready; `false` when there is another order.
async fn needs_ready(
    agent: &Rc<Agent>,
    instance: &Instance,
    spec: &GroupSpec,
    orders: &mut channel::Receiver<Order>,
) -> bool {
    let mut changes = agent.changes();
    loop {
        changes.mark_unchanged();
        let Some(missing) = spec
            .spec
            .needs
            .iter()
            .find(|need| !super::observe::need_ready(agent, need))
        else {
            return true;
        };
        let reason = format!("waiting for `{}`", missing.name());
        instance.show(agent, InstanceState::Starting, Some(reason));
        tokio::select! {
            more = changes.changed() => if more.is_err() { return false },
            _ = orders.changed() => return false,
        }
    }
}

/// Stops what is left of a process, reads its last words and clears up after it.
async fn end_process(
    agent: &Rc<Agent>,
    instance: &Instance,
    spec: &GroupSpec,
    started: Started,
    asked: bool,
) {
    if asked {
        let was_ready = instance.record().ready;
        instance.show(agent, InstanceState::Stopping, None);
        let service = &spec.spec.service;
        let grace = service.stop.grace.duration();
        if was_ready && instance.record().port.is_some() {
            agent
                .gateway
                .drain(agent, &instance.group, &instance.name, grace)
                .await;
        }
        let ended = started.child.ended();
        tokio::pin!(ended);
        let signal = stop::signal_of(service.stop.signal);
        let end = stop::end(
            agent,
            &instance.name,
            &started.child,
            &mut ended,
            signal,
            grace,
        )
        .await;
        instance.note(&agent.layout, |record| {
            record.last_exit = Some(end.to_string());
        });
    }
    stop::end_members(agent, &instance.name, Some(&started.child.identity)).await;
    started.capture.finish().await;
    started.groups.remove();
    start::remove_secret_files(agent, instance);
    instance.note(&agent.layout, |record| {
        record.process = None;
        record.ready = false;
    });
}

/// Decides what comes after an end, and waits where that is to wait.
async fn after_end(
    agent: &Rc<Agent>,
    instance: &Instance,
    spec: &GroupSpec,
    ending: Ending,
    history: &mut EndHistory,
    orders: &mut channel::Receiver<Order>,
) {
    let words = ending.in_words();
    tracing::info!(instance = %instance.name, end = words, "ended");
    instance.note(&agent.layout, |record| {
        record.last_exit = Some(words);
        record.out_of_memory = ending.out_of_memory;
    });
    if let Some(Outcome::Failed(reason)) = instance.record().outcome.clone() {
        instance.show(agent, InstanceState::Failed, Some(reason));
        return;
    }
    let service = &spec.spec.service;
    let jitter = rand::rng().random_range(0.0..1.0);
    match history.after(
        service.kind,
        &service.restart,
        &ending,
        Instant::now(),
        jitter,
    ) {
        AfterEnd::Complete => {
            instance.note(&agent.layout, |record| {
                record.outcome = Some(Outcome::Completed);
            });
            instance.show(agent, InstanceState::Completed, None);
        }
        AfterEnd::Fail(reason) => fail(agent, instance, reason),
        AfterEnd::Restart {
            after,
            looping,
            reason,
        } => {
            let state = if looping {
                InstanceState::CrashLooping
            } else {
                InstanceState::Restarting
            };
            instance.show(agent, state, Some(reason));
            instance.note(&agent.layout, |record| record.restarts += 1);
            tokio::select! {
                () = tokio::time::sleep(after) => {}
                changed = orders.changed() => {
                    // Left unseen for a stop, which the loop above looks at.
                    if changed.is_ok() {
                        *history = EndHistory::default();
                        orders.mark_changed();
                    }
                }
            }
        }
    }
}

/// The log and pipes of an instance.
///
/// # Errors
///
/// If the pipes cannot be made or opened.
pub(super) fn open_log(
    agent: &Agent,
    service: &str,
    name: &str,
    logs: &platform_blueprint::Logs,
) -> Result<(Pipes, log::Capture), String> {
    let pipes = Pipes::make(&agent.layout.instance(name)).map_err(|error| error.to_string())?;
    let folder = agent.layout.logs().join(service);
    let file = LogFile::new(&folder, name, logs.max_size.bytes(), logs.keep);
    let capture = log::capture(&pipes, &Rc::new(RefCell::new(file)))
        .map_err(|error| format!("cannot open its pipes: {error}"))?;
    Ok((pipes, capture))
}
