//! Lengths of time as people read them.

/// A length of time that somebody stated, as exactly as they did: `500 ms`, `1.5 s`, `600 s`.
pub fn exact(milliseconds: u64) -> String {
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    match (seconds, rest) {
        (0, 1..) => format!("{rest} ms"),
        (_, 0) => format!("{seconds} s"),
        _ => {
            let thousandths = format!("{rest:03}");
            format!("{seconds}.{} s", thousandths.trim_end_matches('0'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::exact;

    #[test]
    fn nothing_of_it_is_cut() {
        for (milliseconds, words) in [
            (0, "0 s"),
            (7, "7 ms"),
            (500, "500 ms"),
            (1_000, "1 s"),
            (1_050, "1.05 s"),
            (1_500, "1.5 s"),
            (600_000, "600 s"),
        ] {
            assert_eq!(exact(milliseconds), words);
        }
    }
}
