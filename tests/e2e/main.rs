//! The binary, from outside: each test owns a sandbox and sees what a user sees.

mod believed;
mod command_line;
mod compose;
mod docker;
mod docker_compose;
mod foreign;
mod init;
mod language;
mod load;
mod renewed;
mod responder;
mod rollout;
mod running;
mod sandbox;
mod scaffold;
mod secrets;
mod secured;
mod shared_limits;
mod terminal;
mod withstand;
