//! Routes: which requests the gateway takes, and what becomes of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::one_or_many::one_or_many;
use crate::shorthand::{Never, Refused, Shorthand, deserialize_shorthand};
use crate::{Balance, ByteSize, Percent, Period, ServiceName};

/// A rule of the gateway. A request goes by the most telling rule that it
/// matches: host, exact path, template, longest prefix, then more conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// A name for figures and messages; the path if not given.
    pub name: Option<String>,
    /// The path: a prefix, or a template if it has `{…}`, or
    /// `{ exact = "/path" }`.
    pub path: PathMatch,
    /// Hosts, such as `shop.example` or `*.shop.example`; any if empty.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "crate::one_or_many::OneOrMany")]
    pub host: Vec<String>,
    /// HTTP methods; any if empty.
    pub methods: Vec<Method>,
    /// Headers that must be there.
    pub headers: BTreeMap<String, ValueMatch>,
    /// Query parameters that must be there.
    pub query: BTreeMap<String, ValueMatch>,
    /// The service that answers.
    pub service: Option<ServiceName>,
    /// An answer that sends the client elsewhere, in place of `service`.
    pub redirect: Option<Redirect>,
    /// What the service sees in place of the path and host.
    pub rewrite: Option<Rewrite>,
    /// Changes to the headers of the request.
    pub request_headers: HeaderChanges,
    /// Changes to the headers of the answer.
    pub response_headers: HeaderChanges,
    /// Who may come in; anyone if absent.
    pub auth: Option<Auth>,
    /// How many requests may come in.
    pub rate_limit: Option<RateLimit>,
    /// How long an answer may take.
    pub timeout: Timeout,
    /// How often an idempotent request is tried again, within the budget.
    pub retries: Retries,
    /// Which other origins' pages may call.
    pub cors: Option<Cors>,
    /// Whether and how answers are kept.
    pub cache: Option<Cache>,
    /// Whether answers are compressed.
    pub compression: Compression,
    /// Another service that gets a copy of the requests.
    pub mirror: Option<Mirror>,
    /// How the next instance is chosen; as the service says if not given.
    pub balance: Option<Balance>,
    /// Whether a client stays with the release it met.
    pub sticky: bool,
    /// The largest body of a request; the gateway's if not given.
    pub max_body: Option<ByteSize>,
    /// Addresses and networks that may come in; any if empty.
    pub allow: Vec<String>,
    /// Addresses and networks that may not.
    pub deny: Vec<String>,
    /// Whether requests that change something must come from our own pages.
    pub csrf: bool,
    /// The content security policy of the answers.
    pub csp: Option<String>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            name: None,
            path: PathMatch::Prefix("/".to_owned()),
            host: Vec::new(),
            methods: Vec::new(),
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            service: None,
            redirect: None,
            rewrite: None,
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
            auth: None,
            rate_limit: None,
            timeout: Timeout::default(),
            retries: Retries::default(),
            cors: None,
            cache: None,
            compression: Compression::default(),
            mirror: None,
            balance: None,
            sticky: true,
            max_body: None,
            allow: Vec::new(),
            deny: Vec::new(),
            csrf: false,
            csp: None,
        }
    }
}

impl Route {
    /// What figures and messages call it.
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(self.path.as_str())
    }
}

/// Which paths a route takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(with = "PathForms")]
pub enum PathMatch {
    /// This path and all below it, by whole segments.
    Prefix(String),
    /// This path alone.
    Exact(String),
    /// A path with `{name}` for one segment and a last `{name...}` for the rest.
    Template(String),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum PathForms {
    Short(String),
    Full(PathKeys),
}

/// A path in full: one of the keys.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PathKeys {
    /// This path and all below it.
    prefix: Option<String>,
    /// This path alone.
    exact: Option<String>,
    /// A path with `{name}` for one segment and a last `{name...}` for the rest.
    template: Option<String>,
}

impl PathMatch {
    /// The path as written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Prefix(path) | Self::Exact(path) | Self::Template(path) => path,
        }
    }
}

fn check_path(path: String) -> Result<String, Refused> {
    let wrong = |why: &str| Err(Refused::Value(format!("`{path}` is not a path; {why}")));
    if !path.starts_with('/') {
        return wrong("begin it with `/`");
    }
    if path.contains(|letter: char| {
        letter.is_whitespace() || letter.is_control() || "?#".contains(letter)
    }) {
        return wrong("leave out spaces, `?` and `#`");
    }
    if path
        .split('/')
        .any(|segment| segment == "." || segment == "..")
    {
        return wrong("leave out `.` and `..`");
    }
    Ok(path)
}

