//! What instances write: taken in, kept within bounds, read back.

mod capture;
mod file;
mod reader;
mod tail;

pub(crate) use capture::{Capture, Pipes, capture};
pub(crate) use file::now;
pub(crate) use file::{LogFile, prune};
pub(crate) use reader::lines;
