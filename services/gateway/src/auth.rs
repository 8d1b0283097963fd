//! Who asks, and whether they may.

use std::sync::Arc;

use http::HeaderMap;
use platform_gateway_api::{ApiKey, Auth};
use sha2::{Digest, Sha256};

use crate::identity::{Unverified, Verifier};
use crate::jwt::Claims;
use crate::own::Own;

/// Who a request is from, as far as it was verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Nobody said.
    #[default]
    Unknown,
    /// The bearer of a token.
    Token(Arc<Claims>),
    /// The holder of a key, by the key's name.
    Key {
        /// As configured.
        name: String,
        /// What the key may.
        scopes: Vec<String>,
        /// What its holder is.
        roles: Vec<String>,
    },
}

impl Caller {
    pub(crate) fn subject(&self) -> Option<&str> {
        match self {
            Self::Unknown => None,
            Self::Token(claims) => Some(&claims.subject),
            Self::Key { name, .. } => Some(name),
        }
    }

    pub(crate) fn scopes(&self) -> &[String] {
        match self {
            Self::Unknown => &[],
            Self::Token(claims) => &claims.scopes,
            Self::Key { scopes, .. } => scopes,
        }
    }

    fn roles(&self) -> &[String] {
        match self {
            Self::Unknown => &[],
            Self::Token(claims) => &claims.roles,
            Self::Key { roles, .. } => roles,
        }
    }
}

/// Why a caller is not let in.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) own: Own,
    /// Whether what was shown may have been guessed.
    pub(crate) guessed: bool,
}

impl From<Own> for Refused {
    fn from(own: Own) -> Self {
        let guessed = false;
        Self { own, guessed }
    }
}

/// Whether a request shows a key or a token, be it a good one.
pub(crate) fn shows_proof(auth: &Auth, headers: &HeaderMap) -> bool {
    headers.contains_key(auth.key_header.as_str())
        || headers.contains_key(http::header::AUTHORIZATION)
}

/// Finds out who asks and checks what the route demands.
pub(crate) async fn check(
    auth: &Auth,
    verifier: Option<&Arc<Verifier>>,
    headers: &HeaderMap,
) -> Result<Caller, Refused> {
    if let Some(value) = headers.get(auth.key_header.as_str())
        && !auth.api_keys.is_empty()
    {
        let Some(key) = find_key(&auth.api_keys, value.as_bytes()) else {
            return Err(Refused {
                own: unauthorized("invalid-key", "the API key is not known"),
                guessed: true,
            });
        };
        let caller = Caller::Key {
            name: key.name.clone(),
            scopes: key.scopes.clone(),
            roles: key.roles.clone(),
        };
        return Ok(may(auth, caller)?);
    }
    let token = headers
        .get(http::header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then(|| token.trim_start())
        });
    match (token.filter(|_| auth.tokens), verifier) {
        (Some(token), Some(verifier)) => {
            let claims = verifier.verify(token).await.map_err(|why| {
                tracing::debug!(%why, "a token is not taken");
                not_taken(&why)
            })?;
            let wanted = if auth.audiences.is_empty() {
                &verifier.settings.audiences
            } else {
                &auth.audiences
            };
            if !wanted.is_empty() && !claims.audiences.iter().any(|one| wanted.contains(one)) {
                let detail = "the token is not valid here";
                return Err(unauthorized("invalid-token", detail).into());
            }
            Ok(may(auth, Caller::Token(claims))?)
        }
        _ if auth.optional => Ok(Caller::Unknown),
        _ => Err(unauthorized("unauthenticated", "a token or key is needed").into()),
    }
}

fn not_taken(why: &Unverified) -> Refused {
    match why {
        Unverified::Rejected(rejected) => Refused {
            own: unauthorized("invalid-token", "the token is not valid here"),
            guessed: rejected.may_be_a_guess(),
        },
        // Who is told that a token is not good throws it away.
        Unverified::NoKeys => {
            let detail = "tokens cannot be checked, as the keys for them cannot be had";
            Own::new(503, "no-keys", detail).retry_after(1).into()
        }
    }
}

/// Compares hashes, so the time taken tells nothing about the key.
fn find_key<'a>(keys: &'a [ApiKey], given: &[u8]) -> Option<&'a ApiKey> {
    let text = hex::encode(Sha256::digest(given));
    keys.iter()
        .find(|key| key.sha256.eq_ignore_ascii_case(&text))
}

fn may(auth: &Auth, caller: Caller) -> Result<Caller, Own> {
    let scopes = caller.scopes();
    if !auth.scopes.iter().all(|scope| scopes.contains(scope)) {
        let challenge = format!(
            "Bearer error=\"insufficient_scope\", scope=\"{}\"",
            auth.scopes.join(" ")
        );
        let own = Own::new(403, "missing-scope", "the token or key lacks a scope");
        return Err(own.header("www-authenticate", challenge));
    }
    let roles = caller.roles();
    if !auth.roles.is_empty() && !auth.roles.iter().any(|role| roles.contains(role)) {
        return Err(Own::new(
            403,
            "missing-role",
            "the caller has none of the roles",
        ));
    }
    Ok(caller)
}

fn unauthorized(code: &'static str, detail: &'static str) -> Own {
    let challenge = if code == "invalid-token" {
        "Bearer error=\"invalid_token\""
    } else {
        "Bearer"
    };
    Own::new(401, code, detail).header("www-authenticate", challenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_are_found_by_their_hash() {
        let auth: Auth = serde_json::from_value(serde_json::json!({
            "scopes": ["orders:read"],
            "api_keys": [
                { "name": "ci", "sha256": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", "scopes": ["orders:read"] },
                { "name": "other", "sha256": "b133a0c0e9bee3be20163d2ad31d6248db292aa6dcb1ee087a2aa50e0fc75ae2" },
            ],
        }))
        .unwrap();
        let check = async |key: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(key) = key {
                headers.insert("x-api-key", key.parse().unwrap());
            }
            match check(&auth, None, &headers).await {
                Ok(caller) => caller.subject().unwrap_or("").to_string(),
                Err(refused) => refused.own.code.to_string(),
            }
        };
        assert_eq!(check(Some("secret")).await, "ci");
        assert_eq!(check(Some("wrong")).await, "invalid-key");
        assert_eq!(check(None).await, "unauthenticated");
    }
}