fn check_template(path: String) -> Result<PathMatch, Refused> {
    let path = check_path(path)?;
    let count = path.split('/').count();
    let mut names = std::collections::BTreeSet::new();
    for (at, segment) in path.split('/').enumerate() {
        if !segment.contains(['{', '}']) {
            continue;
        }
        let name = segment
            .strip_prefix('{')
            .and_then(|segment| segment.strip_suffix('}'))
            .map(|name| match name.strip_suffix("...") {
                Some(name) if at + 1 == count => name,
                _ => name,
            });
        let good = name.is_some_and(|name| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && names.insert(name.to_owned())
        });
        if !good {
            return Err(Refused::Value(format!(
                "`{segment}` does not stand for a segment; write `{{name}}` with a name of its \
                 own, or `{{name...}}` as the last one"
            )));
        }
    }
    Ok(PathMatch::Template(path))
}

impl Shorthand for PathMatch {
    type Table = PathKeys;
    const EXPECTED: &'static str =
        "a path such as \"/api\", { exact = \"/api\" } or { template = \"/api/{id}\" }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        if text.contains(['{', '}']) {
            check_template(text.to_owned())
        } else {
            check_path(text.to_owned()).map(Self::Prefix)
        }
    }
    fn from_table(keys: PathKeys) -> Result<Self, Refused> {
        match keys {
            PathKeys {
                prefix: Some(path),
                exact: None,
                template: None,
            } => check_path(path).map(Self::Prefix),
            PathKeys {
                prefix: None,
                exact: Some(path),
                template: None,
            } => check_path(path).map(Self::Exact),
            PathKeys {
                prefix: None,
                exact: None,
                template: Some(path),
            } => check_template(path),
            _ => Err(Refused::Value(
                "a path is matched in one way; write one of `prefix`, `exact` and `template`"
                    .to_owned(),
            )),
        }
    }
}

deserialize_shorthand!(PathMatch);

/// An HTTP method.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "they are the methods of HTTP")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Trace,
}

impl Method {
    /// The method as it stands in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Connect => "CONNECT",
            Self::Trace => "TRACE",
        }
    }
}

/// What a header or query parameter must be: a text, `{ prefix = "…" }` or
/// `{ present = true }`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ValueMatch {
    /// This text.
    Exact(String),
    /// A text that begins so.
    Prefix {
        /// The beginning.
        prefix: String,
    },
    /// Anything (true), or not there (false).
    Present {
        /// Whether it must be there.
        present: bool,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ValueKeys {
    prefix: Option<String>,
    present: Option<bool>,
}

impl Shorthand for ValueMatch {
    type Table = ValueKeys;
    const EXPECTED: &'static str = "a text, { prefix = \"…\" } or { present = true }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        Ok(Self::Exact(text.to_owned()))
    }
    fn from_table(keys: ValueKeys) -> Result<Self, Refused> {
        match keys {
            ValueKeys {
                prefix: Some(prefix),
                present: None,
            } => Ok(Self::Prefix { prefix }),
            ValueKeys {
                prefix: None,
                present: Some(present),
            } => Ok(Self::Present { present }),
            _ => Err(Refused::Value(
                "the condition is not one; write `{ prefix = \"…\" }` or `{ present = true }`"
                    .to_owned(),
            )),
        }
    }
}

deserialize_shorthand!(ValueMatch);

/// An answer that sends the client elsewhere; a text is where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "RedirectForms")]
pub struct Redirect {
    /// A URL or path; `{name}` stands for a segment of the route's template.
    pub to: String,
    /// The status: 301, 302, 303, 307 or 308.
    pub status: u16,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum RedirectForms {
    Short(String),
    Full(RedirectKeys),
}

/// A redirect in full.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedirectKeys {
    /// A URL or path.
    to: String,
    /// The status: 301, 302, 303, 307 or 308, the last if not given.
    #[serde(default)]
    status: Option<u16>,
}

