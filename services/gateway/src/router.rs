//! Finds the route of a request.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use http::HeaderMap;
use platform_gateway_api::{Match, PathMatch, ValueMatch};

/// What a request is matched on.
pub(crate) struct Asked<'a> {
    /// Without port, in lower case.
    pub(crate) host: &'a str,
    /// As [`normalize`] or [`readings`] return it.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) method: &'a str,
    pub(crate) headers: &'a HeaderMap,
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Found<'a, T> {
    /// The most specific route.
    Route(&'a Arc<T>),
    /// The path is known, but not with this method. Holds the methods that are.
    OtherMethods(Vec<&'a str>),
    /// No route.
    Nothing,
}

/// All routes, most specific first.
#[derive(Debug)]
pub(crate) struct Router<T> {
    entries: Vec<Entry<T>>,
    /// Positions of entries whose first segment is fixed, by that segment.
    by_segment: HashMap<String, Vec<u32>>,
    /// Positions of entries that any first segment may fit.
    anywhere: Vec<u32>,
}

#[derive(Debug)]
struct Entry<T> {
    matches: Match,
    target: Arc<T>,
}

impl<T> Router<T> {
    pub(crate) fn new(routes: impl Iterator<Item = (Match, Arc<T>)>) -> Self {
        let mut entries: Vec<Entry<T>> = routes
            .map(|(mut matches, target)| {
                matches.path = canonical_match(&matches.path);
                Entry { matches, target }
            })
            .collect();
        // Stable: an earlier route wins among equals.
        entries.sort_by_key(|entry| std::cmp::Reverse(specificity(&entry.matches)));
        let mut by_segment: HashMap<String, Vec<u32>> = HashMap::new();
        let mut anywhere = Vec::new();
        for (index, entry) in (0_u32..).zip(&entries) {
            match fixed_segment(&entry.matches.path) {
                Some(segment) => by_segment.entry(segment.into()).or_default().push(index),
                None => anywhere.push(index),
            }
        }
        Self {
            entries,
            by_segment,
            anywhere,
        }
    }

    pub(crate) fn find(&self, asked: &Asked<'_>) -> Found<'_, T> {
        let segment = first_segment(asked.path);
        let here = self.by_segment.get(segment).map_or(&[][..], Vec::as_slice);
        let mut methods = Vec::new();
        let (mut fixed, mut any) = (here.iter().peekable(), self.anywhere.iter().peekable());
        loop {
            // Both lists are in order of specificity: take the lower position.
            let index = match (fixed.peek(), any.peek()) {
                (Some(one), Some(other)) if one < other => fixed.next(),
                (_, Some(_)) => any.next(),
                (_, None) => fixed.next(),
            };
            let Some(entry) = index.and_then(|index| self.entries.get(*index as usize)) else {
                break;
            };
            if !fits(&entry.matches, asked) {
                continue;
            }
            let allowed = &entry.matches.methods;
            if allowed.is_empty() || allowed.iter().any(|method| method == asked.method) {
                return Found::Route(&entry.target);
            }
            methods.extend(allowed.iter().map(String::as_str));
        }
        if methods.is_empty() {
            Found::Nothing
        } else {
            methods.sort_unstable();
            methods.dedup();
            Found::OtherMethods(methods)
        }
    }
}

/// Orders matches: a higher value is more specific.
fn specificity(matches: &Match) -> (bool, u8, usize, usize) {
    let (kind, text) = match &matches.path {
        PathMatch::Prefix(text) => (0, text),
        PathMatch::Template(text) => (1, text),
        PathMatch::Exact(text) => (2, text),
    };
    let conditions =
        matches.headers.len() + matches.query.len() + usize::from(!matches.methods.is_empty());
    (!matches.hosts.is_empty(), kind, text.len(), conditions)
}

fn first_segment(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or("")
}

/// The first segment a path must have, if it is fixed.
fn fixed_segment(path: &PathMatch) -> Option<&str> {
    let text = match path {
        PathMatch::Prefix(text) if text.trim_end_matches('/').is_empty() => return None,
        PathMatch::Prefix(text) | PathMatch::Exact(text) | PathMatch::Template(text) => text,
    };
    let segment = first_segment(text);
    (!segment.starts_with('{')).then_some(segment)
}

fn fits(matches: &Match, asked: &Asked<'_>) -> bool {
    let host = matches.hosts.is_empty()
        || matches
            .hosts
            .iter()
            .any(|pattern| host_fits(pattern, asked.host));
    host && path_fits(&matches.path, asked.path)
        && matches.headers.iter().all(|(name, wanted)| {
            let mut values = asked.headers.get_all(name.as_str()).iter().peekable();
            if let ValueMatch::Present(present) = wanted {
                return values.peek().is_some() == *present;
            }
            values.any(|value| value.to_str().is_ok_and(|value| value_fits(wanted, value)))
        })
        && matches.query.iter().all(|(name, wanted)| {
            let mut values = query_values(asked.query, name).peekable();
            if let ValueMatch::Present(present) = wanted {
                return values.peek().is_some() == *present;
            }
            values.any(|value| value_fits(wanted, &value))
        })
}

/// `*.example.org` stands for one or more labels.
pub(crate) fn host_fits(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => {
            host.len() > suffix.len()
                && host.is_char_boundary(host.len() - suffix.len())
                && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
        }
        None => pattern.eq_ignore_ascii_case(host),
    }
}

fn path_fits(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(text) => path == text,
        PathMatch::Prefix(text) => {
            let text = text.trim_end_matches('/');
            path.strip_prefix(text)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathMatch::Template(text) => template_values(text, path).is_some(),
    }
}

/// What stands for each `{name}` of a template, if the path fits.
pub(crate) fn template_values<'a>(
    template: &'a str,
    path: &'a str,
) -> Option<Vec<(&'a str, &'a str)>> {
    values_where(template, path, |wanted, given| wanted == given)
}

