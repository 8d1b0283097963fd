//! How long an answer is fresh, by what it says of itself (RFC 9111, 5861).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use pingora_cache::CacheMeta;
use pingora_cache::cache_control::{CacheControl, InterpretCacheControl};
use pingora_http::ResponseHeader;
use platform_gateway_api::Cache as Settings;

/// Takes over what an answer without change says (RFC 9111, 3.2), but for what describes the body
/// that is kept, or told it apart.
pub(crate) fn renew(answer: &mut ResponseHeader, said: &HeaderMap) {
    for name in said.keys() {
        if matches!(
            *name,
            header::CONTENT_LENGTH
                | header::CONTENT_ENCODING
                | header::CONTENT_RANGE
                | header::TRANSFER_ENCODING
                | header::ETAG
                | header::VARY
                | header::SET_COOKIE
        ) || name == "content-md5"
        {
            continue;
        }
        answer.remove_header(name.as_str());
        for value in said.get_all(name) {
            // The name was a header's before.
            let _ = answer.append_header(name.clone(), value.clone());
        }
    }
}

/// How long an answer is fresh; `None` where it must not be kept.
///
/// - `named`: whether the request said who asks
///
/// Source: RFC 9111, 3 and 4.2.
pub(crate) fn lifetime(
    settings: &Settings,
    answer: &ResponseHeader,
    named: bool,
    now: SystemTime,
) -> Option<CacheMeta> {
    let status = answer.status;
    let headers = &answer.headers;
    if status.is_informational()
        || matches!(
            status,
            StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        )
        || headers.contains_key(header::SET_COOKIE)
        || list(headers, &header::VARY).any(|name| name == "*")
    {
        return None;
    }
    let says = CacheControl::from_resp_headers(answer);
    let says = says.as_ref();
    if says.is_some_and(|says| {
        says.is_cacheable() == pingora_cache::cache_control::Cacheable::No
            || (says.has_key("must-understand") && !is_understood(status))
    }) {
        return None;
    }
    if named && !says.is_some_and(InterpretCacheControl::allow_caching_authorized_req) {
        return None;
    }
    let stated = one(headers, &header::DATE).and_then(time);
    let date = stated.filter(|date| *date <= now);
    let given = says.and_then(InterpretCacheControl::fresh_duration);
    let given = given.or_else(|| {
        let expires = headers.get(header::EXPIRES)?;
        let until = expires.to_str().ok().and_then(time);
        let until = until.filter(|_| one(headers, &header::EXPIRES).is_some());
        // What cannot be read is a time in the past.
        let fresh = until.and_then(|until| until.duration_since(stated.unwrap_or(now)).ok());
        Some(fresh.unwrap_or_default())
    });
    let usual = settings
        .fresh_ms
        .filter(|_| is_understood(status))
        .map(Duration::from_millis);
    let fresh = given.or(usual)?;
    let told = if headers.contains_key(header::AGE) {
        // An age that cannot be read may be any.
        let age = one(headers, &header::AGE)?;
        let digits = age.bytes().all(|byte| byte.is_ascii_digit());
        Duration::from_secs(age.parse().ok().filter(|_| digits)?)
    } else {
        Duration::ZERO
    };
    let seen = date.and_then(|date| now.duration_since(date).ok());
    let born = now.checked_sub(told.max(seen.unwrap_or_default()))?;
    let fresh_until = if fresh.is_zero() {
        born.checked_sub(Duration::from_secs(1))?
    } else {
        born.checked_add(fresh)?
    };
    let (updating, failing) = stale(settings, says);
    let mut kept = answer.clone();
    // Told anew with each answer; once it was checked, the old age says nothing any more.
    kept.remove_header(&header::AGE);
    if let Some(says) = says {
        says.strip_private_headers(&mut kept);
    }
    let mut meta = CacheMeta::new(fresh_until, now, updating, failing, kept);
    meta.set_epoch_override(born);
    Some(meta)
}

