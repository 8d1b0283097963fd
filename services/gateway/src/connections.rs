//! All open connections of clients, and which of them are closed when.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::now_ms;
use crate::connection::ConnectionState;

/// All open connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Mutex<HashMap<u64, Arc<ConnectionState>>>,
    next: AtomicU64,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<ConnectionState>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection into the list; returns by what it is forgotten.
    pub(crate) fn add(&self, state: Arc<ConnectionState>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(id, state);
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
            .filter_map(|state| Some((state.idle_since()?, state)))
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
        let now = now_ms();
        for state in self.lock().values() {
            if state.is_overdue(now, grace_ms) {
                state.let_go();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn room_is_made_by_those_that_are_idle() {
        let connections = Connections::default();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let state = || ConnectionState::new("public".into(), peer, false, 10, 100);
        let states: Vec<_> = (0..48).map(|_| Arc::new(state())).collect();
        for state in &states {
            connections.add(state.clone());
        }
        for state in &states[..46] {
            state.begin(false);
        }
        assert!(!connections.make_room(68));
        assert!(connections.make_room(64));
        let closed = states.iter().map(|state| {
            let closing = std::pin::pin!(state.closing());
            let mut nothing = Context::from_waker(Waker::noop());
            closing.poll(&mut nothing).is_ready()
        });
        let closed: Vec<bool> = closed.collect();
        assert_eq!(closed.iter().filter(|closed| **closed).count(), 2);
        assert!(closed[46] && closed[47]);
    }
}