/// What stands for each `{name}` of a template in a path that is known to fit, however it is written.
pub(crate) fn values_of_fitting<'a>(
    template: &'a str,
    path: &'a str,
) -> Option<Vec<(&'a str, &'a str)>> {
    values_where(template, path, |_, _| true)
}

fn values_where<'a>(
    template: &'a str,
    path: &'a str,
    same: impl Fn(&str, &str) -> bool,
) -> Option<Vec<(&'a str, &'a str)>> {
    let mut values = Vec::new();
    if let Some((before, rest)) = template.rsplit_once("/{")
        && let Some(name) = rest.strip_suffix("...}")
    {
        // The last one stands for the rest, be it several segments or none.
        let (mut wanted, mut at) = (before.split('/'), 0);
        wanted.next();
        for segment in wanted {
            let given = path[at..].strip_prefix('/')?;
            let end = given.find('/').unwrap_or(given.len());
            let inner = segment
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            match inner {
                Some(name) if end > 0 => values.push((name, &given[..end])),
                None if same(segment, &given[..end]) => (),
                _ => return None,
            }
            at += 1 + end;
        }
        values.push((name, path[at..].strip_prefix('/')?));
        return Some(values);
    }
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(values),
            (Some(wanted), Some(given)) => {
                let name = wanted
                    .strip_prefix('{')
                    .and_then(|rest| rest.strip_suffix('}'));
                match name {
                    Some(name) if !given.is_empty() => values.push((name, given)),
                    None if same(wanted, given) => (),
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
}

fn value_fits(wanted: &ValueMatch, value: &str) -> bool {
    match wanted {
        ValueMatch::Exact(text) => value == text,
        ValueMatch::Prefix(text) => value.starts_with(text.as_str()),
        ValueMatch::Present(present) => *present,
    }
}

fn query_values<'a>(
    query: Option<&'a str>,
    name: &'a str,
) -> impl Iterator<Item = Cow<'a, str>> + 'a {
    query.unwrap_or("").split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (!pair.is_empty() && decode(key, |_| true) == name).then(|| decode(value, |_| true))
    })
}

/// Returns the path that routes are matched on: escapes of characters that stand for
/// themselves are resolved, all others written in one way, and repeated slashes joined, so that
/// spellings that a service takes for the same meet the same route. Routes are written so, too.
///
/// - returns: `None` for dot segments, be they disguised, backslashes, NUL and broken escapes, which are refused
///
/// Source: RFC 3986, 2.2, 3.3 and 6.2.2.
pub(crate) fn normalize(path: &str) -> Option<Cow<'_, str>> {
    let usual = path
        .bytes()
        .all(|byte| byte == b'/' || stands_for_itself(byte));
    if usual && !path.contains("//") && !path.contains("/.") {
        return Some(Cow::Borrowed(path));
    }
    if path.contains('\\') || broken_escape(path) {
        return None;
    }
    let joined = join_slashes(&canonical(path));
    if joined.contains("%00") || joined.split('/').any(climbs) {
        return None;
    }
    Some(Cow::Owned(joined))
}

