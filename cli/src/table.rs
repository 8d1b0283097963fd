//! Columns of text, each as wide as its widest cell.

use crate::paint::Paint;

/// How a cell is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    Plain,
    /// Stands back.
    Dim,
    /// All is well.
    Good,
    /// Wants attention.
    Warn,
    /// Is wrong.
    Bad,
}

impl Tone {
    fn paint(self, paint: Paint, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Dim => paint.dim(text),
            Self::Good => paint.green(text),
            Self::Warn => paint.yellow(text),
            Self::Bad => paint.red(text),
        }
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    pub(crate) fn new(text: impl Into<String>, tone: Tone) -> Self {
        let text = text.into();
        let text = if text.is_empty() {
            "-".to_owned()
        } else {
            text
        };
        Self { text, tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Rows under a head.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Writes it; a column that says nothing in any row is left out.
    pub(crate) fn render(&self, paint: Paint) -> String {
        let wide = |text: &str| text.chars().count();
        let columns: Vec<(usize, usize)> = self
            .head
            .iter()
            .enumerate()
            .filter(|(at, _)| {
                let mut cells = self.rows.iter().filter_map(|row| row.get(*at));
                self.rows.is_empty() || cells.any(|cell| cell.text != "-")
            })
            .map(|(at, name)| {
                let cells = self.rows.iter().filter_map(|row| row.get(at));
                let widest = cells.map(|cell| wide(&cell.text)).max().unwrap_or(0);
                (at, widest.max(wide(name)))
            })
            .collect();
        let mut text = String::new();
        let mut line = |cells: Vec<(String, usize, usize)>| {
            let last = cells.len().saturating_sub(1);
            for (nth, (painted, bare, width)) in cells.into_iter().enumerate() {
                text.push_str(&painted);
                if nth < last {
                    text.push_str(&" ".repeat(width - bare + 2));
                }
            }
            text.push('\n');
        };
        let head = columns.iter().map(|(at, width)| {
            let name = self.head[*at];
            (paint.bold(name), wide(name), *width)
        });
        line(head.collect());
        for row in &self.rows {
            let cells = columns.iter().map(|(at, width)| {
                let cell = row.get(*at).cloned().unwrap_or_else(|| Cell::from("-"));
                (cell.tone.paint(paint, &cell.text), wide(&cell.text), *width)
            });
            line(cells.collect());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_ones_go() {
        let mut table = Table::new(&["SERVICE", "NOTE", "STATE"]);
        table.row(vec!["orders".into(), "".into(), "ready".into()]);
        table.row(vec!["web".into(), "".into(), Cell::new("", Tone::Dim)]);
        insta::assert_snapshot!(table.render(Paint::NONE), @r"
        SERVICE  STATE
        orders   ready
        web      -
        ");
    }
}
