//! Adding tables to a blueprint by its text, so that nothing else of it changes.

/// Which tables the new ones follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocks {
    /// `[services.…]`
    Services,
    /// `[[routes]]`
    Routes,
}

impl Blocks {
    fn begins(self, header: &str) -> bool {
        let name = header.trim_start_matches('[').trim_start();
        let key = match self {
            Self::Services => "services",
            Self::Routes => "routes",
        };
        name.strip_prefix(key)
            .is_some_and(|rest| rest.trim_start().starts_with(['.', ']']))
    }
}

/// Inserts a text after the last table of its kind; at the end if there is none.
pub(crate) fn insert_after(text: &str, blocks: Blocks, addition: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let headers: Vec<usize> = headers(&lines);
    let last = headers
        .iter()
        .rposition(|line| blocks.begins(lines[*line].trim_start()));
    let at = match last {
        Some(place) => {
            let end = headers.get(place + 1).copied().unwrap_or(lines.len());
            // Comments above the next table are its own.
            let own = |line: &&str| {
                let line = line.trim();
                !line.is_empty() && !line.starts_with('#')
            };
            headers[place]
                + lines[headers[place]..end]
                    .iter()
                    .rposition(own)
                    .map_or(1, |line| line + 1)
        }
        None => lines.len(),
    };
    let (before, after) = (lines[..at].concat(), lines[at..].concat());
    let gap = if before.is_empty() || before.ends_with("\n\n") {
        ""
    } else if before.ends_with('\n') {
        "\n"
    } else {
        "\n\n"
    };
    format!("{before}{gap}{addition}{after}")
}

/// The lines that begin a table, leaving out those within texts and arrays of several lines.
fn headers(lines: &[&str]) -> Vec<usize> {
    let mut headers = Vec::new();
    let mut depth = 0_i32;
    let mut text: Option<&str> = None;
    for (number, line) in lines.iter().enumerate() {
        if depth == 0 && text.is_none() && line.trim_start().starts_with('[') {
            headers.push(number);
            continue;
        }
        let mut rest = *line;
        while !rest.is_empty() {
            if let Some(quotes) = text {
                let Some(end) = rest.find(quotes) else { break };
                let escaped = quotes.starts_with('"') && rest[..end].ends_with('\\');
                if !escaped {
                    text = None;
                }
                rest = &rest[end + quotes.len()..];
                continue;
            }
            let opening = ["\"\"\"", "'''", "\"", "'"]
                .into_iter()
                .find(|quotes| rest.starts_with(quotes));
            if let Some(quotes) = opening {
                text = Some(quotes);
                rest = &rest[quotes.len()..];
                continue;
            }
            match rest.as_bytes()[0] {
                b'#' => break,
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            let width = rest.chars().next().map_or(1, char::len_utf8);
            rest = &rest[width..];
        }
        // A text of one line ends with it.
        if text.is_some_and(|quotes| quotes.len() == 1) {
            text = None;
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, blocks: Blocks, expected: &str) {
        assert_eq!(insert_after(text, blocks, "[new]\n"), expected);
    }

    #[test]
    fn a_table_follows_the_last_of_its_kind() {
        check(
            "[services.a]\nx = 1\n\n[services.a.env]\ny = 1 # why\n\n# Others\n[other]\n",
            Blocks::Services,
            "[services.a]\nx = 1\n\n[services.a.env]\ny = 1 # why\n\n[new]\n\n# Others\n[other]\n",
        );
        check("[a]\nx = 1", Blocks::Routes, "[a]\nx = 1\n\n[new]\n");
        check("", Blocks::Routes, "[new]\n");
    }

    #[test]
    fn what_only_looks_like_a_table_is_none() {
        check(
            "[services.a]\nx = [\n[\"é]\"],\n]\ny = \"\"\"\n[[routes]]\n\"\"\"\n[z]\n",
            Blocks::Services,
            "[services.a]\nx = [\n[\"é]\"],\n]\ny = \"\"\"\n[[routes]]\n\"\"\"\n\n[new]\n[z]\n",
        );
        check(
            "[services_other.a]\n",
            Blocks::Services,
            "[services_other.a]\n\n[new]\n",
        );
    }
}
