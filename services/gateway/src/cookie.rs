//! Cookies of a request.

use http::HeaderMap;

/// The value of a cookie, without the quotes that it may stand in (RFC 6265, 4.1.1).
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(http::header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| {
            let bare = value.strip_prefix('"');
            let bare = bare.and_then(|value| value.strip_suffix('"'));
            bare.unwrap_or(value)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", "a=1; release=r6".parse().unwrap());
        headers.append("cookie", "b=2".parse().unwrap());
        assert_eq!(cookie(&headers, "release"), Some("r6"));
        assert_eq!(cookie(&headers, "b"), Some("2"));
        assert_eq!(cookie(&headers, "rel"), None);
    }

    #[test]
    fn a_value_may_stand_in_quotes() {
        for (text, expected) in [
            ("release=\"new\"", "new"),
            ("a=1; release=\"\"; b=2", ""),
            ("release=\"", "\""),
            ("release=\"new", "\"new"),
        ] {
            let mut headers = HeaderMap::new();
            headers.append("cookie", text.parse().unwrap());
            assert_eq!(cookie(&headers, "release"), Some(expected), "{text}");
        }
    }
}
