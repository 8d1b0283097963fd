//! What others said, in a line of ours.

/// Between what were lines.
const BETWEEN: &str = " / ";

/// A text in one line, without codes for terminals and other characters that nobody sees.
///
/// What a gate or an instance writes goes into logs, tables and pages, which it must not paint, clear or go on with.
pub fn plain(text: &str) -> String {
    let lines = text.split(['\n', '\r']).map(bare);
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    lines.join(BETWEEN)
}

/// One line of it.
fn bare(line: &str) -> String {
    let mut bare = String::with_capacity(line.len());
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => skip_code(&mut letters),
            '\t' => bare.push(' '),
            hidden if hidden.is_control() => {}
            // What turns the direction of letters makes a line look like another one.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            other => bare.push(other),
        }
    }
    bare.trim().to_owned()
}

/// Skips what follows an escape: ECMA-48, 5.4 and 5.6.
fn skip_code(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match letters.next() {
        Some('[') => {
            let goes_on = |letter: &char| matches!(letter, ' '..='?');
            while letters.next_if(goes_on).is_some() {}
            letters.next_if(|letter| matches!(letter, '@'..='~'));
        }
        // A string, up to the bell or the next escape, whose letter ends it.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while letters
                .next_if(|letter| !matches!(letter, '\u{7}' | '\u{1b}'))
                .is_some()
            {}
            if letters.next() == Some('\u{1b}') {
                letters.next_if_eq(&'\\');
            }
        }
        // Between the escape and its last letter.
        Some(' '..='/') => {
            while letters
                .next_if(|letter| matches!(letter, ' '..='/'))
                .is_some()
            {}
            letters.next();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_stays_in_its_line() {
        for (text, expected) in [
            ("all is well", "all is well"),
            (
                "line one\r\n| x | y |\n\n# Title <b>\u{1b}[31m",
                "line one / | x | y | / # Title <b>",
            ),
            ("\u{1b}[1;38;5;9mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;http://x\u{1b}\\link", "link"),
            ("\u{1b}(Bplain\u{1b}c", "plain"),
            ("a\u{8}\u{0}b\tc\u{9b}", "ab c"),
            ("\u{202e}ab", "ab"),
            ("cut \u{1b}[", "cut"),
            ("", ""),
        ] {
            assert_eq!(plain(text), expected, "{text:?}");
        }
    }
}
