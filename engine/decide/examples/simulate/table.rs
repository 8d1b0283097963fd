//! Markdown tables and the numbers in them.

use std::io::{self, Write};

use crate::trial::{End, Outcome};

/// Prints a heading and the head of a table.
pub fn begin(out: &mut impl Write, title: &str, columns: &[&str]) -> io::Result<()> {
    writeln!(out, "\n### {title}\n\n| {} |", columns.join(" | "))?;
    writeln!(out, "|{}", " --- |".repeat(columns.len()))
}

/// Prints one row.
pub fn row(out: &mut impl Write, cells: &[String]) -> io::Result<()> {
    writeln!(out, "| {} |", cells.join(" | "))?;
    out.flush()
}

/// A share with its 95 % interval after Wilson, in percent.
pub fn share(count: usize, of: usize) -> String {
    let (low, high) = interval(count, of);
    format!(
        "{:.2} ({:.2}–{:.2})",
        100.0 * count as f64 / of as f64,
        100.0 * low,
        100.0 * high
    )
}

/// The 95 % interval of a share after Wilson.
pub fn interval(count: usize, of: usize) -> (f64, f64) {
    let (z, n) = (1.959_964, of as f64);
    let share = count as f64 / n;
    let middle = share + z * z / (2.0 * n);
    let reach = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    (
        ((middle - reach) / scale).max(0.0),
        ((middle + reach) / scale).min(1.0),
    )
}

/// A percentage of requests.
pub fn percent(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// All runs of a cell.
pub struct Summary {
    runs: Vec<Outcome>,
}

impl Summary {
    /// Summarises runs.
    pub fn of(mut runs: Vec<Outcome>) -> Self {
        runs.sort_by_key(|run| run.canary_requests);
        Self { runs }
    }

    /// Number of runs.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Runs that ended so.
    pub fn count(&self, end: End) -> usize {
        self.runs.iter().filter(|run| run.end == end).count()
    }

    /// Share of runs that ended so, with its interval.
    pub fn share(&self, end: End) -> String {
        share(self.count(end), self.len())
    }

    /// Mean of something over the runs.
    pub fn mean(&self, value: impl Fn(&Outcome) -> f64) -> f64 {
        self.runs.iter().map(value).sum::<f64>() / self.len() as f64
    }

    /// Mean canary requests.
    pub fn samples(&self) -> f64 {
        self.mean(|run| run.canary_requests as f64)
    }

    /// Canary requests that so many of a hundred runs did not exceed.
    pub fn percentile(&self, of_hundred: usize) -> u64 {
        self.runs[(self.len() * of_hundred / 100).min(self.len() - 1)].canary_requests
    }

    /// The most canary requests of any run.
    pub fn most(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.canary_requests)
    }
}
