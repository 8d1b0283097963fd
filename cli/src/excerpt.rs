//! The text around a problem, as it is shown: long lines are cut around what is said about them.

use std::ops::Range;
use std::sync::Arc;

use miette::{
    LabeledSpan, MietteError, MietteSpanContents, NamedSource, SourceCode, SourceSpan, SpanContents,
};

/// Bytes of a line that are shown whole.
const WHOLE: usize = 160;
/// Bytes shown on either side of what is said about a line that is longer.
const AROUND: usize = 40;
/// Bytes shown of what is said about it.
const AT_MOST: usize = 80;
/// Stands where a line is cut.
const CUT: char = '…';

/// A text with labels on it.
#[derive(Clone)]
pub(crate) struct Excerpt {
    /// The text, its long lines cut.
    pub(crate) source: Arc<Source>,
    /// What to say where, the main one first.
    pub(crate) labels: Vec<LabeledSpan>,
}

/// A text that knows where in the whole text its main place is.
pub(crate) struct Source {
    text: NamedSource<String>,
    /// Where the main label begins here, and its column in the whole text, from 0.
    main: Option<(usize, usize)>,
}

impl Excerpt {
    /// The text of this name with these labels.
    pub(crate) fn new(name: &str, text: &str, labels: Vec<LabeledSpan>) -> Self {
        let lines = cut(text, &labels);
        let mut shown = String::with_capacity(text.len().min(64 * 1024));
        for line in &lines {
            line.write(text, &mut shown);
        }
        let main = labels.first().map(|label| {
            let (begin, offset) = (line_of(text, label.offset()).start, label.offset());
            (moved(&lines, offset), text[begin..offset].chars().count())
        });
        let labels = labels
            .into_iter()
            .map(|label| {
                let (begin, end) = (label.offset(), label.offset() + label.len());
                let (begin, end) = (moved(&lines, begin), moved(&lines, end));
                let text = label.label().map(str::to_owned);
                let span: SourceSpan = (begin, end - begin).into();
                if label.primary() {
                    LabeledSpan::new_primary_with_span(text, span)
                } else {
                    LabeledSpan::new_with_span(text, span)
                }
            })
            .collect();
        Self {
            source: Arc::new(Source {
                text: NamedSource::new(name, shown),
                main,
            }),
            labels,
        }
    }
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let read = self.text.read_span(span, before, after)?;
        let column = match self.main {
            // The place is told by this one.
            Some((begin, column)) if begin == span.offset() && before == 0 => column,
            _ => read.column(),
        };
        let (line, count) = (read.line(), read.line_count());
        let name = self.text.name().to_owned();
        let (data, span) = (read.data(), *read.span());
        Ok(Box::new(MietteSpanContents::new_named(
            name, data, span, line, column, count,
        )))
    }
}

/// What is shown of a line.
struct Line {
    /// Where the line is in the whole text, its end among it.
    whole: Range<usize>,
    /// What of that is shown, without its end.
    window: Range<usize>,
    /// Where it ends, without its line end.
    end: usize,
    /// Where it begins in what is shown.
    begins: usize,
}

impl Line {
    fn write(&self, text: &str, shown: &mut String) {
        if self.whole.start < self.window.start {
            shown.push(CUT);
        }
        shown.push_str(&text[self.window.clone()]);
        if self.window.end < self.end {
            shown.push(CUT);
        }
        shown.push_str(&text[self.end..self.whole.end]);
    }

    /// How many bytes of it are shown.
    fn length(&self) -> usize {
        let cuts = [
            self.whole.start < self.window.start,
            self.window.end < self.end,
        ];
        let cuts = cuts.into_iter().filter(|cut| *cut).count();
        self.window.len() + cuts * CUT.len_utf8() + (self.whole.end - self.end)
    }
}

