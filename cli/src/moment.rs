//! Times and sizes as people write and read them.

use std::str::FromStr;
use std::time::Duration;

use chrono::DateTime;
use platform_blueprint::Period;

/// A moment given on the command line: so long ago, or at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// So many milliseconds ago.
    Ago(u64),
    /// At so many milliseconds since the Unix epoch.
    At(u64),
}

impl Moment {
    /// In milliseconds since the Unix epoch, seen from `now`.
    pub(crate) fn millis(self, now: u64) -> u64 {
        match self {
            Self::Ago(ago) => now.saturating_sub(ago),
            Self::At(at) => at,
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ago) = text.parse::<Period>() {
            let ago = u64::try_from(ago.duration().as_millis()).unwrap_or(u64::MAX);
            return Ok(Self::Ago(ago));
        }
        let at = DateTime::parse_from_rfc3339(text).map_err(|_| {
            "write so long ago, such as `10m`, or a time, such as `2026-01-31T12:00:00Z`".to_owned()
        })?;
        Ok(Self::At(u64::try_from(at.timestamp_millis()).unwrap_or(0)))
    }
}

/// How long ago something was, in its two largest units: `3m 12s`.
pub(crate) fn age(since: u64, now: u64) -> String {
    let seconds = now.saturating_sub(since) / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// How long something took: `340 ms`, `12.5 s`, `3m 12s`.
pub(crate) fn span(took: Duration) -> String {
    match took.as_millis() {
        milliseconds @ ..1000 => format!("{milliseconds} ms"),
        ..60_000 => format!("{:.1} s", took.as_secs_f64()),
        milliseconds => age(0, u64::try_from(milliseconds).unwrap_or(u64::MAX)),
    }
}

/// How long ago a time in RFC 3339 was; the text itself where it is none.
pub(crate) fn age_of(time: &str, now: u64) -> String {
    DateTime::parse_from_rfc3339(time).map_or_else(
        |_| time.to_owned(),
        |time| age(u64::try_from(time.timestamp_millis()).unwrap_or(0), now),
    )
}

/// A number of bytes with three digits: `12.4 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut size = f64::from(u32::try_from(count >> 10).unwrap_or(u32::MAX));
    if count < 1024 {
        return format!("{count} B");
    }
    unit += 1;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(size < 100.0);
    format!("{size:.digits$} {}", UNITS[unit])
}

/// The time of day of a moment in milliseconds since the Unix epoch, here: `12:00:01.250`.
pub(crate) fn time_of_day(at: u64) -> String {
    let at = i64::try_from(at)
        .ok()
        .and_then(DateTime::from_timestamp_millis);
    at.unwrap_or_default()
        .with_timezone(&chrono::Local)
        .format("%H:%M:%S%.3f")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_either_way() {
        assert_eq!("10m".parse(), Ok(Moment::Ago(600_000)));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(Moment::At(1000)));
        assert!("yesterday".parse::<Moment>().is_err());
        assert_eq!(Moment::Ago(500).millis(1500), 1000);
    }

    #[test]
    fn ages_and_sizes_have_two_units_at_most() {
        assert_eq!(age(0, 12_900), "12s");
        assert_eq!(age(0, 192_000), "3m 12s");
        assert_eq!(age(0, 7_380_000), "2h 3m");
        assert_eq!(age(0, 90_000_000), "1d 1h");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(13 * 1024 * 1024 + 400 * 1024), "13.4 MiB");
        assert_eq!(bytes(300 * 1024 * 1024), "300 MiB");
    }
}
