//! Commands in running text, which somebody copies and no line end may tear apart.

/// Where letters that stand for others begin: Unicode's private use area, where nothing breaks a line.
const PRIVATE: u32 = 0xE000;

/// A text in which a line ends within no pair of backticks.
pub(super) fn held_together(text: &str) -> String {
    let mut pieces: Vec<String> = text.split('`').map(str::to_owned).collect();
    let pairs = (pieces.len() - 1) / 2;
    for piece in pieces.iter_mut().skip(1).step_by(2).take(pairs) {
        *piece = piece
            .chars()
            .map(|letter| match letter {
                ' '..='~' => char::from_u32(PRIVATE + u32::from(letter)).unwrap_or(letter),
                _ => letter,
            })
            .collect();
    }
    pieces.join("`")
}

/// The same text as it was.
pub(super) fn let_go(text: &str) -> String {
    text.chars()
        .map(|letter| {
            let before = u32::from(letter)
                .checked_sub(PRIVATE)
                .and_then(char::from_u32);
            before
                .filter(|before| (' '..='~').contains(before))
                .unwrap_or(letter)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_quoted_is_held_together() {
        let text = "run `platform deploy -e a`, or ask\nwho `knows` more; one ` is none";
        let held = held_together(text);
        let words: Vec<&str> = held.split(' ').collect();
        assert_eq!(words.len(), 10, "{held}");
        assert_eq!(let_go(&held), text);
    }
}
