//! Bearer tokens: signature, times, issuer, audience.
//!
//! Only asymmetric algorithms are taken, each only with a key of its own
//! type, so a token can choose neither `none` nor a public key as a secret.
//!
//! Source: RFC 7515, 7517, 7518, 7519, 8037, 8725.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Longest token that is looked at.
const LONGEST: usize = 16 * 1024;

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejected {
    /// Not a token at all, or an algorithm that is not taken.
    #[error("the token is malformed")]
    Malformed,
    /// No key with its id and type.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the token's signature is wrong")]
    Signature,
    /// `exp` has passed, or is missing.
    #[error("the token has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("the token is not valid yet")]
    Early,
    /// Another issuer's.
    #[error("the token's issuer is another")]
    Issuer,
}

impl Rejected {
    /// Whether anybody could have written the token, as no key of ours signed it.
    pub(crate) fn may_be_a_guess(self) -> bool {
        matches!(self, Self::Malformed | Self::UnknownKey | Self::Signature)
    }
}

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) subject: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) audiences: Vec<String>,
    /// Seconds since 1970.
    pub(crate) expires: u64,
}

/// A key, made ready for each algorithm that it is for.
#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    ready: Vec<(&'static str, ParsedPublicKey)>,
}

/// Public keys, as a JSON Web Key Set holds them. Keys of other kinds are left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeySet(Vec<Key>);

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::More(list) => list,
        }
    }

    /// `scope` is one text with spaces; some issuers write a list.
    fn words(self) -> Vec<String> {
        self.list()
            .iter()
            .flat_map(|text| text.split_ascii_whitespace())
            .map(String::from)
            .collect()
    }
}

#[derive(Deserialize)]
struct Body {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<OneOrMore>,
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

impl Body {
    /// A claim that is a text or a list of texts; its name may lead into objects, by dots.
    fn list(&self, name: &str) -> Option<OneOrMore> {
        let mut found = self.others.get(name);
        if found.is_none() {
            let mut parts = name.split('.');
            found = self.others.get(parts.next()?);
            for part in parts {
                found = found?.get(part);
            }
        }
        OneOrMore::deserialize(found?).ok()
    }
}

/// What a token must say, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    /// Required `iss`; any if empty.
    pub(crate) issuer: &'a str,
    /// The claim of the scopes.
    pub(crate) scopes: &'a str,
    /// The claim of the roles.
    pub(crate) roles: &'a str,
    /// Clock difference allowed, in seconds.
    pub(crate) leeway: u64,
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

impl KeySet {
    /// Reads a JSON Web Key Set.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let set: Set = serde_json::from_slice(text)?;
        let keys = set
            .keys
            .into_iter()
            .filter_map(|value| serde_json::from_value::<Jwk>(value).ok())
            .filter(|jwk| jwk.r#use.as_deref().is_none_or(|purpose| purpose == "sig"))
            .filter_map(|jwk| {
                let ready = ready(&jwk)?;
                (!ready.is_empty()).then_some(Key { id: jwk.kid, ready })
            })
            .collect();
        Ok(Self(keys))
    }
}

/// What verifies with a key, by algorithm. `None` for a key of another kind or without its numbers.
fn ready(jwk: &Jwk) -> Option<Vec<(&'static str, ParsedPublicKey)>> {
    let part = |part: &Option<String>| part.as_deref().and_then(decode);
    let wanted = |name: &str| jwk.alg.as_deref().is_none_or(|own| own == name);
    let point = |length: usize| {
        let (x, y) = (part(&jwk.x)?, part(&jwk.y)?);
        // Uncompressed, SEC 1, 2.3.3.
        (x.len() == length && y.len() == length).then(|| [&[4][..], &x, &y].concat())
    };
    let one = |name: &'static str, kind: &'static dyn VerificationAlgorithm, key: Vec<u8>| {
        let key = wanted(name).then(|| ParsedPublicKey::new(kind, key).ok());
        key.flatten().map(|key| (name, key)).into_iter().collect()
    };
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let key = RsaPublicKeyComponents {
                n: part(&jwk.n)?,
                e: part(&jwk.e)?,
            };
            let own = RSA.into_iter().filter(|(name, _)| wanted(name));
            let own =
                own.filter_map(|(name, kind)| Some((name, key.to_parsed_public_key(kind).ok()?)));
            Some(own.collect())
        }
        ("EC", Some("P-256")) => Some(one("ES256", &ECDSA_P256_SHA256_FIXED, point(32)?)),
        ("EC", Some("P-384")) => Some(one("ES384", &ECDSA_P384_SHA384_FIXED, point(48)?)),
        ("OKP", Some("Ed25519")) => Some(one("EdDSA", &ED25519, part(&jwk.x)?)),
        _ => None,
    }
}

