//! Colours, where they are wanted.

use std::env;
use std::io::IsTerminal;

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set or the terminal is dumb
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    fn wanted(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
                    || env::var_os("TERM").is_some_and(|term| term == "dumb");
                terminal && !plain
            }
        }
    }

    /// Paint for what is written to standard output.
    pub(crate) fn for_stdout(self) -> Paint {
        Paint(self.wanted(std::io::stdout().is_terminal()))
    }

    /// Paint for what is written to standard error.
    pub(crate) fn for_stderr(self) -> Paint {
        Paint(self.wanted(std::io::stderr().is_terminal()))
    }
}

/// Puts colour on text, or leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(bool);

/// Colours that tell several things apart, by their SGR codes (ECMA-48).
const APART: [u8; 6] = [36, 33, 35, 32, 34, 91];

impl Paint {
    /// Leaves text as it is.
    pub(crate) const NONE: Self = Self(false);

    /// Puts colour on, whoever reads.
    pub(crate) const ALWAYS: Self = Self(true);

    /// Whether it colours.
    pub(crate) fn colours(self) -> bool {
        self.0
    }

    fn sgr(self, code: u8, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// Stands out.
    pub(crate) fn bold(self, text: &str) -> String {
        self.sgr(1, text)
    }

    /// Stands back.
    pub(crate) fn dim(self, text: &str) -> String {
        self.sgr(2, text)
    }

    /// All is well, or something is added.
    pub(crate) fn green(self, text: &str) -> String {
        self.sgr(32, text)
    }

    /// Something wants attention, or is changed.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.sgr(33, text)
    }

    /// Something is wrong, or is removed.
    pub(crate) fn red(self, text: &str) -> String {
        self.sgr(31, text)
    }

    /// The nth of several things to be told apart.
    pub(crate) fn nth(self, nth: usize, text: &str) -> String {
        self.sgr(APART[nth % APART.len()], text)
    }
}
