//! How text with colours lies on a terminal: how wide it is, where it is cut, how many rows it takes.

use crate::terminal;

/// One piece of a line: a letter, or a colour code that takes no room.
enum Piece {
    Letter(char),
    Code(String),
}

fn pieces(line: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            let mut code = String::from(letter);
            for next in letters.by_ref() {
                code.push(next);
                if next.is_ascii_alphabetic() {
                    break;
                }
            }
            pieces.push(Piece::Code(code));
        } else {
            pieces.push(Piece::Letter(letter));
        }
    }
    pieces
}

/// A line without its colours.
pub(super) fn bare(line: &str) -> String {
    let letter = |piece| match piece {
        Piece::Letter(letter) => Some(letter),
        Piece::Code(_) => None,
    };
    pieces(line).into_iter().filter_map(letter).collect()
}

/// A line cut so that it takes no more than `width` columns; colours are kept, also where they end.
pub(super) fn cut(line: &str, width: usize) -> String {
    let long = bare(line).chars().count() > width;
    let room = if long { width.saturating_sub(1) } else { width };
    let (mut text, mut used) = (String::new(), 0);
    for piece in pieces(line) {
        match piece {
            Piece::Code(code) => text.push_str(&code),
            Piece::Letter(letter) if used < room => {
                text.push(letter);
                used += 1;
            }
            Piece::Letter(_) if used == room && long => {
                text.push('…');
                used += 1;
            }
            Piece::Letter(_) => {}
        }
    }
    text
}

/// Every line cut to the terminal's width, where there is one.
pub(super) fn fitted(text: &str) -> String {
    let Some((columns, _)) = terminal::size() else {
        return text.to_owned();
    };
    let mut fitted: String = text
        .lines()
        .map(|line| cut(line, usize::from(columns).saturating_sub(1)) + "\n")
        .collect();
    if !text.ends_with('\n') {
        fitted.pop();
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_room() {
        let line = "\u{1b}[31mred\u{1b}[0m and more";
        assert_eq!(bare(line), "red and more");
        assert_eq!(cut(line, 12), line);
        assert_eq!(cut(line, 6), "\u{1b}[31mred\u{1b}[0m a…");
        assert_eq!(cut(line, 2), "\u{1b}[31mr…\u{1b}[0m");
    }
}