/// What an RSA key may verify.
const RSA: [(&str, &RsaParameters); 6] = [
    ("RS256", &RSA_PKCS1_2048_8192_SHA256),
    ("RS384", &RSA_PKCS1_2048_8192_SHA384),
    ("RS512", &RSA_PKCS1_2048_8192_SHA512),
    ("PS256", &RSA_PSS_2048_8192_SHA256),
    ("PS384", &RSA_PSS_2048_8192_SHA384),
    ("PS512", &RSA_PSS_2048_8192_SHA512),
];

impl Key {
    /// Whether it signed a message; `None` if it is for other algorithms.
    fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> Option<bool> {
        let (_, key) = self.ready.iter().find(|(name, _)| *name == algorithm)?;
        Some(key.verify_sig(message, signature).is_ok())
    }
}

/// Verifies a token against keys and what is expected of it. Audiences are the caller's business.
///
/// - `now`: seconds since 1970
pub(crate) fn verify(
    token: &str,
    keys: &KeySet,
    expected: &Expected<'_>,
    now: u64,
) -> Result<Claims, Rejected> {
    if token.len() > LONGEST {
        return Err(Rejected::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Rejected::Malformed)?;
    let (head, body) = signed.split_once('.').ok_or(Rejected::Malformed)?;
    let read = |text: &str| decode(text).ok_or(Rejected::Malformed);
    let (head, body, signature) = (read(head)?, read(body)?, read(signature)?);
    let head: Head = serde_json::from_slice(&head).map_err(|_| Rejected::Malformed)?;
    if head.crit.is_some() {
        return Err(Rejected::Malformed);
    }
    let mut candidates = keys
        .0
        .iter()
        .filter(|key| head.kid.is_none() || key.id == head.kid)
        .filter_map(|key| key.verify(&head.alg, signed.as_bytes(), &signature))
        .peekable();
    if candidates.peek().is_none() {
        return Err(Rejected::UnknownKey);
    }
    if !candidates.any(|holds| holds) {
        return Err(Rejected::Signature);
    }
    let body: Body = serde_json::from_slice(&body).map_err(|_| Rejected::Malformed)?;
    let expires = body.exp.and_then(seconds).ok_or(Rejected::Expired)?;
    let leeway = expected.leeway;
    if expires.saturating_add(leeway) <= now {
        return Err(Rejected::Expired);
    }
    if let Some(begins) = body.nbf {
        let begins = seconds(begins).ok_or(Rejected::Malformed)?;
        if begins > now.saturating_add(leeway) {
            return Err(Rejected::Early);
        }
    }
    if !expected.issuer.is_empty() && body.iss.as_deref() != Some(expected.issuer) {
        return Err(Rejected::Issuer);
    }
    let scopes = body.list(expected.scopes).or_else(|| body.list("scp"));
    let roles = body.list(expected.roles);
    Ok(Claims {
        scopes: scopes.map_or_else(Vec::new, OneOrMore::words),
        roles: roles.map_or_else(Vec::new, OneOrMore::list),
        subject: body.sub.unwrap_or_default(),
        audiences: body.aud.map_or_else(Vec::new, OneOrMore::list),
        expires,
    })
}

/// A time as tokens write it: seconds, possibly with a fraction.
fn seconds(value: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be in range"
    )]
    let whole = (value.is_finite() && (0.0..1e15).contains(&value)).then_some(value as u64);
    whole
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    };
    use serde_json::json;

    pub(crate) struct Signer {
        pair: Ed25519KeyPair,
        id: &'static str,
    }

    impl Signer {
        pub(crate) fn new(id: &'static str) -> Self {
            let pair = Ed25519KeyPair::generate().unwrap();
            Self { pair, id }
        }

        pub(crate) fn jwk(&self) -> serde_json::Value {
            let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": x, "use": "sig" })
        }

        pub(crate) fn sign(&self, claims: &serde_json::Value) -> String {
            let head = json!({ "alg": "EdDSA", "kid": self.id });
            let signed = join(&head, claims);
            let signature = self.pair.sign(signed.as_bytes());
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }
    }

    fn join(head: &serde_json::Value, claims: &serde_json::Value) -> String {
        let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", encode(head), encode(claims))
    }

    fn keys(jwk: &serde_json::Value) -> KeySet {
        KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap()
    }

    fn from(issuer: &str, leeway: u64) -> Expected<'_> {
        Expected {
            issuer,
            scopes: "scope",
            roles: "realm_access.roles",
            leeway,
        }
    }

    #[test]
    fn scopes_and_roles_are_where_the_issuer_puts_them() {
        let signer = Signer::new("one");
        let token = signer.sign(&json!({
            "exp": 2_000, "scp": ["a", "b c"], "realm_access": { "roles": ["clerk"] } }));
        let claims = verify(&token, &keys(&signer.jwk()), &from("", 0), 0).unwrap();
        assert_eq!(claims.scopes, ["a", "b", "c"]);
        assert_eq!(claims.roles, ["clerk"]);
    }

    #[test]
    fn tokens_are_taken_for_what_they_say() {
        let signer = Signer::new("one");
        let keys = keys(&signer.jwk());
        let check = |claims: serde_json::Value, expected: Result<&str, Rejected>| {
            let found = verify(
                &signer.sign(&claims),
                &keys,
                &from("https://issuer", 5),
                1_000,
            );
            assert_eq!(
                found.map(|claims| claims.subject),
                expected.map(String::from)
            );
        };
        let good = json!({ "iss": "https://issuer", "sub": "ann", "exp": 2_000, "scope": "a b" });
        check(good.clone(), Ok("ann"));
        check(
            json!({ "iss": "https://issuer", "exp": 996, "sub": "b" }),
            Ok("b"),
        );
        check(
            json!({ "iss": "https://issuer", "exp": 995 }),
            Err(Rejected::Expired),
        );
        check(json!({ "iss": "https://issuer" }), Err(Rejected::Expired));
        check(
            json!({ "iss": "https://other", "exp": 2_000 }),
            Err(Rejected::Issuer),
        );
        check(
            json!({ "iss": "https://issuer", "exp": 2_000, "nbf": 1_100 }),
            Err(Rejected::Early),
        );
        let claims = verify(&signer.sign(&good), &keys, &from("", 0), 0).unwrap();
        assert_eq!(claims.scopes, ["a", "b"]);
    }

    #[test]
    fn forged_tokens_are_not_taken() {
        let signer = Signer::new("one");
        let keys = keys(&signer.jwk());
        let claims = json!({ "sub": "ann", "exp": 2_000 });
        let check = |token: &str, expected: Rejected| {
            assert_eq!(
                verify(token, &keys, &from("", 0), 1_000),
                Err(expected),
                "{token}"
            );
        };
        check(
            &format!("{}.", join(&json!({ "alg": "none" }), &claims)),
            Rejected::UnknownKey,
        );
        check(
            &format!(
                "{}.AAAA",
                join(&json!({ "alg": "HS256", "kid": "one" }), &claims)
            ),
            Rejected::UnknownKey,
        );
        check(&Signer::new("one").sign(&claims), Rejected::Signature);
        check(&Signer::new("two").sign(&claims), Rejected::UnknownKey);
        check("a.b", Rejected::Malformed);
        check("", Rejected::Malformed);
        let token = signer.sign(&claims);
        let (rest, signature) = token.rsplit_once('.').unwrap();
        let (head, _) = rest.split_once('.').unwrap();
        let other = URL_SAFE_NO_PAD.encode(json!({ "sub": "root", "exp": 2_000 }).to_string());
        check(&format!("{head}.{other}.{signature}"), Rejected::Signature);
    }

    #[test]
    fn elliptic_keys_verify() {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
        let point = pair.public_key().as_ref();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let keys = keys(&json!({
            "kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]) }));
        let signed = join(
            &json!({ "alg": "ES256" }),
            &json!({ "sub": "ann", "exp": 2_000 }),
        );
        let signature = pair.sign(&random, signed.as_bytes()).unwrap();
        let token = format!("{signed}.{}", encode(signature.as_ref()));
        assert_eq!(
            verify(&token, &keys, &from("", 0), 0).unwrap().subject,
            "ann"
        );
    }
}