/// Whether a path, as [`normalize`] returns it, has slashes or backslashes that are escaped.
pub(crate) fn escapes_slashes(path: &str) -> bool {
    path.contains("%2F") || path.contains("%5C")
}

/// Returns other paths that services may take this one for: some resolve escaped slashes
/// before they look for a handler, some backslashes too, some leave parameters (`;x=1`) out.
///
/// - `path`: as [`normalize`] returns it
/// - returns: none for nearly every path
pub(crate) fn readings(path: &str) -> Vec<String> {
    let mut readings = Vec::new();
    if escapes_slashes(path) {
        let slashes = path.replace("%2F", "/");
        readings.push(join_slashes(&slashes.replace("%5C", "/")));
        readings.push(join_slashes(&slashes));
    }
    if path.contains(';') {
        let bare = readings.iter().map(|reading| without_parameters(reading));
        let bare: Vec<String> = bare.chain([without_parameters(path)]).collect();
        readings.extend(bare);
    }
    readings
}

fn without_parameters(path: &str) -> String {
    let names = path.split('/').map(|part| part.split(';').next());
    let names: Vec<&str> = names.map(Option::unwrap_or_default).collect();
    join_slashes(&names.join("/"))
}

fn join_slashes(path: &str) -> String {
    let mut joined = String::with_capacity(path.len());
    for character in path.chars() {
        if !(character == '/' && joined.ends_with('/')) {
            joined.push(character);
        }
    }
    joined
}

/// A path with needless escapes resolved and repeated slashes joined, and else as its client
/// wrote it. It has the segments of what [`normalize`] makes of it.
pub(crate) fn as_written(path: &str) -> String {
    let needless = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    join_slashes(&decode(path, needless))
}

/// Whether a byte may stand in a segment unescaped (`pchar` of RFC 3986, 3.3).
fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

/// Writes what needs no escape without one, and all else with one in upper case.
fn canonical(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let value = escaped.and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        let byte = value.unwrap_or(*first);
        if stands_for_itself(byte) || (byte == b'/' && value.is_none()) {
            written.push(char::from(byte));
        } else {
            let _ = write!(written, "%{byte:02X}");
        }
        rest = if value.is_some() { &after[2..] } else { after };
    }
    written
}

fn canonical_match(path: &PathMatch) -> PathMatch {
    match path {
        PathMatch::Prefix(text) => PathMatch::Prefix(canonical(text)),
        PathMatch::Exact(text) => PathMatch::Exact(canonical(text)),
        PathMatch::Template(text) => {
            let segments = text.split('/').map(|segment| {
                let names = segment.starts_with('{') && segment.ends_with('}');
                let fixed = || canonical(segment);
                if names { segment.to_owned() } else { fixed() }
            });
            PathMatch::Template(segments.collect::<Vec<_>>().join("/"))
        }
    }
}

/// Whether a segment is a dot segment, or is one to services that resolve escaped
/// slashes too, or leave parameters aside (`..;x`).
fn climbs(segment: &str) -> bool {
    let resolved = segment.to_ascii_lowercase().replace("%5c", "%2f");
    resolved.split("%2f").any(|part| {
        let name = part.split(';').next().unwrap_or(part);
        name == "." || name == ".."
    })
}

fn broken_escape(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().any(|(index, byte)| {
        *byte == b'%'
            && !bytes
                .get(index + 1..index + 3)
                .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Resolves the escapes of those bytes that `wanted` names.
pub(crate) fn decode(text: &str, wanted: impl Fn(u8) -> bool) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let value = (bytes[index] == b'%')
            .then(|| text.get(index + 1..index + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(value) if wanted(value) => {
                out.push(value);
                index += 3;
            }
            _ => {
                out.push(bytes[index]);
                index += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
// Fuzzed, too, and taken in there from another folder.
#[path = "router/tests.rs"]
mod tests;
