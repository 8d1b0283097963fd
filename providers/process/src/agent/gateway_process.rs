//! The gateway's process: started, taken over, replaced and ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::sync::watch;

use super::child::{self, Child};
use super::gateway::{ANSWER_WITHIN, DRAIN_WITHIN, Wanted};
use super::instance::open_log;
use super::state::Agent;
use super::stop;
use crate::launch::Launch;
use crate::log::Capture;
use crate::recorded::{GatewayProgram, InstanceRecord};

/// The service name under which the gateway's output is kept.
const NAME: &str = "gateway";

/// One process of the gateway.
struct Running {
    name: String,
    build: String,
    child: Child,
    capture: Capture,
}

impl Running {
    async fn clear_up(self, agent: &Agent) {
        stop::end_members(agent, &self.name, Some(&self.child.identity)).await;
        self.capture.finish().await;
        let _ = fs::remove_dir_all(agent.layout.instance(&self.name));
    }

    /// Lets one that has a successor end by itself, while others go on.
    fn leave(self, agent: &Rc<Agent>) {
        let agent = Rc::clone(agent);
        let leaving = &agent.gateway.leaving;
        leaving.set(leaving.get() + 1);
        tokio::task::spawn_local(async move {
            self.finish(&agent).await;
            let leaving = &agent.gateway.leaving;
            leaving.set(leaving.get() - 1);
            agent.touch();
        });
    }

    /// Waits for the end of one that has a successor, but not for ever.
    async fn finish(self, agent: &Agent) {
        if tokio::time::timeout(DRAIN_WITHIN, self.child.ended())
            .await
            .is_err()
        {
            tracing::warn!(
                name = self.name,
                "the gateway before did not end and is killed"
            );
        }
        self.clear_up(agent).await;
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("gateway.")?.parse().ok()
}

/// Processes of the gateway that an agent before us started, the newest last.
fn found(agent: &Rc<Agent>) -> Vec<Running> {
    let mut names = InstanceRecord::names(&agent.layout);
    names.retain(|name| number_of(name).is_some());
    names.sort_by_key(|name| number_of(name));
    let mut running = Vec::new();
    for name in names {
        let record = InstanceRecord::load(&agent.layout, &name).unwrap_or_default();
        let child = record
            .process
            .and_then(|identity| Child::adopt(&identity, agent.layout.exits()));
        let opened = child.map(|child| (child, open_log(agent, NAME, &name, &logs())));
        match opened {
            Some((child, Ok((_, capture)))) => running.push(Running {
                build: record.build.unwrap_or_default(),
                name,
                child,
                capture,
            }),
            _ => {
                let _ = fs::remove_dir_all(agent.layout.instance(&name));
            }
        }
    }
    running
}

fn logs() -> platform_blueprint::Logs {
    platform_blueprint::Logs::default()
}

/// Keeps a gateway running while one is wanted.
pub(super) async fn supervise(agent: Rc<Agent>) {
    let mut wanted = agent.gateway.wanted.subscribe();
    let mut older = found(&agent);
    let mut current = older.pop();
    for before in older {
        before.leave(&agent);
    }
    if let Some(running) = &current {
        tracing::info!(name = running.name, "adopted the gateway");
        let identity = running.child.identity.clone();
        *agent.gateway.process.borrow_mut() = Some(identity);
        answer(&agent, running).await;
    }
    let mut quick_ends = 0;
    loop {
        let now = wanted.borrow_and_update().clone();
        match (now, current.take()) {
            (Wanted::Nothing, None) => {
                if wanted.changed().await.is_err() {
                    return;
                }
            }
            (Wanted::Nothing, Some(running)) => {
                current = Some(running);
                if wanted.changed().await.is_err() {
                    return;
                }
            }
            (Wanted::Down, running) => {
                if let Some(running) = running {
                    end(&agent, running).await;
                }
                agent.gateway.wanted.send_replace(Wanted::Nothing);
                agent.touch();
            }
            (Wanted::Runs(program), before) => {
                if before
                    .as_ref()
                    .is_none_or(|running| running.build != program.build)
                {
                    current = replace(&agent, &program, before).await;
                } else {
                    current = before;
                }
                let Some(running) = &current else {
                    quick_ends += 1;
                    pause(quick_ends, &mut wanted).await;
                    continue;
                };
                let begun = Instant::now();
                tokio::select! {
                    end = running.child.ended() => {
                        tracing::error!(%end, "the gateway ended; starting it again");
                        agent.gateway.answers.set(false);
                        agent.touch();
                        if let Some(running) = current.take() {
                            running.clear_up(&agent).await;
                        }
                        if begun.elapsed() < Duration::from_secs(5) {
                            quick_ends += 1;
                            pause(quick_ends, &mut wanted).await;
                        } else {
                            quick_ends = 0;
                        }
                    }
                    changed = wanted.changed() => if changed.is_err() { return },
                    // One that hung may go on.
                    _ = answer(&agent, running), if !agent.gateway.answers() => {}
                }
            }
        }
    }
}

/// At once the first time, then ever later.
async fn pause(quick_ends: u32, wanted: &mut watch::Receiver<Wanted>) {
    if quick_ends < 2 {
        return;
    }
    let pause = Duration::from_millis(50_u64 << quick_ends.min(7));
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        _ = wanted.changed() => wanted.mark_changed(),
    }
}

