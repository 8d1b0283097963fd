//! Text for people.

use std::collections::HashMap;
use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::Local;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use miette::{GraphicalReportHandler, GraphicalTheme};

use super::outlet::Outlet;
use super::{Line, Shown, Told, View, quoted, screen};
use crate::diagnostic::{Diagnostic, Drawn, Severity};
use crate::error::CliError;
use crate::paint::{Color, Paint};
use crate::terminal;

/// Log lines shown with a problem.
const LOG_LINES: usize = 20;

/// How often a line says how something is getting on, where no picture shows it.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Writes for people: data to standard output; progress, messages and problems to standard error.
pub(crate) struct HumanView {
    out: Paint,
    err: Paint,
    quiet: bool,
    verbose: bool,
    redraws: bool,
    bars: Option<MultiProgress>,
    under_way: Mutex<HashMap<String, Option<ProgressBar>>>,
    lines_told: Mutex<HashMap<String, Instant>>,
    brief_told: Mutex<String>,
    drawn: AtomicUsize,
    diagnosed: AtomicBool,
    outlet: Outlet,
}

impl HumanView {
    /// Looks at the streams to see whether they are terminals.
    pub(crate) fn new(color: Color, quiet: bool, verbose: bool) -> Self {
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let live = io::stderr().is_terminal() && !dumb && env::var_os("CI").is_none();
        Self {
            out: color.for_stdout(),
            err: color.for_stderr(),
            quiet,
            verbose,
            redraws: io::stdout().is_terminal() && !dumb,
            bars: (live && !quiet).then(MultiProgress::new),
            under_way: Mutex::default(),
            lines_told: Mutex::default(),
            brief_told: Mutex::default(),
            drawn: AtomicUsize::new(0),
            diagnosed: AtomicBool::new(false),
            outlet: Outlet::new("standard output"),
        }
    }

    fn data(&self, text: &str) {
        if self.closed() {
            return;
        }
        let write = || {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        };
        let written = match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        };
        self.outlet.note(written);
    }

    /// Writes above the bars, where there are any.
    fn say(&self, text: &str) {
        let write = || write_err(&format!("{text}\n"));
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    fn timed(&self, text: &str) {
        let time = Local::now().format("%H:%M:%S").to_string();
        self.say(&format!("{} {text}", self.err.dim(&time)));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Option<ProgressBar>>> {
        self.under_way
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn begin(&self, key: &str, text: &str) {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) =
                ProgressStyle::with_template("{spinner:.cyan} {wide_msg} {elapsed:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_message(text.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        if bar.is_none() && !self.quiet {
            self.timed(&format!("{} {text}", self.err.dim("…")));
        }
        self.lock().insert(key.to_owned(), bar);
    }

    /// Shows how something is getting on: a picture on a terminal, a line now and then elsewhere.
    fn live(&self, key: &str, line: &str, picture: &str) {
        if let Some(Some(bar)) = self.lock().get(key) {
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg}") {
                bar.set_style(style);
            }
            let painted = if self.err.colours() {
                picture.to_owned()
            } else {
                screen::bare(picture)
            };
            // The spinner takes two columns of the first line.
            bar.set_message(screen::fitted(&format!("  {}", painted.trim_end())).split_off(2));
            return;
        }
        let now = Instant::now();
        let mut told = self
            .lines_told
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = told.get(key).copied();
        let due = before.is_some_and(|told| now.duration_since(told) >= LINE_EVERY);
        if before.is_none() || due {
            told.insert(key.to_owned(), now);
        }
        drop(told);
        if !self.quiet && (due || self.verbose) {
            self.timed(line);
        }
    }

    fn end(&self, key: &str, mark: &str, text: &str, important: bool) {
        let bar = self.lock().remove(key).flatten();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        if self.quiet && !important {
            return;
        }
        let line = format!("{mark} {text}");
        if self.bars.is_some() {
            self.say(&line);
        } else {
            self.timed(&line);
        }
    }
}