/// Every line of a text with what is shown of it.
fn cut(text: &str, labels: &[LabeledSpan]) -> Vec<Line> {
    let (mut at, mut begins) = (0, 0);
    let mut lines = Vec::new();
    for line in text.split_inclusive('\n') {
        let whole = at..at + line.len();
        let end = at + line.trim_end_matches(['\n', '\r']).len();
        let window = if end - at <= WHOLE {
            at..end
        } else {
            let here = labels.iter().find(|label| whole.contains(&label.offset()));
            let (begin, length) = here.map_or((at, 0), |label| (label.offset(), label.len()));
            let begin_shown = begin.saturating_sub(AROUND).max(at);
            let end_shown = (begin + length.min(AT_MOST)).max(begin_shown + AROUND) + AROUND;
            text.ceil_char_boundary(begin_shown)..text.floor_char_boundary(end_shown.min(end))
        };
        let line = Line {
            whole,
            window,
            end,
            begins,
        };
        at = line.whole.end;
        begins += line.length();
        lines.push(line);
    }
    lines
}

/// Where a place of the whole text is in what is shown; at the cut, where it is left out.
fn moved(lines: &[Line], offset: usize) -> usize {
    let after = lines.partition_point(|line| line.whole.end <= offset);
    let Some(line) = lines.get(after) else {
        return lines.last().map_or(0, |line| line.begins + line.length());
    };
    let cut = if line.whole.start < line.window.start {
        CUT.len_utf8()
    } else {
        0
    };
    if offset >= line.end {
        return line.begins + line.length() - (line.whole.end - offset);
    }
    let within = offset.clamp(line.window.start, line.window.end);
    line.begins + cut + within - line.window.start
}

/// The line that a place is in, without its end.
fn line_of(text: &str, offset: usize) -> Range<usize> {
    let begin = text[..offset].rfind('\n').map_or(0, |end| end + 1);
    let end = text[offset..]
        .find('\n')
        .map_or(text.len(), |end| offset + end);
    begin..end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of a text with one label, which stands in brackets.
    fn check(text: &str, label: Range<usize>) -> (String, usize) {
        let label = LabeledSpan::new_primary_with_span(None, label);
        let excerpt = Excerpt::new("platform.toml", text, vec![label]);
        let mut shown = excerpt.source.text.inner().clone();
        let label = &excerpt.labels[0];
        shown.insert(label.offset() + label.len(), ']');
        shown.insert(label.offset(), '[');
        let (_, column) = excerpt.source.main.unwrap();
        (shown, column)
    }

    #[test]
    fn what_is_short_is_shown_as_it_is() {
        let text = "one = 1\r\ntwo = 2\n";
        assert_eq!(
            check(text, 15..16),
            ("one = 1\r\ntwo = [2]\n".to_owned(), 6)
        );
        assert_eq!(check(text, 17..17).0, "one = 1\r\ntwo = 2\n[]");
        assert_eq!(check("", 0..0), ("[]".to_owned(), 0));
    }

    #[test]
    fn a_long_line_is_cut_around_the_place_and_the_column_stays() {
        let (left, right) = ("ä".repeat(500), "b".repeat(500));
        let text = format!("short = 1\n{left}!{right}\n{right}");
        let place = 10 + left.len();
        let (shown, column) = check(&text, place..place + 1);
        let lines: Vec<&str> = shown.lines().collect();
        let (before, after) = ("ä".repeat(20), "b".repeat(40));
        assert_eq!(lines[0], "short = 1");
        assert_eq!(lines[1], format!("…{before}[!]{after}…"));
        assert_eq!(lines[2], format!("{}…", "b".repeat(80)));
        assert_eq!(column, 500);
    }

    #[test]
    fn what_is_said_of_all_of_a_long_line_ends_at_the_cut() {
        let text = format!("key = {}\nnext = 1\n", "x".repeat(1000));
        let (shown, column) = check(&text, 6..1006);
        assert_eq!(shown, format!("key = [{}…]\nnext = 1\n", "x".repeat(120)));
        assert_eq!(column, 6);
    }
}
