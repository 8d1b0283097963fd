//! The gateway over real sockets: requests in, answers out.

mod bench;
mod control;
mod handover;
mod routing;
mod traffic;