fn write_err(text: &str) {
    // Nobody is left to be told that nobody reads this.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

impl View for HumanView {
    fn show(&self, shown: &dyn Shown) {
        self.drawn.store(0, Ordering::Relaxed);
        self.data(&shown.human(self.out));
    }

    fn accompany(&self, shown: &dyn Shown) {
        if !self.quiet {
            self.show(shown);
        } else if let Some(result) = shown.result() {
            self.data(&format!("{result}\n"));
        }
    }

    fn tell(&self, told: &Told) {
        match &told.line {
            Line::Note(text) if !self.quiet => self.say(text),
            Line::Moment(text) if !self.quiet => {
                if self.bars.is_some() {
                    self.say(text);
                } else {
                    self.timed(text);
                }
            }
            Line::Important(text) => self.say(text),
            Line::Detail(text) if self.verbose => self.timed(text),
            Line::Nothing | Line::Note(_) | Line::Moment(_) | Line::Detail(_) => {}
            Line::Begin(key, text) => self.begin(key, text),
            Line::Update(key, text) => {
                let under_way = self.lock();
                if let Some(Some(bar)) = under_way.get(key) {
                    bar.set_message(text.clone());
                } else {
                    drop(under_way);
                    if self.verbose {
                        self.timed(text);
                    }
                }
            }
            Line::Live(key, line, picture) => self.live(key, line, picture),
            Line::Done(key, text) => self.end(key, &self.err.green("✓"), text, false),
            Line::Failed(key, text) => self.end(key, &self.err.red("✗"), text, true),
        }
    }

    fn diagnose(&self, diagnostic: &Diagnostic) {
        if self.quiet && diagnostic.severity == Severity::Note {
            return;
        }
        // A line between two problems, none before the first.
        if self.diagnosed.swap(true, Ordering::Relaxed) {
            self.say("");
        }
        self.say(draw(diagnostic, self.err).trim_end_matches('\n'));
    }

    fn redraw(&self, shown: &dyn Shown) {
        if let (false, Some(brief)) = (self.redraws, shown.brief()) {
            let mut told = self
                .brief_told
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if *told != brief {
                let time = Local::now().format("%H:%M:%S");
                self.data(&format!("{time} {brief}\n"));
                *told = brief;
            }
            return;
        }
        let text = match terminal::size().filter(|_| self.redraws) {
            Some(room) => shown.fitted(self.out, room),
            None => shown.human(self.out),
        };
        let text = screen::fitted(&text);
        let before = self.drawn.swap(text.lines().count(), Ordering::Relaxed);
        if self.redraws && before > 0 {
            // Up over what was drawn, and clear to the end of the screen (ECMA-48 CPL and ED).
            self.data(&format!("\u{1b}[{before}F\u{1b}[0J{text}"));
        } else {
            self.data(&text);
        }
    }

    fn settle(&self) {
        for bar in self.lock().drain().filter_map(|(_, bar)| bar) {
            bar.finish_and_clear();
        }
    }

    fn closed(&self) -> bool {
        self.outlet.closed()
    }

    fn lost(&self) -> Option<CliError> {
        self.outlet.lost()
    }
}

/// Draws a problem: code, message, causes, place, log, help.
pub(crate) fn draw(diagnostic: &Diagnostic, paint: Paint) -> String {
    let theme = if paint.colours() {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let width = terminal::size().map_or(80, |(columns, _)| usize::from(columns));
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(width.clamp(60, 120))
        .with_break_words(false)
        .with_links(false);
    let mut text = String::new();
    let held = diagnostic.clone().reworded(quoted::held_together);
    if handler
        .render_report(&mut text, &Drawn::new(&held))
        .is_err()
    {
        text = format!("{}: {}\n", diagnostic.code, diagnostic.message);
    }
    text = quoted::let_go(&text);
    if !diagnostic.log.is_empty() {
        let skipped = diagnostic.log.len().saturating_sub(LOG_LINES);
        let _ = writeln!(text, "  {}", paint.bold("its last lines:"));
        for line in &diagnostic.log[skipped..] {
            let _ = writeln!(text, "    {} {}", paint.dim(&line.instance), line.text);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_in_a_help_stands_on_one_line() {
        let command = "platform port-forward orders-db 15432:5432 --env production";
        let help =
            format!("forward it to another port of this machine with `{command}`, and ask there");
        let diagnostic =
            Diagnostic::error("port-forward::cannot-listen", "cannot listen").help(help);
        let shown = draw(&diagnostic, Color::Never.for_stderr());
        assert!(shown.lines().any(|line| line.contains(command)), "{shown}");
        assert!(
            2 < shown.lines().filter(|line| !line.is_empty()).count(),
            "{shown}"
        );
    }
}
