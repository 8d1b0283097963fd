//! Commands: their words are carried, but for what may well be secret, as whoever may list processes sees them.

use super::Draft;
use super::address::Url;
use super::environment::sounds_secret;
use crate::left::Code;

impl Draft<'_> {
    /// Words of a command, with addresses as a blueprint has them and without what may well be secret.
    pub(super) fn words(&mut self, name: &str, place: &[&str], words: &[String]) -> Vec<String> {
        let mut kept = Vec::new();
        let mut left = words.iter().peekable();
        while let Some(word) = left.next() {
            let text = self.addressed(name, place, word);
            if self.holds_credentials(&text) {
                // What introduces it alone would take the next word for it.
                let introduced = |flag: &mut String| flag.starts_with('-') && !flag.contains('=');
                let flag = kept.pop_if(introduced).map(|flag| format!("`{flag}` and "));
                let why = format!(
                    "{}the address `{text}` is left out: it holds a password, which whoever may list processes would see",
                    flag.unwrap_or_default()
                );
                let help = "have the program read that variable itself";
                self.leave(Code::NotCarried, place, why, Some(help));
                continue;
            }
            let next = left.peek().map(|next| next.as_str());
            let Some(secret) = shown(&text, next) else {
                kept.push(text);
                continue;
            };
            if secret.is_next {
                left.next();
            }
            let left_out = if text.contains(char::is_whitespace) {
                "all of this line, which has to be written anew"
            } else {
                "it"
            };
            let why = format!(
                "{} may well hold a secret, which whoever may list processes would see; left out is {left_out}",
                secret.what
            );
            let help = "store it with `platform secrets set`, and have the program read a variable or a file that the service is handed";
            self.leave(Code::SecretToSet, place, why, Some(help));
        }
        kept
    }
}

/// A word of a command that may well hold a secret.
struct Shown {
    /// The word, without what may be secret.
    what: String,
    /// Whether it is the word after it.
    is_next: bool,
}

/// Whether a word shows a secret, itself or by the word after it.
fn shown(word: &str, next: Option<&str>) -> Option<Shown> {
    let written = |value: &str| !value.starts_with('$');
    let sounds = |name: &str, value: &str| {
        let name = name
            .trim_start_matches('-')
            .replace('-', "_")
            .to_ascii_uppercase();
        let named = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
        let named = named && !name.is_empty();
        let passed = name.ends_with("PASS") && value.len() > 1;
        named && written(value) && (passed || sounds_secret(&name, value))
    };
    let itself = |what: String| {
        Some(Shown {
            what,
            is_next: false,
        })
    };
    // A line for a shell is made of words, too.
    let parts: Vec<&str> = word.split_whitespace().collect();
    for (number, part) in parts.iter().enumerate() {
        let after = match parts.get(number + 1) {
            Some(after) => Some(*after),
            None => next.filter(|_| parts.len() == 1),
        };
        let assigned = part
            .split_once('=')
            .filter(|(name, value)| sounds(name, value));
        if let Some((name, _)) = assigned {
            return itself(format!("`{name}=`"));
        }
        if part.starts_with('-')
            && after.is_some_and(|value| !value.starts_with('-') && sounds(part, value))
        {
            return Some(Shown {
                what: format!("what follows `{part}`"),
                is_next: parts.len() == 1,
            });
        }
    }
    let mut rest = word;
    while let Some(url) = Url::first(rest) {
        if url.password.is_some_and(written) {
            return itself(format!("an address of `{}`", url.host));
        }
        rest = url.after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_commands_are_seen() {
        let check = |words: &[&str], secret: bool, is_next: bool| {
            let found = shown(words[0], words.get(1).copied());
            assert_eq!(
                found.as_ref().map(|found| found.is_next),
                secret.then_some(is_next),
                "{words:?}"
            );
            assert!(
                !found.is_some_and(|found| found.what.contains("hunter2")),
                "{words:?}"
            );
        };
        check(&["--password=hunter2"], true, false);
        check(&["API_TOKEN=hunter2"], true, false);
        check(&["--requirepass", "hunter2"], true, true);
        check(
            &["exec redis-server --requirepass hunter2 --port 1"],
            true,
            false,
        );
        check(
            &["--db=postgres://me:hunter2@db.example.com/x"],
            true,
            false,
        );
        check(&["--db=${DB_URL}"], false, false);
        check(&["--password", "${PASSWORD}"], false, false);
        check(&["--password", "--quiet"], false, false);
        check(&["--token-file=/run/token"], false, false);
        check(&["--port=8080", "serve"], false, false);
        check(&["http://db.example.com:80/x"], false, false);
    }
}