async fn end(agent: &Agent, running: Running) {
    agent.gateway.answers.set(false);
    let signal = Signal::SIGTERM;
    {
        let ended = running.child.ended();
        tokio::pin!(ended);
        stop::end(
            agent,
            &running.name,
            &running.child,
            &mut ended,
            signal,
            DRAIN_WITHIN,
        )
        .await;
    }
    agent.gateway.endpoints.borrow_mut().clear();
    *agent.gateway.in_force.borrow_mut() = None;
    running.clear_up(agent).await;
}

/// Starts a gateway that takes over from the one before, if there is one.
async fn replace(
    agent: &Rc<Agent>,
    program: &GatewayProgram,
    before: Option<Running>,
) -> Option<Running> {
    let last = before
        .as_ref()
        .and_then(|before| number_of(&before.name))
        .unwrap_or(0);
    let name = format!("{NAME}.{}", last + 1);
    let fresh = match start(agent, program, name.clone()) {
        Ok(fresh) => fresh,
        Err(error) => {
            tracing::error!(error, "cannot start the gateway");
            return before;
        }
    };
    let answered = answer(agent, &fresh).await;
    match before {
        Some(before) if answered => {
            before.leave(agent);
            Some(fresh)
        }
        Some(before) => {
            tracing::error!("the new gateway did not take over; the one before goes on");
            stop::end_members(agent, &fresh.name, Some(&fresh.child.identity)).await;
            fresh.clear_up(agent).await;
            agent.gateway.answers.set(true);
            Some(Running {
                // Not tried again until another build comes.
                build: program.build.clone(),
                ..before
            })
        }
        None => Some(fresh),
    }
}

fn start(agent: &Rc<Agent>, program: &GatewayProgram, name: String) -> Result<Running, String> {
    let (pipes, capture) = open_log(agent, NAME, &name, &logs())?;
    let state = agent.layout.gateway();
    let text = |path: &Path| path.display().to_string();
    let mut environment = agent.inherited.clone();
    environment.insert(
        crate::process_table::STATE_VARIABLE.to_owned(),
        agent.layout.tag().to_owned(),
    );
    environment.insert(
        crate::process_table::INSTANCE_VARIABLE.to_owned(),
        name.clone(),
    );
    let launch = Launch {
        program: program.program.clone(),
        arguments: vec![
            NAME.to_owned(),
            "--state".to_owned(),
            text(&state),
            "--admin".to_owned(),
            text(agent.gateway.client.socket()),
            "--handover".to_owned(),
            text(&agent.gateway.handover),
            "--access-log".to_owned(),
            "stdout".to_owned(),
        ],
        environment,
        folder: PathBuf::from("/"),
        stdin: None,
        stdout: pipes.stdout,
        stderr: pipes.stderr,
        control_groups: Vec::new(),
        user: None,
        // A gateway holds two connections for each request.
        open_files: u64::MAX,
    };
    let prepared = child::prepare(agent.layout.tag(), &name, agent.layout.exits())
        .map_err(|error| error.to_string())?;
    let record = InstanceRecord {
        process: Some(prepared.identity.clone()),
        build: Some(program.build.clone()),
        started_at: Some(crate::log::now()),
        ..InstanceRecord::default()
    };
    record
        .save(&agent.layout, &name)
        .map_err(|error| error.to_string())?;
    let child = prepared
        .launch(&launch)
        .map_err(|error| error.to_string())?;
    Ok(Running {
        name,
        build: program.build.clone(),
        child,
        capture,
    })
}

/// Waits until this very process answers, and takes its configuration in.
async fn answer(agent: &Agent, running: &Running) -> bool {
    let gateway = &agent.gateway;
    let asking = async {
        loop {
            if let Ok(status) = gateway.client.status().await
                && i32::try_from(status.pid) == Ok(running.child.identity.pid)
                && let Ok(config) = gateway.client.config().await
            {
                gateway.take_in(&config);
                let identity = running.child.identity.clone();
                *gateway.process.borrow_mut() = Some(identity);
                gateway.answers.set(true);
                agent.touch();
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        answered = asking => answered,
        _ = running.child.ended() => false,
        () = tokio::time::sleep(ANSWER_WITHIN) => false,
    }
}
