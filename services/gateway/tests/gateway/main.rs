//! The gateway over real sockets: requests in, answers out.

mod bench;
mod cache;
mod control;
mod handover;
mod peers;
mod protection;
mod protocol;
mod release;
mod routing;
mod secured;
mod traffic;
