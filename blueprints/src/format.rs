//! The canonical look of a blueprint. Comments and the order of things stay.

use toml_parser::Source;
use toml_parser::parser::{Event, EventKind, parse_document};

/// Lists that reach beyond this column stand one item a line.
const WIDTH: usize = 100;

/// Formats a blueprint: one space around `=`, one empty line between tables,
/// short lists on one line and long ones one item a line. Comments, the order
/// of everything, and the way texts and numbers are written stay. Formatting
/// twice changes nothing the second time, and the meaning never changes.
///
/// - returns: `None` if the text is not TOML, which [`crate::Blueprint::parse`]
///   reports
pub fn format(text: &str) -> Option<String> {
    // Also keeps the depth of nesting within bounds.
    crate::toml_tree::parse(text).ok()?;
    let source = Source::new(text);
    let mut events = Vec::new();
    parse_document(&source.lex().into_vec(), &mut events, &mut ());
    events.retain(|event| event.kind() != EventKind::Whitespace);
    let mut reading = Reading {
        text,
        rest: &events,
    };
    let mut lines = Lines::default();
    while let Some(kind) = reading.peek() {
        match kind {
            EventKind::Newline => {
                reading.next();
                // A line end that comes first on its line leaves it empty.
                lines.empty();
            }
            EventKind::Comment => {
                let comment = reading.next()?.trim_end().to_owned();
                lines.push(comment);
                reading.line_end();
            }
            EventKind::StdTableOpen | EventKind::ArrayTableOpen => {
                let open = reading.next()?;
                let name = reading.keys(&[EventKind::StdTableClose, EventKind::ArrayTableClose]);
                let close = if open.len() == 2 { "]]" } else { "]" };
                let after = reading.comment_and_line_end();
                lines.header(format!("{open}{name}{close}{after}"));
            }
            EventKind::SimpleKey => {
                let key = reading.keys(&[EventKind::KeyValSep]);
                let value = reading.value()?;
                let after = reading.comment_and_line_end();
                let start = format!("{key} = ");
                let value = value.show(start.chars().count(), 0);
                lines.push(format!("{start}{value}{after}"));
            }
            _ => {
                reading.next();
            }
        }
    }
    Some(lines.finish())
}

/// The lines that are done.
#[derive(Default)]
struct Lines {
    done: Vec<String>,
    /// Whether the last one is the header of a table.
    opened: bool,
}

impl Lines {
    /// Leaves one line empty, but none at the beginning or after a header.
    fn empty(&mut self) {
        if !self.opened && self.done.last().is_some_and(|line| !line.is_empty()) {
            self.done.push(String::new());
        }
    }

    fn push(&mut self, line: String) {
        self.done.push(line);
        self.opened = false;
    }

    /// Adds a header, with an empty line before it and its comments.
    fn header(&mut self, line: String) {
        let comments = self
            .done
            .iter()
            .rev()
            .take_while(|line| line.starts_with('#'))
            .count();
        let at = self.done.len() - comments;
        if at > 0 && !self.done[at - 1].is_empty() {
            self.done.insert(at, String::new());
        }
        self.push(line);
        self.opened = true;
    }

    fn finish(mut self) -> String {
        while self.done.last().is_some_and(String::is_empty) {
            self.done.pop();
        }
        let mut text = self.done.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }
}

/// The events that are left.
struct Reading<'text, 'events> {
    text: &'text str,
    rest: &'events [Event],
}

impl<'text> Reading<'text, '_> {
    fn peek(&self) -> Option<EventKind> {
        self.rest.first().map(Event::kind)
    }

    fn next(&mut self) -> Option<&'text str> {
        let (event, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.text.get(event.span().start()..event.span().end())
    }

    /// Reads the parts of a key up to one of the closing events.
    fn keys(&mut self, until: &[EventKind]) -> String {
        let mut name = String::new();
        while let Some(kind) = self.peek() {
            let part = self.next().unwrap_or_default();
            if until.contains(&kind) {
                break;
            }
            name.push_str(part);
        }
        name
    }

    fn line_end(&mut self) {
        if self.peek() == Some(EventKind::Newline) {
            self.next();
        }
    }

    /// Reads the comment at the end of a line, and the line's end.
    fn comment_and_line_end(&mut self) -> String {
        let comment = self.comment();
        self.line_end();
        comment
            .map(|comment| format!(" {comment}"))
            .unwrap_or_default()
    }

    fn comment(&mut self) -> Option<&'text str> {
        if self.peek() == Some(EventKind::Comment) {
            self.next().map(str::trim_end)
        } else {
            None
        }
    }

    fn value(&mut self) -> Option<Written<'text>> {
        match self.peek()? {
            EventKind::Scalar => self.next().map(Written::Scalar),
            EventKind::ArrayOpen => {
                self.next();
                self.items(EventKind::ArrayClose).map(Written::Array)
            }
            EventKind::InlineTableOpen => {
                self.next();
                self.items(EventKind::InlineTableClose).map(Written::Table)
            }
            _ => None,
        }
    }

    fn items(&mut self, close: EventKind) -> Option<Items<'text>> {
        let mut items = Items::default();
        let mut before = Vec::new();
        let mut same_line = false;
        loop {
            match self.peek()? {
                kind if kind == close => {
                    self.next();
                    items.last = before;
                    return Some(items);
                }
                EventKind::Newline => {
                    self.next();
                    same_line = false;
                }
                EventKind::ValueSep => {
                    self.next();
                }
                EventKind::Comment => {
                    let comment = self.comment()?;
                    match items.list.last_mut().filter(|_| same_line) {
                        Some(item) => item.after = Some(comment),
                        None => before.push(comment),
                    }
                }
                _ => {
                    let key = match self.peek()? {
                        EventKind::SimpleKey => Some(self.keys(&[EventKind::KeyValSep])),
                        _ => None,
                    };
                    items.list.push(Member {
                        before: std::mem::take(&mut before),
                        key,
                        value: self.value()?,
                        after: None,
                    });
                    same_line = true;
                }
            }
        }
    }
}