impl Shorthand for Redirect {
    type Table = RedirectKeys;
    const EXPECTED: &'static str = "a URL or path, or { to = \"…\", status = 308 }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        Self::from_table(RedirectKeys {
            to: text.to_owned(),
            status: None,
        })
    }
    fn from_table(keys: RedirectKeys) -> Result<Self, Refused> {
        let status = keys.status.unwrap_or(308);
        if ![301, 302, 303, 307, 308].contains(&status) {
            return Err(Refused::Value(format!(
                "{status} does not redirect; write 301, 302, 303, 307 or 308"
            )));
        }
        if keys.to.is_empty()
            || keys
                .to
                .contains(|letter: char| letter.is_whitespace() || letter.is_control())
        {
            return Err(Refused::Value(format!(
                "`{}` is nowhere to go; write a URL or a path",
                keys.to
            )));
        }
        Ok(Self {
            to: keys.to,
            status,
        })
    }
}

deserialize_shorthand!(Redirect);

/// What the service sees: a text stands in place of the matched path.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(with = "RewriteForms")]
pub struct Rewrite {
    /// What stands in place of the matched prefix, or of the whole path where
    /// the match is exact or a template.
    pub path: Option<String>,
    /// The host that the service sees.
    pub host: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum RewriteForms {
    Short(String),
    Full(RewriteKeys),
}

/// A rewrite in full.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RewriteKeys {
    /// What stands in place of the matched path.
    path: Option<String>,
    /// The host that the service sees.
    host: Option<String>,
}

impl Shorthand for Rewrite {
    type Table = RewriteKeys;
    const EXPECTED: &'static str = "a path such as \"/\", or { path = \"…\", host = \"…\" }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        Self::from_table(RewriteKeys {
            path: Some(text.to_owned()),
            host: None,
        })
    }
    fn from_table(keys: RewriteKeys) -> Result<Self, Refused> {
        Ok(Self {
            path: keys.path.map(check_path).transpose()?,
            host: keys.host,
        })
    }
}

deserialize_shorthand!(Rewrite);

/// Changes to headers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderChanges {
    /// Headers that are set, whatever they were.
    pub set: BTreeMap<String, String>,
    /// Headers that are added to what is there.
    pub add: BTreeMap<String, String>,
    /// Headers that are removed.
    pub remove: Vec<String>,
}

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// What is taken as proof; any one of them.
    pub by: Vec<AuthBy>,
    /// Scopes of which the token must have all.
    pub scopes: Vec<String>,
    /// Roles of which the token must have one.
    pub roles: Vec<String>,
    /// The audience, in place of the gateway's.
    pub audience: Option<String>,
    /// Whether requests without proof come in too, unnamed; a wrong proof never does.
    pub optional: bool,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            by: vec![AuthBy::Jwt],
            scopes: Vec::new(),
            roles: Vec::new(),
            audience: None,
            optional: false,
        }
    }
}

/// What is taken as proof of who calls.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum AuthBy {
    /// A bearer token signed by the issuer.
    Jwt,
    /// An API key.
    ApiKey,
}

/// How many requests may come in: a token bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// So many requests.
    pub requests: u32,
    /// In so much time.
    #[serde(default = "a_second")]
    pub every: Period,
    /// For each of these.
    #[serde(default)]
    pub per: RatePer,
    /// How many may come at once; `requests` if not given.
    #[serde(default)]
    pub burst: Option<u32>,
    /// Whether several gateways count together, through a redis resource.
    #[serde(default)]
    pub shared: bool,
}

fn a_second() -> Period {
    Period::from_secs(1)
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RatePer {
    /// Those of one client address.
    #[default]
    Client,
    /// Those of one token subject.
    Subject,
    /// Those of one API key.
    ApiKey,
    /// All of the route.
    Route,
}

/// How long an answer may take; a text is the total.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "TimeoutForms")]
pub struct Timeout {
    /// From the request to the end of the answer; unlimited for websockets,
    /// event streams and gRPC.
    pub total: Period,
    /// Until the connection stands.
    pub connect: Period,
    /// From the request to the first byte of the answer; the total if not given.
    pub first_byte: Option<Period>,
    /// Without a byte either way.
    pub idle: Period,
}

impl Default for Timeout {
    fn default() -> Self {
        Self {
            total: Period::from_secs(30),
            connect: Period::from_secs(2),
            first_byte: None,
            idle: Period::from_secs(60),
        }
    }
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum TimeoutForms {
    Short(Period),
    Full(TimeoutKeys),
}

/// Timeouts in full.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TimeoutKeys {
    /// From the request to the end of the answer.
    total: Option<Period>,
    /// Until the connection stands.
    connect: Option<Period>,
    /// From the request to the first byte of the answer.
    first_byte: Option<Period>,
    /// Without a byte either way.
    idle: Option<Period>,
}

impl Shorthand for Timeout {
    type Table = TimeoutKeys;
    const EXPECTED: &'static str =
        "a length of time such as \"2s\", or { total = \"2s\", connect = \"1s\" }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        let total = text
            .parse()
            .map_err(|error: crate::BadQuantity| Refused::Value(error.to_string()))?;
        Ok(Self {
            total,
            ..Self::default()
        })
    }
    fn from_table(keys: TimeoutKeys) -> Result<Self, Refused> {
        let usual = Self::default();
        Ok(Self {
            total: keys.total.unwrap_or(usual.total),
            connect: keys.connect.unwrap_or(usual.connect),
            first_byte: keys.first_byte,
            idle: keys.idle.unwrap_or(usual.idle),
        })
    }
}

