//! The binary, from outside: each test owns a sandbox and sees what a user sees.

mod command_line;
mod language;
mod responder;
mod running;
mod sandbox;
mod secrets;
