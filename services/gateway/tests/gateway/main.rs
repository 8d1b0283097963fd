//! The gateway over real sockets: requests in, answers out.

mod bench;
mod cache;
mod control;
mod crowds;
mod disk;
mod floods;
mod frames;
mod handover;
mod load;
mod peers;
mod process;
mod processes;
mod protection;
mod protocol;
mod release;
mod routing;
mod secured;
mod traffic;
mod upstreams;