deserialize_shorthand!(Timeout);

/// How often an idempotent request is tried again; a number is how often.
///
/// Where nothing is written, a request whose connection broke before an answer
/// gets one more attempt, so that an instance that dies harms nobody. Answers
/// are tried again only where that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "RetriesForms")]
pub struct Retries {
    /// How often at most, beyond the first attempt.
    pub attempts: u32,
    /// What is tried again.
    pub on: Vec<RetryOn>,
    /// The pause before the first; doubles, with jitter.
    pub backoff: Period,
    /// The time for one attempt, if shorter than the total.
    pub each: Option<Period>,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 1,
            on: vec![RetryOn::Connect, RetryOn::Reset],
            backoff: Period::from_millis(25),
            each: None,
        }
    }
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum RetriesForms {
    Short(u32),
    Full(RetriesKeys),
}

/// Retries in full.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetriesKeys {
    /// How often at most, beyond the first attempt.
    attempts: Option<u32>,
    /// What is tried again.
    on: Option<Vec<RetryOn>>,
    /// The pause before the first; doubles, with jitter.
    backoff: Option<Period>,
    /// The time for one attempt, if shorter than the total.
    each: Option<Period>,
}

/// What is worth another attempt.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// The connection could not be made.
    Connect,
    /// The connection broke before an answer.
    Reset,
    /// The attempt took too long.
    Timeout,
    /// 502, 503 or 504.
    Unavailable,
    /// Any 5xx.
    Error,
}

impl Retries {
    /// What is tried again, where retries are asked for and nothing is said of it.
    fn usual() -> Vec<RetryOn> {
        vec![RetryOn::Connect, RetryOn::Reset, RetryOn::Unavailable]
    }
}

impl Shorthand for Retries {
    type Table = RetriesKeys;
    const EXPECTED: &'static str = "a number of attempts, or { attempts = 2, on = [\"connect\"] }";
    const TABLES: bool = true;
    fn from_integer(number: i64) -> Result<Self, Refused> {
        let attempts = u32::try_from(number)
            .ok()
            .filter(|attempts| *attempts <= 10);
        Ok(Self {
            attempts: attempts.ok_or_else(|| {
                Refused::Value(format!(
                    "`{number}` is not a number of retries; write 0 to 10"
                ))
            })?,
            on: Self::usual(),
            ..Self::default()
        })
    }
    fn from_table(keys: RetriesKeys) -> Result<Self, Refused> {
        let usual = Self::default();
        let attempts = Self::from_integer(keys.attempts.map_or(1, i64::from))?.attempts;
        Ok(Self {
            attempts,
            on: keys.on.unwrap_or_else(Self::usual),
            backoff: keys.backoff.unwrap_or(usual.backoff),
            each: keys.each,
        })
    }
}

deserialize_shorthand!(Retries);

/// Which other origins' pages may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Origins, such as `https://app.example`; `*` for any.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "crate::one_or_many::OneOrMany")]
    pub origins: Vec<String>,
    /// Methods they may use.
    pub methods: Vec<Method>,
    /// Headers they may send.
    pub headers: Vec<String>,
    /// Headers of the answer they may read.
    pub expose: Vec<String>,
    /// Whether they may send cookies and credentials.
    pub credentials: bool,
    /// How long a browser may remember the answer.
    pub max_age: Period,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            methods: vec![Method::Get, Method::Head, Method::Post],
            headers: vec!["content-type".to_owned()],
            expose: Vec::new(),
            credentials: false,
            max_age: Period::from_secs(600),
        }
    }
}

