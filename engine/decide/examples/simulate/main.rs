//! Measures the analysis against what it promises, and against the rules that others apply.
//!
//! ```sh
//! cargo run --release -p platform-decide --example simulate -- --runs 20000
//! ```
//!
//! Prints the tables of `docs/analysis.md`. The same number of runs gives the same tables on any machine.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a simulation, far below 2^52"
)]
#![allow(unreachable_pub, reason = "modules are shared with a test")]

mod client;
mod clients;
mod conditions;
mod contest;
mod crew;
#[path = "../../../../services/gateway/src/crowd.rs"]
#[allow(dead_code, reason = "the gateway's own")]
mod crowd;
mod random;
mod record;
mod reference;
mod rivals;
mod sections;
mod table;
mod traffic;
mod trial;

use std::io;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (mut runs, mut only) = (20_000, None);
    while let Some(argument) = arguments.next() {
        let value = arguments.next();
        match (argument.as_str(), value) {
            ("--runs", Some(value)) => runs = value.parse().map_err(io::Error::other)?,
            ("--only", Some(value)) => only = Some(value),
            _ => {
                return Err(io::Error::other(
                    "usage: simulate [--runs N] [--only SECTION]",
                ));
            }
        }
    }
    let mut report = sections::Report::new(runs, io::stdout());
    report.all(only.as_deref())
}
