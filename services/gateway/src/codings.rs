//! The codings of answers that a client takes.

use http::{HeaderMap, header};

/// The codings that a client takes, the most wanted first (RFC 9110, 12.5.3).
pub(crate) fn wanted(headers: &HeaderMap) -> Vec<&str> {
    let mut codings: Vec<(&str, f32)> = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let weight = parameters.split(';').find_map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                let named = name.trim().eq_ignore_ascii_case("q");
                named.then(|| value.trim().parse().unwrap_or(0.0))
            });
            (name.trim(), weight.unwrap_or(1.0))
        })
        .filter(|(_, weight)| *weight > 0.0)
        .collect();
    codings.sort_by(|one, other| other.1.total_cmp(&one.1));
    codings.into_iter().map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_order_codings_and_take_them_out() {
        let check = |value: &str, expected: &[&str]| {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())]);
            assert_eq!(wanted(&headers), expected, "{value}");
        };
        check("gzip, br", &["gzip", "br"]);
        check("gzip;q=0, *", &["*"]);
        check("gzip;q=0.5, br;q=0.9, zstd; Q=0", &["br", "gzip"]);
        check("gzip;q=much", &[]);
    }
}
