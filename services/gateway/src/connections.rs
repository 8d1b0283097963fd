//! All open connections of clients, and which of them are closed when.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::now_ms;
use crate::connection::ConnectionState;

#[derive(Debug)]
struct Open {
    state: Arc<ConnectionState>,
    /// When it is looked at next, in milliseconds: kept here, as to ask each of many thousands that rest costs more than all else
    /// that is done for them.
    look_at: u64,
}

/// All open connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Mutex<HashMap<u64, Open>>,
    next: AtomicU64,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection into the list; returns by what it is forgotten.
    pub(crate) fn add(&self, state: Arc<ConnectionState>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(id, Open { state, look_at: 0 });
        id
    }

    /// Forgets a connection that is closed.
    pub(crate) fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Closes connections that are idle, the longest idle first, when so many are open that
    /// descriptors could run out. Those of requests and of services have a quarter for themselves.
    ///
    /// - `descriptors`: how many this process may have
    /// - returns: whether some are about to close, so that waiting for them helps
    pub(crate) fn make_room(&self, descriptors: u64) -> bool {
        let most = usize::try_from(descriptors / 4 * 3).unwrap_or(usize::MAX);
        let open = self.lock();
        if open.len() < most {
            return false;
        }
        let mut idle: Vec<(u64, &Arc<ConnectionState>)> = open
            .values()
            .filter_map(|one| Some((one.state.idle_since()?, &one.state)))
            .collect();
        let many = (most / 16).max(1).min(idle.len());
        if many == 0 {
            return false;
        }
        idle.select_nth_unstable_by_key(many - 1, |(since, _)| *since);
        for (_, state) in &idle[..many] {
            state.let_go();
        }
        tracing::debug!(
            open = open.len(),
            closed = many,
            "idle connections are closed to make room"
        );
        true
    }

    /// Closes connections that wait in vain.
    ///
    /// - `grace_ms`: how long one may stay idle while the gateway drains
    pub(crate) fn close_overdue(&self, grace_ms: Option<u64>) {
        self.close_overdue_at(now_ms(), grace_ms);
    }

    fn close_overdue_at(&self, now: u64, grace_ms: Option<u64>) {
        for one in self.lock().values_mut() {
            if now < one.look_at && grace_ms.is_none() {
                continue;
            }
            if one.state.is_overdue(now, grace_ms) {
                one.state.let_go();
            }
            one.look_at = one.state.never_overdue_before(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::task::{Context, Waker};

    use super::*;

    fn state(head_ms: u64, keep_alive_ms: u64) -> Arc<ConnectionState> {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let state = ConnectionState::new("public".into(), peer, false, head_ms, keep_alive_ms);
        Arc::new(state)
    }

    fn is_closing(state: &ConnectionState) -> bool {
        let closing = std::pin::pin!(state.closing());
        let mut nothing = Context::from_waker(Waker::noop());
        closing.poll(&mut nothing).is_ready()
    }

    #[test]
    fn who_waits_in_vain_is_let_go_however_seldom_it_is_looked_at() {
        let hour = 3_600_000;
        let connections = Connections::default();
        let silent = state(1_000, hour);
        let slow = state(1_000, hour);
        let served = state(1_000, hour);
        let unbounded = state(0, hour);
        for state in [&silent, &slow, &served, &unbounded] {
            connections.add(state.clone());
        }
        let began = now_ms();
        served.begin(false);
        connections.close_overdue_at(began + 100, None);
        // A head begins after it was looked at, and does not end.
        slow.read_some(10);
        unbounded.read_some(10);
        let look = |after| {
            connections.close_overdue_at(began + after, None);
            [&silent, &slow, &served, &unbounded].map(|state| is_closing(state))
        };
        assert_eq!(look(900), [false; 4]);
        assert_eq!(look(3_000), [false, true, false, false]);
        served.end();
        assert_eq!(look(hour + 60_000), [true, true, true, false]);
        unbounded.begin(false);
        unbounded.end();
        assert_eq!(look(3 * hour), [true; 4]);
    }

    #[test]
    fn who_rests_is_let_go_sooner_while_the_gateway_drains() {
        let connections = Connections::default();
        let resting = state(1_000, 60_000);
        connections.add(resting.clone());
        let began = now_ms();
        connections.close_overdue_at(began + 10, None);
        assert!(!is_closing(&resting));
        connections.close_overdue_at(began + 500, Some(200));
        assert!(is_closing(&resting));
    }

    #[test]
    fn room_is_made_by_those_that_are_idle() {
        let connections = Connections::default();
        let states: Vec<_> = (0..48).map(|_| state(10, 100)).collect();
        for state in &states {
            connections.add(state.clone());
        }
        for state in &states[..46] {
            state.begin(false);
        }
        assert!(!connections.make_room(68));
        assert!(connections.make_room(64));
        let closed: Vec<bool> = states.iter().map(|state| is_closing(state)).collect();
        assert_eq!(closed.iter().filter(|closed| **closed).count(), 2);
        assert!(closed[46] && closed[47]);
    }
}
