//! The gateway over real sockets: requests in, answers out.

mod admission;
mod balancing;
mod bench;
mod bodies;
mod cache;
mod control;
mod crowds;
mod disk;
mod floods;
mod frames;
mod grpc;
mod handover;
mod load;
mod peers;
mod process;
mod processes;
mod protection;
mod protocol;
mod release;
mod routing;
mod second;
mod secured;
mod shaping;
mod traffic;
mod tunnels;
mod upstreams;
