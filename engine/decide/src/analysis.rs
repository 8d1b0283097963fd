//! Analysis: is the new release worse than the old one, on the same traffic?
//!
//! [`Evidence`] is fed the increments of both sides' counts, look by look, and [`Evidence::verdict`] says what they show.
//! Both error probabilities hold however often one looks, and under load and rates that change with time, because the
//! evidence is an e-process: a product of bets whose expectation never exceeds one while the hypothesis they bet
//! against is true. Everything is a value: no clock, no I/O. The method, its sources and its measured error rates are
//! in `docs/analysis.md`.
//!
//! ```
//! use std::time::Duration;
//! use platform_decide::analysis::{Evidence, Look, Policy, Tally, Verdict};
//!
//! let policy = Policy::default();
//! let mut evidence = Evidence::new(&policy);
//! for _ in 0..3 {
//!     evidence.observe(Look {
//!         baseline: Tally { requests: 20, bad: 0, ..Tally::default() },
//!         canary: Tally { requests: 20, bad: 9, ..Tally::default() },
//!     });
//! }
//! let verdict = evidence.verdict(&policy, Duration::from_secs(3));
//! assert!(matches!(verdict, Verdict::Worse(_)), "{}", verdict.explain());
//! ```

mod dispersion;
mod evidence;
mod explain;
mod measure;
mod paired;
mod policy;
mod record;
mod sample_size;
mod tally;
mod verdict;
mod wealth;

pub use evidence::Evidence;
pub use paired::{PairedEvidence, PairedPolicy, PairedVerdict, Tolerance, WorseWhen};
pub use policy::{Margin, Policy, Undecided};
pub use sample_size::{Rates, exceedance, fixed_samples};
pub use tally::{Look, Tally};
pub use verdict::{Advice, Basis, Finding, Measure, MeasureFinding, Verdict};
pub use wealth::least_favourable;