/// A value as written.
enum Written<'text> {
    Scalar(&'text str),
    Array(Items<'text>),
    Table(Items<'text>),
}

/// What a list or table holds, with its comments.
#[derive(Default)]
struct Items<'text> {
    list: Vec<Member<'text>>,
    last: Vec<&'text str>,
}

struct Member<'text> {
    before: Vec<&'text str>,
    key: Option<String>,
    value: Written<'text>,
    after: Option<&'text str>,
}

impl Written<'_> {
    /// Shows the value.
    ///
    /// - `column`: where it begins
    /// - `indent`: how far the lines of what holds it are moved in
    fn show(&self, column: usize, indent: usize) -> String {
        let (items, open, close) = match self {
            Self::Scalar(text) => return (*text).to_owned(),
            Self::Array(items) => (items, '[', ']'),
            Self::Table(items) => (items, '{', '}'),
        };
        // Tables stay on one line however long, as older readers of TOML need it.
        if let Some(line) = self.on_one_line()
            && (column + line.chars().count() <= WIDTH || open == '{' || items.list.len() < 2)
        {
            return line;
        }
        let inner = indent + 2;
        let margin = " ".repeat(inner);
        let mut lines = vec![open.to_string()];
        for Member {
            before,
            key,
            value,
            after,
        } in &items.list
        {
            lines.extend(before.iter().map(|comment| format!("{margin}{comment}")));
            let key = key
                .as_ref()
                .map(|key| format!("{key} = "))
                .unwrap_or_default();
            let value = value.show(inner + key.chars().count() + 1, inner);
            let after = after.map(|after| format!(" {after}")).unwrap_or_default();
            lines.push(format!("{margin}{key}{value},{after}"));
        }
        lines.extend(
            items
                .last
                .iter()
                .map(|comment| format!("{margin}{comment}")),
        );
        lines.push(format!("{}{close}", " ".repeat(indent)));
        lines.join("\n")
    }

    /// The value on one line, unless it has comments or texts of several lines.
    fn on_one_line(&self) -> Option<String> {
        let items = match self {
            Self::Scalar(text) => return (!text.contains('\n')).then(|| (*text).to_owned()),
            Self::Array(items) | Self::Table(items) => items,
        };
        if !items.last.is_empty() {
            return None;
        }
        let members: Option<Vec<String>> = items
            .list
            .iter()
            .map(
                |Member {
                     before,
                     key,
                     value,
                     after,
                 }| {
                    if !before.is_empty() || after.is_some() {
                        return None;
                    }
                    let value = value.on_one_line()?;
                    Some(match key {
                        Some(key) => format!("{key} = {value}"),
                        None => value,
                    })
                },
            )
            .collect();
        let members = members?.join(", ");
        Some(match self {
            Self::Table(_) if members.is_empty() => "{}".to_owned(),
            Self::Table(_) => format!("{{ {members} }}"),
            _ => format!("[{members}]"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let once = format(text).unwrap();
        assert_eq!(once, expected);
        assert_eq!(format(&once).unwrap(), once, "formatting twice");
    }

    #[test]
    fn spaces_and_empty_lines_are_set() {
        check(
            "\n\n# first\n\n\n[project]\n\nname=\"shop\"   # the name  \n\n\n\n[ services . web ]\nport   =  80\n[[routes]]\npath='/'\n\n",
            "# first\n\n[project]\nname = \"shop\" # the name\n\n[services.web]\nport = 80\n\n[[routes]]\npath = '/'\n",
        );
    }

    #[test]
    fn comments_stay_with_what_they_stand_before() {
        check(
            "a = 1\n# about b\n[b]\n# about c\nc = [ # why\n 1, # one\n # two follows\n 2\n # done\n]\n# end\n",
            "a = 1\n\n# about b\n[b]\n# about c\nc = [\n  # why\n  1, # one\n  # two follows\n  2,\n  # done\n]\n# end\n",
        );
    }

    #[test]
    fn short_lists_and_tables_take_one_line_and_long_lists_several() {
        check(
            "a = [\n  \"x\",\n  \"y\",\n]\nb = {c=1,d = {  }}\n",
            "a = [\"x\", \"y\"]\nb = { c = 1, d = {} }\n",
        );
        let long = format!("\"{}\"", "x".repeat(60));
        check(
            &format!("a = [{long}, {long}]\n"),
            &format!("a = [\n  {long},\n  {long},\n]\n"),
        );
    }

    #[test]
    fn the_order_of_dotted_keys_stays() {
        let text = "[e]\nb.c = 1\na = 2\nb.d = \"\"\"\n  x\n\"\"\"\n";
        check(text, text);
    }

    #[test]
    fn what_is_not_toml_is_not_formatted() {
        assert_eq!(format("a = "), None);
        assert_eq!(format("").as_deref(), Some(""));
        assert_eq!(format(&"[".repeat(100_000)), None);
    }
}