/// How long a stale answer is given while a fresh one is fetched, and while that fails, in seconds.
fn stale(settings: &Settings, says: Option<&CacheControl>) -> (u32, u32) {
    if says.is_some_and(CacheControl::no_cache) {
        return (0, 0);
    }
    let seconds = |said: Option<Duration>, usual: u64| {
        let period = said.unwrap_or(Duration::from_millis(usual));
        u32::try_from(period.as_secs()).unwrap_or(u32::MAX)
    };
    (
        seconds(
            says.and_then(InterpretCacheControl::serve_stale_while_revalidate_duration),
            settings.stale_while_revalidate_ms,
        ),
        seconds(
            says.and_then(InterpretCacheControl::serve_stale_if_error_duration),
            settings.stale_if_error_ms,
        ),
    )
}

/// The statuses that may be kept without being told to.
///
/// Source: RFC 9110, 15.1.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

fn time(text: &str) -> Option<SystemTime> {
    text.parse::<httpdate::HttpDate>()
        .ok()
        .map(SystemTime::from)
}

/// The value of a field that is there once.
fn one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?.trim();
    values.next().is_none().then_some(value)
}

/// The names in a list, in lower case.
pub(crate) fn list(headers: &HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
}

pub(crate) fn asks_for(headers: &HeaderMap, directive: &str) -> bool {
    list(headers, &header::CACHE_CONTROL).any(|found| found == directive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut answer = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            answer.append_header(*name, *value).unwrap();
        }
        answer
    }

    /// Seconds from now until it is stale.
    fn fresh(settings: &Settings, answer: &ResponseHeader, named: bool) -> Option<i64> {
        let now = time("Mon, 23 Nov 2026 12:00:00 GMT").unwrap();
        let until = lifetime(settings, answer, named, now)?.fresh_until();
        Some(match until.duration_since(now) {
            Ok(left) => i64::try_from(left.as_secs()).unwrap(),
            Err(_) => -1,
        })
    }

    #[test]
    fn an_answer_is_kept_as_long_as_it_says() {
        let plain = Settings::default();
        for (fields, expected) in [
            (&[("cache-control", "max-age=60")][..], Some(60)),
            (&[("cache-control", "max-age=60, s-maxage=5")], Some(5)),
            (&[("cache-control", "max-age=60"), ("age", "20")], Some(40)),
            (
                &[
                    ("cache-control", "max-age=60"),
                    ("date", "Mon, 23 Nov 2026 11:59:30 GMT"),
                ],
                Some(30),
            ),
            (&[("expires", "Mon, 23 Nov 2026 12:01:00 GMT")], Some(60)),
            (&[("expires", "soon")], Some(-1)),
            // By the service's own clock, however wrong it is.
            (
                &[
                    ("expires", "Mon, 23 Nov 2026 12:05:00 GMT"),
                    ("date", "Mon, 23 Nov 2026 12:10:00 GMT"),
                ],
                Some(-1),
            ),
            (&[("cache-control", "max-age=60"), ("age", "1.5")], None),
            (
                &[("cache-control", "max-age=60"), ("age", "0"), ("age", "0")],
                None,
            ),
            (&[("cache-control", "no-cache")], Some(-1)),
            (&[("cache-control", "no-store, max-age=60")], None),
            (&[("cache-control", "private, max-age=60")], None),
            (&[("cache-control", "max-age=60"), ("vary", "*")], None),
            (
                &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
                None,
            ),
            (&[], None),
        ] {
            let found = fresh(&plain, &answer(200, fields), false);
            assert_eq!(found, expected, "{fields:?}");
        }
        assert_eq!(
            fresh(
                &plain,
                &answer(206, &[("cache-control", "max-age=60")]),
                false
            ),
            None
        );
    }

    #[test]
    fn what_does_not_say_is_kept_as_the_route_says() {
        let settings = Settings {
            fresh_ms: Some(7_000),
            ..Settings::default()
        };
        for (status, expected) in [(200, Some(7)), (404, Some(7)), (302, None), (500, None)] {
            assert_eq!(
                fresh(&settings, &answer(status, &[]), false),
                expected,
                "{status}"
            );
        }
    }

    #[test]
    fn answers_to_somebody_in_particular_are_kept_only_if_they_allow_it() {
        let plain = Settings::default();
        for (says, expected) in [
            ("max-age=60", None),
            ("max-age=60, public", Some(60)),
            ("s-maxage=60", Some(60)),
        ] {
            let answer = answer(200, &[("cache-control", says)]);
            assert_eq!(fresh(&plain, &answer, true), expected, "{says}");
        }
    }
}