/// Whether and how answers are kept; `true` as the answers themselves say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(with = "CacheForms")]
pub struct Cache {
    /// How long an answer is fresh that does not say; not kept if absent.
    pub fresh_for: Option<Period>,
    /// How long a stale answer is given while a fresh one is fetched.
    pub stale_while_revalidate: Period,
    /// How long a stale answer is given when the service fails.
    pub stale_if_error: Period,
    /// Request headers that tell answers apart, beside what `Vary` says.
    pub vary: Vec<String>,
    /// The largest answer that is kept.
    pub max_body: Option<ByteSize>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum CacheForms {
    Short(bool),
    Full(CacheKeys),
}

/// A cache in full.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CacheKeys {
    /// How long an answer is fresh that does not say.
    fresh_for: Option<Period>,
    /// How long a stale answer is given while a fresh one is fetched.
    stale_while_revalidate: Period,
    /// How long a stale answer is given when the service fails.
    stale_if_error: Period,
    /// Request headers that tell answers apart.
    vary: Vec<String>,
    /// The largest answer that is kept.
    max_body: Option<ByteSize>,
}

impl Shorthand for Cache {
    type Table = CacheKeys;
    const EXPECTED: &'static str = "true or { fresh_for = \"1m\" }";
    const TABLES: bool = true;
    fn from_bool(on: bool) -> Result<Self, Refused> {
        if on {
            Ok(Self::default())
        } else {
            Err(Refused::Value(
                "nothing is cached unless asked; remove `cache`".to_owned(),
            ))
        }
    }
    fn from_table(keys: CacheKeys) -> Result<Self, Refused> {
        Ok(Self {
            fresh_for: keys.fresh_for,
            stale_while_revalidate: keys.stale_while_revalidate,
            stale_if_error: keys.stale_if_error,
            vary: keys.vary,
            max_body: keys.max_body,
        })
    }
}

deserialize_shorthand!(Cache);

/// The encodings that answers are compressed with, the best first; `true` for
/// all, `false` for none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "CompressionForms")]
#[serde(transparent)]
pub struct Compression(pub Vec<Encoding>);

impl Default for Compression {
    fn default() -> Self {
        Self(vec![Encoding::Zstd, Encoding::Br, Encoding::Gzip])
    }
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum CompressionForms {
    Short(bool),
    Full(Vec<Encoding>),
}

/// A content encoding.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Zstandard.
    Zstd,
    /// Brotli.
    Br,
    /// gzip.
    Gzip,
}

impl Shorthand for Compression {
    type Table = Never;
    const EXPECTED: &'static str = "true, false or a list of \"zstd\", \"br\" and \"gzip\"";
    const LISTS: bool = true;
    fn from_bool(on: bool) -> Result<Self, Refused> {
        Ok(if on {
            Self::default()
        } else {
            Self(Vec::new())
        })
    }
    fn from_list(list: Vec<String>) -> Result<Self, Refused> {
        list.iter()
            .map(|name| match name.as_str() {
                "zstd" => Ok(Encoding::Zstd),
                "br" => Ok(Encoding::Br),
                "gzip" => Ok(Encoding::Gzip),
                _ => Err(Refused::Value(format!(
                    "`{name}` is not an encoding; write `zstd`, `br` or `gzip`"
                ))),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

deserialize_shorthand!(Compression);

/// Another service that gets a copy of the requests; a text is its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(with = "MirrorForms")]
pub struct Mirror {
    /// The service.
    pub service: ServiceName,
    /// The share of the requests.
    pub share: Percent,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(
    dead_code,
    reason = "the variants describe the written forms in the schema"
)]
enum MirrorForms {
    Short(ServiceName),
    Full(MirrorKeys),
}

/// A mirror in full.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MirrorKeys {
    /// The service.
    service: ServiceName,
    /// The share of the requests; all if not given.
    #[serde(default)]
    share: Option<Percent>,
}

impl Shorthand for Mirror {
    type Table = MirrorKeys;
    const EXPECTED: &'static str = "the name of a service, or { service = \"…\", share = \"10%\" }";
    const TABLES: bool = true;
    fn from_text(text: &str) -> Result<Self, Refused> {
        let service = text
            .parse()
            .map_err(|error: crate::BadName| Refused::Value(error.to_string()))?;
        Self::from_table(MirrorKeys {
            service,
            share: None,
        })
    }
    fn from_table(keys: MirrorKeys) -> Result<Self, Refused> {
        Ok(Self {
            service: keys.service,
            share: keys.share.unwrap_or(Percent::FULL),
        })
    }
}

deserialize_shorthand!(Mirror);
